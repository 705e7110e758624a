from typing import get_args
from zoneinfo import ZoneInfo

from broker.wire import codec
from broker.wire.messages import ALARM_KINDS, EVENT_KINDS, FIRST_PREV
from edge import encode
from edge.core.facts import (
    ActuationFact,
    ClockFact,
    DeviceFact,
    Fact,
    FeverFact,
    GateFact,
    LockoutFact,
    Motion,
    MotionCause,
    MotionResult,
    PassageFact,
    Position,
    ReleaseFact,
    VerdictFact,
)
from edge.core.model import (
    ClockTrust,
    Direction,
    ExceptionGrant,
    ExceptionKind,
    LaneKind,
    LockoutCause,
    Mask,
    Now,
    Party,
    Person,
    Reading,
    Reason,
    Thermal,
    Verdict,
    VerdictKind,
)

from ..core.helpers import good_pass, wall

ORIGIN = encode.Origin("gate-1", "garden", "00ff00ff00ff00ff", "0.1.0", "p@1", ZoneInfo("Asia/Shanghai"))
NOW = Now(123, wall("2020-02-03 23:59:59.999"))
FEVERISH = Person(good_pass(), None, Reading(3501, 3801, 2201, Thermal.FEVER), None, 0, Mask.WORN)
FACTS: list[Fact] = [
    VerdictFact(
        "main",
        1,
        LaneKind.VEHICLE,
        Direction.IN,
        Verdict(VerdictKind.REFUSE, (Reason.FEVER, Reason.PASS_MISSING)),
        Party(
            (FEVERISH, Person(refusal=Reason.TOKEN_BAD_SIGNATURE)), 2, ExceptionGrant(ExceptionKind.POLICE, "guard-1")
        ),
    ),
    ActuationFact("main", Motion.OPEN, MotionCause.ADMISSION, MotionResult.REACHED, Position.OPEN, 1500, 1),
    ActuationFact("main", Motion.CLOSE, MotionCause.KEY, MotionResult.JAM, Position.BETWEEN, 5000, None),
    PassageFact("main", 1, Direction.IN, crossed=True, occupants=3, took_ms=4000),
    LockoutFact("main", LockoutCause.CURFEW, started=False, ended_by="time"),
    ReleaseFact("fire", started=True),
    FeverFact("main", 1, Direction.IN, raised=True, body_centi_c=3801, person="p-1"),
    DeviceFact("reader-1", None, works=False, fault="missing", advice="x" * 500),
    GateFact(started=True, open_lanes=("main",)),
    ClockFact(ClockTrust.HOLDOVER, "no time server for 2 h"),
]


def test_encoding_is_total() -> None:
    assert {type(fact) for fact in FACTS} == set(get_args(Fact))
    for fact in FACTS:
        payload = encode.envelope(fact, ORIGIN, NOW, ClockTrust.TRUSTED, "r-1", 7, FIRST_PREV)
        event = codec.decode_envelope(payload)
        assert event.type in EVENT_KINDS
        assert codec.decode_data(event) == encode.data_of(fact, ORIGIN)
        assert encode.is_alarm(fact) == (event.type in ALARM_KINDS)
        assert event.id == "gate-1/r-1/7"


def test_time_is_local_with_offset_and_milliseconds() -> None:
    assert encode.timestamp(NOW.wall_ms, ORIGIN.tz) == "2020-02-03T23:59:59.999+08:00"


def test_a_normal_temperature_is_not_on_the_wire() -> None:
    normal = Person(good_pass(), None, Reading(3361, 3661, 2201, Thermal.NORMAL), None, 0, Mask.WORN)
    verdict = VerdictFact(
        "main",
        1,
        LaneKind.PEDESTRIAN,
        Direction.IN,
        Verdict(VerdictKind.ADMIT, (Reason.ALL_GOOD,)),
        Party((normal,), 1),
    )
    payload = encode.envelope(verdict, ORIGIN, NOW, ClockTrust.TRUSTED, "r-1", 1, FIRST_PREV)
    assert b"3661" not in payload
    assert b"3361" not in payload


def test_reasons_carry_the_rule_they_stand_on() -> None:
    data = encode.data_of(FACTS[0], ORIGIN)
    assert [(cause.code, cause.rule) for cause in data.reasons] == [("fever", 2), ("pass_missing", 4)]
    assert [person.pass_status for person in data.people] == ["valid", "token_bad_signature"]
