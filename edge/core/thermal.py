"""Samples to a Reading, or to the reason why there is none. Integers only; a failure is never a number."""

from statistics import median_low

from edge.core.model import Reading, Reason, Sample, Thermal
from edge.core.rules import ThermalRules

# Nobody stood still in front yet: measure on without calling it a test that failed.
KEEP_MEASURING = frozenset({Reason.NOTHING_IN_FRONT, Reason.TOO_FEW_SAMPLES})
# The instrument or its surroundings cannot measure anybody now: a guard has to.
BEYOND_RETEST = frozenset({Reason.AMBIENT_OUT_OF_RANGE})


def evaluate(samples: tuple[Sample, ...], rules: ThermalRules, *, sensor_failed: bool = False) -> Reading | Reason:
    """Judge one measuring cycle. A low estimate is a reason to retest, never a pass."""
    if sensor_failed:
        return Reason.SENSOR_FAILED
    if len(samples) < rules.samples_min:
        return Reason.TOO_FEW_SAMPLES
    ambient = median_low(sample.ambient_centi_c for sample in samples)
    if not rules.ambient_low_centi_c <= ambient <= rules.ambient_high_centi_c:
        return Reason.AMBIENT_OUT_OF_RANGE
    skins = [sample.object_centi_c for sample in samples]
    skin = median_low(skins)
    if skin - ambient < rules.contrast_min_centi_c:
        return Reason.NOTHING_IN_FRONT
    if max(skins) - min(skins) > rules.spread_max_centi_c:
        return Reason.SPREAD
    body = skin + body_offset_centi_c(ambient, rules)
    if body < rules.plausible_low_centi_c:
        return Reason.LOW_READING
    if body > rules.plausible_high_centi_c:
        return Reason.IMPLAUSIBLE
    outcome = Thermal.FEVER if body >= rules.fever_centi_c else Thermal.NORMAL
    return Reading(skin, body, ambient, outcome)


def body_offset_centi_c(ambient_centi_c: int, rules: ThermalRules) -> int:
    """Offset from skin to body estimate at this ambient: the highest entry not above it, else the lowest."""
    reached = [entry for entry in rules.body_offsets if entry.ambient_from_centi_c <= ambient_centi_c]
    if reached:
        return max(reached, key=lambda entry: entry.ambient_from_centi_c).offset_centi_c
    return min(rules.body_offsets, key=lambda entry: entry.ambient_from_centi_c).offset_centi_c
