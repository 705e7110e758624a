import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Coroutine
from typing import Any

from drivers.errors import DeviceMissing, TransferFailed, ValueRefused
from drivers.ports import BadScan, Line, LineChange, Medium, Scan, ScanProblem, ThermometerSample
from edge.core.inputs import CodeRead, DeviceIs, GateInput, LineIs, Measured
from edge.core.model import Level, Reason, Sample
from edge.core.model import Line as CoreLine
from edge.sense import Place, Screening, Supervisor, watch_barrier, watch_reader

from ..core.helpers import POLICY
from .fakes import FakeBarrier, FakeReader, FakeThermometer, JumpingClock, settle

SKIN = ThermometerSample(3361, 2201)


@contextlib.asynccontextmanager
async def running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        await settle()
        yield
        if task.done():
            task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def supervisor(clock: JumpingClock, heard: list[GateInput], device: str = "d-main") -> Supervisor:
    return Supervisor(Place(device, "main"), clock, heard.append, random.Random(1))


def screening(thermometer: FakeThermometer, clock: JumpingClock, heard: list[GateInput]) -> Screening:
    return Screening(thermometer, supervisor(clock, heard), clock, POLICY.thermal, heard.append)


def measured(heard: list[GateInput]) -> list[Measured]:
    return [given for given in heard if isinstance(given, Measured)]


async def test_a_cycle_waits_for_somebody_settles_and_takes_samples() -> None:
    clock, heard = JumpingClock(), list[GateInput]()
    thermometer = FakeThermometer()
    cycle = screening(thermometer, clock, heard)
    async with running(cycle.run()):
        cycle.measure(7, 0)
        await clock.advance(1000)
        assert measured(heard) == []
        thermometer.last = SKIN
        await clock.advance(2000)
        assert measured(heard) == [Measured("main", 7, (Sample(3361, 2201),) * 5)]


async def test_nobody_comes_and_the_cycle_ends_empty() -> None:
    clock, heard = JumpingClock(), list[GateInput]()
    cycle = screening(FakeThermometer(), clock, heard)
    async with running(cycle.run()):
        cycle.measure(1, 0)
        await clock.advance(5200)
        assert measured(heard) == [Measured("main", 1, ())]


async def test_a_rest_is_waited_out() -> None:
    clock, heard = JumpingClock(), list[GateInput]()
    cycle = screening(FakeThermometer(last=SKIN), clock, heard)
    async with running(cycle.run()):
        cycle.measure(1, 5000)
        await clock.advance(4900)
        assert measured(heard) == []
        await clock.advance(2000)
        assert len(measured(heard)) == 1


async def test_a_lost_transfer_is_repeated_and_never_a_number() -> None:
    clock, heard = JumpingClock(), list[GateInput]()
    thermometer = FakeThermometer(last=SKIN, answers=[SKIN, TransferFailed("x"), ValueRefused("flag"), SKIN])
    cycle = screening(thermometer, clock, heard)
    async with running(cycle.run()):
        cycle.measure(1, 0)
        await clock.advance(3000)
        (result,) = measured(heard)
        assert set(result.samples) == {Sample(3361, 2201)}


async def test_a_dead_sensor_fails_the_measurement_and_is_named_once() -> None:
    clock, heard = JumpingClock(), list[GateInput]()
    gone = TransferFailed("MLX90614 at i2c-1@5a does not answer: check its wires")
    thermometer = FakeThermometer(answers=[gone] * 20)
    cycle = screening(thermometer, clock, heard)
    async with running(cycle.run()):
        cycle.measure(1, 0)
        await clock.advance(3000)
        (result,) = measured(heard)
        assert result.sensor_failed
        assert result.samples == ()
        lost = [given for given in heard if isinstance(given, DeviceIs) and not given.works]
        assert {given.advice for given in lost} == {str(gone)}


async def test_a_missing_device_is_retried_until_it_is_back() -> None:
    clock, heard = JumpingClock(), list[GateInput]()
    thermometer = FakeThermometer(last=SKIN, opens=[DeviceMissing("plug it in")] * 3)
    cycle = screening(thermometer, clock, heard)
    async with running(cycle.run()):
        await clock.advance(60_000)
        states = [given.works for given in heard if isinstance(given, DeviceIs)]
        assert states == [False, False, False, True]
        cycle.measure(1, 0)
        await clock.advance(3000)
        assert len(measured(heard)) == 1


async def test_bad_scans_are_reasons_and_the_reader_goes_on() -> None:
    clock, heard, reader = JumpingClock(), list[GateInput](), FakeReader()
    async with running(watch_reader(reader, supervisor(clock, heard), {}, heard.append)):
        reader.scans.put_nowait(BadScan(ScanProblem.OVERSIZE, 10_240, Medium.QR))
        reader.scans.put_nowait(Scan(b"hello", Medium.QR))
        reader.scans.put_nowait(Scan(b"100086F444", Medium.EM4100))
        await settle()
        reasons = [given.presented for given in heard if isinstance(given, CodeRead)]
        assert reasons == [Reason.TOKEN_OVERSIZE, Reason.TOKEN_NOT_OURS, Reason.CARD_UNKNOWN]


async def test_an_unplugged_reader_is_reopened() -> None:
    clock, heard, reader = JumpingClock(), list[GateInput](), FakeReader()
    async with running(watch_reader(reader, supervisor(clock, heard), {}, heard.append)):
        reader.scans.put_nowait(DeviceMissing("gone"))
        await clock.advance(1000)
        reader.scans.put_nowait(Scan(b"hello", Medium.QR))
        await settle()
        assert reader.opened == 2
        assert [given.works for given in heard if isinstance(given, DeviceIs)] == [True, False, True]


def lines(heard: list[GateInput]) -> list[tuple[CoreLine, Level]]:
    return [(given.line, given.level) for given in heard if isinstance(given, LineIs)]


async def test_levels_are_heard_from_edges_and_from_polls() -> None:
    clock, heard = JumpingClock(), list[GateInput]()
    port = FakeBarrier(lines={Line.LIMIT_CLOSED: True, Line.PHOTOCELL: False})
    async with running(watch_barrier(port, supervisor(clock, heard), clock, heard.append)):
        await clock.advance(150)
        assert (CoreLine.LIMIT_CLOSED, Level.ACTIVE) in lines(heard)
        assert (CoreLine.PHOTOCELL, Level.CLEAR) in lines(heard)
        assert port.on_change is not None
        port.on_change(LineChange(Line.PHOTOCELL, active=True, mono_ns=clock.mono_ns()))
        await settle()
        assert lines(heard)[-1] == (CoreLine.PHOTOCELL, Level.ACTIVE)


async def test_a_poll_that_finds_danger_is_believed_at_once_and_safety_only_twice() -> None:
    clock, heard = JumpingClock(), list[GateInput]()
    port = FakeBarrier(lines={Line.LOOP: False})
    async with running(watch_barrier(port, supervisor(clock, heard), clock, heard.append)):
        await clock.advance(250)
        port.lines[Line.LOOP] = True
        await clock.advance(100)
        assert lines(heard)[-1] == (CoreLine.LOOP, Level.ACTIVE)
        port.lines[Line.LOOP] = False
        await clock.advance(100)
        assert lines(heard)[-1] == (CoreLine.LOOP, Level.ACTIVE)
        await clock.advance(100)
        assert lines(heard)[-1] == (CoreLine.LOOP, Level.CLEAR)


async def test_a_lost_board_makes_every_line_unknown() -> None:
    clock, heard = JumpingClock(), list[GateInput]()
    port = FakeBarrier(lines={Line.LOOP: False, Line.LIMIT_CLOSED: True})
    async with running(watch_barrier(port, supervisor(clock, heard), clock, heard.append)):
        await clock.advance(250)
        port.lost = DeviceMissing("gpiochip0 is gone")
        await clock.advance(100)
        assert dict(lines(heard)) == {CoreLine.LOOP: Level.UNKNOWN, CoreLine.LIMIT_CLOSED: Level.UNKNOWN}
        port.lost = None
        await clock.advance(20_000)
        assert dict(lines(heard)) == {CoreLine.LOOP: Level.CLEAR, CoreLine.LIMIT_CLOSED: Level.ACTIVE}
