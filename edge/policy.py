"""The policy file becomes Rules: °C, seconds and "24:00" become centi-degrees, milliseconds and minutes."""

from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

from msgspec import Meta, Struct

from configs.loader import load
from edge.config import EdgeConfig, LaneConfig
from edge.core.curfew import parse_minute
from edge.core.model import ExceptionKind
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

Degrees = Annotated[float, Meta(ge=-40, le=100)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Few = Annotated[int, Meta(ge=0, le=20)]


class CurfewFile(Struct, frozen=True, kw_only=True):
    """One window of the day."""

    start: str
    end: str


class OffsetFile(Struct, frozen=True, kw_only=True):
    """One row of the skin-to-body table."""

    ambient_from_c: Degrees
    offset_c: Annotated[float, Meta(ge=0, le=10)]


class ThermalFile(Struct, frozen=True, kw_only=True):
    """Rule 2, screening."""

    fever_c: Annotated[float, Meta(ge=36, le=40)]
    plausible_c: tuple[Degrees, Degrees]
    ambient_c: tuple[Degrees, Degrees]
    contrast_min_c: Degrees
    spread_max_c: Degrees
    samples_min: Annotated[int, Meta(ge=3, le=50)]
    settle_s: Seconds
    sample_interval_s: Annotated[float, Meta(ge=0.05, le=5)]
    cycle_s: Seconds
    retests_max: Few
    retest_rest_s: Seconds
    lockout_s: Seconds
    body_offsets: Annotated[list[OffsetFile], Meta(min_length=1, max_length=50)]


class EncounterFile(Struct, frozen=True, kw_only=True):
    """Times of an encounter."""

    screening_s: Seconds
    refusal_shown_s: Seconds
    commit_s: Seconds
    crossing_start_s: Seconds
    crossing_s: Seconds
    occupants_max: Annotated[int, Meta(ge=1, le=60)]
    pass_reuse_s: Annotated[int, Meta(ge=0, le=86_400)]
    admit_until_before_curfew_s: Annotated[int, Meta(ge=0, le=600)]


class WaiverFile(Struct, frozen=True, kw_only=True):
    """What an exception does without."""

    credential: bool
    screening: bool
    curfew: bool


class PolicyFile(Struct, frozen=True, kw_only=True):
    """The notice as a file."""

    id: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,40}$")]
    version: Annotated[int, Meta(ge=1)]
    title: Annotated[str, Meta(max_length=200)]
    valid_from: datetime
    valid_until: datetime | None = None
    curfew: list[CurfewFile] = []
    thermal: ThermalFile
    encounter: EncounterFile
    exceptions: dict[ExceptionKind, WaiverFile]


def load_policy(file: Path) -> Policy:
    """The policy of a file. Raises configs.loader.ConfigError with every mistake."""
    return _policy(load(file, PolicyFile, mistakes))


def mistakes(policy: PolicyFile) -> Iterable[tuple[str, str]]:
    """Contradictions between fields, and times of day that are none."""
    for index, window in enumerate(policy.curfew):
        for name in ("start", "end"):
            try:
                parse_minute(getattr(window, name))
            except ValueError as e:
                yield f"curfew[{index}].{name}", str(e)
    for name in ("plausible_c", "ambient_c"):
        low, high = getattr(policy.thermal, name)
        if low >= high:
            yield f"thermal.{name}", f"{low} to {high} is empty; write the lower number first"
    for name in ("valid_from", "valid_until"):
        moment = getattr(policy, name)
        if moment is not None and moment.tzinfo is None:
            yield name, "needs an offset, as in 2020-02-02T00:00:00+08:00"
    aware = policy.valid_until is not None and policy.valid_until.tzinfo and policy.valid_from.tzinfo
    if aware and policy.valid_until is not None and policy.valid_until <= policy.valid_from:
        yield "valid_until", "must be later than valid_from"


def rules_of(config: EdgeConfig, policy: Policy) -> Rules:
    """Rules of this gate: the policy in force and the installation."""
    return Rules(policy, config.site, ZoneInfo(config.timezone), tuple(_lane(lane) for lane in config.lanes))


def _lane(lane: LaneConfig) -> LaneRules:
    barrier = lane.barrier
    timing = BarrierTiming(
        pulse_ms=barrier.pulse_ms,
        stop_pulse_ms=barrier.stop_pulse_ms,
        dead_time_ms=barrier.dead_time_ms,
        response_ms=barrier.response_ms,
        travel_ms=barrier.travel_ms,
        disturbed_ms=barrier.disturbed_ms,
        close_delay_ms=barrier.close_delay_ms,
    )
    return LaneRules(lane.id, lane.kind, lane.direction, frozenset(barrier.lines), timing)


def _policy(file: PolicyFile) -> Policy:
    thermal, encounter = file.thermal, file.encounter
    return Policy(
        policy_id=file.id,
        version=file.version,
        valid_from_ms=_unix_ms(file.valid_from),
        valid_until_ms=None if file.valid_until is None else _unix_ms(file.valid_until),
        curfews=tuple(CurfewWindow(parse_minute(window.start), parse_minute(window.end)) for window in file.curfew),
        thermal=ThermalRules(
            fever_centi_c=_centi(thermal.fever_c),
            plausible_low_centi_c=_centi(thermal.plausible_c[0]),
            plausible_high_centi_c=_centi(thermal.plausible_c[1]),
            ambient_low_centi_c=_centi(thermal.ambient_c[0]),
            ambient_high_centi_c=_centi(thermal.ambient_c[1]),
            contrast_min_centi_c=_centi(thermal.contrast_min_c),
            spread_max_centi_c=_centi(thermal.spread_max_c),
            samples_min=thermal.samples_min,
            body_offsets=tuple(
                BodyOffset(_centi(row.ambient_from_c), _centi(row.offset_c)) for row in thermal.body_offsets
            ),
            retests_max=thermal.retests_max,
            retest_rest_ms=_ms(thermal.retest_rest_s),
            settle_ms=_ms(thermal.settle_s),
            sample_interval_ms=_ms(thermal.sample_interval_s),
            cycle_ms=_ms(thermal.cycle_s),
            lockout_ms=_ms(thermal.lockout_s),
        ),
        encounter=EncounterRules(
            screening_ms=_ms(encounter.screening_s),
            refusal_shown_ms=_ms(encounter.refusal_shown_s),
            commit_ms=_ms(encounter.commit_s),
            crossing_start_ms=_ms(encounter.crossing_start_s),
            crossing_ms=_ms(encounter.crossing_s),
            occupants_max=encounter.occupants_max,
            pass_reuse_s=encounter.pass_reuse_s,
            admit_until_before_curfew_s=encounter.admit_until_before_curfew_s,
        ),
        waivers={
            kind: Waiver(credential=waiver.credential, screening=waiver.screening, curfew=waiver.curfew)
            for kind, waiver in file.exceptions.items()
        },
    )


def _centi(degrees: float) -> int:
    return round(degrees * 100)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _unix_ms(moment: datetime) -> int:
    return round(moment.timestamp() * 1000)
