"""A simulated device's end of a serial line: a real pty, so that drivers open, read and lose it as they do a UART.

Everything lives on the asyncio loop and nothing ever blocks: what nobody reads is dropped and counted, as on a wire.
"""

import asyncio
import os
import pty
import random
import tty
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

BYTE_S = 10 / 9600  # 8N1 at 9600 Bd
MERGE_S = 0.030  # a slow adapter hands over late, and then everything at once
LOSS = 0.1  # share of bytes that a lossy line swallows, unless told otherwise

_PIECE_BYTES, _PIECE_PAUSE_S = 256, 0.002  # a line has a speed: a long code does not arrive in one moment
_READ_BYTES = 4096


class Manner(StrEnum):
    """How the line treats what the device sends."""

    PERFECT = "perfect"
    ONE_BYTE = "one-byte"  # each byte by itself, at the pace of 9600 Bd
    MERGED = "merged"  # what is sent within 30 ms arrives at once
    LOSSY = "lossy"  # some bytes never arrive
    NOISY = "noisy"  # noise before each frame


class SimSerialLine:
    """One line. Make it inside a running loop; `close` at the end. `url` is what the driver opens."""

    def __init__(
        self,
        on_bytes: Callable[[bytes], None],
        *,
        directory: Path | None = None,
        name: str = "reader",
        manner: Manner = Manner.PERFECT,
        seed: int = 1,
    ) -> None:
        self._on_bytes = on_bytes
        self._link = None if directory is None else directory / name
        self.manner = manner
        self.loss = LOSS
        self.dropped = 0  # bytes that nobody took: line unplugged, or buffer full because nobody reads
        self._random = random.Random(seed)  # noqa: S311 - noise, not a secret
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[bytes, float]] = deque()  # pieces, each with the pause behind it
        self._merging = bytearray()
        self._timer: asyncio.TimerHandle | None = None
        self._fds: tuple[int, int] | None = None
        self._path = ""
        self.replug()

    @property
    def url(self) -> str:
        """Path of the driver's end: the stable link where a directory was given, else the pty of this plug-in."""
        return self._path if self._link is None else str(self._link)

    @property
    def plugged(self) -> bool:
        """Whether the driver's end exists."""
        return self._fds is not None

    def replug(self) -> None:
        """Plug in again; with a directory, under the same path."""
        if self._fds is not None:
            return
        master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(master, False)
        # The slave stays open here, else the line would hang up whenever the driver closes its end.
        self._fds = (master, slave)
        self._path = os.ttyname(slave)
        self._loop.add_reader(master, self._on_readable, master)
        if self._link is not None:
            fresh = self._link.with_name(f".{self._link.name}.new")
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(self._path)
            fresh.replace(self._link)

    def unplug(self) -> None:
        """Pull the plug: the path vanishes, the driver's end hangs up, what was under way is lost."""
        if self._fds is None:
            return
        if self._link is not None:
            self._link.unlink(missing_ok=True)
        master, slave = self._fds
        self._fds = None
        self._loop.remove_reader(master)
        os.close(slave)
        os.close(master)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.dropped += len(self._merging) + sum(len(piece) for piece, _ in self._queue)
        self._merging.clear()
        self._queue.clear()

    close = unplug

    def send(self, data: bytes) -> None:
        """The device sends; the line does to it what its manner says."""
        match self.manner:
            case Manner.MERGED:
                self._merging += data
                self._schedule(MERGE_S)
                return
            case Manner.ONE_BYTE:
                self._queue.extend((data[i : i + 1], BYTE_S) for i in range(len(data)))
            case Manner.LOSSY:
                self._enqueue(bytes(b for b in data if self._random.random() >= self.loss))
            case Manner.NOISY:
                self._enqueue(self._random.randbytes(self._random.randint(1, 8)) + data)
            case Manner.PERFECT:
                self._enqueue(data)
        self._schedule(0)

    def _enqueue(self, data: bytes) -> None:
        self._queue.extend((data[i : i + _PIECE_BYTES], _PIECE_PAUSE_S) for i in range(0, len(data), _PIECE_BYTES))

    def _schedule(self, delay_s: float) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(delay_s, self._pump)

    def _pump(self) -> None:
        self._timer = None
        self._enqueue(bytes(self._merging))
        self._merging.clear()
        if self._queue:
            piece, pause_s = self._queue.popleft()
            self._write(piece)
            self._schedule(pause_s)

    def _write(self, piece: bytes) -> None:
        written = 0
        if self._fds is not None:
            with suppress(BlockingIOError):
                written = os.write(self._fds[0], piece)
        self.dropped += len(piece) - written

    def _on_readable(self, master: int) -> None:
        with suppress(BlockingIOError):
            self._on_bytes(os.read(master, _READ_BYTES))
