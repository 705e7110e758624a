"""Simulated time: a monotonic and a wall clock that run at a settable rate, can be skipped ahead, and the wall stepped.

Real time drives it through one timer of the event loop. Reading the clocks is safe from any thread; the rest belongs to
the loop's thread.
"""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
RATE_MAX = 1000.0


@dataclass(frozen=True, slots=True)
class _Anchor:
    """A moment in real time, what both clocks showed then, and how fast they run since."""

    real_ns: int
    mono_ns: int
    wall_ns: int
    rate: float


@dataclass(eq=False, slots=True)
class Timer:
    """A call that waits for its moment."""

    mono_ns: int
    callback: Callable[[], None]


class SimTime:
    """The clock of a simulated world; has the methods of the gate's clock."""

    def __init__(
        self, wall_ms: int | None = None, rate: float = 1.0, real_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._real_ns = real_ns
        now_ns = real_ns()
        wall_ns = time.time_ns() if wall_ms is None else wall_ms * NS_PER_MS
        self._anchor = _Anchor(now_ns, now_ns, wall_ns, _checked(rate))
        self._timers: set[Timer] = set()
        self._handle: asyncio.TimerHandle | None = None
        self._on_jump: list[Callable[[], None]] = []

    def mono_ns(self) -> int:
        """Simulated monotonic nanoseconds; never runs backwards."""
        anchor = self._anchor
        return anchor.mono_ns + int((self._real_ns() - anchor.real_ns) * anchor.rate)

    def wall_ms(self) -> int:
        """Simulated Unix time in milliseconds."""
        anchor = self._anchor
        return (anchor.wall_ns + int((self._real_ns() - anchor.real_ns) * anchor.rate)) // NS_PER_MS

    @property
    def rate(self) -> float:
        """Simulated seconds in a real one."""
        return self._anchor.rate

    @rate.setter
    def rate(self, rate: float) -> None:
        self._move(rate=_checked(rate))

    def skip(self, seconds: float) -> None:
        """Let this much time have passed with nothing happening in it: both clocks advance. Raises ValueError."""
        if not 0 <= seconds < math.inf:
            raise ValueError(f"cannot skip {seconds} s: time only goes forward")
        self._move(skip_ns=round(seconds * NS_PER_S))

    def skip_to(self, wall_ms: int) -> None:
        """Skip to this wall time. Raises ValueError when it is past."""
        ahead_ms = wall_ms - self.wall_ms()
        if ahead_ms < 0:
            raise ValueError(f"cannot skip to a moment {-ahead_ms} ms ago: time only goes forward")
        self._move(skip_ns=ahead_ms * NS_PER_MS)

    def step_wall(self, seconds: float) -> None:
        """Set the wall clock this far ahead or back, as an operator or a time service would; the monotonic goes on."""
        self._move(step_ns=round(seconds * NS_PER_S))
        for callback in tuple(self._on_jump):
            callback()

    def on_jump(self, callback: Callable[[], None]) -> None:
        """Call back whenever the wall clock was set (not when time was skipped)."""
        self._on_jump.append(callback)

    def call_at(self, mono_ns: int, callback: Callable[[], None]) -> Timer:
        """Call once this monotonic time is reached, from the loop. `cancel` takes it back."""
        timer = Timer(mono_ns, callback)
        self._timers.add(timer)
        self._arm()
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Forget a timer; one that has fired, or none, is fine."""
        if timer is not None:
            self._timers.discard(timer)

    async def sleep_until_mono(self, mono_ns: int) -> None:
        """Return once `mono_ns()` has reached this value, whatever happens to the rate meanwhile."""
        if self.mono_ns() >= mono_ns:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        timer = self.call_at(mono_ns, lambda: None if woken.done() else woken.set_result(None))
        try:
            await woken
        finally:
            self.cancel(timer)

    async def sleep(self, seconds: float) -> None:
        """Sleep for simulated seconds."""
        await self.sleep_until_mono(self.mono_ns() + round(seconds * NS_PER_S))

    def _move(self, rate: float | None = None, skip_ns: int = 0, step_ns: int = 0) -> None:
        before, real_ns = self._anchor, self._real_ns()
        passed_ns = int((real_ns - before.real_ns) * before.rate) + skip_ns
        self._anchor = _Anchor(
            real_ns,
            before.mono_ns + passed_ns,
            before.wall_ns + passed_ns + step_ns,
            before.rate if rate is None else rate,
        )
        self._arm()

    def _arm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._timers:
            left_ns = min(timer.mono_ns for timer in self._timers) - self.mono_ns()
            delay_s = max(0.0, left_ns / self._anchor.rate / NS_PER_S)
            self._handle = asyncio.get_running_loop().call_later(delay_s, self._fire)

    def _fire(self) -> None:
        self._handle = None
        now_ns = self.mono_ns()
        due = sorted((timer for timer in self._timers if timer.mono_ns <= now_ns), key=lambda timer: timer.mono_ns)
        self._timers.difference_update(due)
        for timer in due:
            timer.callback()
        self._arm()


def _checked(rate: float) -> float:
    if not 0 < rate <= RATE_MAX:
        raise ValueError(f"rate {rate} is impossible: it must be above 0 and at most {RATE_MAX:g}")
    return float(rate)
