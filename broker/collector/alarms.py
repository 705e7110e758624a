"""Alarm rules: (what was told, time) -> raised and cleared. Pure: time comes in, changes go out.

One open alarm per (origin, cause); a second report of the same cause is silent. A book is copied before a batch and
kept only when the batch was committed, so what is open in memory is what is open on disk.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class Cause(StrEnum):
    """What an alarm is about."""

    FEVER = "fever"
    GATE_SILENT = "gate_silent"
    GAP = "gap"
    DEVICE_FAULT = "device_fault"
    CLOCK_UNTRUSTED = "clock_untrusted"
    FIRE = "fire"


SILENT, LOST = "silent", "lost"  # details of GATE_SILENT: nothing heard for too long; the broker said it is gone


@dataclass(frozen=True, slots=True)
class Place:
    """Where an alarm comes from. `part` is a lane, a device or a stream; empty for the gate as a whole."""

    site: str
    node: str
    part: str = ""

    @property
    def origin(self) -> str:
        """The identity under which at most one alarm per cause is open."""
        return f"{self.node}/{self.part}" if self.part else self.node


@dataclass(frozen=True, slots=True)
class Alarm:
    """An open alarm. `stream` and `seq` name the event that raised it; empty and 0 when no event did."""

    place: Place
    cause: Cause
    detail: str
    raised_ms: int
    stream: str = ""
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Told:
    """A recorded event says that a condition began (`up`) or ended."""

    place: Place
    cause: Cause
    up: bool
    detail: str = ""
    stream: str = ""
    seq: int = 0


@dataclass(frozen=True, slots=True)
class Heard:
    """A sign of life. `connected` = the gate announced itself, which also ends a `lost`."""

    place: Place
    connected: bool = False


@dataclass(frozen=True, slots=True)
class Gone:
    """The broker published the gate's will, and it belongs to the gate's present connection."""

    place: Place


@dataclass(frozen=True, slots=True)
class Missing:
    """How many events of a stream are missing that may still come; 0 = none."""

    place: Place
    count: int


Fact = Told | Heard | Gone | Missing


@dataclass(frozen=True, slots=True)
class Raised:
    """An alarm opened."""

    alarm: Alarm


@dataclass(frozen=True, slots=True)
class Cleared:
    """An alarm ended; `stream` and `seq` name the event that ended it, if one did."""

    alarm: Alarm
    cleared_ms: int
    stream: str = ""
    seq: int = 0


Change = Raised | Cleared
Key = tuple[str, Cause]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long is too long, by the collector's own monotonic clock, in seconds."""

    silence_s: float
    gap_s: float


@dataclass(frozen=True, slots=True)
class Now:
    """One moment on both clocks: monotonic seconds decide, wall milliseconds are written down."""

    mono_s: float
    wall_ms: int


@dataclass(slots=True)
class Book:
    """What the rules remember: open alarms, last sign of life per gate, age of gaps, last event per condition."""

    open: dict[Key, Alarm] = field(default_factory=dict)
    heard_s: dict[str, tuple[Place, float]] = field(default_factory=dict)
    missing_since_s: dict[str, tuple[Place, int, float]] = field(default_factory=dict)
    last_seq: dict[tuple[str, Cause, str], int] = field(default_factory=dict)

    def copy(self) -> "Book":
        """An independent copy."""
        return Book(self.open.copy(), self.heard_s.copy(), self.missing_since_s.copy(), self.last_seq.copy())


def step(book: Book, facts: list[Fact], now: Now) -> list[Change]:
    """Apply facts in order; changes `book` and returns what was raised and cleared."""
    changes: list[Change] = []
    for fact in facts:
        match fact:
            case Told():
                _told(book, fact, now, changes)
            case Heard():
                _heard(book, fact, now, changes)
            case Gone():
                _gone(book, fact, now, changes)
            case Missing():
                _missing(book, fact, now, changes)
    return changes


def tick(book: Book, limits: Limits, now: Now) -> list[Change]:
    """Raise what only the passing of time can raise: silent gates and gaps that did not fill."""
    changes: list[Change] = []
    for place, at_s in book.heard_s.values():
        if now.mono_s - at_s > limits.silence_s and (place.origin, Cause.GATE_SILENT) not in book.open:
            _raise(book, Alarm(place, Cause.GATE_SILENT, SILENT, now.wall_ms), changes)
    for place, count, since_s in book.missing_since_s.values():
        if now.mono_s - since_s > limits.gap_s and (place.origin, Cause.GAP) not in book.open:
            _raise(book, Alarm(place, Cause.GAP, str(count), now.wall_ms), changes)
    return changes


def _told(book: Book, fact: Told, now: Now, changes: list[Change]) -> None:
    if fact.stream:
        # An event that comes late and fills a gap is history: what came after it in its stream is the present.
        key = (fact.place.origin, fact.cause, fact.stream)
        if fact.seq <= book.last_seq.get(key, 0):
            return
        book.last_seq[key] = fact.seq
    was_open = (fact.place.origin, fact.cause) in book.open
    if fact.up and not was_open:
        _raise(book, Alarm(fact.place, fact.cause, fact.detail, now.wall_ms, fact.stream, fact.seq), changes)
    elif not fact.up and was_open:
        _clear(book, fact.place, fact.cause, now, changes, fact.stream, fact.seq)


def _heard(book: Book, fact: Heard, now: Now, changes: list[Change]) -> None:
    book.heard_s[fact.place.node] = (fact.place, now.mono_s)
    alarm = book.open.get((fact.place.origin, Cause.GATE_SILENT))
    # Events of a lost gate may still sit in the broker's queue: only its own announcement proves that it is back.
    if alarm is not None and (fact.connected or alarm.detail != LOST):
        _clear(book, fact.place, Cause.GATE_SILENT, now, changes)


def _gone(book: Book, fact: Gone, now: Now, changes: list[Change]) -> None:
    alarm = book.open.get((fact.place.origin, Cause.GATE_SILENT))
    if alarm is None:
        _raise(book, Alarm(fact.place, Cause.GATE_SILENT, LOST, now.wall_ms), changes)


def _missing(book: Book, fact: Missing, now: Now, changes: list[Change]) -> None:
    origin = fact.place.origin
    if fact.count == 0:
        book.missing_since_s.pop(origin, None)
        if (origin, Cause.GAP) in book.open:
            _clear(book, fact.place, Cause.GAP, now, changes)
        return
    known = book.missing_since_s.get(origin)
    book.missing_since_s[origin] = (fact.place, fact.count, known[2] if known else now.mono_s)


def _raise(book: Book, alarm: Alarm, changes: list[Change]) -> None:
    book.open[alarm.place.origin, alarm.cause] = alarm
    changes.append(Raised(alarm))


def _clear(
    book: Book, place: Place, cause: Cause, now: Now, changes: list[Change], stream: str = "", seq: int = 0
) -> None:
    alarm = book.open.pop((place.origin, cause))
    changes.append(Cleared(alarm, now.wall_ms, stream, seq))
