"""Melexis MLX90614 infrared thermometer on SMBus: pure word decoding, and the driver that fetches the words.

Only RAM is read; the EEPROM (emissivity, filters, address) stays as the factory set it. Source: MLX90614 datasheet and
Melexis application note 390119061402 "SMBus communication with MLX90614".
"""

import asyncio
from dataclasses import dataclass
from enum import IntEnum

from drivers.errors import DeviceMissing, DeviceRefused, TransferFailed, ValueRefused
from drivers.ports import DeviceInfo, ThermometerSample
from drivers.thermometer.smbus import TRIES, TRY_PAUSE_S, Integrity, SharedBus, bus_error, crc8

DEFAULT_ADDRESS = 0x5A


class Register(IntEnum):
    """RAM cells as commands (000x xxxx)."""

    AMBIENT = 0x06  # Ta: the sensor's own die
    OBJECT_1 = 0x07  # Tobj1: what it looks at


@dataclass(frozen=True, slots=True)
class Span:
    """Values the datasheet allows, in hundredths of a degree, both ends included."""

    low_centi_c: int
    high_centi_c: int


PLAUSIBLE = {
    Register.AMBIENT: Span(-40_00, 125_01),  # rated operating range; 125.01 is its last grid point
    Register.OBJECT_1: Span(-70_01, 382_19),  # words 27AD to 7FFF
}


def word_of(address: int, register: Register, answer: bytes) -> int:
    """Raw word of an answer (low, high, PEC), its PEC proved over the five bytes on the wire. Raises TransferFailed."""
    if len(answer) != 3:  # noqa: PLR2004 - low, high, PEC
        raise TransferFailed(f"MLX90614 @{address:02x}: {len(answer)} bytes came where 3 belong; check the wiring")
    if crc8(bytes([address << 1, register, address << 1 | 1]) + answer) != 0:
        raise TransferFailed(
            f"MLX90614 @{address:02x}: wrong PEC, the transfer was disturbed; check cable and pull-ups"
        )
    return int.from_bytes(answer[:2], "little")


def centi_celsius(register: Register, raw: int) -> int:
    """Temperature of a raw word, in hundredths of a degree (always odd). Raises ValueRefused, never returns a guess."""
    if raw in (0x0000, 0xFFFF):
        raise ValueRefused(f"MLX90614: {raw:04X} is a line stuck {'high' if raw else 'low'}, not a temperature")
    if raw & 0x8000:
        raise ValueRefused(f"MLX90614: the sensor flags its own {register.name} value ({raw:04X}) as wrong")
    value = 2 * raw - 273_15
    span = PLAUSIBLE[register]
    if not span.low_centi_c <= value <= span.high_centi_c:
        raise ValueRefused(f"MLX90614: {register.name} word {raw:04X} lies outside what the sensor can measure")
    return value


class Mlx90614:
    """A `Thermometer`: one MLX90614 at `address` of a bus."""

    def __init__(self, bus: SharedBus, address: int = DEFAULT_ADDRESS) -> None:
        self._bus = bus
        self._address = address
        self._place = f"{bus.name}@{address:02x}"
        self._integrity: Integrity | None = None

    async def open(self) -> DeviceInfo:
        """Join the bus and prove by a word read that the sensor answers (it knows no other SMBus command)."""
        integrity = await self._bus.open(self)
        try:
            raw = await self._word(Register.AMBIENT, integrity)
        except TransferFailed as e:
            await self.close()
            raise DeviceMissing(f"{self._place}: no MLX90614 answers ({e})") from e
        except (DeviceMissing, DeviceRefused):
            await self.close()
            raise
        if raw in (0x0000, 0xFFFF):  # an idle or shorted bus, seen without PEC
            await self.close()
            raise DeviceMissing(f"{self._place}: the bus answers {raw:04X} only; check sensor, supply and pull-ups")
        self._integrity = integrity
        return DeviceInfo(model="MLX90614", place=self._place, integrity=integrity.value)

    async def sample(self) -> ThermometerSample:
        """Sensor and object temperature, each word tried three times."""
        if self._integrity is None:
            raise DeviceMissing(f"{self._place}: the thermometer is not open; open it first")
        ambient = centi_celsius(Register.AMBIENT, await self._word(Register.AMBIENT, self._integrity))
        seen = centi_celsius(Register.OBJECT_1, await self._word(Register.OBJECT_1, self._integrity))
        return ThermometerSample(object_centi_c=seen, ambient_centi_c=ambient)

    async def close(self) -> None:
        """Leave the bus."""
        self._integrity = None
        await self._bus.close(self)

    async def _word(self, register: Register, integrity: Integrity) -> int:
        for attempt in range(1, TRIES + 1):
            try:
                return await self._word_once(register, integrity)
            except TransferFailed:
                if attempt == TRIES:
                    raise
            await asyncio.sleep(TRY_PAUSE_S)
        raise AssertionError("the last try returns or raises")

    async def _word_once(self, register: Register, integrity: Integrity) -> int:
        try:
            answer = await self._bus.read_word(self._address, register, integrity)
        except OSError as e:
            raise bus_error(self._place, e) from e
        if integrity is Integrity.PEC:
            return word_of(self._address, register, answer)
        return int.from_bytes(answer, "little")
