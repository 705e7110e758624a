"""Facts to events: total over the facts of the core, and the only place where both their words are known."""

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

import msgspec

from broker.wire import codec, messages
from broker.wire.messages import Cause, Envelope, EventData, Screened
from edge.core.facts import (
    ActuationFact,
    ClockFact,
    DeviceFact,
    Fact,
    FeverFact,
    GateFact,
    LockoutFact,
    PassageFact,
    ReleaseFact,
    VerdictFact,
)
from edge.core.model import RULE_OF, ClockTrust, Mask, Now, Person


@dataclass(frozen=True, slots=True)
class Origin:
    """Who speaks: fixed for one run of one gate."""

    node: str
    site: str
    boot: str
    version: str
    policy: str
    tz: tzinfo


def timestamp(wall_ms: int, tz: tzinfo) -> str:
    """RFC 3339 with offset and milliseconds, local to the site."""
    return datetime.fromtimestamp(wall_ms / 1000, UTC).astimezone(tz).isoformat(timespec="milliseconds")


def kind_of(fact: Fact) -> str:
    """Event kind of a fact."""
    return _KINDS[type(fact)]


def is_alarm(fact: Fact) -> bool:
    """Whether it travels on the alarm stream."""
    return kind_of(fact) in messages.ALARM_KINDS


def envelope(fact: Fact, origin: Origin, now: Now, trust: ClockTrust, stream: str, seq: int, prev: str) -> bytes:
    """Exact bytes of the event of a fact, as they are hashed, stored and sent."""
    event = Envelope(
        id=codec.event_id(origin.node, stream, seq),
        source=f"/site/{origin.site}/gate/{origin.node}",
        type=kind_of(fact),
        time=timestamp(now.wall_ms, origin.tz),
        mono=now.mono_ns,
        boot=origin.boot,
        clock=trust,
        stream=stream,
        seq=seq,
        prev=prev,
        policy=origin.policy,
        data=msgspec.Raw(codec.encode(data_of(fact, origin))),
    )
    return codec.encode(event)


def data_of(fact: Fact, origin: Origin) -> EventData:
    """Typed data of the event of a fact."""
    match fact:
        case VerdictFact():
            return _verdict(fact, origin)
        case ActuationFact():
            return messages.Actuation(
                lane=fact.lane,
                motion=fact.motion,
                cause=fact.cause,
                result=fact.result,
                position=fact.position,
                took_ms=fact.took_ms,
                encounter=None if fact.encounter is None else encounter_id(fact.lane, fact.encounter, origin),
            )
        case PassageFact():
            return messages.Passage(
                lane=fact.lane,
                encounter=encounter_id(fact.lane, fact.encounter, origin),
                direction=fact.direction,
                outcome="crossed" if fact.crossed else "not_observed",
                occupants=fact.occupants,
                took_ms=fact.took_ms,
            )
        case LockoutFact():
            return messages.Lockout(
                lane=fact.lane, cause=fact.cause, phase=_phase(fact.started), ended_by=fact.ended_by
            )
        case ReleaseFact():
            return messages.Release(cause=fact.cause, phase=_phase(fact.started))
        case FeverFact():
            return messages.Fever(
                lane=fact.lane,
                encounter=encounter_id(fact.lane, fact.encounter, origin),
                phase="raised" if fact.raised else "released",
                direction=fact.direction,
                body_centi_c=fact.body_centi_c,
                person=fact.person,
                released_by=fact.released_by,
                handover=fact.handover,
            )
        case DeviceFact():
            phase = "ok" if fact.works else "fault"
            return messages.DeviceState(
                device=fact.device, lane=fact.lane, phase=phase, fault=fact.fault, advice=fact.advice[:200]
            )
        case GateFact():
            phase = "started" if fact.started else "stopping"
            return messages.GateState(
                phase=phase, version=origin.version, boot=origin.boot, open_lanes=list(fact.open_lanes)
            )
        case ClockFact():
            return messages.Clock(trust=fact.trust, reason=fact.reason)


def encounter_id(lane: str, encounter: int, origin: Origin) -> str:
    """Identity of an encounter in the fleet; bounded to an id's length."""
    return f"{origin.boot[:12]}-{lane[:16]}-{encounter}"


def _verdict(fact: VerdictFact, origin: Origin) -> messages.Verdict:
    party = fact.party
    return messages.Verdict(
        lane=fact.lane,
        encounter=encounter_id(fact.lane, fact.encounter, origin),
        direction=fact.direction,
        lane_kind=fact.kind,
        verdict=fact.verdict.kind,
        reasons=[Cause(code=reason, rule=RULE_OF[reason]) for reason in fact.verdict.reasons],
        people=[_screened(person) for person in party.people],
        occupants=party.occupants or len(party.people),
        exception=party.grant.kind if party.grant else None,
        approver=party.grant.approver if party.grant else None,
    )


def _screened(person: Person) -> Screened:
    credential = person.credential
    return Screened(
        category=credential.category if credential else "none",
        pass_status=person.refusal or ("valid" if credential else "missing"),
        thermal=person.thermal,
        mask=person.mask,
        attested_by="none" if person.mask is Mask.UNKNOWN else "guard",
        person=credential.person if credential else None,
        thermal_reason=person.reading_failure,
    )


def _phase(started: bool) -> str:
    return "started" if started else "ended"


_KINDS: dict[type[Fact], str] = {
    VerdictFact: "verdict",
    ActuationFact: "actuation",
    PassageFact: "passage",
    LockoutFact: "lockout",
    ReleaseFact: "release",
    FeverFact: "fever",
    DeviceFact: "device",
    GateFact: "gate",
    ClockFact: "clock",
}
