"""The motion machine of one barrier: a total table (phase x signal), behaviour hangs off it.

Positions are measured at limit switches; a time-out is a fault, never a position. The safety rules of the house live
here: opposite pulses are kept apart by the dead time, closing needs every safety line clear and known, an obstruction
while closing stops and reverses, the local stop outranks everything, fire and key open even out of a fault.
The table knows no time and no lines; `motion.py` turns levels and deadlines into signals and does what the cells say.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from edge.core.facts import Motion, MotionCause, Position
from edge.core.model import Level, Line


class Phase(StrEnum):
    """Where the machine is."""

    UNKNOWN = "unknown"  # neither limit: after power-up, or somebody moved it by hand
    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    HALTED = "halted"  # stopped on the way by the local stop
    DISTURBED = "disturbed"  # a limit was lost without a command; it may come back
    FAULT = "fault"


class Signal(StrEnum):
    """What can happen to it."""

    OPEN_ASKED = "open_asked"  # by an admission or a guard
    OPEN_FORCED = "open_forced"  # by fire or the local key: also out of a fault
    CLOSE_ASKED = "close_asked"  # safety lines clear, or it arrives as OBSTRUCTED
    STOP_PRESSED = "stop_pressed"
    AT_OPEN = "at_open"
    AT_CLOSED = "at_closed"
    AT_NEITHER = "at_neither"
    AT_BOTH = "at_both"
    AT_UNKNOWN = "at_unknown"  # a limit switch cannot be read
    OBSTRUCTED = "obstructed"
    OVERDUE = "overdue"
    RESET = "reset"


class Do(StrEnum):
    """What hangs off a cell."""

    NOTHING = "nothing"
    OPEN = "open"
    CLOSE = "close"
    HALT = "halt"  # release the relays, pulse STOP, report stopped
    REVERSE = "reverse"  # halt, then open after the dead time
    ARRIVED = "arrived"  # report the limit reached
    SETTLED = "settled"  # the position is known again without a motion of ours
    WATCH = "watch"  # start the time a lost limit has to come back
    FAIL = "fail"  # enter the fault with its name


class Fault(StrEnum):
    """Named faults; the sentence for the guard stands in `ADVICE`."""

    NO_RESPONSE = "no_response"
    JAM = "jam"
    BOTH_LIMITS = "both_limits"
    FORCED = "forced"


ADVICE: dict[Fault, str] = {
    Fault.NO_RESPONSE: "The barrier did not start to move: check its power, the relay board and the command wire.",
    Fault.JAM: "The barrier did not arrive: look for an obstacle, a broken arm or a limit switch out of place.",
    Fault.BOTH_LIMITS: "Open and closed are reported together: check the wiring of the limit switches.",
    Fault.FORCED: "The barrier left its position without a command: look for damage or somebody lifting the arm.",
}

Cell = tuple[Phase, Do]
_P, _S, _D = Phase, Signal, Do


def _row(stay: Phase, **cells: Cell) -> dict[Signal, Cell]:
    return {signal: cells.pop(signal.name, (stay, _D.NOTHING)) for signal in Signal}


TABLE: dict[Phase, dict[Signal, Cell]] = {
    _P.UNKNOWN: _row(
        _P.UNKNOWN,
        OPEN_ASKED=(_P.OPENING, _D.OPEN),
        OPEN_FORCED=(_P.OPENING, _D.OPEN),
        CLOSE_ASKED=(_P.CLOSING, _D.CLOSE),
        STOP_PRESSED=(_P.HALTED, _D.HALT),
        AT_OPEN=(_P.OPEN, _D.SETTLED),
        AT_CLOSED=(_P.CLOSED, _D.SETTLED),
        AT_BOTH=(_P.FAULT, _D.FAIL),
    ),
    _P.CLOSED: _row(
        _P.CLOSED,
        OPEN_ASKED=(_P.OPENING, _D.OPEN),
        OPEN_FORCED=(_P.OPENING, _D.OPEN),
        STOP_PRESSED=(_P.CLOSED, _D.HALT),
        AT_OPEN=(_P.FAULT, _D.FAIL),
        AT_NEITHER=(_P.DISTURBED, _D.WATCH),
        AT_BOTH=(_P.FAULT, _D.FAIL),
        AT_UNKNOWN=(_P.UNKNOWN, _D.SETTLED),
    ),
    _P.OPENING: _row(
        _P.OPENING,
        STOP_PRESSED=(_P.HALTED, _D.HALT),
        AT_OPEN=(_P.OPEN, _D.ARRIVED),
        AT_BOTH=(_P.FAULT, _D.FAIL),
        OVERDUE=(_P.FAULT, _D.FAIL),
    ),
    _P.OPEN: _row(
        _P.OPEN,
        CLOSE_ASKED=(_P.CLOSING, _D.CLOSE),
        STOP_PRESSED=(_P.OPEN, _D.HALT),
        AT_CLOSED=(_P.FAULT, _D.FAIL),
        AT_NEITHER=(_P.DISTURBED, _D.WATCH),
        AT_BOTH=(_P.FAULT, _D.FAIL),
        AT_UNKNOWN=(_P.UNKNOWN, _D.SETTLED),
    ),
    _P.CLOSING: _row(
        _P.CLOSING,
        OPEN_ASKED=(_P.OPENING, _D.REVERSE),
        OPEN_FORCED=(_P.OPENING, _D.REVERSE),
        STOP_PRESSED=(_P.HALTED, _D.HALT),
        AT_CLOSED=(_P.CLOSED, _D.ARRIVED),
        AT_BOTH=(_P.FAULT, _D.FAIL),
        OBSTRUCTED=(_P.OPENING, _D.REVERSE),
        OVERDUE=(_P.FAULT, _D.FAIL),
    ),
    _P.HALTED: _row(
        _P.HALTED,
        OPEN_ASKED=(_P.OPENING, _D.OPEN),
        OPEN_FORCED=(_P.OPENING, _D.OPEN),
        CLOSE_ASKED=(_P.CLOSING, _D.CLOSE),
        STOP_PRESSED=(_P.HALTED, _D.HALT),
        AT_OPEN=(_P.OPEN, _D.SETTLED),
        AT_CLOSED=(_P.CLOSED, _D.SETTLED),
        AT_BOTH=(_P.FAULT, _D.FAIL),
    ),
    _P.DISTURBED: _row(
        _P.DISTURBED,
        OPEN_ASKED=(_P.OPENING, _D.OPEN),
        OPEN_FORCED=(_P.OPENING, _D.OPEN),
        STOP_PRESSED=(_P.HALTED, _D.HALT),
        AT_OPEN=(_P.OPEN, _D.SETTLED),
        AT_CLOSED=(_P.CLOSED, _D.SETTLED),
        AT_BOTH=(_P.FAULT, _D.FAIL),
        AT_UNKNOWN=(_P.UNKNOWN, _D.SETTLED),
        OVERDUE=(_P.FAULT, _D.FAIL),
    ),
    _P.FAULT: _row(
        _P.FAULT,
        OPEN_FORCED=(_P.OPENING, _D.OPEN),
        STOP_PRESSED=(_P.FAULT, _D.HALT),
        RESET=(_P.UNKNOWN, _D.SETTLED),
    ),
}


@dataclass(frozen=True, slots=True)
class Barrier:
    """State of one barrier. `pulse` is the last one sent; `pending` waits for the dead time."""

    phase: Phase = Phase.UNKNOWN
    fault: Fault | None = None
    levels: tuple[tuple[Line, Level], ...] = ()
    pulse: Motion | None = None
    pulse_end_ns: int = 0
    pending: Motion | None = None
    cause: MotionCause | None = None
    encounter: int | None = None
    started_ns: int = 0
    deadline_ns: int | None = None
    answered: bool = False  # the old limit was left: the operator responds
    origin: Position = Position.UNKNOWN

    def level(self, line: Line) -> Level:
        """Last known level; a line never heard of is UNKNOWN."""
        return next((level for known, level in self.levels if known is line), Level.UNKNOWN)


def position(barrier: Barrier) -> Position:
    """Measured position from the two limits."""
    at_open, at_closed = barrier.level(Line.LIMIT_OPEN), barrier.level(Line.LIMIT_CLOSED)
    if Level.UNKNOWN in (at_open, at_closed) or (at_open, at_closed) == (Level.ACTIVE, Level.ACTIVE):
        return Position.UNKNOWN
    if at_open is Level.ACTIVE:
        return Position.OPEN
    return Position.CLOSED if at_closed is Level.ACTIVE else Position.BETWEEN


def mermaid() -> str:
    """The table as a Mermaid state diagram; cells that stay and do nothing are left out."""
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for phase, signal, (target, do) in _cells():
        if target is not phase or do is not Do.NOTHING:
            arrows.setdefault((phase, target), []).append(signal if do is Do.NOTHING else f"{signal} / {do}")
    lines = [f"    {phase} --> {target}: {'<br/>'.join(texts)}" for (phase, target), texts in arrows.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {Phase.UNKNOWN}", *lines])


def _cells() -> Iterable[tuple[Phase, Signal, Cell]]:
    return ((phase, signal, cell) for phase, row in TABLE.items() for signal, cell in row.items())
