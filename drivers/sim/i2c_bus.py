"""A simulated I2C adapter: the bytes, rules and errno values of the kernel's, with simulated devices on its wires."""

import errno
import os
from typing import Protocol

from drivers.thermometer.smbus import FUNC_I2C, FUNC_SMBUS_PEC, FUNC_SMBUS_READ_WORD, I2cRead, I2cWrite, SharedBus, crc8

BCM2835_FUNCS = FUNC_I2C | 0x0EFF0008  # a Pi's adapter: raw messages and emulated SMBus, PEC included


class SimI2cDevice(Protocol):
    """A device on the wires. Called from the bus's worker thread: a device keeps its state in single assignments."""

    address: int

    def transfer(self, write: bytes, read_count: int) -> bytes:
        """Take `write`, then answer `read_count` bytes after a repeated start. Raises OSError as the adapter would."""


class SimI2cBus:
    """The wires and the adapter. `open()` gives descriptors that fit `I2cBus`; faults are set from outside."""

    def __init__(self, name: str = "i2c-sim", funcs: int = BCM2835_FUNCS) -> None:
        self.name = name
        self.funcs = funcs
        self.open_errno: int | None = None  # what opening the adapter fails with
        self.transfer_errnos: list[int] = []  # the next transfers fail with these, in order
        self.transfers = 0  # all that were asked for
        self.descriptors = 0  # open now
        self._devices: dict[int, SimI2cDevice] = {}

    def attach(self, device: SimI2cDevice) -> None:
        """Put a device on the wires; it replaces one of the same address."""
        self._devices[device.address] = device

    def detach(self, address: int) -> None:
        """Take a device off the wires."""
        self._devices.pop(address, None)

    def open(self) -> "SimI2cDescriptor":
        """What opening /dev/i2c-N does."""
        if self.open_errno is not None:
            raise OSError(self.open_errno, os.strerror(self.open_errno))
        return SimI2cDescriptor(self)

    def shared(self) -> SharedBus:
        """The bus as a driver takes it."""
        return SharedBus(self.name, self.open)

    def transfer(self, address: int, write: bytes, read_count: int) -> bytes:
        """One transaction on the wires. Raises OSError."""
        self.transfers += 1
        if self.transfer_errnos:
            raise _os_error(self.transfer_errnos.pop(0))
        device = self._devices.get(address)
        if device is None:
            raise _os_error(errno.EREMOTEIO)
        return device.transfer(write, read_count)


class SimI2cDescriptor:
    """One open descriptor (PEC is kept per descriptor, as by the kernel)."""

    def __init__(self, bus: SimI2cBus) -> None:
        self._bus: SimI2cBus | None = bus
        self._pec = False
        bus.descriptors += 1

    def funcs(self) -> int:
        """Functionality bits of the adapter."""
        return self._wires().funcs

    def i2c_rdwr(self, *messages: I2cWrite | I2cRead) -> bytes:
        """Raw messages; at most one read, and it is the last, as on a Pi (else errno 95)."""
        wires = self._wires(FUNC_I2C)
        if not messages or any(isinstance(m, I2cRead) for m in messages[:-1]):
            raise _os_error(errno.EOPNOTSUPP)
        address = messages[0].address
        write = b"".join(m.data for m in messages if isinstance(m, I2cWrite))
        last = messages[-1]
        return wires.transfer(address, write, last.count if isinstance(last, I2cRead) else 0)

    def read_word_data(self, address: int, command: int) -> int:
        """SMBus read word; with PEC set, a wrong one is errno 74."""
        wires = self._wires(FUNC_SMBUS_READ_WORD)
        if not self._pec:
            return int.from_bytes(wires.transfer(address, bytes([command]), 2), "little")
        answer = wires.transfer(address, bytes([command]), 3)
        if crc8(bytes([address << 1, command, address << 1 | 1]) + answer) != 0:
            raise _os_error(errno.EBADMSG)
        return int.from_bytes(answer[:2], "little")

    def set_pec(self, on: bool) -> None:
        """Kernel PEC on or off."""
        self._wires(FUNC_SMBUS_PEC)
        self._pec = on

    def close(self) -> None:
        """Close; idempotent."""
        if self._bus is not None:
            self._bus.descriptors -= 1
        self._bus = None

    def _wires(self, needed_func: int = 0) -> SimI2cBus:
        if self._bus is None:
            raise _os_error(errno.EBADF)
        if needed_func & ~self._bus.funcs:
            raise _os_error(errno.EOPNOTSUPP)
        return self._bus


def _os_error(number: int) -> OSError:
    return OSError(number, os.strerror(number))
