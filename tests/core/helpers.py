"""Rules and a driver of steps for tests of the pure core: no clock, no files, no fixtures."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone

from edge.core import gate
from edge.core.effects import Effect, Measure, Pulse, Record
from edge.core.facts import Fact, Motion
from edge.core.inputs import CodeRead, Committed, GateInput, LineIs, MaskAttested, Measured, Woke
from edge.core.model import ClockTrust, Direction, ExceptionKind, LaneKind, Level, Line, Now, Pass, Sample
from edge.core.rules import (
    BarrierTiming,
    BodyOffset,
    CurfewWindow,
    EncounterRules,
    LaneRules,
    Policy,
    Rules,
    ThermalRules,
    Waiver,
)

CHINA = timezone(timedelta(hours=8))
MS = 1_000_000
TIMING = BarrierTiming(
    pulse_ms=500,
    stop_pulse_ms=200,
    dead_time_ms=300,
    response_ms=2000,
    travel_ms=1500,
    disturbed_ms=4000,
    close_delay_ms=1000,
)
POLICY = Policy(
    policy_id="test",
    version=1,
    valid_from_ms=0,
    valid_until_ms=None,
    curfews=(CurfewWindow(1440, 360),),
    thermal=ThermalRules(
        fever_centi_c=3730,
        plausible_low_centi_c=3400,
        plausible_high_centi_c=4200,
        ambient_low_centi_c=1600,
        ambient_high_centi_c=4000,
        contrast_min_centi_c=200,
        spread_max_centi_c=30,
        samples_min=5,
        body_offsets=(BodyOffset(1600, 340), BodyOffset(2000, 300), BodyOffset(2600, 260)),
        retests_max=2,
        retest_rest_ms=5000,
        settle_ms=500,
        sample_interval_ms=150,
        cycle_ms=5000,
        lockout_ms=600_000,
    ),
    encounter=EncounterRules(
        screening_ms=60_000,
        refusal_shown_ms=6000,
        commit_ms=2000,
        crossing_start_ms=15_000,
        crossing_ms=30_000,
        occupants_max=7,
        pass_reuse_s=60,
        admit_until_before_curfew_s=5,
    ),
    waivers={
        ExceptionKind.AMBULANCE: Waiver(credential=True, screening=True, curfew=True),
        ExceptionKind.FIRE_BRIGADE: Waiver(credential=True, screening=True, curfew=True),
        ExceptionKind.POLICE: Waiver(credential=True, screening=True, curfew=True),
        ExceptionKind.MEDICAL: Waiver(credential=True, screening=False, curfew=True),
        ExceptionKind.DUTY: Waiver(credential=False, screening=False, curfew=True),
    },
)
ALL_LINES = frozenset(Line)


def lane_rules(
    lane: str = "main", kind: LaneKind = LaneKind.PEDESTRIAN, wired: frozenset[Line] = ALL_LINES
) -> LaneRules:
    return LaneRules(lane, kind, Direction.IN, wired, TIMING)


def rules_of(*lanes: LaneRules, revoked: frozenset[str] = frozenset()) -> Rules:
    return Rules(POLICY, "site-a", CHINA, lanes or (lane_rules(),), revoked=revoked)


def wall(text: str) -> int:
    """Unix ms of a local time "2020-02-03 23:59:59.999" in China."""
    return round(datetime.fromisoformat(text).replace(tzinfo=CHINA).astimezone(UTC).timestamp() * 1000)


NOON = wall("2020-02-03 12:00:00")


def good_pass(person: str = "p-1", serial: str = "s1", *, exempt: bool = False) -> Pass:
    return Pass(serial, "site-a", "resident", person, frozenset(Direction), 0, 4_000_000_000, exempt)


def samples(skin_centi_c: int = 3361, ambient_centi_c: int = 2201, count: int = 5) -> tuple[Sample, ...]:
    return (Sample(skin_centi_c, ambient_centi_c),) * count


@dataclass
class Bench:
    """A gate on a bench: feeds inputs, lets time pass by waking exactly when asked to, keeps every effect."""

    rules: Rules = field(default_factory=rules_of)
    now: Now = field(default_factory=lambda: Now(1_000_000_000_000, NOON))
    trust: ClockTrust = ClockTrust.TRUSTED
    effects: list[tuple[Now, Effect]] = field(default_factory=list)

    def __post_init__(self) -> None:
        first = gate.start(self.rules, self.now, self.trust)
        self.state, self.wake_at_ns = first.state, first.wake_at_ns
        self.keep(first.effects)

    def keep(self, effects: tuple[Effect, ...]) -> None:
        self.effects += [(self.now, effect) for effect in effects]

    def give(self, given: GateInput) -> tuple[Effect, ...]:
        step = gate.step(self.state, given, self.rules, self.now)
        self.state, self.wake_at_ns = step.state, step.wake_at_ns
        self.keep(step.effects)
        return step.effects

    def line(self, line: Line, level: Level, lane: str = "main") -> tuple[Effect, ...]:
        return self.give(LineIs(lane, line, level))

    def at_rest(self, lane: str = "main") -> None:
        """Everything wired and known: closed, clear, no fire, no key."""
        for line in Line:
            self.line(line, Level.ACTIVE if line is Line.LIMIT_CLOSED else Level.CLEAR, lane)

    def wait(self, duration_ms: int) -> None:
        """Let time pass, waking at every instant the gate asked for."""
        until_ns = self.now.mono_ns + duration_ms * MS
        while self.wake_at_ns < until_ns:
            self.to(max(self.wake_at_ns, self.now.mono_ns + 1))
            self.give(Woke())
        self.to(until_ns)
        self.give(Woke())

    def to(self, mono_ns: int) -> None:
        wall_ms = self.now.wall_ms + (mono_ns // MS - self.now.mono_ns // MS)
        self.now = Now(mono_ns, wall_ms)

    def facts(self, kind: type[Fact] | None = None) -> list[Fact]:
        found = [effect.fact for _, effect in self.effects if isinstance(effect, Record)]
        return [fact for fact in found if kind is None or isinstance(fact, kind)]

    def pulses(self, motion: Motion | None = None) -> list[Pulse]:
        found = [effect for _, effect in self.effects if isinstance(effect, Pulse)]
        return [pulse for pulse in found if motion is None or pulse.motion is motion]

    def attempt(self) -> int:
        return next(effect.attempt for _, effect in reversed(self.effects) if isinstance(effect, Measure))

    def screen(self, lane: str = "main", person: str = "p-1", skin_centi_c: int = 3361) -> None:
        """A resident with a pass, a forehead and a mask."""
        self.give(CodeRead(lane, good_pass(person, f"s-{person}")))
        self.give(Measured(lane, self.attempt(), samples(skin_centi_c)))
        self.give(MaskAttested(lane, worn=True))

    def commit(self, lane: str = "main") -> None:
        self.give(Committed(lane, self.state.lanes[lane].encounter))

    def arrive_open(self, lane: str = "main") -> None:
        self.line(Line.LIMIT_CLOSED, Level.CLEAR, lane)
        self.wait(1000)
        self.line(Line.LIMIT_OPEN, Level.ACTIVE, lane)

    def arrive_closed(self, lane: str = "main") -> None:
        self.line(Line.LIMIT_OPEN, Level.CLEAR, lane)
        self.wait(1000)
        self.line(Line.LIMIT_CLOSED, Level.ACTIVE, lane)
