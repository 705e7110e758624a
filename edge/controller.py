"""The loop: one queue in, one step, effects out, one timer. The watchdog is fed here only, after a step."""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Protocol

from edge.clock import Clock
from edge.core import gate
from edge.core.effects import Effect
from edge.core.gate import Gate
from edge.core.inputs import GateInput, Woke
from edge.core.model import ClockTrust, Now
from edge.core.rules import Rules


class Hands(Protocol):
    """Carries effects out."""

    def do(self, effects: Iterable[Effect], now: Now, trust: ClockTrust) -> None:
        """Without waiting and without raising."""


class Controller:
    """Owns the gate's state. `after_step` sees every new state (for display, state topic and metrics)."""

    def __init__(
        self,
        rules: Rules,
        clock: Clock,
        trust: ClockTrust,
        after_step: Callable[[Gate, float], None],
        feed_watchdog: Callable[[], None],
    ) -> None:
        self.rules, self._clock = rules, clock
        self._after_step, self._feed_watchdog = after_step, feed_watchdog
        self._inputs: deque[GateInput] = deque()
        self._ready = asyncio.Event()
        self._hands: Hands | None = None
        first = gate.start(rules, self.now(), trust)
        self.state: Gate = first.state
        self._first_effects = first.effects
        self._wake_at_ns = first.wake_at_ns
        self._timer_at_ns: int | None = None
        self._timer: asyncio.Task[None] | None = None

    def now(self) -> Now:
        """This instant, by the gate's clock."""
        return Now(self._clock.mono_ns(), self._clock.wall_ms())

    def offer(self, given: GateInput) -> None:
        """Hand in an input; from the loop's thread."""
        self._inputs.append(given)
        self._ready.set()

    async def run(self, hands: Hands) -> None:
        """Step for ever; an exception here ends the process, and the relays end released."""
        self._hands = hands
        hands.do(self._first_effects, self.now(), self.state.trust)
        self._clock.on_jump(lambda: self.offer(Woke()))
        try:
            while True:
                self._set_timer()
                await self._ready.wait()
                self._ready.clear()
                while self._inputs:
                    self.step(self._inputs.popleft())
                self._feed_watchdog()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def step(self, given: GateInput) -> None:
        """One input, at once."""
        began_s = time.perf_counter()
        now = self.now()
        result = gate.step(self.state, given, self.rules, now)
        self.state, self._wake_at_ns = result.state, result.wake_at_ns
        if self._hands is not None and result.effects:
            self._hands.do(result.effects, now, result.state.trust)
        self._after_step(result.state, time.perf_counter() - began_s)

    def _set_timer(self) -> None:
        # A timer that fires early only finds that it must wait again; so it is set anew for earlier wakes alone.
        if self._timer is not None and not self._timer.done() and self._timer_at_ns is not None:
            if self._timer_at_ns <= self._wake_at_ns:
                return
            self._timer.cancel()
        self._timer_at_ns = self._wake_at_ns
        self._timer = asyncio.get_running_loop().create_task(self._wake(self._wake_at_ns), name="gate timer")

    async def _wake(self, mono_ns: int) -> None:
        await self._clock.sleep_until_mono(mono_ns)
        self._timer_at_ns = None
        self.offer(Woke())
