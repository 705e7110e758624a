"""The safety rules of the house as invariants over random inputs, times, restarts and faults (design: rules 1 to 11).

The machine below is a world that lies to the gate in every way it can: lines jump, the clock steps, commits come late,
twice or never, the process restarts with the arm anywhere. After every step the invariants look at what was ordered.
"""

from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from edge.core import gate
from edge.core.barrier import Phase as BarrierPhase
from edge.core.curfew import in_curfew
from edge.core.effects import Effect, Measure, Pulse, Record
from edge.core.facts import Motion, MotionCause, VerdictFact
from edge.core.inputs import (
    BarrierReset,
    ClockIs,
    CloseAsked,
    CodeRead,
    CommitFailed,
    Committed,
    DiskIs,
    ExceptionGranted,
    FeverReleased,
    FireReset,
    GateInput,
    LineIs,
    MaskAttested,
    Measured,
    OccupantsDeclared,
    Stopping,
    Woke,
)
from edge.core.lane import Phase
from edge.core.model import (
    SAFETY_LINES,
    ClockTrust,
    ExceptionKind,
    LaneKind,
    Level,
    Line,
    Mask,
    Now,
    Reason,
    Thermal,
    VerdictKind,
)

from .helpers import CHINA, MS, TIMING, good_pass, lane_rules, rules_of, samples, wall

LANES = ("car", "walk")
LANE = st.sampled_from(LANES)
DEAD_NS = TIMING.dead_time_ms * MS
OPPOSITE = {Motion.OPEN: Motion.CLOSE, Motion.CLOSE: Motion.OPEN}


class Gates(RuleBasedStateMachine):
    """Random life of a gate with a car lane and a pedestrian lane."""

    @initialize(hour=st.sampled_from(["12:00:00", "23:59:50", "05:59:50", "02:00:00"]))
    def begin(self, hour: str) -> None:
        self.rules = rules_of(lane_rules("car", LaneKind.VEHICLE), lane_rules("walk"), revoked=frozenset({"bad"}))
        self.now = Now(10**15, wall(f"2020-02-03 {hour}"))
        self.admitted: set[tuple[str, int]] = set()
        self.committed: set[tuple[str, int]] = set()
        self.openings: list[tuple[str, int]] = []
        self.attempts = dict.fromkeys(LANES, 0)
        self.fire_seen = self.stopped = False
        self.people = 100
        self.energised: dict[str, tuple[Motion, int]] = {}
        self.last_end: dict[tuple[str, Motion], int] = {}
        self.power_up()

    def power_up(self) -> None:
        """A process begins: whatever the arm does, nothing is ordered before an input gave a cause."""
        first = gate.start(self.rules, self.now, ClockTrust.TRUSTED)
        self.state = first.state
        self.wake_at_ns = first.wake_at_ns
        self.stopped = False
        assert not [e for e in first.effects if isinstance(e, Pulse)], "rule 5: motion at start"

    def give(self, given: GateInput) -> None:
        before = self.state
        result = gate.step(before, given, self.rules, self.now)
        assert result.wake_at_ns > self.now.mono_ns - 1, "rule 11: a wake-up in the past"
        self.state, self.wake_at_ns = result.state, result.wake_at_ns
        for effect in result.effects:
            self.look(effect)

    def look(self, effect: Effect) -> None:
        if isinstance(effect, Measure):
            self.attempts[effect.lane] = effect.attempt
        if isinstance(effect, Record) and isinstance(effect.fact, VerdictFact):
            self.judged(effect)
        if isinstance(effect, Pulse):
            self.pulsed(effect)

    def judged(self, record: Record) -> None:
        fact = record.fact
        assert isinstance(fact, VerdictFact)
        if fact.verdict.kind is not VerdictKind.ADMIT:
            assert record.admission is None
            return
        assert record.admission == (fact.lane, fact.encounter)
        self.admitted.add(record.admission)
        party, waiver = fact.party, None
        if party.grant:
            waiver = self.rules.policy.waivers[party.grant.kind]
            assert fact.verdict.reasons != (Reason.ALL_GOOD,), "rule 6: an exception says so"
        if waiver is None or not waiver.screening:
            assert party.people, "rule 6: nobody was screened"
            assert party.occupants == len(party.people), "rule 6: somebody was not screened"
            for person in party.people:
                assert person.thermal is Thermal.NORMAL, "rule 6: not measured never admits"
                assert person.mask is Mask.WORN, "rule 6: mask"
        if waiver is None or not waiver.credential:
            assert all(p.credential is not None and p.refusal is None for p in party.people), "rule 6: pass"
        exempt = bool(party.people) and all(p.credential and p.credential.curfew_exempt for p in party.people)
        if not (waiver and waiver.curfew):
            if not exempt:
                assert not in_curfew(self.now.wall_ms, self.rules.policy.curfews, CHINA), "rule 6: curfew"
            assert self.state.trust is not ClockTrust.UNTRUSTED, "rule 9: an untrusted clock admits no pass"
        assert not self.state.lanes[fact.lane].locked, "rule 6: lockout"

    def pulsed(self, pulse: Pulse) -> None:
        lane = self.state.lanes[pulse.lane]
        at = self.now.mono_ns
        if pulse.motion is Motion.STOP:
            self.end(pulse.lane, at)
            return
        other = OPPOSITE[pulse.motion]
        running = self.energised.get(pulse.lane)
        if running and running[1] > at:
            assert running[0] is not other, "rule 1: open and close energised together"
        if running and running[1] <= at:
            self.end(pulse.lane, running[1])
        ended = self.last_end.get((pulse.lane, other))
        assert ended is None or at - ended >= DEAD_NS, "rule 1: opposite pulses closer than the dead time"
        self.energised[pulse.lane] = (pulse.motion, at + pulse.duration_ms * MS)
        assert lane.barrier.level(Line.STOP) is Level.CLEAR, "the local stop outranks everything"
        if pulse.motion is Motion.CLOSE:
            for line in SAFETY_LINES:
                assert lane.barrier.level(line) is Level.CLEAR, "rule 2: closing onto something, or blindly"
            assert not self.state.fire, "rule 4: closing in a fire"
            assert lane.barrier.cause is not None, "rule 5: a motion without a cause"
        elif lane.barrier.cause in (MotionCause.ADMISSION, MotionCause.EXCEPTION):
            key = (pulse.lane, lane.encounter)
            assert key in self.admitted, "rule 7: opened without an admission"
            assert key in self.committed, "rule 7: opened before the record was on disk"
            self.openings.append(key)
            assert len(set(self.openings)) == len(self.openings), "rule 7: one admission opened twice"
            assert not self.stopped, "rule 5: motion by a process that stops"
        else:
            assert lane.barrier.cause in (MotionCause.FIRE, MotionCause.KEY, MotionCause.OBSTRUCTION, MotionCause.GUARD)

    def end(self, lane: str, at: int) -> None:
        running = self.energised.pop(lane, None)
        if running:
            self.last_end[lane, running[0]] = min(at, running[1])

    @rule(lane=LANE, line=st.sampled_from(Line), level=st.sampled_from(Level))
    def line(self, lane: str, line: Line, level: Level) -> None:
        closing = self.state.lanes[lane].barrier.phase is BarrierPhase.CLOSING
        self.fire_seen = self.fire_seen or (line is Line.FIRE and level is Level.ACTIVE)
        self.give(LineIs(lane, line, level))
        if line in SAFETY_LINES and level is not Level.CLEAR and closing:
            assert self.state.lanes[lane].barrier.phase is not BarrierPhase.CLOSING, "rule 2: it went on closing"
            assert lane not in self.energised or self.energised[lane][0] is not Motion.CLOSE, "rule 2: still energised"

    @rule(lane=LANE)
    def becomes_calm(self, lane: str) -> None:
        for line in (Line.LOOP, Line.PHOTOCELL, Line.STOP, Line.KEY, Line.FIRE, Line.LIMIT_OPEN):
            self.give(LineIs(lane, line, Level.CLEAR))
        self.give(LineIs(lane, Line.LIMIT_CLOSED, Level.ACTIVE))

    @rule(lane=LANE)
    def arm_follows(self, lane: str) -> None:
        assume(self.state.lanes[lane].barrier.phase in (BarrierPhase.OPENING, BarrierPhase.CLOSING))
        self.arm_arrives(lane)

    def arm_arrives(self, lane: str) -> None:
        phase = self.state.lanes[lane].barrier.phase
        if phase not in (BarrierPhase.OPENING, BarrierPhase.CLOSING):
            return
        reached, left = (
            (Line.LIMIT_OPEN, Line.LIMIT_CLOSED)
            if phase is BarrierPhase.OPENING
            else (Line.LIMIT_CLOSED, Line.LIMIT_OPEN)
        )
        self.give(LineIs(lane, left, Level.CLEAR))
        self.give(LineIs(lane, reached, Level.ACTIVE))

    @rule(lane=LANE, person=st.integers(0, 3), serial=st.sampled_from(["s", "bad"]), exempt=st.booleans())
    def code(self, lane: str, person: int, serial: str, exempt: bool) -> None:
        self.give(CodeRead(lane, good_pass(f"p-{person}", serial if serial == "bad" else f"s-{person}", exempt=exempt)))

    @rule(lane=LANE, why=st.sampled_from([Reason.TOKEN_BAD_SIGNATURE, Reason.TOKEN_OVERSIZE, Reason.CODE_CHECKSUM]))
    def bad_code(self, lane: str, why: Reason) -> None:
        self.give(CodeRead(lane, why))

    @rule(
        lane=LANE, skin=st.sampled_from([3361, 3361, 3361, 3501, 3051, 2251]), failed=st.booleans(), stale=st.booleans()
    )
    def measured(self, lane: str, skin: int, failed: bool, stale: bool) -> None:
        attempt = self.attempts[lane] - (1 if stale else 0)
        self.give(Measured(lane, attempt, () if failed else samples(skin), sensor_failed=failed))

    @rule(lane=LANE)
    def good_encounter(self, lane: str) -> None:
        if lane == "car":
            self.give(OccupantsDeclared(lane, 1))
        self.give(CodeRead(lane, good_pass("p-9", "s-9")))
        self.give(Measured(lane, self.attempts[lane], samples()))
        self.give(MaskAttested(lane, worn=True))

    @rule(lane=LANE, travel_ms=st.sampled_from([300, 600, 1500]))
    def let_in(self, lane: str, travel_ms: int) -> None:
        """The good way, so that the bad ones have something to spoil."""
        self.becomes_calm(lane)
        self.people += 1
        if lane == "car":
            self.give(OccupantsDeclared(lane, 1))
        self.give(CodeRead(lane, good_pass(f"p-{self.people}", f"s-{self.people}")))
        self.give(Measured(lane, self.attempts[lane], samples()))
        self.give(MaskAttested(lane, worn=True))
        key = (lane, self.state.lanes[lane].encounter)
        if key in self.admitted:
            self.committed.add(key)
            self.give(Committed(*key))
        self.time_passes(travel_ms)
        self.arm_arrives(lane)

    @rule(lane=LANE, wait_ms=st.sampled_from([0, 100, 1000, 1200]))
    def crosses(self, lane: str, wait_ms: int) -> None:
        self.give(LineIs(lane, Line.PHOTOCELL, Level.ACTIVE))
        self.time_passes(400)
        self.give(LineIs(lane, Line.PHOTOCELL, Level.CLEAR))
        self.time_passes(wait_ms)

    @rule(lane=LANE)
    def guard_closes(self, lane: str) -> None:
        self.give(LineIs(lane, Line.KEY, Level.CLEAR))
        self.give(CloseAsked(lane))

    @rule(lane=LANE, worn=st.booleans())
    def mask(self, lane: str, worn: bool) -> None:
        self.give(MaskAttested(lane, worn))

    @rule(lane=LANE, count=st.integers(1, 9))
    def occupants(self, lane: str, count: int) -> None:
        self.give(OccupantsDeclared(lane, count))

    @rule(lane=LANE, kind=st.sampled_from(ExceptionKind))
    def exception(self, lane: str, kind: ExceptionKind) -> None:
        self.give(ExceptionGranted(lane, kind, "guard-1"))

    @rule(lane=LANE, late=st.booleans())
    def commit(self, lane: str, late: bool) -> None:
        """On disk: the present admission, or an old one answered again."""
        pending = [key for key in sorted(self.admitted) if key[0] == lane]
        assume(pending)
        key = pending[0] if late else pending[-1]
        self.committed.add(key)
        self.give(Committed(*key))

    @rule(lane=LANE)
    def commit_fails(self, lane: str) -> None:
        pending = sorted(key for key in self.admitted - self.committed if key[0] == lane)
        assume(pending)
        self.give(CommitFailed(*pending[-1]))

    @rule(works=st.booleans())
    def disk(self, works: bool) -> None:
        self.give(DiskIs(works))

    @rule(trust=st.sampled_from(ClockTrust))
    def clock(self, trust: ClockTrust) -> None:
        self.give(ClockIs(trust, "test"))

    @rule(lane=LANE, what=st.sampled_from([CloseAsked, BarrierReset]))
    def guard(self, lane: str, what: type[CloseAsked] | type[BarrierReset]) -> None:
        self.give(what(lane))

    @rule(lane=LANE)
    def handed_over(self, lane: str) -> None:
        self.give(FeverReleased(lane, "case-1"))

    @rule()
    def fire_reset(self) -> None:
        was, contacts = self.state.fire, [lane.barrier.level(Line.FIRE) for lane in self.state.lanes.values()]
        self.give(FireReset())
        if was and Level.ACTIVE in contacts:
            assert self.state.fire, "rule 4: reset while it burns"

    @rule(ms=st.sampled_from([1, 50, 299, 300, 500, 999, 2000, 6000, 30_000, 61_000, 600_001]))
    def time_passes(self, ms: int) -> None:
        """Wake whenever the gate asked to be woken, and at the end."""
        until_ns = self.now.mono_ns + ms * MS
        for _ in range(2000):
            if self.wake_at_ns >= until_ns:
                break
            self.to(max(self.wake_at_ns, self.now.mono_ns + MS))
            self.give(Woke())
        self.to(until_ns)
        self.give(Woke())

    @rule(ms=st.sampled_from([1000, 30_000, 3_600_000]))
    def timer_missed(self, ms: int) -> None:
        """The process was stopped for a while: no wake-up came."""
        self.to(self.now.mono_ns + ms * MS)
        self.give(Woke())

    @rule(hours=st.sampled_from([-24, -6, -1, 1, 6, 12, 24]))
    def clock_steps(self, hours: int) -> None:
        self.now = Now(self.now.mono_ns, self.now.wall_ms + hours * 3_600_000)
        self.give(Woke())

    @rule()
    def stops(self) -> None:
        self.stopped = True
        self.give(Stopping())

    @rule()
    def restarts(self) -> None:
        """kill -9 and start again: the relays were released, the arm is where it is."""
        self.to(self.now.mono_ns + 2000 * MS)
        self.energised.clear()
        self.last_end.clear()
        self.admitted.clear()
        self.committed.clear()
        self.openings.clear()
        self.fire_seen = False
        self.power_up()

    def to(self, mono_ns: int) -> None:
        self.now = Now(mono_ns, self.now.wall_ms + mono_ns // MS - self.now.mono_ns // MS)

    @precondition(lambda self: hasattr(self, "state"))
    @invariant()
    def rule_4_fire_latches(self) -> None:
        if self.state.fire:
            assert self.fire_seen
            for lane in self.state.lanes.values():
                moving_or_open = lane.barrier.phase in (BarrierPhase.OPEN, BarrierPhase.OPENING)
                held = lane.barrier.level(Line.STOP) is not Level.CLEAR
                waiting = self.state.fire_asked_ns is not None and self.state.fire_asked_ns > self.now.mono_ns
                assert moving_or_open or held or waiting or self.stopped, "rule 4: a fire that opens nothing"

    @precondition(lambda self: hasattr(self, "state"))
    @invariant()
    def rule_8_state_is_computed_from_time(self) -> None:
        curfew = in_curfew(self.now.wall_ms, self.rules.policy.curfews, CHINA)
        for lane in LANES:
            assert ("curfew" in gate.lockouts(self.state, lane, self.rules, self.now)) == curfew
            assert any(pair[0] == lane and pair[1] == "curfew" for pair in self.state.recorded) == curfew

    @precondition(lambda self: hasattr(self, "state"))
    @invariant()
    def rule_11_every_wait_ends(self) -> None:
        for lane in self.state.lanes.values():
            assert lane.phase is Phase.IDLE or lane.deadline_ns is not None
        limit_ns = self.now.mono_ns + gate.LOOK_AGAIN_MS * MS
        assert self.wake_at_ns <= limit_ns


Gates.TestCase.settings = settings(
    max_examples=250,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestSafetyRulesHold = Gates.TestCase
