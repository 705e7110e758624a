"""What can happen to a gate. Everything that enters the core is one of these."""

from dataclasses import dataclass

from edge.core.model import ClockTrust, ExceptionKind, Level, Line, Pass, Reason, Sample


@dataclass(frozen=True, slots=True)
class LineIs:
    """A line of a lane has this level (edge or poll)."""

    lane: str
    line: Line
    level: Level


@dataclass(frozen=True, slots=True)
class CodeRead:
    """A code was presented: a verified pass, or the reason why it is none."""

    lane: str
    presented: Pass | Reason


@dataclass(frozen=True, slots=True)
class Measured:
    """A measuring cycle ended. `attempt` is the one asked for by Measure; a stale one changes nothing."""

    lane: str
    attempt: int
    samples: tuple[Sample, ...]
    sensor_failed: bool = False


@dataclass(frozen=True, slots=True)
class MaskAttested:
    """The guard attests the mask of the first person whose mask is unknown."""

    lane: str
    worn: bool


@dataclass(frozen=True, slots=True)
class OccupantsDeclared:
    """The guard entered how many people sit in the vehicle (or stand together)."""

    lane: str
    count: int


@dataclass(frozen=True, slots=True)
class ExceptionGranted:
    """The guard grants a reasoned exception to whoever stands there."""

    lane: str
    kind: ExceptionKind
    approver: str


@dataclass(frozen=True, slots=True)
class FeverReleased:
    """The guard releases a fever lockout with the reference of a recorded hand-over."""

    lane: str
    handover: str


@dataclass(frozen=True, slots=True)
class FireReset:
    """The fire release is reset on site; refused while the contact is still active."""


@dataclass(frozen=True, slots=True)
class CloseAsked:
    """The guard asks to close an open barrier (for instance after a restart or a fire)."""

    lane: str


@dataclass(frozen=True, slots=True)
class BarrierReset:
    """The guard acknowledges a barrier fault after looking at it."""

    lane: str


@dataclass(frozen=True, slots=True)
class Committed:
    """The admission of this encounter is on disk."""

    lane: str
    encounter: int


@dataclass(frozen=True, slots=True)
class CommitFailed:
    """The admission of this encounter could not be written."""

    lane: str
    encounter: int


@dataclass(frozen=True, slots=True)
class DiskIs:
    """Recording works, or does not."""

    works: bool


@dataclass(frozen=True, slots=True)
class ClockIs:
    """The trust in the wall clock was judged."""

    trust: ClockTrust
    reason: str


@dataclass(frozen=True, slots=True)
class DeviceIs:
    """A device was lost, or is back. `advice` says in one sentence what to do."""

    device: str
    lane: str | None
    works: bool
    fault: str
    advice: str


@dataclass(frozen=True, slots=True)
class Woke:
    """Nothing but time has passed."""


@dataclass(frozen=True, slots=True)
class Stopping:
    """The process ends; nothing may move."""


LaneInput = (
    LineIs
    | CodeRead
    | Measured
    | MaskAttested
    | OccupantsDeclared
    | ExceptionGranted
    | FeverReleased
    | CloseAsked
    | BarrierReset
    | Committed
    | CommitFailed
)
GateInput = LaneInput | FireReset | DiskIs | ClockIs | DeviceIs | Woke | Stopping
