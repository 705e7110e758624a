"""The rules in force: numbers of the policy and of the installation, frozen. No number of the notice stands in code."""

from dataclasses import dataclass
from datetime import tzinfo

from edge.core.model import Direction, ExceptionKind, LaneKind, Line


@dataclass(frozen=True, slots=True)
class CurfewWindow:
    """Half-open window [start, end) in minutes of the local day; 1440 is "24:00". start > end wraps over midnight."""

    start_min: int
    end_min: int


@dataclass(frozen=True, slots=True)
class BodyOffset:
    """Add `offset_centi_c` to the skin reading from this ambient upwards (the highest match wins)."""

    ambient_from_centi_c: int
    offset_centi_c: int


@dataclass(frozen=True, slots=True)
class ThermalRules:
    """What makes samples a reading, and a reading a fever. Centi-degrees; the estimate is compared unrounded."""

    fever_centi_c: int
    plausible_low_centi_c: int
    plausible_high_centi_c: int
    ambient_low_centi_c: int
    ambient_high_centi_c: int
    contrast_min_centi_c: int  # object minus ambient below this: nothing stands in front
    spread_max_centi_c: int
    samples_min: int
    body_offsets: tuple[BodyOffset, ...]
    retests_max: int
    retest_rest_ms: int
    settle_ms: int  # of a measuring cycle: thrown away after somebody is there
    sample_interval_ms: int
    cycle_ms: int  # a cycle without enough samples ends after this
    lockout_ms: int  # a fever locks its lane this long unless a guard releases it with a hand-over


@dataclass(frozen=True, slots=True)
class Waiver:
    """What one kind of exception does without."""

    credential: bool
    screening: bool
    curfew: bool


@dataclass(frozen=True, slots=True)
class EncounterRules:
    """Time an encounter may take in each phase, and how large a party may be."""

    screening_ms: int
    refusal_shown_ms: int
    commit_ms: int
    crossing_start_ms: int
    crossing_ms: int
    occupants_max: int
    pass_reuse_s: int
    admit_until_before_curfew_s: int


@dataclass(frozen=True, slots=True)
class Policy:
    """The notice as data. `[valid_from_ms, valid_until_ms)` in Unix milliseconds; no end = until lifted."""

    policy_id: str
    version: int
    valid_from_ms: int
    valid_until_ms: int | None
    curfews: tuple[CurfewWindow, ...]
    thermal: ThermalRules
    encounter: EncounterRules
    waivers: dict[ExceptionKind, Waiver]

    @property
    def label(self) -> str:
        """`id@version`, as every event carries it."""
        return f"{self.policy_id}@{self.version}"


@dataclass(frozen=True, slots=True)
class BarrierTiming:
    """Times of one barrier, milliseconds (hardware reference §4)."""

    pulse_ms: int
    stop_pulse_ms: int
    dead_time_ms: int  # between opposite pulses
    response_ms: int  # after a pulse the old limit must be left within this
    travel_ms: int  # nominal; the limit must be reached within 2 x travel + 2 s
    disturbed_ms: int  # a limit lost without a command may come back within this
    close_delay_ms: int  # clear for this long before closing

    @property
    def travel_max_ms(self) -> int:
        """When an unfinished motion is a jam."""
        return 2 * self.travel_ms + 2000


@dataclass(frozen=True, slots=True)
class LaneRules:
    """One lane as installed."""

    lane: str
    kind: LaneKind
    direction: Direction
    wired: frozenset[Line]
    timing: BarrierTiming


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything a step needs besides state, input and time. `revoked` and `suspended` hold serials of this site."""

    policy: Policy
    site: str
    tz: tzinfo
    lanes: tuple[LaneRules, ...]
    revoked: frozenset[str] = frozenset()
    suspended: frozenset[str] = frozenset()

    def curfews_at(self, wall_ms: int) -> tuple[CurfewWindow, ...]:
        """Curfew windows of the policy while it is in force, none before and after."""
        policy = self.policy
        begun = policy.valid_from_ms <= wall_ms
        ended = policy.valid_until_ms is not None and wall_ms >= policy.valid_until_ms
        return policy.curfews if begun and not ended else ()

    def lane(self, lane: str) -> LaneRules:
        """Rules of one lane by its id. Raises KeyError."""
        for rules in self.lanes:
            if rules.lane == lane:
                return rules
        raise KeyError(lane)
