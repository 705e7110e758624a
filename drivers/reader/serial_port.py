"""A byte stream on a URL: a device path, or socket://host:port for a bench. Bytes come by the event loop.

pyserial reports a lost device in three ways (SerialException, bare OSError, termios.error); here all are DeviceMissing.
"""

import asyncio
import errno
import termios
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from drivers.errors import DeviceError, DeviceMissing, DeviceRefused

BACKLOG_CHUNKS = 256  # unread chunks after which the port is no longer read: memory stays bounded on an endless stream
CHUNK_BYTES = 4096
WRITE_PATIENCE_S = 0.1  # commands are a dozen bytes: they fit any driver's buffer, or the line is stuck

_LOSSES = (OSError, termios.error)  # SerialException is an OSError, termios.error is not
_SOCKET = "socket://"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Bytes that came together, and when (the loop's clock)."""

    data: bytes
    at_s: float


class SerialPort:
    """One serial line. Reopening is the caller's: after DeviceMissing call `close` and `open` again."""

    def __init__(self, url: str, baud: int = 9600) -> None:
        self.url = url
        self._baud = baud
        self._serial: Any = None  # pyserial ships no types
        self._chunks: deque[Chunk] = deque()
        self._arrived = asyncio.Event()
        self._lost: str | None = None
        self._listening = False

    async def open(self) -> None:
        """Open exclusively, 8N1. Raises DeviceMissing, DeviceRefused."""
        await self.close()
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(None, self._open_now)
        try:
            serial = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(_close_late)
            raise
        except (*_LOSSES, ValueError) as e:
            raise self._open_error(e) from e
        self._serial = serial
        self._lost = None
        self._chunks.clear()
        self._listen()

    async def read(self, until_s: float | None = None) -> Chunk | None:
        """The next chunk; None when the loop's clock reaches `until_s`. What came before a loss is still handed out."""
        while not self._chunks:
            if self._serial is None:
                raise DeviceMissing(f"{self.url}: the line is closed; open it first")
            if self._lost is not None:
                raise DeviceMissing(self._lost)
            self._arrived.clear()
            try:
                async with asyncio.timeout_at(until_s):
                    await self._arrived.wait()
            except TimeoutError:
                if not self._chunks:
                    return None
        chunk = self._chunks.popleft()
        self._listen()
        return chunk

    def write(self, data: bytes) -> None:
        """Send a short command. Raises DeviceMissing."""
        if self._serial is None:
            raise DeviceMissing(f"{self.url}: the line is closed; open it first")
        try:
            self._serial.write(data)
        except _LOSSES as e:
            self._lose(e)
            raise DeviceMissing(f"{self.url}: lost while writing ({e}); check plug and cable") from e

    async def close(self) -> None:
        """Close; idempotent. A `read` under way raises DeviceMissing."""
        serial, self._serial = self._serial, None
        if serial is None:
            return
        self._quieten(serial)
        self._chunks.clear()
        self._arrived.set()
        # In a thread: a closing tty may wait for its output, and pyserial sleeps after closing a socket.
        await asyncio.get_running_loop().run_in_executor(None, _close_now, serial)

    def _open_now(self) -> Any:
        import serial  # noqa: PLC0415 - hardware libraries load with the hardware only

        if "://" in self.url and not self.url.startswith(_SOCKET):
            raise ValueError(f"{self.url} is neither a device path nor socket://host:port")
        return serial.serial_for_url(
            self.url, baudrate=self._baud, timeout=0, write_timeout=WRITE_PATIENCE_S, exclusive=True
        )

    def _listen(self) -> None:
        if self._serial is not None and not self._listening and self._lost is None:
            asyncio.get_running_loop().add_reader(self._serial.fileno(), self._on_readable)
            self._listening = True

    def _quieten(self, serial: Any) -> None:
        if self._listening:
            self._listening = False
            asyncio.get_running_loop().remove_reader(serial.fileno())

    def _on_readable(self) -> None:
        try:
            data = self._serial.read(CHUNK_BYTES)
        except _LOSSES as e:
            self._lose(e)
            return
        if not data:
            return
        self._chunks.append(Chunk(data, asyncio.get_running_loop().time()))
        self._arrived.set()
        if len(self._chunks) >= BACKLOG_CHUNKS:
            self._quieten(self._serial)

    def _lose(self, error: BaseException) -> None:
        self._quieten(self._serial)
        self._lost = f"{self.url}: the reader is gone ({error}); check plug and cable"
        self._arrived.set()

    def _open_error(self, error: BaseException) -> DeviceError:
        if isinstance(error, ValueError):
            return DeviceRefused(f"{self.url}: {error}; correct the reader's url or baud in the configuration")
        match _errno_of(error):
            case errno.EACCES | errno.EPERM:
                return DeviceRefused(f"{self.url}: no permission; add the service's user to the group dialout")
            case errno.EAGAIN | errno.EBUSY:
                return DeviceRefused(f"{self.url}: another process holds this line; stop it (fuser {self.url})")
            case errno.ENOTTY | errno.EINVAL | errno.EISDIR:
                return DeviceRefused(f"{self.url}: this is no serial line; correct the reader's url")
        if self.url.startswith(_SOCKET):
            return DeviceMissing(f"{self.url}: nothing answers there ({error}); start the other end or correct the url")
        return DeviceMissing(f"{self.url}: not there ({error}); plug the reader in, compare with ls /dev/serial/by-id")


def _errno_of(error: BaseException) -> int | None:
    """The kernel's number, also where pyserial put it into a text only."""
    for e in (error, error.__context__):
        if e is not None and e.args and isinstance(e.args[0], int):
            return e.args[0]
    return None


def _close_now(serial: Any) -> None:
    with suppress(*_LOSSES):
        serial.reset_output_buffer()
    with suppress(*_LOSSES):
        serial.close()


def _close_late(opening: "asyncio.Future[Any]") -> None:
    if not opening.cancelled() and opening.exception() is None:
        _close_now(opening.result())
