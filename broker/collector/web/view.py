"""The picture as the page shows it: sorted, worded, aged. Everything is text; the templates escape it."""

from dataclasses import dataclass
from datetime import UTC, datetime

from broker.collector.alarms import Alarm, Cause
from broker.collector.fleet import Fleet
from broker.collector.gates import GateRecord
from broker.collector.read import PassageLine
from broker.collector.web.words import say

_GRAVE = (Cause.FIRE, Cause.FEVER)
_TONE_OF_PHASE = {"ready": "good", "degraded": "warn", "lost": "bad", "silent": "bad", "stopping": "idle"}
_TONE_OF_VERDICT = {"admit": "good", "refuse": "bad", "retest": "warn", "wait": "warn"}
_TONE_OF_POSITION = {"open": "warn", "closed": "good", "between": "warn"}


@dataclass(frozen=True, slots=True)
class Sign:
    """A word with a tone: good, warn, bad or idle. The word always stands beside the colour."""

    text: str
    tone: str = "idle"


@dataclass(frozen=True, slots=True)
class AlarmLine:
    """An open alarm."""

    cause: str
    where: str
    detail: str
    since: str
    grave: bool


@dataclass(frozen=True, slots=True)
class LaneCard:
    """A lane of a gate."""

    lane: str
    kind: str
    phase: str
    position: Sign
    lockouts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GateCard:
    """A gate."""

    node: str
    phase: Sign
    clock: Sign | None
    waiting: int | None
    seen: str
    lanes: tuple[LaneCard, ...]
    releases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PassageRow:
    """An encounter."""

    time: str
    site: str
    gate: str
    lane: str
    direction: str
    verdict: Sign
    reasons: tuple[str, ...]
    thermal: Sign
    outcome: str


@dataclass(frozen=True, slots=True)
class Page:
    """All of the page's moving part."""

    warnings: tuple[str, ...]
    alarms: tuple[AlarmLine, ...]
    sites: tuple[tuple[str, tuple[GateCard, ...]], ...]
    passages: tuple[PassageRow, ...]


def build(fleet: Fleet, passages: list[PassageLine], language: str, now_ms: int) -> Page:
    """The page in one language at one moment."""
    sites: dict[str, list[GateCard]] = {}
    for gate in sorted(fleet.gates.values(), key=lambda g: (g.site, g.node)):
        sites.setdefault(gate.site, []).append(_gate(fleet, gate, language, now_ms))
    open_alarms = sorted(fleet.alarms.values(), key=lambda a: (a.cause not in _GRAVE, -a.raised_ms, a.place.origin))
    warnings = []
    if not fleet.health.connected:
        warnings.append(say(language, "ui", "broker_lost"))
    if fleet.health.store_error is not None:
        warnings.append(say(language, "ui", "store_lost"))
    return Page(
        tuple(warnings),
        tuple(_alarm(alarm, language) for alarm in open_alarms),
        tuple((site, tuple(cards)) for site, cards in sites.items()),
        tuple(_passage(line, language) for line in passages),
    )


def _alarm(alarm: Alarm, language: str) -> AlarmLine:
    match alarm.cause:
        case Cause.GATE_SILENT:
            detail = say(language, "phase", alarm.detail)
        case Cause.GAP:
            detail = f"{alarm.detail} {say(language, 'ui', 'missing')}"
        case Cause.DEVICE_FAULT:
            detail = say(language, "fault", alarm.detail)
        case Cause.CLOCK_UNTRUSTED:
            detail = ""
        case _:
            detail = alarm.detail
    place = alarm.place
    where = " / ".join(part for part in (place.site, place.node, place.part) if part)
    since = datetime.fromtimestamp(alarm.raised_ms / 1000, UTC).astimezone().strftime("%m-%d %H:%M:%S")
    return AlarmLine(say(language, "cause", alarm.cause), where, detail, since, alarm.cause in _GRAVE)


def _gate(fleet: Fleet, gate: GateRecord, language: str, now_ms: int) -> GateCard:
    state = gate.state
    phase = "unknown" if state is None else state.phase
    if not fleet.is_up(gate.node) and phase not in ("lost", "stopping"):
        phase = "silent"
    seen = _ago(now_ms - fleet.heard_ms.get(gate.node, gate.heard_ms), language)
    sign = Sign(say(language, "phase", phase), _TONE_OF_PHASE.get(phase, "idle"))
    if state is None:
        return GateCard(gate.node, sign, None, None, seen, (), ())
    clock = Sign(say(language, "clock", state.clock), {"trusted": "good", "holdover": "warn"}.get(state.clock, "bad"))
    lanes = tuple(
        LaneCard(
            lane.lane,
            say(language, "lane_kind", lane.kind),
            say(language, "lane_phase", lane.phase),
            Sign(say(language, "position", lane.position), _TONE_OF_POSITION.get(lane.position, "idle")),
            tuple(say(language, "lockout", cause) for cause in lane.lockouts),
        )
        for lane in state.lanes
    )
    releases = tuple(say(language, "release", cause) for cause in state.releases)
    return GateCard(gate.node, sign, clock, state.waiting, seen, lanes, releases)


def _passage(line: PassageLine, language: str) -> PassageRow:
    fever = {"fever": "bad", "normal": "good", "not_measured": "warn"}
    return PassageRow(
        line.time[5:19].replace("T", " "),
        line.site,
        line.gate,
        line.lane,
        say(language, "direction", line.direction),
        Sign(say(language, "verdict", line.verdict), _TONE_OF_VERDICT.get(line.verdict, "idle")),
        tuple(say(language, "reason", reason) for reason in line.reasons if reason != "all_good"),
        Sign(say(language, "thermal", line.thermal), fever.get(line.thermal, "idle")),
        say(language, "outcome", line.outcome),
    )


def _ago(age_ms: int, language: str) -> str:
    age_s = age_ms // 1000
    for unit_s, word in ((3600, "ago_h"), (60, "ago_min"), (2, "ago_s")):
        if age_s >= unit_s:
            return say(language, "ui", word).format(age_s // (1 if unit_s < 60 else unit_s))  # noqa: PLR2004 - a minute
    return say(language, "ui", "now")
