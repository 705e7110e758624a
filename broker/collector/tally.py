"""Which counters one event moves. Pure. Labels are bounded: words nobody knows are counted as `other`."""

from broker.collector.alarms import Cause, Fact, Place, Told
from broker.collector.intake import Event
from broker.wire.messages import EVENT_KINDS, Clock, DeviceState, Fever, Passage, Release, Verdict

Key = tuple[str, ...]  # counter name, then its label values in the order of COUNTERS
Tally = dict[Key, int]

OTHER = "other"
MAX_SERIES = 20_000  # of one counter; beyond it everything new is counted as `other`

COUNTERS: dict[str, tuple[str, ...]] = {
    "passages": ("site", "gate", "lane", "direction", "outcome"),
    "verdicts": ("site", "gate", "lane", "direction", "verdict"),
    "refusals": ("site", "gate", "reason"),
    "fever_alarms": ("site", "gate"),
    "events_stored": ("kind",),
    "events_duplicate": (),
    "events_quarantined": (),
    "events_deferred": (),
}

REASONS = frozenset(
    {
        "pass_missing",
        "pass_expired",
        "pass_not_yet",
        "pass_wrong_site",
        "pass_wrong_direction",
        "pass_revoked",
        "pass_reused",
        "pass_suspended",
        "token_not_ours",
        "token_malformed",
        "token_oversize",
        "token_unknown_key",
        "token_bad_signature",
        "token_wrong_algorithm",
        "code_control_characters",
        "code_checksum",
        "code_frame",
        "card_unknown",
        "curfew",
        "curfew_imminent",
        "clock_untrusted",
        "fever",
        "not_measured",
        "low_reading",
        "spread",
        "implausible",
        "ambient_out_of_range",
        "nothing_in_front",
        "too_few_samples",
        "sensor_failed",
        "mask_refused",
        "mask_unknown",
        "occupants_unknown",
        "too_many_occupants",
        "left",
        "timed_out",
        "lockout",
        "lockout_fever",
        "lockout_fault",
        "lockout_disk",
        "lockout_command",
        "lockout_sealed",
        "lockout_tamper",
        "fire",
        "disk",
        "barrier_fault",
        "exception_ambulance",
        "exception_fire",
        "exception_fire_brigade",
        "exception_police",
        "exception_medical",
        "exception_duty",
        "all_good",
    }
)
_DIRECTIONS = frozenset({"in", "out"})
_VERDICTS = frozenset({"admit", "refuse", "retest", "wait"})
_OUTCOMES = frozenset({"crossed", "not_observed"})


def count(tally: Tally, event: Event) -> None:
    """Add what a sound, new event counts for."""
    _add(tally, ("events_stored", event.kind if event.kind in EVENT_KINDS else OTHER))
    data = event.data
    match data:
        case Verdict():
            verdict = _fold(data.verdict, _VERDICTS)
            direction = _fold(data.direction, _DIRECTIONS)
            _add(tally, ("verdicts", event.site, event.node, data.lane, direction, verdict))
            if verdict == "refuse":
                for reason in {_fold(cause.code, REASONS) for cause in data.reasons}:
                    _add(tally, ("refusals", event.site, event.node, reason))
        case Passage():
            labels = (data.lane, _fold(data.direction, _DIRECTIONS), _fold(data.outcome, _OUTCOMES))
            _add(tally, ("passages", event.site, event.node, *labels))
        case Fever() if data.phase == "raised":
            _add(tally, ("fever_alarms", event.site, event.node))
        case _:
            pass


def settle(totals: Tally, series: dict[str, int], more: Tally) -> Tally:
    """`more` under the keys it is kept under: new series beyond the bound become `other`.

    `series` counts the series of each counter in `totals`; neither is changed.
    """
    settled: Tally = {}
    fresh: dict[str, int] = {}
    for wanted, value in more.items():
        key, name = wanted, wanted[0]
        if key not in totals:
            if series.get(name, 0) + fresh.get(name, 0) < MAX_SERIES:
                fresh[name] = fresh.get(name, 0) + 1
            else:
                key = (name, *(OTHER for _ in key[1:]))
        settled[key] = settled.get(key, 0) + value
    return settled


def fact(event: Event) -> Fact | None:
    """What a sound, new event means to the alarm rules; None for most."""
    data, site, node = event.data, event.site, event.node
    match data:
        case Fever(phase="raised" | "released"):
            return _told(event, Place(site, node, data.lane), Cause.FEVER, data.phase == "raised")
        case DeviceState(phase="fault" | "ok"):
            up = data.phase == "fault"
            return _told(event, Place(site, node, data.device), Cause.DEVICE_FAULT, up, data.fault)
        case Release(cause="fire", phase="started" | "ended"):
            return _told(event, Place(site, node), Cause.FIRE, data.phase == "started")
        case Clock():
            return _told(event, Place(site, node), Cause.CLOCK_UNTRUSTED, data.trust == "untrusted", data.reason)
        case _:
            return None


def _told(event: Event, place: Place, cause: Cause, up: bool, detail: str = "") -> Told:
    return Told(place, cause, up, detail, event.stream, event.seq)


def _fold(word: str, known: frozenset[str]) -> str:
    return word if word in known else OTHER


def _add(tally: Tally, key: Key) -> None:
    tally[key] = tally.get(key, 0) + 1
