"""A barrier on GPIO pins: relays that release themselves, lines that report danger first. It knows no rules.

Three threads meet here: the loop (open, pulse, release, levels, close), the pin library's callback thread (edges), and
one of the driver's own (end of pulses, end of debounces, hand-over). One lock guards everything they share.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from drivers.barrier.filter import LineFilter
from drivers.barrier.pins import PinSource
from drivers.barrier.wiring import BarrierWiring, InputWire, Pull
from drivers.errors import DeviceError, DeviceMissing, DeviceRefused
from drivers.ports import DeviceInfo, Line, LineChange, Relay

if TYPE_CHECKING:
    from gpiozero import InputDevice, OutputDevice

log = logging.getLogger(__name__)

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
INTERLOCK_MS = 300  # between the release of a relay and its opposite
GRACE_NS = 30 * NS_PER_MS  # a caller's 300 ms may end this much before ours: it does not see when our thread woke
PULSE_MAX_MS = 5000  # held longer, most operators take OPEN for "hold open" (hardware reference §4.1)
CONFIRMED_FIRST = frozenset({Line.FIRE})  # a spike must not count, not even when a poll happens to see it
OPPOSITE = {Relay.OPEN: Relay.CLOSE, Relay.CLOSE: Relay.OPEN}


@dataclass(slots=True)
class _RelayState:
    """One relay: until when it is energised, when it was let go, and a pulse that waits for the interlock."""

    device: "OutputDevice"
    until_ns: int | None = None
    released_ns: int | None = None
    postponed: tuple[int, int] | None = None  # start, duration


@dataclass(frozen=True, slots=True)
class _Edge:
    line: Line
    level: bool  # electrical
    mono_ns: int


class _Ask(Enum):
    """What the loop asks of the driver's thread."""

    NOTHING = "look at the deadlines"
    READ = "read every line"


class GpioBarrier:
    """BarrierPort over gpiozero pins. `pace` multiplies the driver's own durations (simulated time runs faster)."""

    def __init__(
        self, wiring: BarrierWiring, pins: PinSource, *, pace: float | Callable[[], float] = 1.0, name: str = "barrier"
    ) -> None:
        self._wiring, self._pins, self._name = wiring, pins, name
        self._pace: Callable[[], float] = pace if callable(pace) else lambda: pace
        self._lock = threading.Lock()
        self._inbox: queue.SimpleQueue[_Edge | _Ask] = queue.SimpleQueue()
        self._relays: dict[Relay, _RelayState] = {}
        self._inputs: dict[Line, InputDevice] = {}
        self._filters: dict[Line, LineFilter] = {}
        self._watchers: list[Any] = []  # the pins hold callbacks weakly
        self._on_change: Callable[[LineChange], None] | None = None
        self._thread: threading.Thread | None = None
        self._failed: str | None = None

    async def open(self, on_change: Callable[[LineChange], None]) -> DeviceInfo:
        """See BarrierPort. Nothing stays claimed when it fails."""
        if self._thread is not None:
            raise DeviceRefused(f"{self._name} is already open; close it first")
        factory = self._pins.acquire()
        self._inbox = queue.SimpleQueue()
        try:
            with self._translated():
                self._claim(factory)
                self._watch()
        except (DeviceMissing, DeviceRefused):
            self._let_go()
            raise
        self._on_change, self._failed = on_change, None
        self._inbox.put(_Ask.READ)  # an edge may have come between the first reading and the watch
        self._thread = threading.Thread(target=self._run, name=f"{self._name} wires", daemon=True)
        self._thread.start()
        return DeviceInfo(model="gpio-relays", place=self._pins.place, integrity="none")

    def levels(self) -> Mapping[Line, bool]:
        """Level of each wired line, read from the pins now; a line with a confirm time counts once that is over."""
        with self._lock:
            self._check()
            with self._translated():
                levels = {line: self._active(line) for line in self._inputs}
            if any(active != self._filters[line].raw for line, active in levels.items()):
                self._inbox.put(_Ask.READ)  # an edge was lost, or is still on its way
            return {
                line: active and (line not in CONFIRMED_FIRST or self._filters[line].active)
                for line, active in levels.items()
            }

    def pulse(self, relay: Relay, duration_ms: int) -> None:
        """See BarrierPort. An opposite pulse at most 30 ms early waits for the rest of the interlock.

        A barrier without a STOP input is stopped as far as that goes: OPEN and CLOSE are released.
        """
        if not 0 < duration_ms <= PULSE_MAX_MS:
            raise DeviceRefused(f"{self._name}: a pulse of {duration_ms} ms; allowed are 1 to {PULSE_MAX_MS} ms")
        with self._lock:
            self._check()
            now_ns, pace = time.monotonic_ns(), self._pace()
            with self._translated():
                self._expire(now_ns)
                if relay is Relay.STOP:
                    self._release_motion(now_ns)
                    if relay not in self._relays:
                        return
                start_ns = self._start_ns(relay, now_ns, pace)
                duration_ns = round(duration_ms * pace * NS_PER_MS)
                if start_ns > now_ns:
                    self._relays[relay].postponed = (start_ns, duration_ns)
                else:
                    self._energise(relay, now_ns + duration_ns)
        self._inbox.put(_Ask.NOTHING)  # the thread learns of its new deadline

    def release(self) -> None:
        """Release OPEN and CLOSE now; a pulse that still waited for the interlock is dropped."""
        with self._lock:
            if self._relays:
                with self._translated():
                    self._release_motion(time.monotonic_ns())

    async def close(self) -> None:
        """Release all relays, then let go of the lines. Safe to call twice, and after the chip has gone."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is None:
            return
        self._inbox.put(_Ask.NOTHING)
        thread.join()  # it never waits for anything but its queue
        self._let_go()

    # -- wires ---------------------------------------------------------------------------------------------------

    def _claim(self, factory: Any) -> None:
        from gpiozero import InputDevice, OutputDevice  # noqa: PLC0415 - the package imports on any laptop

        for relay, out in self._wiring.relays.items():  # outputs first: they are what can hurt
            device = OutputDevice(out.pin, active_high=out.active_high, initial_value=False, pin_factory=factory)
            self._relays[relay] = _RelayState(device)
        for line, wire in self._wiring.lines.items():
            self._inputs[line] = _input(InputDevice, wire, factory)
            self._filters[line] = LineFilter(line, self._active(line))

    def _watch(self) -> None:
        for line, device in self._inputs.items():
            watcher = self._watcher(line)
            self._watchers.append(watcher)
            device.pin.edges = "both"
            device.pin.when_changed = watcher

    def _watcher(self, line: Line) -> Callable[[float, bool], None]:
        put, monotonic_ns = self._inbox.put, time.monotonic_ns

        def seen(_ticks: float, level: bool) -> None:
            # Runs in the pin library's only thread: one exception there ends the edges of the whole process.
            try:
                put(_Edge(line, bool(level), monotonic_ns()))
            except Exception:
                log.exception("an edge was lost", extra={"fields": {"line": line.value}})

        return seen

    def _active(self, line: Line) -> bool:
        return bool(self._inputs[line].pin.state) == self._wiring.lines[line].active_high

    def _let_go(self) -> None:
        with self._lock:
            for watched in self._inputs.values():
                with self._forgiving():
                    watched.pin.when_changed = None
            for state in self._relays.values():
                with self._forgiving():
                    state.device.off()
            for device in (*self._inputs.values(), *(state.device for state in self._relays.values())):
                with self._forgiving():
                    device.close()
            self._relays, self._inputs, self._filters, self._watchers = {}, {}, {}, []
        with self._forgiving():
            self._pins.release()

    # -- relays (lock held) --------------------------------------------------------------------------------------

    def _start_ns(self, relay: Relay, now_ns: int, pace: float) -> int:
        """When this relay may be energised. Raises DeviceRefused."""
        if relay not in self._relays:
            raise DeviceRefused(f"{self._name}: relay {relay} is not wired")
        if relay not in OPPOSITE:
            return now_ns
        other = self._relays[OPPOSITE[relay]]
        if other.until_ns is not None or other.postponed is not None:
            raise DeviceRefused(
                f"{self._name}: {relay} was asked for while {OPPOSITE[relay]} is energised; release it first"
            )
        if other.released_ns is None:
            return now_ns
        start_ns = max(now_ns, other.released_ns + round(INTERLOCK_MS * pace * NS_PER_MS))
        if start_ns - now_ns > GRACE_NS:
            raise DeviceRefused(
                f"{self._name}: {relay} was asked for {(now_ns - other.released_ns) // NS_PER_MS} ms after"
                f" {OPPOSITE[relay]}; opposite pulses are {INTERLOCK_MS} ms apart"
            )
        return start_ns

    def _energise(self, relay: Relay, until_ns: int) -> None:
        state = self._relays[relay]
        state.postponed = None
        state.until_ns = until_ns
        state.device.on()

    def _release_motion(self, now_ns: int) -> None:
        self._release_relays(OPPOSITE, now_ns)

    def _release_relays(self, relays: Iterable[Relay], now_ns: int) -> None:
        """Every one of them is tried before the first error is told."""
        failures: list[DeviceError] = []
        for relay in relays:
            state = self._relays[relay]
            state.postponed = None
            if state.until_ns is None:
                continue
            state.until_ns, state.released_ns = None, now_ns
            try:
                with self._translated():
                    state.device.off()
            except (DeviceMissing, DeviceRefused) as e:
                failures.append(e)
        if failures:
            self._fail(str(failures[0]))
            raise failures[0]

    def _expire(self, now_ns: int) -> None:
        """End pulses that are over; begin one whose interlock is over."""
        over = [r for r, state in self._relays.items() if state.until_ns is not None and now_ns >= state.until_ns]
        self._release_relays(over, now_ns)
        for relay, state in self._relays.items():
            if state.postponed is not None and now_ns >= state.postponed[0]:
                self._energise(relay, now_ns + state.postponed[1])

    # -- the driver's thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (given := self._next()) is not None:
            with self._lock:
                now_ns, pace = time.monotonic_ns(), self._pace()
                changes: list[LineChange] = []
                try:
                    with self._translated():
                        self._expire(now_ns)
                except (DeviceMissing, DeviceRefused) as e:
                    self._fail(str(e))
                try:
                    with self._translated():
                        changes = self._heard(given, now_ns, pace)
                except (DeviceMissing, DeviceRefused) as e:
                    self._fail(str(e))
            self._report(changes)

    def _heard(self, given: _Edge | _Ask, now_ns: int, pace: float) -> list[LineChange]:
        """Confirmed changes after an edge, a request or a deadline."""
        changes: list[LineChange] = []
        for line, line_filter in self._filters.items():
            changed, at_ns = None, now_ns
            if isinstance(given, _Edge) and given.line is line:
                at_ns = given.mono_ns
                changed = line_filter.feed(given.level == self._wiring.lines[line].active_high, at_ns, pace)
            due_ns = line_filter.due_ns(pace)
            # What lasted long enough by its edges must also stand at the pin: an edge may have been lost.
            if given is _Ask.READ or (due_ns is not None and now_ns >= due_ns):
                changed, at_ns = line_filter.feed(self._active(line), now_ns, pace), now_ns
            if changed is not None:
                changes.append(LineChange(line, changed, at_ns))
        return changes

    def _next(self) -> _Edge | _Ask | None:
        """What to do next; None when the driver was closed."""
        with self._lock:
            if self._thread is None:
                return None
            due_ns = self._due_ns()
        try:
            if due_ns is None:
                return self._inbox.get()
            return self._inbox.get(timeout=max(0.0, (due_ns - time.monotonic_ns()) / NS_PER_S))
        except queue.Empty:
            return _Ask.NOTHING

    def _due_ns(self) -> int | None:
        pace = self._pace()
        due = [state.until_ns for state in self._relays.values()]
        due += [state.postponed[0] for state in self._relays.values() if state.postponed is not None]
        if self._failed is None:  # else an overdue line that cannot be read would keep this thread spinning
            due += [line_filter.due_ns(pace) for line_filter in self._filters.values()]
        return min((at for at in due if at is not None), default=None)

    def _report(self, changes: list[LineChange]) -> None:
        for change in changes:
            if self._on_change is None:
                continue
            try:
                self._on_change(change)
            except Exception:  # a failing listener must not take the relays' timer with it
                log.exception("listener of a line failed", extra={"fields": {"line": change.line.value}})

    # -- errors --------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._failed is not None:
            raise DeviceMissing(self._failed)
        if self._thread is None:
            raise DeviceMissing(f"{self._name} is not open; open it first")

    def _fail(self, why: str) -> None:
        """The wires do not obey: every later call says so, and only closing and opening anew is a way back."""
        if self._failed is None:
            log.error("barrier wires do not obey", extra={"fields": {"barrier": self._name, "error": why}})
        self._failed = why

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Errors of the pin library become ours. lgpio's own are translated in `factory`."""
        from gpiozero.exc import GPIOPinInUse, GPIOZeroError  # noqa: PLC0415

        try:
            yield
        except GPIOPinInUse as e:
            raise DeviceRefused(f"{self._name}: {e}; give every wire a pin of its own") from e
        except GPIOZeroError as e:
            raise DeviceRefused(f"{self._name}: {e}; correct the wiring in the configuration") from e
        except OSError as e:
            raise DeviceMissing(f"{self._name} on {self._pins.place}: {e}; is the chip there?") from e

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        """Closing goes on to the next wire when one is gone already."""
        try:
            with self._translated():
                yield
        except (DeviceMissing, DeviceRefused) as e:
            log.warning("wire could not be released", extra={"fields": {"barrier": self._name, "error": str(e)}})


def _input(device_type: type["InputDevice"], wire: InputWire, factory: Any) -> "InputDevice":
    if wire.pull is Pull.NONE:
        return device_type(wire.pin, pull_up=None, active_state=wire.active_high, pin_factory=factory)
    return device_type(wire.pin, pull_up=wire.pull is Pull.UP, pin_factory=factory)
