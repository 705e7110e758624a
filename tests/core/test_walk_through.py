"""One resident, one car, one feverish driver: the main stories, step by step."""

from typing import Any

from edge.core.barrier import Phase as BarrierPhase
from edge.core.facts import (
    ActuationFact,
    DeviceFact,
    FeverFact,
    LockoutFact,
    Motion,
    MotionCause,
    MotionResult,
    PassageFact,
    Prompt,
    VerdictFact,
)
from edge.core.inputs import (
    CloseAsked,
    CodeRead,
    CommitFailed,
    DeviceIs,
    DiskIs,
    ExceptionGranted,
    FeverReleased,
    FireReset,
    MaskAttested,
    Measured,
    OccupantsDeclared,
    Stopping,
)
from edge.core.lane import Phase
from edge.core.model import ExceptionKind, LaneKind, Level, Line, LockoutCause, Now, Reason, VerdictKind

from .helpers import Bench, good_pass, lane_rules, rules_of, samples, wall


def ready(**kwargs: Any) -> Bench:
    bench = Bench(**kwargs)
    for lane in bench.rules.lanes:
        bench.at_rest(lane.lane)
    return bench


def test_a_resident_is_let_in_and_the_barrier_closes_behind() -> None:
    bench = ready()
    bench.screen()
    assert bench.state.lanes["main"].phase is Phase.COMMITTING
    assert bench.pulses() == []
    bench.commit()
    assert [p.motion for p in bench.pulses()] == [Motion.OPEN]
    bench.arrive_open()
    bench.line(Line.PHOTOCELL, Level.ACTIVE)
    bench.wait(800)
    bench.line(Line.PHOTOCELL, Level.CLEAR)
    (passage,) = bench.facts(PassageFact)
    assert passage.crossed
    bench.wait(1500)
    assert [p.motion for p in bench.pulses()] == [Motion.OPEN, Motion.CLOSE]
    bench.arrive_closed()
    assert [(f.motion, f.cause, f.result) for f in bench.facts(ActuationFact)] == [
        (Motion.OPEN, MotionCause.ADMISSION, MotionResult.REACHED),
        (Motion.CLOSE, MotionCause.AUTO_CLOSE, MotionResult.REACHED),
    ]
    bench.wait(5000)
    assert len(bench.pulses()) == 2
    assert bench.state.lanes["main"].barrier.phase is BarrierPhase.CLOSED


def test_nobody_crosses_and_it_closes_again() -> None:
    bench = ready()
    bench.screen()
    bench.commit()
    bench.arrive_open()
    bench.wait(15_100)
    (passage,) = bench.facts(PassageFact)
    assert not passage.crossed
    bench.wait(1100)
    assert [p.motion for p in bench.pulses()] == [Motion.OPEN, Motion.CLOSE]


def test_a_car_needs_everybody_screened() -> None:
    bench = ready(rules=rules_of(lane_rules(kind=LaneKind.VEHICLE)))
    bench.line(Line.APPROACH, Level.ACTIVE)
    assert bench.state.lanes["main"].prompt is Prompt.OCCUPANTS
    bench.give(OccupantsDeclared("main", 3))
    for number in range(3):
        assert bench.state.lanes["main"].phase is Phase.SCREENING
        assert bench.state.lanes["main"].prompt is Prompt.SHOW_PASS
        bench.screen(person=f"p-{number}")
    assert bench.state.lanes["main"].phase is Phase.COMMITTING
    (fact,) = bench.facts(VerdictFact)
    assert fact.verdict.kind is VerdictKind.ADMIT
    assert len(fact.party.people) == 3


def test_the_same_pass_twice_in_a_car_counts_once() -> None:
    bench = ready(rules=rules_of(lane_rules(kind=LaneKind.VEHICLE)))
    bench.give(OccupantsDeclared("main", 2))
    bench.screen(person="p-1")
    bench.give(CodeRead("main", good_pass("p-1")))
    assert len(bench.state.lanes["main"].party.people) == 1
    assert bench.state.lanes["main"].phase is Phase.SCREENING


def test_a_fever_locks_the_lane_until_the_hand_over() -> None:
    bench = ready()
    bench.give(CodeRead("main", good_pass()))
    bench.give(Measured("main", bench.attempt(), samples(3501)))
    (fever,) = bench.facts(FeverFact)
    assert fever.raised
    assert fever.body_centi_c == 3801
    assert LockoutCause.FEVER in bench.state.lanes["main"].locked
    assert bench.state.lanes["main"].prompt is Prompt.GUARD
    bench.wait(7000)
    bench.give(CodeRead("main", good_pass("p-2", "s2")))
    assert Reason.LOCKOUT_FEVER in bench.facts(VerdictFact)[-1].verdict.reasons
    bench.give(FeverReleased("main", "case-7"))
    released = bench.facts(FeverFact)[-1]
    assert (released.raised, released.released_by, released.handover) == (False, "guard", "case-7")
    bench.wait(7000)
    bench.screen(person="p-2")
    assert bench.state.lanes["main"].phase is Phase.COMMITTING


def test_a_fever_lockout_ends_by_policy_time() -> None:
    bench = ready()
    bench.give(CodeRead("main", good_pass()))
    bench.give(Measured("main", bench.attempt(), samples(3501)))
    bench.wait(599_000)
    assert LockoutCause.FEVER in bench.state.lanes["main"].locked
    bench.wait(2000)
    assert bench.facts(FeverFact)[-1].released_by == "time"


def test_a_low_reading_is_tested_again_and_never_admits() -> None:
    bench = ready()
    bench.give(CodeRead("main", good_pass()))
    for _ in range(2):
        bench.give(Measured("main", bench.attempt(), samples(3051)))
        assert bench.facts(VerdictFact)[-1].verdict == bench.state.lanes["main"].verdict
        assert bench.state.lanes["main"].verdict.kind is VerdictKind.RETEST
    bench.give(Measured("main", bench.attempt(), samples(3051)))
    assert bench.state.lanes["main"].phase is Phase.REFUSED
    assert bench.facts(VerdictFact)[-1].verdict.reasons == (Reason.LOW_READING, Reason.NOT_MEASURED)


def test_nobody_in_front_is_no_test_that_failed() -> None:
    bench = ready()
    bench.give(CodeRead("main", good_pass()))
    for _ in range(10):
        bench.give(Measured("main", bench.attempt(), samples(2251)))
    assert bench.state.lanes["main"].phase is Phase.SCREENING
    bench.give(Measured("main", bench.attempt(), samples()))
    bench.give(MaskAttested("main", worn=True))
    assert bench.state.lanes["main"].phase is Phase.COMMITTING


def test_a_stale_measurement_changes_nothing() -> None:
    bench = ready()
    bench.give(CodeRead("main", good_pass()))
    stale = bench.attempt()
    bench.line(Line.APPROACH, Level.ACTIVE)
    bench.line(Line.APPROACH, Level.CLEAR)
    bench.give(CodeRead("main", good_pass("p-2", "s2")))
    bench.give(Measured("main", stale, samples()))
    assert bench.state.lanes["main"].party.people[0].reading is None


def test_an_ambulance_at_night_is_admitted_with_its_approver() -> None:
    bench = ready(now=Now(10**12, wall("2020-02-03 02:00:00")))
    bench.give(ExceptionGranted("main", ExceptionKind.AMBULANCE, "guard-3"))
    (fact,) = bench.facts(VerdictFact)
    assert fact.verdict.reasons == (Reason.EXCEPTION_AMBULANCE,)
    assert fact.party.grant.approver == "guard-3"
    bench.commit()
    assert [p.motion for p in bench.pulses()] == [Motion.OPEN]


def test_a_medical_exception_still_screens() -> None:
    bench = ready(now=Now(10**12, wall("2020-02-03 02:00:00")))
    bench.give(ExceptionGranted("main", ExceptionKind.MEDICAL, "guard-3"))
    assert bench.state.lanes["main"].prompt is Prompt.MEASURE
    bench.give(Measured("main", bench.attempt(), samples()))
    bench.give(MaskAttested("main", worn=True))
    assert bench.state.lanes["main"].phase is Phase.COMMITTING


def test_a_record_that_fails_admits_nobody() -> None:
    bench = ready()
    bench.screen()
    bench.give(DiskIs(works=False))
    bench.give(CommitFailed("main", bench.state.lanes["main"].encounter))
    assert bench.state.lanes["main"].phase is Phase.REFUSED
    assert bench.pulses() == []
    bench.commit()  # it arrives late: still nothing moves
    assert bench.pulses() == []
    bench.wait(7000)
    bench.give(CodeRead("main", good_pass("p-3", "s3")))
    assert Reason.LOCKOUT_DISK in bench.facts(VerdictFact)[-1].verdict.reasons


def test_a_commit_that_comes_too_late_opens_nothing() -> None:
    bench = ready()
    bench.screen()
    bench.wait(2100)
    assert bench.state.lanes["main"].phase is Phase.REFUSED
    bench.commit()
    assert bench.pulses() == []


def test_fire_opens_latches_and_resets_on_site_only() -> None:
    bench = ready(rules=rules_of(lane_rules("a"), lane_rules("b")))
    bench.line(Line.FIRE, Level.ACTIVE, "a")
    assert [p.lane for p in bench.pulses(Motion.OPEN)] == ["a", "b"]
    bench.arrive_open("a")
    bench.arrive_open("b")
    bench.line(Line.FIRE, Level.CLEAR, "a")
    assert bench.state.fire
    bench.wait(60_000)
    assert bench.pulses(Motion.CLOSE) == []
    bench.give(FireReset())
    assert not bench.state.fire
    bench.wait(60_000)
    assert bench.pulses(Motion.CLOSE) == []  # closing needs a cause of its own
    bench.give(CloseAsked("a"))
    assert [p.lane for p in bench.pulses(Motion.CLOSE)] == ["a"]


def test_fire_is_not_reset_while_the_contact_is_active() -> None:
    bench = ready()
    bench.line(Line.FIRE, Level.ACTIVE)
    bench.give(FireReset())
    assert bench.state.fire


def test_the_key_opens_and_closes_when_turned_back() -> None:
    bench = ready(now=Now(10**12, wall("2020-02-03 02:00:00")))
    bench.line(Line.KEY, Level.ACTIVE)
    bench.arrive_open()
    bench.wait(30_000)
    assert [p.motion for p in bench.pulses()] == [Motion.OPEN]
    bench.line(Line.KEY, Level.CLEAR)
    bench.wait(1100)
    assert [p.motion for p in bench.pulses()] == [Motion.OPEN, Motion.CLOSE]
    assert bench.facts(ActuationFact)[0].cause is MotionCause.KEY


def test_a_barrier_that_does_not_answer_is_a_named_fault() -> None:
    bench = ready()
    bench.screen()
    bench.commit()
    bench.wait(2100)
    (device,) = bench.facts(DeviceFact)
    assert (device.device, device.fault, device.works) == ("barrier-main", "no_response", False)
    assert LockoutCause.FAULT in {cause for _, cause in bench.state.recorded}


def test_a_device_is_reported_once_lost_and_once_back() -> None:
    bench = ready()
    for works in (False, False, True, True):
        bench.give(DeviceIs("thermometer-1", "main", works, "missing", "Plug it in."))
    assert [fact.works for fact in bench.facts(DeviceFact)] == [False, True]


def test_a_person_who_leaves_is_recorded_with_what_was_missing() -> None:
    bench = ready()
    bench.line(Line.APPROACH, Level.ACTIVE)
    bench.give(CodeRead("main", good_pass()))
    bench.line(Line.APPROACH, Level.CLEAR)
    (fact,) = bench.facts(VerdictFact)
    assert fact.verdict.reasons[0] is Reason.LEFT
    assert Reason.NOT_MEASURED in fact.verdict.reasons
    assert bench.state.lanes["main"].phase is Phase.IDLE


def test_the_same_pass_is_not_passed_back_over_the_fence() -> None:
    bench = ready(rules=rules_of(lane_rules("a"), lane_rules("b")))
    bench.screen("a")
    bench.commit("a")
    bench.give(CodeRead("b", good_pass(serial="s-p-1")))
    assert bench.facts(VerdictFact)[-1].verdict.reasons == (Reason.PASS_REUSED,)


def test_nothing_moves_when_the_process_stops() -> None:
    bench = ready()
    bench.screen()
    bench.give(Stopping())
    bench.commit()
    bench.wait(60_000)
    assert bench.pulses() == []


def test_lockouts_of_the_night_are_recorded_at_their_edges() -> None:
    bench = ready(now=Now(10**12, wall("2020-02-03 23:59:59.000")))
    bench.wait(2000)
    (started,) = [f for f in bench.facts(LockoutFact) if f.cause is LockoutCause.CURFEW]
    assert started.started
    at = next(now for now, e in bench.effects if getattr(e, "fact", None) is started)
    assert at.wall_ms == wall("2020-02-04 00:00:00")
    bench.wait(6 * 3600 * 1000)
    ended = [f for f in bench.facts(LockoutFact) if f.cause is LockoutCause.CURFEW][-1]
    assert (ended.started, ended.ended_by) == (False, "time")
