"""The encounter at one lane, from presence to observed crossing: a total table (phase x event) and the lane's state.

`encounter.py` does what the cells say.
"""

from dataclasses import dataclass
from enum import StrEnum

from edge.core.barrier import Barrier
from edge.core.facts import MotionCause, Prompt
from edge.core.model import LockoutCause, Party, Verdict


class Phase(StrEnum):
    """Where an encounter is."""

    IDLE = "idle"
    SCREENING = "screening"
    COMMITTING = "committing"  # admitted; the record is on its way to disk, nothing moves yet
    PASSING = "passing"  # the record is on disk; the barrier opens, somebody may cross
    REFUSED = "refused"


class Event(StrEnum):
    """What can happen to it."""

    ARRIVED = "arrived"
    LEFT = "left"
    CODE = "code"
    MEASURED = "measured"
    ATTESTED = "attested"
    DECLARED = "declared"
    EXCEPTION = "exception"
    COMMITTED = "committed"
    COMMIT_FAILED = "commit_failed"
    OPENED = "opened"
    BARRIER_FAILED = "barrier_failed"
    OBSTRUCTED = "obstructed"
    CLEARED = "cleared"
    LOCKED = "locked"
    OVERDUE = "overdue"


class Do(StrEnum):
    """What hangs off a cell."""

    NOTHING = "nothing"
    BEGIN = "begin"  # a new encounter, then JUDGE with what came
    JUDGE = "judge"  # take the input into the party and decide
    ABANDON = "abandon"
    GO = "go"  # the record is on disk: ask the barrier to open
    HOLD = "hold"  # the record is not on disk: nobody is admitted
    MARK_OPEN = "mark_open"
    MARK_CROSSING = "mark_crossing"
    CROSSED = "crossed"
    NOT_CROSSED = "not_crossed"
    CUT_SHORT = "cut_short"  # a lockout fell: a started crossing finishes, none starts any more
    REST = "rest"


@dataclass(frozen=True, slots=True)
class Cell:
    """What to do, and every phase that may follow."""

    do: Do
    to: frozenset[Phase]


_P, _D = Phase, Do
_JUDGED = frozenset({_P.SCREENING, _P.COMMITTING, _P.REFUSED})


def _row(stay: Phase, **cells: tuple[Do, frozenset[Phase]]) -> dict[Event, Cell]:
    still = (Do.NOTHING, frozenset({stay}))
    return {event: Cell(*cells.pop(event.name, still)) for event in Event}


_BEGIN = (_D.BEGIN, _JUDGED)
_JUDGE = (_D.JUDGE, _JUDGED)
_TO_IDLE = frozenset({_P.IDLE})
_PASSING = frozenset({_P.PASSING})

TABLE: dict[Phase, dict[Event, Cell]] = {
    _P.IDLE: _row(_P.IDLE, ARRIVED=_BEGIN, CODE=_BEGIN, DECLARED=_BEGIN, EXCEPTION=_BEGIN),
    _P.SCREENING: _row(
        _P.SCREENING,
        CODE=_JUDGE,
        MEASURED=_JUDGE,
        ATTESTED=_JUDGE,
        DECLARED=_JUDGE,
        EXCEPTION=_JUDGE,
        LOCKED=_JUDGE,
        LEFT=(_D.ABANDON, _TO_IDLE),
        OVERDUE=(_D.ABANDON, _TO_IDLE),
    ),
    _P.COMMITTING: _row(
        _P.COMMITTING,
        COMMITTED=(_D.GO, frozenset({_P.PASSING, _P.REFUSED})),
        COMMIT_FAILED=(_D.HOLD, frozenset({_P.REFUSED})),
        OVERDUE=(_D.HOLD, frozenset({_P.REFUSED})),
    ),
    _P.PASSING: _row(
        _P.PASSING,
        OPENED=(_D.MARK_OPEN, _PASSING),
        OBSTRUCTED=(_D.MARK_CROSSING, _PASSING),
        CLEARED=(_D.CROSSED, frozenset({_P.PASSING, _P.IDLE})),
        OVERDUE=(_D.NOT_CROSSED, frozenset({_P.PASSING, _P.IDLE})),
        BARRIER_FAILED=(_D.NOT_CROSSED, frozenset({_P.PASSING, _P.IDLE})),
        LOCKED=(_D.CUT_SHORT, frozenset({_P.PASSING, _P.IDLE})),
    ),
    _P.REFUSED: _row(_P.REFUSED, CODE=_BEGIN, EXCEPTION=_BEGIN, LEFT=(_D.REST, _TO_IDLE), OVERDUE=(_D.REST, _TO_IDLE)),
}


@dataclass(frozen=True, slots=True)
class Lane:
    """State of one lane. `encounter` only ever grows. `locked` are lockouts with a cause of their own (not time)."""

    barrier: Barrier = Barrier()
    phase: Phase = Phase.IDLE
    encounter: int = 0
    party: Party = Party()
    deadline_ns: int | None = None
    began_ns: int = 0
    attempt: int = 0
    measuring: bool = False
    verdict: Verdict | None = None
    crossing: bool = False
    close_at_ns: int | None = None
    close_cause: MotionCause | None = None  # why it is to close once it is clear; None = it stays as it is
    locked: frozenset[LockoutCause] = frozenset()
    fever_until_ns: int | None = None
    prompt: Prompt = Prompt.IDLE


def mermaid() -> str:
    """The table as a Mermaid state diagram; cells that do nothing are left out."""
    arrows: dict[tuple[Phase, Phase], list[str]] = {}
    for phase, row in TABLE.items():
        for event, cell in row.items():
            if cell.do is not Do.NOTHING:
                for target in sorted(cell.to):
                    arrows.setdefault((phase, target), []).append(f"{event} / {cell.do}")
    lines = [f"    {phase} --> {target}: {'<br/>'.join(texts)}" for (phase, target), texts in arrows.items()]
    return "\n".join(["stateDiagram-v2", f"    [*] --> {Phase.IDLE}", *lines])
