"""A simulated barrier: a boom with its operator's inputs and limit switches, and the sensors around it, with faults."""

import asyncio
from collections.abc import Callable
from enum import StrEnum

from drivers.barrier.wiring import BarrierWiring
from drivers.ports import Line, Relay
from drivers.sim.board import SimBoard
from drivers.sim.time import NS_PER_S, SimTime, Timer

LIMIT_REACH = 0.02  # of the travel: where a limit switch changes before the end stop
SLOW_FACTOR = 4.0


class BarrierFault(StrEnum):
    """What can be wrong with a barrier, its sensors and their wires."""

    BOTH_LIMITS = "both_limits"
    SLOW = "slow"
    JAMMED = "jammed"
    ARM_BROKEN = "arm_broken"  # the arm is off: no limit is reached any more
    WELDED_OPEN = "welded_open"  # the OPEN relay's contact never opens again
    STUCK_LOOP = "stuck_loop"
    DEAD_PHOTOCELL = "dead_photocell"  # never sees anybody
    LOOP_CUT = "loop_cut"
    LIMIT_SWAP = "limit_swap"


class Boom:
    """The arm and its operator: contacts at OPEN, CLOSE and STOP move it; 0 is closed, 1 is open.

    The operator obeys: it has no safety of its own, so what keeps people safe in a simulation is the gate.
    """

    def __init__(self, time: SimTime, on_moved: Callable[[], None], travel_s: float) -> None:
        self._time, self._on_moved, self._travel_s = time, on_moved, travel_s
        self._position, self._at_ns = 0.0, time.mono_ns()
        self._direction = 0
        self._energised: set[Relay] = set()
        self._timer: Timer | None = None
        self.faults: set[BarrierFault] = set()
        self.openings = 0  # OPEN contacts that moved the arm up, from wherever it was
        self.reopenings = 0  # those of them that found it on its way
        self.both_energised = 0  # OPEN and CLOSE contacts closed together: must stay 0

    @property
    def position(self) -> float:
        """Where the arm is now."""
        elapsed_s = (self._time.mono_ns() - self._at_ns) / NS_PER_S
        return min(1.0, max(0.0, self._position + self._direction * elapsed_s / self._duration_s))

    @property
    def moving(self) -> bool:
        """Under way."""
        return (self._direction > 0 and self.position < 1.0) or (self._direction < 0 and self.position > 0.0)

    @property
    def limits(self) -> tuple[bool, bool]:
        """Limit switches as they answer: open, closed."""
        if BarrierFault.BOTH_LIMITS in self.faults:
            return True, True
        if BarrierFault.ARM_BROKEN in self.faults:
            return False, False
        at_open, at_closed = self.position >= 1 - LIMIT_REACH, self.position <= LIMIT_REACH
        return (at_closed, at_open) if BarrierFault.LIMIT_SWAP in self.faults else (at_open, at_closed)

    def contact(self, relay: Relay, closed: bool) -> None:
        """A relay's contact closes or opens at the operator's input."""
        if not closed:
            if not (relay is Relay.OPEN and BarrierFault.WELDED_OPEN in self.faults):
                self._energised.discard(relay)
            return
        if relay in self._energised:
            return
        self._energised.add(relay)
        if {Relay.OPEN, Relay.CLOSE} <= self._energised:
            self.both_energised += 1
        match relay:
            case Relay.STOP:
                self._head(0)
            case Relay.OPEN if Relay.STOP not in self._energised:
                self._open()
            case Relay.CLOSE if not self._energised & {Relay.STOP, Relay.OPEN}:  # held OPEN holds open
                self._head(-1)

    def set_faults(self, faults: set[BarrierFault]) -> None:
        """Make it have exactly these faults from now on."""
        position, direction = self.position, self._direction
        if BarrierFault.WELDED_OPEN in self.faults - faults:
            self._energised.discard(Relay.OPEN)
        newly = faults - self.faults
        self.faults = set(faults)
        self._position, self._at_ns = position, self._time.mono_ns()
        self._head(direction)
        if BarrierFault.WELDED_OPEN in newly:
            self.contact(Relay.OPEN, closed=True)

    @property
    def _duration_s(self) -> float:
        return self._travel_s * (SLOW_FACTOR if BarrierFault.SLOW in self.faults else 1.0)

    def _open(self) -> None:
        before = self.position
        was_opening = self._direction > 0
        self._head(+1)
        if self._direction > 0 and before < 1.0 and not was_opening:
            self.openings += 1
            self.reopenings += before > LIMIT_REACH

    def _head(self, direction: int) -> None:
        stuck = self.faults & {BarrierFault.JAMMED}
        self._position, self._at_ns = self.position, self._time.mono_ns()
        self._direction = 0 if stuck else direction
        self._plan()
        self._on_moved()

    def _plan(self) -> None:
        """Set the timer to the next place on the way where a limit switch changes."""
        self._time.cancel(self._timer)
        self._timer = None
        marks = (LIMIT_REACH, 1 - LIMIT_REACH, 1.0) if self._direction > 0 else (1 - LIMIT_REACH, LIMIT_REACH, 0.0)
        here = self.position
        ahead = [mark for mark in marks if (mark - here) * self._direction > 0]
        if self._direction and ahead:
            way_s = abs(ahead[0] - here) * self._duration_s
            # A whisker late, so that rounding never leaves the arm just short of the switch.
            self._timer = self._time.call_at(self._time.mono_ns() + round(way_s * NS_PER_S) + 1000, self._pass_mark)
        elif self._direction:
            self._position, self._at_ns, self._direction = here, self._time.mono_ns(), 0

    def _pass_mark(self) -> None:
        self._plan()
        self._on_moved()


class SimBarrier:
    """A boom wired to a board, with loop, photocell and the other lines around it. Belongs to one event loop."""

    def __init__(
        self,
        time: SimTime,
        board: SimBoard,
        wiring: BarrierWiring,
        travel_s: float,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.on_moved: Callable[[], None] = lambda: None  # who watches the arm
        self._lines: dict[Line, bool] = dict.fromkeys(wiring.lines, False)
        self._terminals = board.terminals(wiring, self._relay)
        self.boom = Boom(time, self._boom_moved, travel_s)
        self._show()

    @property
    def faults(self) -> frozenset[BarrierFault]:
        """What is wrong with it."""
        return frozenset(self.boom.faults)

    def set_faults(self, *faults: BarrierFault) -> None:
        """Make it have exactly these faults (none: repaired)."""
        self.boom.set_faults(set(faults))
        self._show()

    def set_line(self, line: Line, active: bool) -> None:
        """Something happens at a sensor, a contact or a button. A line that is not wired changes nothing."""
        self._lines[line] = active
        self._show()

    @property
    def wired(self) -> frozenset[Line]:
        """Lines that are connected."""
        return self._terminals.lines

    def _relay(self, relay: Relay, energised: bool) -> None:
        # Comes from the driver's thread or the loop's; one queue keeps the order in which relays were switched.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.boom.contact, relay, energised)

    def _boom_moved(self) -> None:
        self._show()
        self.on_moved()

    def _show(self) -> None:
        """Bring every terminal to what its sensor says now."""
        faults = self.boom.faults
        at_open, at_closed = self.boom.limits
        for line, seen in {**self._lines, Line.LIMIT_OPEN: at_open, Line.LIMIT_CLOSED: at_closed}.items():
            level: bool | None = seen
            if line is Line.LOOP and BarrierFault.LOOP_CUT in faults:
                level = None
            elif line is Line.LOOP and BarrierFault.STUCK_LOOP in faults:
                level = True
            elif line is Line.PHOTOCELL and BarrierFault.DEAD_PHOTOCELL in faults:
                level = False
            self._terminals.set(line, level)
