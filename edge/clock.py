"""Wall time and monotonic time, kept apart, and how far the wall may be trusted.

Durations are monotonic, always; the wall is for curfew, validity and the record. A wall clock is believed when the
kernel says it is synchronised, for a while after that ended, and never when it stands before a moment already lived.
"""

import asyncio
import ctypes
import errno
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from edge.core.model import ClockTrust

logger = logging.getLogger(__name__)

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
HOLDOVER_NS = 7 * 24 * 3600 * NS_PER_S  # a Pi drifts 1 to 2 s a day: a quarter of a minute at the end of it
RTC_TOLERANCE_MS = 60_000  # hold-over drift of both clocks, the RTC's whole seconds, and room
FLOOR_INTERVAL_NS = 60 * NS_PER_S  # flash wear: one small file a minute at most


class Clock(Protocol):
    """Where a gate takes its time from. The simulated time has the same methods."""

    def mono_ns(self) -> int:
        """Monotonic nanoseconds of this boot."""

    def wall_ms(self) -> int:
        """Unix time in milliseconds; may jump."""

    async def sleep_until_mono(self, mono_ns: int) -> None:
        """Return once `mono_ns()` has reached this value."""

    def on_jump(self, callback: Callable[[], None]) -> None:
        """Call back, on the loop, whenever the wall clock was set."""


class SystemClock:
    """CLOCK_MONOTONIC and CLOCK_REALTIME; setting the latter is noticed (it cancels a timerfd)."""

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], None]] = []
        self._jump_fd: int | None = None

    def mono_ns(self) -> int:
        """Nanoseconds of CLOCK_MONOTONIC."""
        return time.monotonic_ns()

    def wall_ms(self) -> int:
        """Unix time in milliseconds."""
        return time.time_ns() // NS_PER_MS

    async def sleep_until_mono(self, mono_ns: int) -> None:
        """Return once `mono_ns()` has reached this value."""
        while (left_ns := mono_ns - time.monotonic_ns()) > 0:
            await asyncio.sleep(left_ns / NS_PER_S)

    def on_jump(self, callback: Callable[[], None]) -> None:
        """Call back when the clock was set, even by nothing; not while it is merely slewed. Call inside the loop."""
        self._callbacks.append(callback)
        if self._jump_fd is not None:
            return
        try:
            self._jump_fd = _open_jump_fd()
        except OSError as e:  # every step of the gate computes its state from time: a jump is then seen a second later
            logger.warning("clock jumps are not reported by this kernel", extra={"fields": {"error": str(e)}})
            return
        asyncio.get_running_loop().add_reader(self._jump_fd, self._on_jump_fd)

    def close(self) -> None:
        """Stop reporting jumps."""
        if self._jump_fd is not None:
            asyncio.get_running_loop().remove_reader(self._jump_fd)
            os.close(self._jump_fd)
            self._jump_fd = None
        self._callbacks.clear()

    def _on_jump_fd(self) -> None:
        if self._jump_fd is None:
            return
        try:
            os.read(self._jump_fd, 8)
        except BlockingIOError:
            return
        except OSError as e:
            if e.errno != errno.ECANCELED:
                raise
        for callback in tuple(self._callbacks):
            callback()


@dataclass(frozen=True, slots=True)
class Timex:
    """What adjtimex(2) says of the wall clock."""

    state: int  # return value; 5 = TIME_ERROR
    status: int  # bit 0x40 = STA_UNSYNC
    maxerror_us: int

    @property
    def synchronised(self) -> bool:
        """True while a time service disciplines the clock; systemd looks at the same limit of 16 s."""
        return self.state != _TIME_ERROR and not self.status & _STA_UNSYNC and self.maxerror_us < _MAXERROR_LIMIT_US


@dataclass(frozen=True, slots=True)
class TrustState:
    """How far the wall clock may carry a decision, and the word for why."""

    trust: ClockTrust
    reason: (
        str  # synchronised | holdover | before_floor | rtc_disagrees | holdover_over | never_synchronised | assumed_set
    )


def read_timex() -> Timex:
    """Ask the kernel, changing nothing. Raises OSError."""
    buffer = _TimexBuffer()  # modes = 0: read only
    libc = ctypes.CDLL(None, use_errno=True)
    state = int(libc.adjtimex(ctypes.byref(buffer)))
    if state < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"adjtimex: {os.strerror(number)}")
    return Timex(state, buffer.status, buffer.maxerror)


def judge_trust(
    timex: Timex,
    rtc_wall_ms: int | None,
    floor_wall_ms: int,
    wall_ms: int,
    last_synchronised_mono_ns: int | None,
    mono_ns: int,
    *,
    assume_set: bool = False,
) -> TrustState:
    """Judge the wall clock. Pure. `assume_set` (a bench without network) replaces only the proof of synchronisation.

    A synchronised clock is believed even before the floor: the floor may stem from a wrong clock, never the other way.
    """
    if timex.synchronised:
        return TrustState(ClockTrust.TRUSTED, "synchronised")
    if wall_ms < floor_wall_ms:
        return TrustState(ClockTrust.UNTRUSTED, "before_floor")
    if rtc_wall_ms is not None and abs(rtc_wall_ms - wall_ms) > RTC_TOLERANCE_MS:
        return TrustState(ClockTrust.UNTRUSTED, "rtc_disagrees")
    if last_synchronised_mono_ns is not None and mono_ns - last_synchronised_mono_ns < HOLDOVER_NS:
        return TrustState(ClockTrust.HOLDOVER, "holdover")
    if assume_set:
        return TrustState(ClockTrust.HOLDOVER, "assumed_set")
    reason = "never_synchronised" if last_synchronised_mono_ns is None else "holdover_over"
    return TrustState(ClockTrust.UNTRUSTED, reason)


class Floor:
    """The last wall time lived through with a believed clock, kept in a small file; it never goes back.

    The file also remembers when, in this boot, the clock was last synchronised, so that a restarted process keeps its
    hold-over. A damaged or missing file counts as none: the build time still bounds from below.
    """

    def __init__(self, path: Path, boot: str) -> None:
        self._path, self._boot = path, boot
        self._written_mono_ns: int | None = None
        self._failing = False
        kept = _read_floor(path)
        self._wall_ms = kept.wall_ms
        self._synchronised_mono_ns = kept.synchronised_mono_ns if kept.boot == boot else None

    @property
    def wall_ms(self) -> int:
        """Unix ms before which no believable clock can stand; 0 when nothing is known."""
        return self._wall_ms

    @property
    def synchronised_mono_ns(self) -> int | None:
        """CLOCK_MONOTONIC of this boot when the clock was last seen synchronised."""
        return self._synchronised_mono_ns

    async def record(self, wall_ms: int, mono_ns: int, *, synchronised: bool) -> None:
        """Remember this moment; call only while the clock is believed. Writes at most once a minute, off the loop."""
        self._wall_ms = max(self._wall_ms, wall_ms)
        if synchronised:
            self._synchronised_mono_ns = mono_ns
        if self._written_mono_ns is not None and mono_ns - self._written_mono_ns < FLOOR_INTERVAL_NS:
            return
        self._written_mono_ns = mono_ns
        kept = _FloorFile(wall_ms=self._wall_ms, boot=self._boot, synchronised_mono_ns=self._synchronised_mono_ns)
        try:
            await asyncio.to_thread(_replace_file, self._path, msgspec.json.encode(kept))
        except OSError as e:
            if not self._failing:
                logger.warning(
                    "cannot write the time floor: free space or repair the permissions",
                    extra={"fields": {"file": str(self._path), "error": str(e)}},
                )
            self._failing = True
        else:
            if self._failing:
                logger.info("time floor is written again", extra={"fields": {"file": str(self._path)}})
            self._failing = False


class TrustWatch:
    """Puts kernel, RTC, floor and build time together; ask it every few seconds and after each jump."""

    def __init__(
        self,
        clock: Clock,
        floor: Floor,
        *,
        build_wall_ms: int,
        assume_set: bool = False,
        timex: Callable[[], Timex] = read_timex,
        rtc_wall_ms: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._clock, self._floor, self._build_wall_ms, self._assume_set = clock, floor, build_wall_ms, assume_set
        self._timex, self._rtc_wall_ms = timex, rtc_wall_ms

    async def judge(self) -> TrustState:
        """Judge now, and move the floor along while the clock is believed. Raises OSError."""
        timex, wall_ms, mono_ns = self._timex(), self._clock.wall_ms(), self._clock.mono_ns()
        state = judge_trust(
            timex,
            self._rtc_wall_ms(),
            max(self._floor.wall_ms, self._build_wall_ms),
            wall_ms,
            self._floor.synchronised_mono_ns,
            mono_ns,
            assume_set=self._assume_set,
        )
        if state.trust is not ClockTrust.UNTRUSTED:
            await self._floor.record(wall_ms, mono_ns, synchronised=timex.synchronised)
        return state


def boot_id() -> str:
    """Identity of this boot of the machine (lower-case hex and dashes)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


_TIME_ERROR = 5
_STA_UNSYNC = 0x40
_MAXERROR_LIMIT_US = 16_000_000
_TFD_ABSTIME_CANCEL_ON_SET = 1 | 2
_FAR_FUTURE_S = 2**40  # never expires: only its cancellation is of interest


class _TimexBuffer(ctypes.Structure):
    """`struct timex` of 64-bit Linux, 208 bytes."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("constant", ctypes.c_long),
        ("precision", ctypes.c_long),
        ("tolerance", ctypes.c_long),
        ("time", ctypes.c_long * 2),
        ("rest", ctypes.c_byte * 120),
    )


class _FloorFile(msgspec.Struct, frozen=True, kw_only=True):
    wall_ms: int = 0
    boot: str = ""
    synchronised_mono_ns: int | None = None


def _open_jump_fd() -> int:
    """Descriptor that becomes readable (ECANCELED) each time CLOCK_REALTIME is set (timerfd_create(2))."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.timerfd_create(time.CLOCK_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "timerfd_create")
    setting = (ctypes.c_long * 4)(0, 0, _FAR_FUTURE_S, 0)  # struct itimerspec: interval, value
    if libc.timerfd_settime(fd, _TFD_ABSTIME_CANCEL_ON_SET, ctypes.byref(setting), None) < 0:
        number = ctypes.get_errno()
        os.close(fd)
        raise OSError(number, "timerfd_settime")
    return fd


def _read_floor(path: Path) -> _FloorFile:
    try:
        return msgspec.json.decode(path.read_bytes(), type=_FloorFile)
    except FileNotFoundError:
        return _FloorFile()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as e:
        logger.warning(
            "the time floor cannot be read; beginning anew", extra={"fields": {"file": str(path), "error": str(e)}}
        )
        return _FloorFile()


def _replace_file(path: Path, content: bytes) -> None:
    """Replace a small file so that after a power cut either the old or the new one is there, whole."""
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("wb") as f:
        f.write(content)
        f.flush()
        os.fsync(f.fileno())
    temporary.replace(path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
