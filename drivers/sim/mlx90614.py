"""A simulated MLX90614 that answers with the sensor's bytes, PEC and faults."""

import errno
import os
from enum import StrEnum

from drivers.thermometer.mlx90614 import DEFAULT_ADDRESS, Register
from drivers.thermometer.smbus import crc8

_FLAGS_COMMAND = 0xF0
_INITIALISED = 0x10
_EEPROM_AS_SHIPPED = {0x24: 0xFFFF, 0x25: 0x9FB4, 0x2E: 0x005A}  # emissivity 1.0, ConfigRegister1, own address


class MlxFault(StrEnum):
    """What can be wrong with the sensor or its wires."""

    NONE = "none"
    ABSENT = "absent"  # no acknowledge
    WRONG_PEC = "wrong_pec"
    SDA_HIGH = "sda_high"  # every byte reads FF
    SDA_LOW = "sda_low"  # every byte reads 00
    TIMEOUT = "timeout"  # the clock is held
    ERROR_FLAG = "error_flag"  # bit 15 of the object temperature, PEC right
    FROZEN = "frozen"  # answers well, but the values no longer move


class SimMlx90614:
    """One sensor: attach it to a `SimI2cBus`, tell it what it sees."""

    def __init__(self, address: int = DEFAULT_ADDRESS) -> None:
        self.address = address
        self.fault = MlxFault.NONE
        self._words = (0, 0)  # ambient, object; one assignment, so a transfer never sees a half-made change
        self.set_temperatures(object_centi_c=20_00, ambient_centi_c=20_00)

    def set_temperatures(self, object_centi_c: int, ambient_centi_c: int) -> None:
        """What the sensor measures from now on; half-way values go up to the next grid point (37.30 gives 37.31)."""
        if self.fault is not MlxFault.FROZEN:
            self._words = (_word(ambient_centi_c), _word(object_centi_c))

    def transfer(self, write: bytes, read_count: int) -> bytes:
        """The bus's side. Bytes beyond the answer read FF, as a released line does."""
        match self.fault:
            case MlxFault.ABSENT:
                raise OSError(errno.EREMOTEIO, os.strerror(errno.EREMOTEIO))
            case MlxFault.TIMEOUT:
                raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            case MlxFault.SDA_HIGH:
                return b"\xff" * read_count
            case MlxFault.SDA_LOW:
                return b"\x00" * read_count
        if not write or not read_count:
            return b"\xff" * read_count
        answer = self._word_at(write[0]).to_bytes(2, "little")
        pec = crc8(bytes([self.address << 1, write[0], self.address << 1 | 1]) + answer)
        if self.fault is MlxFault.WRONG_PEC:
            pec ^= 0x55
        return (answer + bytes([pec])).ljust(read_count, b"\xff")[:read_count]

    def _word_at(self, command: int) -> int:
        ambient, seen = self._words
        match command:
            case Register.AMBIENT:
                return ambient
            case Register.OBJECT_1:
                return 0x8000 if self.fault is MlxFault.ERROR_FLAG else seen
            case _ if command == _FLAGS_COMMAND:
                return _INITIALISED
        return _EEPROM_AS_SHIPPED.get(command, 0)


def _word(centi_c: int) -> int:
    word = (centi_c + 273_15 + 1) // 2
    if not 0 <= word <= 0x7FFF:  # noqa: PLR2004 - bit 15 is the error flag
        raise ValueError(f"{centi_c} hundredths of a degree are outside the sensor's words")
    return word
