"""SMBus words over an I2C adapter: the seam a bus must fit, its real form on smbus2, and one worker thread per bus.

Which proof a transfer gets depends on what the adapter offers (`Integrity`, best first). All calls of a bus run in its
worker thread, in order: an ioctl may block for a second, and a cancelled caller must not leave a half-used descriptor.
"""

import asyncio
import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol, TypeVar

from drivers.errors import DeviceError, DeviceMissing, DeviceRefused, TransferFailed

FUNC_I2C = 0x00000001  # adapter takes raw messages: I2C_RDWR
FUNC_SMBUS_PEC = 0x00000008  # the kernel computes and checks PEC
FUNC_SMBUS_READ_WORD = 0x00200000

TRIES = 3
TRY_PAUSE_S = 0.020

GONE_ERRNOS = frozenset({errno.ENOENT, errno.ENODEV, errno.EBADF, errno.ESHUTDOWN})

T = TypeVar("T")

ADAPTERS = Path("/sys/class/i2c-adapter")


class Integrity(StrEnum):
    """How a word is proved to be what the device sent."""

    PEC = "pec"  # raw messages, PEC checked here
    KERNEL_PEC = "kernel-pec"  # SMBus words, PEC checked by the kernel
    NONE = "none"  # SMBus words, nothing checked


@dataclass(frozen=True, slots=True)
class I2cWrite:
    """Bytes to a device."""

    address: int
    data: bytes


@dataclass(frozen=True, slots=True)
class I2cRead:
    """`count` bytes from a device."""

    address: int
    count: int


class I2cBus(Protocol):
    """One open descriptor of an I2C adapter. Blocking; every failure is an OSError with the kernel's errno."""

    def funcs(self) -> int:
        """Functionality bits of the adapter (uapi/linux/i2c.h)."""

    def i2c_rdwr(self, *messages: I2cWrite | I2cRead) -> bytes:
        """Messages joined by repeated starts, no PEC added or checked; the bytes of the read message.

        A Pi's adapter takes at most one read message, and only as the last one (else errno 95).
        """

    def read_word_data(self, address: int, command: int) -> int:
        """SMBus read word, low byte first, with PEC when it was set."""

    def set_pec(self, on: bool) -> None:
        """Let the kernel compute and check PEC on this descriptor."""

    def close(self) -> None:
        """Let go of the descriptor."""


class Smbus2Bus:
    """`I2cBus` on /dev/i2c-N through smbus2."""

    def __init__(self, path: str) -> None:
        from smbus2 import SMBus, i2c_msg  # noqa: PLC0415 - hardware libraries load with the hardware only

        self._message = i2c_msg
        self._bus = SMBus(path)

    def funcs(self) -> int:
        """Functionality bits of the adapter."""
        return int(self._bus.funcs)

    def i2c_rdwr(self, *messages: I2cWrite | I2cRead) -> bytes:
        """Messages joined by repeated starts."""
        raw = [
            self._message.read(m.address, m.count)
            if isinstance(m, I2cRead)
            else self._message.write(m.address, list(m.data))
            for m in messages
        ]
        self._bus.i2c_rdwr(*raw)
        return b"".join(bytes(r) for r, m in zip(raw, messages, strict=True) if isinstance(m, I2cRead))

    def read_word_data(self, address: int, command: int) -> int:
        """SMBus read word."""
        return self._bus.read_word_data(address, command)

    def set_pec(self, on: bool) -> None:
        """Kernel PEC on or off."""
        self._bus.enable_pec(on)

    def close(self) -> None:
        """Close the descriptor."""
        self._bus.close()


class SharedBus:
    """One bus for all its devices: opened with the first user, closed with the last, spoken to in one worker thread."""

    def __init__(self, name: str, opener: Callable[[], I2cBus]) -> None:
        self.name = name
        self._opener = opener
        self._users: set[object] = set()
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)  # starts its thread at the first job
        self._bus: I2cBus | None = None  # this and the next are touched in the worker thread only
        self._pec = False

    async def open(self, user: object) -> Integrity:
        """Join the bus; says the best proof the adapter offers. Raises DeviceMissing, DeviceRefused."""
        self._users.add(user)
        try:
            return best_integrity(await self._in_worker(self._open_now), self.name)
        except OSError as e:
            await self.close(user)
            raise bus_error(self.name, e) from e
        except DeviceRefused:
            await self.close(user)
            raise

    async def read_word(self, address: int, command: int, integrity: Integrity) -> bytes:
        """Low byte, high byte and, with `Integrity.PEC`, the PEC as received. One try. Raises OSError."""
        return await self._in_worker(lambda: self._read_now(address, command, integrity))

    async def close(self, user: object) -> None:
        """Leave the bus; the last one closes it, behind whatever still runs there."""
        self._users.discard(user)
        if not self._users:
            await self._in_worker(self._close_now)

    async def _in_worker(self, job: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, job)

    def _open_now(self) -> int:
        if self._bus is None:
            self._bus = self._opener()
            self._pec = False
        return self._bus.funcs()

    def _read_now(self, address: int, command: int, integrity: Integrity) -> bytes:
        if self._bus is None:
            raise OSError(errno.EBADF, f"{self.name} is closed")
        if integrity is Integrity.PEC:
            return self._bus.i2c_rdwr(I2cWrite(address, bytes([command])), I2cRead(address, 3))
        kernel_pec = integrity is Integrity.KERNEL_PEC
        if self._pec is not kernel_pec:
            self._bus.set_pec(kernel_pec)
            self._pec = kernel_pec
        return self._bus.read_word_data(address, command).to_bytes(2, "little")

    def _close_now(self) -> None:
        bus, self._bus = self._bus, None
        if bus is not None:
            bus.close()


class Buses:
    """The buses of a process, each opened once however many devices hang on it."""

    def __init__(self) -> None:
        self._buses: dict[str, SharedBus] = {}

    def bus(self, bus: int | str) -> SharedBus:
        """The bus of a number (/dev/i2c-N), a device path or an adapter name as in sysfs. Opens nothing."""
        name = f"i2c-{bus}" if isinstance(bus, int) else bus
        if name not in self._buses:
            self._buses[name] = SharedBus(name, lambda: Smbus2Bus(device_path(bus)))
        return self._buses[name]


def device_path(bus: int | str, adapters: Path = ADAPTERS) -> str:
    """Device file of a bus: adapter numbers change with the load order, so a name may be given. Raises OSError."""
    if isinstance(bus, int):
        return f"/dev/i2c-{bus}"
    if bus.startswith("/"):
        return bus
    names = {p.parent.name: p.read_text(encoding="utf-8").strip() for p in sorted(adapters.glob("i2c-*/name"))}
    for device, name in names.items():
        if bus in (name, device):
            return f"/dev/{device}"
    present = ", ".join(f"{device} ({name})" for device, name in names.items()) or "none"
    raise FileNotFoundError(errno.ENOENT, f"no I2C adapter is named {bus!r}; present: {present}")


def best_integrity(funcs: int, name: str) -> Integrity:
    """The best proof an adapter offers. Raises DeviceRefused when it can read no word at all."""
    if funcs & FUNC_I2C:
        return Integrity.PEC
    if not funcs & FUNC_SMBUS_READ_WORD:
        raise DeviceRefused(f"{name}: the adapter can neither pass raw I2C messages nor read words; use another bus")
    return Integrity.KERNEL_PEC if funcs & FUNC_SMBUS_PEC else Integrity.NONE


def crc8(data: bytes) -> int:
    """SMBus PEC: polynomial 07, start 00, nothing reflected, no final xor ("123456789" gives F4)."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc


def bus_error(place: str, error: OSError) -> DeviceError:
    """Our error for the kernel's, told apart by what to do next."""
    said = f"{place}: {error.strerror or error}"
    match error.errno:
        case errno.EACCES | errno.EPERM:
            return DeviceRefused(f"{said}; add the service's user to the group i2c")
        case errno.EBUSY:
            return DeviceRefused(
                f"{said}; a kernel driver holds this address: remove its overlay or change the address"
            )
        case errno.EOPNOTSUPP | errno.ENOTTY | errno.EINVAL:
            return DeviceRefused(
                f"{said}; this is no I2C adapter that can read words: check the bus in the configuration"
            )
        case number if number in GONE_ERRNOS:
            return DeviceMissing(f"{said}; enable I2C (dtparam=i2c_arm=on), load i2c-dev, check the bus")
    # A lost transfer differs by adapter (no acknowledge is 121 on a Pi, 6 elsewhere; 5, 74, 110 occur too): all alike.
    return TransferFailed(f"{said}; check the wiring, the supply and the pull-ups")
