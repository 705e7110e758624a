"""What may be done. The core asks; a thin worker does; what came of it returns as an input."""

from dataclasses import dataclass

from edge.core.facts import Fact, Motion, Prompt


@dataclass(frozen=True, slots=True)
class Pulse:
    """Energise a relay of a lane for a time. STOP also releases OPEN and CLOSE at once."""

    lane: str
    motion: Motion
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Measure:
    """Take one measuring cycle in a lane and answer with Measured of this attempt; wait `rest_ms` first."""

    lane: str
    attempt: int
    rest_ms: int = 0


@dataclass(frozen=True, slots=True)
class Show:
    """Put a sentence on the public display of a lane."""

    lane: str
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class Record:
    """Write a fact down. With `admission`, answer Committed or CommitFailed of that lane and encounter."""

    fact: Fact
    admission: tuple[str, int] | None = None


Effect = Pulse | Measure | Show | Record
