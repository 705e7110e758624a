"""What is said on the wire: one Struct per message, field names as they appear in the JSON.

Receivers are tolerant (unknown fields ignored when typed, kept when stored; unknown kinds stored), senders are strict.
Enumerated words are open strings on the wire (`str`), so an older centre understands a newer gate; the words in use
stand in each docstring. No personal data: people are keyed pseudonyms. Units stand in the names.
"""

from typing import Annotated

from msgspec import Meta, Raw, Struct

Id = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,40}$")]
Word = Annotated[str, Meta(min_length=1, max_length=64)]
Count = Annotated[int, Meta(ge=0)]
Timestamp = Annotated[str, Meta(min_length=20, max_length=40)]  # RFC 3339 with offset, milliseconds
HexDigest = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$")]

SPEC_VERSION = "1.0"
FIRST_PREV = "0" * 64  # `prev` of the first event of a stream


class Envelope(Struct, frozen=True, kw_only=True):
    """One recorded fact (CloudEvents names where they exist).

    `id` = node/stream/seq; `prev` = SHA-256 of the previous event's bytes.
    """

    id: Annotated[str, Meta(max_length=130)]
    source: Annotated[str, Meta(max_length=130)]  # "/site/<site>/gate/<node>"
    type: Id  # the event kind, also the last level of the topic
    time: Timestamp
    mono: Count  # CLOCK_MONOTONIC of the node, ns
    boot: Id
    clock: Word  # trusted | holdover | untrusted
    stream: Id  # "a-<hex>" alarm stream, "r-<hex>" record stream
    seq: Annotated[int, Meta(ge=1)]
    prev: HexDigest
    policy: Annotated[str, Meta(max_length=80)]  # id@version
    data: Raw  # the kind's own Struct, below
    specversion: str = SPEC_VERSION
    datacontenttype: str = "application/json"


class Screened(Struct, frozen=True, kw_only=True):
    """One person of a party: pass, temperature and mask as three outcomes."""

    category: Word  # resident | staff | visitor | service | duty | emergency | none
    pass_status: Word  # valid, or the reason word why not; "missing"
    thermal: Word  # normal | fever | not_measured
    mask: Word  # worn | refused | unknown
    attested_by: Word  # guard | none
    person: Id | None = None  # keyed pseudonym
    thermal_reason: Word | None = None  # why not measured


class Cause(Struct, frozen=True, kw_only=True):
    """A reason with the number of the notice's rule it stands on (0 = safety or technique)."""

    code: Word
    rule: Annotated[int, Meta(ge=0, le=10)]


class Verdict(Struct, frozen=True, kw_only=True):
    """Kind `verdict`: what was decided about a party, before anything moves. verdict: admit | refuse | retest."""

    lane: Id
    encounter: Id
    direction: Word  # in | out
    lane_kind: Word  # vehicle | pedestrian
    verdict: Word
    reasons: list[Cause]
    people: list[Screened]
    occupants: Count
    exception: Word | None = None  # ambulance | fire | police | medical | duty
    approver: Id | None = None


class Actuation(Struct, frozen=True, kw_only=True):
    """Kind `actuation`: a motion and its measured result. result: reached | stopped | reversed | no_response | jam."""

    lane: Id
    motion: Word  # open | close | stop
    cause: Word  # admission | exception | fire | key | guard | auto_close | obstruction
    result: Word
    position: Word  # open | closed | between | unknown
    took_ms: Count
    encounter: Id | None = None


class Passage(Struct, frozen=True, kw_only=True):
    """Kind `passage`: what was observed to cross after an admission. outcome: crossed | not_observed."""

    lane: Id
    encounter: Id
    direction: Word
    outcome: Word
    occupants: Count
    took_ms: Count


class Lockout(Struct, frozen=True, kw_only=True):
    """Kind `lockout`: a cause that keeps a lane shut. phase: started | ended.

    cause: curfew | fever | fault | clock | command | sealed | tamper | disk.
    """

    lane: Id
    cause: Word
    phase: Word
    ended_by: Word | None = None  # time | guard | restored


class Release(Struct, frozen=True, kw_only=True):
    """Kind `release`: a cause that opens. cause: fire; phase: started | ended."""

    cause: Word
    phase: Word


class Fever(Struct, frozen=True, kw_only=True):
    """Kind `fever` (alarm stream): one fever reading, or its hand-over.

    phase: raised | released; released_by: guard | time.
    """

    lane: Id
    encounter: Id
    phase: Word
    direction: Word
    body_centi_c: int | None = None  # present in "raised" only: at or above the threshold
    person: Id | None = None
    released_by: Word | None = None
    handover: Id | None = None  # reference of the recorded hand-over


class DeviceState(Struct, frozen=True, kw_only=True):
    """Kind `device` (alarm stream): a device or barrier became faulty or well again. phase: fault | ok."""

    device: Id  # "thermometer-1", "barrier-main"
    lane: Id | None
    phase: Word
    fault: Word
    advice: Annotated[str, Meta(max_length=200)]


class GateState(Struct, frozen=True, kw_only=True):
    """Kind `gate`: a process began or ended. phase: started | stopping."""

    phase: Word
    version: Word
    boot: Id
    open_lanes: list[Id]  # lanes found not closed at that moment


class Clock(Struct, frozen=True, kw_only=True):
    """Kind `clock`: trust changed. trust: trusted | holdover | untrusted."""

    trust: Word
    reason: Word


class LaneStatus(Struct, frozen=True, kw_only=True):
    """One lane in the retained state, for the live page: no history, no people."""

    lane: Id
    kind: Word
    position: Word
    phase: Word
    lockouts: list[Word]
    message: Word  # key of the sentence on the public display


class State(Struct, frozen=True, kw_only=True):
    """Topic `state`, retained, also the will. phase: ready | degraded | stopping | lost.

    `session` counts connections of this boot.
    """

    node: Id
    site: Id
    boot: Id
    session: Count
    phase: Word
    at: Timestamp
    clock: Word
    lanes: list[LaneStatus] = []
    releases: list[Word] = []
    waiting: Count = 0  # events in the outbox without receipt


class StreamHead(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How far a stream has been written by the node; `first` = oldest event that it still holds (0 = not said).

    What the centre misses below `first` can never come: it is named as lost and receipts go on.
    """

    stream: Id
    seq: Count
    first: Count = 0


class LaneMeta(Struct, frozen=True, kw_only=True):
    """A lane in the self-description."""

    lane: Id
    kind: Word
    direction: Word  # in | out | both


class DeviceMeta(Struct, frozen=True, kw_only=True):
    """A device in the self-description."""

    device: Id
    model: str
    place: str
    integrity: str


class Description(Struct, frozen=True, kw_only=True):
    """Topic `meta`, retained: what this node is."""

    node: Id
    site: Id
    boot: Id
    version: Word
    policy: str
    lanes: list[LaneMeta]
    devices: list[DeviceMeta]
    heads: list[StreamHead]


class Receipt(Struct, frozen=True, kw_only=True):
    """Topic `receipt`: the collector has committed every event of `stream` up to and including `upto`."""

    stream: Id
    upto: Count


EventData = Verdict | Actuation | Passage | Lockout | Release | Fever | DeviceState | GateState | Clock

EVENT_KINDS: dict[str, type[EventData]] = {
    "verdict": Verdict,
    "actuation": Actuation,
    "passage": Passage,
    "lockout": Lockout,
    "release": Release,
    "fever": Fever,
    "device": DeviceState,
    "gate": GateState,
    "clock": Clock,
}

ALARM_KINDS = frozenset({"fever", "device", "release"})  # these travel on the alarm stream, drained first
