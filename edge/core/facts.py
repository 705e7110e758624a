"""What is recorded. Each fact becomes one event; decision, actuation and observed crossing are three."""

from dataclasses import dataclass
from enum import StrEnum

from edge.core.model import ClockTrust, Direction, LaneKind, LockoutCause, Party, Reason, Verdict


class Motion(StrEnum):
    """What a barrier is told."""

    OPEN = "open"
    CLOSE = "close"
    STOP = "stop"


class MotionCause(StrEnum):
    """Every motion has one (rule 5 of the house)."""

    ADMISSION = "admission"
    EXCEPTION = "exception"
    FIRE = "fire"
    KEY = "key"
    GUARD = "guard"
    AUTO_CLOSE = "auto_close"
    OBSTRUCTION = "obstruction"
    STOP_BUTTON = "stop_button"


class MotionResult(StrEnum):
    """What was measured of a motion."""

    REACHED = "reached"
    STOPPED = "stopped"
    REVERSED = "reversed"
    NO_RESPONSE = "no_response"
    JAM = "jam"


class Position(StrEnum):
    """Measured at the limit switches, never inferred."""

    OPEN = "open"
    CLOSED = "closed"
    BETWEEN = "between"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class VerdictFact:
    """What was decided about a party, before anything moves."""

    lane: str
    encounter: int
    kind: LaneKind
    direction: Direction
    verdict: Verdict
    party: Party


@dataclass(frozen=True, slots=True)
class ActuationFact:
    """A motion and its measured result."""

    lane: str
    motion: Motion
    cause: MotionCause
    result: MotionResult
    position: Position
    took_ms: int
    encounter: int | None


@dataclass(frozen=True, slots=True)
class PassageFact:
    """Whether an admitted party was seen to cross."""

    lane: str
    encounter: int
    direction: Direction
    crossed: bool
    occupants: int
    took_ms: int


@dataclass(frozen=True, slots=True)
class LockoutFact:
    """A lockout of a lane began or ended."""

    lane: str
    cause: LockoutCause
    started: bool
    ended_by: str | None = None


@dataclass(frozen=True, slots=True)
class ReleaseFact:
    """A release (fire) began or ended."""

    cause: str
    started: bool


@dataclass(frozen=True, slots=True)
class FeverFact:
    """A fever reading was taken, or its lockout released."""

    lane: str
    encounter: int
    direction: Direction
    raised: bool
    body_centi_c: int | None = None
    person: str | None = None
    released_by: str | None = None
    handover: str | None = None


@dataclass(frozen=True, slots=True)
class DeviceFact:
    """A device or barrier became faulty or well again."""

    device: str
    lane: str | None
    works: bool
    fault: str
    advice: str


@dataclass(frozen=True, slots=True)
class GateFact:
    """The gate's process began or ends; lanes found not closed at that moment."""

    started: bool
    open_lanes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClockFact:
    """The trust in the clock changed."""

    trust: ClockTrust
    reason: str


Fact = (
    VerdictFact
    | ActuationFact
    | PassageFact
    | LockoutFact
    | ReleaseFact
    | FeverFact
    | DeviceFact
    | GateFact
    | ClockFact
)


class Prompt(StrEnum):
    """Keys of the sentences on the public display; nothing on it tells a fever (rule 9)."""

    IDLE = "idle"
    SHOW_PASS = "show_pass"
    MEASURE = "measure"
    MASK = "mask"
    OCCUPANTS = "occupants"
    WAIT = "wait"
    GO = "go"
    REFUSED = "refused"
    RETEST = "retest"
    CURFEW = "curfew"
    GUARD = "guard"
    FIRE = "fire"
    CLOSED = "closed"


PROMPT_OF_REASON: dict[Reason, Prompt] = {
    Reason.OCCUPANTS_UNKNOWN: Prompt.OCCUPANTS,
    Reason.PASS_MISSING: Prompt.SHOW_PASS,
    Reason.NOT_MEASURED: Prompt.MEASURE,
    Reason.MASK_UNKNOWN: Prompt.MASK,
    Reason.CURFEW: Prompt.CURFEW,
    Reason.CURFEW_IMMINENT: Prompt.CURFEW,
    Reason.FEVER: Prompt.GUARD,
    Reason.LOCKOUT_FEVER: Prompt.CLOSED,
    Reason.LOCKOUT_FAULT: Prompt.CLOSED,
    Reason.LOCKOUT_DISK: Prompt.GUARD,
    Reason.AMBIENT_OUT_OF_RANGE: Prompt.GUARD,
    Reason.SENSOR_FAILED: Prompt.GUARD,
    Reason.FIRE: Prompt.FIRE,
}
