import asyncio
import errno
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.errors import DeviceError, DeviceMissing, DeviceRefused, TransferFailed, ValueRefused
from drivers.ports import ThermometerSample
from drivers.sim.i2c_bus import BCM2835_FUNCS, SimI2cBus
from drivers.sim.mlx90614 import MlxFault, SimMlx90614
from drivers.thermometer.mlx90614 import Mlx90614, Register, centi_celsius, word_of
from drivers.thermometer.smbus import (
    FUNC_I2C,
    FUNC_SMBUS_PEC,
    FUNC_SMBUS_READ_WORD,
    Buses,
    I2cRead,
    I2cWrite,
    bus_error,
    crc8,
    device_path,
)

Wires = tuple[SimI2cBus, SimMlx90614]

KERNEL_PEC = FUNC_SMBUS_PEC | FUNC_SMBUS_READ_WORD
ADAPTERS = {"pec": BCM2835_FUNCS, "kernel-pec": KERNEL_PEC, "none": FUNC_SMBUS_READ_WORD}

WIRE_VECTORS = [
    "B4 07 B5 D2 3A 30",
    "B4 07 B5 7A 3C 92",
    "B4 07 B5 A2 3C 80",
    "B4 07 B5 C5 3C 1E",
    "B4 06 B5 3B 3A D8",
    "B4 07 B5 00 80 8F",
    "B4 07 B5 FF FF 22",
    "B4 07 B5 00 00 06",
    "B4 24 B5 FF FF D6",
    "B4 25 B5 B4 9F 2B",
    "B4 24 00 00 28",
    "B4 25 00 00 43",
    "B4 2F 00 00 C4",
    "B4 24 E0 FA 83",
    "B4 24 FF FF 0C",
    "B4 22 07 C8 48",
    "00 2E 00 00 6F",
    "00 2E 5A 00 E1",
    "B4 FF E8",
    "B4 60 3C",
    "B4 61 3B",
]


@pytest.fixture
def wires():
    bus = SimI2cBus()
    sensor = SimMlx90614()
    bus.attach(sensor)
    return bus, sensor


def test_crc8_check_value():
    assert crc8(b"123456789") == 0xF4


@pytest.mark.parametrize("vector", WIRE_VECTORS)
def test_pec_of_every_printed_transaction(vector: str):
    *covered, pec = bytes.fromhex(vector)
    assert crc8(bytes(covered)) == pec


@pytest.mark.parametrize(
    ("register", "answer", "expected"),
    [
        (Register.OBJECT_1, "D2 3A 30", 28_01),
        (Register.OBJECT_1, "7A 3C 92", 36_49),
        (Register.OBJECT_1, "A2 3C 80", 37_29),
        (Register.OBJECT_1, "C5 3C 1E", 37_99),
        (Register.AMBIENT, "3B 3A D8", 24_99),
    ],
)
def test_read_vectors_give_their_temperature(register: Register, answer: str, expected: int):
    assert centi_celsius(register, word_of(0x5A, register, bytes.fromhex(answer))) == expected


@pytest.mark.parametrize("answer", ["FF FF FF", "00 00 00", "D2 3A 31", "D3 3A 30", "D2 3A", ""])
def test_a_disturbed_transfer_is_never_a_word(answer: str):
    with pytest.raises(TransferFailed):
        word_of(0x5A, Register.OBJECT_1, bytes.fromhex(answer))


def test_pec_covers_address_and_command():
    answer = bytes.fromhex("D2 3A 30")
    with pytest.raises(TransferFailed):
        word_of(0x5B, Register.OBJECT_1, answer)
    with pytest.raises(TransferFailed):
        word_of(0x5A, Register.AMBIENT, answer)


@pytest.mark.parametrize("raw", [0x0000, 0xFFFF, 0x8000, 0xBAD5, 0x27AC])
def test_impossible_object_words_are_refused(raw: int):
    with pytest.raises(ValueRefused):
        centi_celsius(Register.OBJECT_1, raw)


@pytest.mark.parametrize("raw", [0x27AD, 0x7FFF])
def test_an_ambient_outside_the_rated_range_is_refused(raw: int):
    with pytest.raises(ValueRefused):
        centi_celsius(Register.AMBIENT, raw)


@pytest.mark.parametrize(("raw", "level"), [(0xFFFF, "high"), (0x0000, "low")])
@pytest.mark.parametrize("register", Register)
def test_a_stuck_line_is_named(register: Register, raw: int, level: str):
    with pytest.raises(ValueRefused, match=f"stuck {level}"):
        centi_celsius(register, raw)


def test_ends_of_the_object_range():
    assert centi_celsius(Register.OBJECT_1, 0x27AD) == -70_01
    assert centi_celsius(Register.OBJECT_1, 0x7FFF) == 382_19
    assert centi_celsius(Register.OBJECT_1, 0x3CA3) == 37_31


@given(st.integers(0, 0xFFFF), st.sampled_from(Register))
def test_a_word_is_an_odd_number_of_hundredths_or_refused(raw: int, register: Register):
    try:
        value = centi_celsius(register, raw)
    except ValueRefused:
        return
    assert value % 2 == 1
    assert value == 2 * raw - 273_15
    assert -70_01 <= value <= 382_19


@given(st.binary(max_size=8), st.integers(0x03, 0x77), st.sampled_from(Register))
def test_any_bytes_are_a_proved_word_or_a_failed_transfer(answer: bytes, address: int, register: Register):
    try:
        raw = word_of(address, register, answer)
    except TransferFailed:
        return
    assert answer == raw.to_bytes(2, "little") + bytes([answer[2]])


@pytest.mark.parametrize("integrity", ADAPTERS)
async def test_the_best_proof_of_the_adapter_is_chosen_and_read(wires: Wires, integrity: str):
    bus, sensor = wires
    bus.funcs = ADAPTERS[integrity]
    thermometer = Mlx90614(bus.shared())
    info = await thermometer.open()
    assert (info.model, info.place, info.integrity) == ("MLX90614", "i2c-sim@5a", integrity)
    sensor.set_temperatures(object_centi_c=36_49, ambient_centi_c=24_99)
    assert await thermometer.sample() == ThermometerSample(36_49, 24_99)
    await thermometer.close()
    assert bus.descriptors == 0


@pytest.mark.parametrize("integrity", ADAPTERS)
@pytest.mark.parametrize("fault", [f for f in MlxFault if f not in {MlxFault.NONE, MlxFault.FROZEN}])
async def test_a_failing_read_never_gives_a_number_and_heals(wires: Wires, integrity: str, fault: MlxFault):
    bus, sensor = wires
    bus.funcs = ADAPTERS[integrity]
    thermometer = Mlx90614(bus.shared())
    await thermometer.open()
    sensor.fault = fault
    if fault is MlxFault.WRONG_PEC and integrity == "none":
        await thermometer.sample()  # nothing can notice: DeviceInfo says so
    else:
        with pytest.raises((TransferFailed, ValueRefused)):
            await thermometer.sample()
    sensor.fault = MlxFault.NONE
    assert await thermometer.sample() == ThermometerSample(20_01, 20_01)
    await thermometer.close()


async def test_the_error_flag_is_a_refused_value_and_not_retried(wires: Wires):
    bus, sensor = wires
    thermometer = Mlx90614(bus.shared())
    await thermometer.open()
    sensor.fault = MlxFault.ERROR_FLAG
    before = bus.transfers
    with pytest.raises(ValueRefused, match="flags"):
        await thermometer.sample()
    assert bus.transfers - before == 2
    await thermometer.close()


async def test_a_frozen_sensor_repeats_itself(wires: Wires):
    bus, sensor = wires
    thermometer = Mlx90614(bus.shared())
    await thermometer.open()
    sensor.set_temperatures(36_49, 24_99)
    sensor.fault = MlxFault.FROZEN
    sensor.set_temperatures(38_99, 24_99)
    assert (await thermometer.sample()).object_centi_c == 36_49
    await thermometer.close()


@pytest.mark.parametrize("number", [5, 6, 74, 110, 121])
async def test_two_lost_transfers_are_retried_and_three_fail(wires: Wires, number: int):
    bus, _ = wires
    thermometer = Mlx90614(bus.shared())
    await thermometer.open()
    bus.transfer_errnos = [number, number]
    assert await thermometer.sample() == ThermometerSample(20_01, 20_01)
    before = bus.transfers
    bus.transfer_errnos = [number] * 3
    with pytest.raises(TransferFailed, match="i2c-sim@5a"):
        await thermometer.sample()
    assert bus.transfers - before == 3
    await thermometer.close()


@pytest.mark.parametrize("integrity", ADAPTERS)
@pytest.mark.parametrize("fault", [MlxFault.ABSENT, MlxFault.TIMEOUT, MlxFault.SDA_HIGH, MlxFault.SDA_LOW])
async def test_open_without_a_sensor_is_missing_and_leaves_the_bus(wires: Wires, integrity: str, fault: MlxFault):
    bus, sensor = wires
    bus.funcs = ADAPTERS[integrity]
    sensor.fault = fault
    thermometer = Mlx90614(bus.shared())
    with pytest.raises(DeviceMissing):
        await thermometer.open()
    assert bus.descriptors == 0
    sensor.fault = MlxFault.NONE
    await thermometer.open()
    await thermometer.close()


@pytest.mark.parametrize(
    ("number", "error", "advice"),
    [
        (errno.ENOENT, DeviceMissing, "enable I2C"),
        (errno.ENODEV, DeviceMissing, "enable I2C"),
        (errno.EACCES, DeviceRefused, "group i2c"),
        (errno.EBUSY, DeviceRefused, "kernel driver"),
        (errno.ENOTTY, DeviceRefused, "no I2C adapter"),
    ],
)
async def test_errors_at_open_say_what_to_do(number: int, error: type[DeviceError], advice: str):
    bus = SimI2cBus()
    bus.open_errno = number
    with pytest.raises(error, match=advice):
        await Mlx90614(bus.shared()).open()


async def test_an_address_held_by_a_kernel_driver_is_refused_without_retry(wires: Wires):
    bus, _ = wires
    bus.transfer_errnos = [errno.EBUSY]
    with pytest.raises(DeviceRefused, match="kernel driver"):
        await Mlx90614(bus.shared()).open()
    assert (bus.transfers, bus.descriptors) == (1, 0)


async def test_an_adapter_that_can_read_no_word_is_refused(wires: Wires):
    bus, _ = wires
    bus.funcs = 0
    with pytest.raises(DeviceRefused, match="another bus"):
        await Mlx90614(bus.shared()).open()
    assert bus.descriptors == 0


async def test_a_real_bus_that_is_not_there_is_missing():
    with pytest.raises(DeviceMissing, match="i2c-4711"):
        await Mlx90614(Buses().bus(4711)).open()
    with pytest.raises(DeviceMissing, match="no such adapter"):
        await Mlx90614(Buses().bus("no such adapter")).open()


async def test_devices_of_one_bus_share_its_descriptor(wires: Wires):
    bus, _ = wires
    bus.attach(SimMlx90614(0x5B))
    shared = bus.shared()
    first, second = Mlx90614(shared, 0x5A), Mlx90614(shared, 0x5B)
    await asyncio.gather(first.open(), second.open())
    assert bus.descriptors == 1
    await asyncio.gather(*(t.sample() for t in [first, second] * 5))
    await first.close()
    await first.close()
    with pytest.raises(DeviceMissing):
        await first.sample()
    assert await second.sample() == ThermometerSample(20_01, 20_01)
    await second.close()
    assert bus.descriptors == 0


async def test_a_cancelled_sample_leaves_the_bus_usable(wires: Wires):
    bus, sensor = wires
    thermometer = Mlx90614(bus.shared())
    await thermometer.open()
    sensor.fault = MlxFault.ABSENT
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.005):  # inside the pause between two tries
            await thermometer.sample()
    sensor.fault = MlxFault.NONE
    assert await thermometer.sample() == ThermometerSample(20_01, 20_01)
    await thermometer.close()
    assert bus.descriptors == 0


async def test_a_cancelled_open_lets_go_at_close(wires: Wires):
    bus, _ = wires
    thermometer = Mlx90614(bus.shared())
    opening = asyncio.create_task(thermometer.open())
    await asyncio.sleep(0)
    opening.cancel()
    await asyncio.wait([opening])
    await thermometer.close()
    assert bus.descriptors == 0


def test_adapters_are_found_by_name(tmp_path: Path):
    for number, name in ((1, "bcm2835 (i2c@7e804000)"), (11, "simulated sensor bus")):
        (tmp_path / f"i2c-{number}").mkdir()
        (tmp_path / f"i2c-{number}" / "name").write_text(f"{name}\n", encoding="utf-8")
    assert device_path(3, tmp_path) == "/dev/i2c-3"
    assert device_path("/dev/i2c-4", tmp_path) == "/dev/i2c-4"
    assert device_path("simulated sensor bus", tmp_path) == "/dev/i2c-11"
    with pytest.raises(FileNotFoundError, match="present: i2c-1 "):
        device_path("other", tmp_path)


def test_the_simulated_adapter_takes_one_read_and_only_last(wires: Wires):
    bus, _ = wires
    descriptor = bus.open()
    with pytest.raises(OSError, match=r"\[Errno 95\]"):
        descriptor.i2c_rdwr(I2cRead(0x5A, 3), I2cRead(0x5A, 3))
    assert descriptor.i2c_rdwr(I2cWrite(0x5A, b"\x24"), I2cRead(0x5A, 3)) == bytes.fromhex("FF FF D6")
    bus.funcs = KERNEL_PEC
    with pytest.raises(OSError, match=r"\[Errno 95\]"):
        descriptor.i2c_rdwr(I2cWrite(0x5A, b"\x07"), I2cRead(0x5A, 3))
    bus.funcs = FUNC_I2C
    with pytest.raises(OSError, match=r"\[Errno 95\]"):
        descriptor.read_word_data(0x5A, 7)
    descriptor.close()
    with pytest.raises(OSError, match=r"\[Errno 9\]"):
        descriptor.funcs()


def test_the_simulated_sensor_rounds_half_way_values_up(wires: Wires):
    bus, sensor = wires
    sensor.set_temperatures(37_30, 24_99)
    assert bus.transfer(0x5A, b"\x07", 2) == bytes.fromhex("A3 3C")
    sensor.set_temperatures(37_29, 24_99)
    assert bus.transfer(0x5A, b"\x07", 3) == bytes.fromhex("A2 3C 80")


def test_unknown_errnos_are_failed_transfers():
    assert isinstance(bus_error("i2c-1@5a", OSError(errno.EAGAIN, "again")), TransferFailed)
