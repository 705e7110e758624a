"""Several lanes, one fire release, one clock, one disk: step(state, input, rules, now) -> (state, effects, wake_at).

State is computed from time at every step: whatever woke the gate, or failed to, the curfew that holds is the one of
`now` (rule 8 of the house).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from edge.core import encounter, motion
from edge.core.barrier import Barrier, Signal, position
from edge.core.barrier import Phase as BarrierPhase
from edge.core.credential import Use, remember
from edge.core.curfew import in_curfew, ms_until_curfew, next_edge_ms
from edge.core.decision import Circumstances
from edge.core.effects import Effect, Record
from edge.core.encounter import Moment, Out
from edge.core.facts import ClockFact, DeviceFact, GateFact, LockoutFact, MotionCause, Position, Prompt, ReleaseFact
from edge.core.inputs import (
    BarrierReset,
    ClockIs,
    CloseAsked,
    CodeRead,
    CommitFailed,
    Committed,
    DeviceIs,
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
from edge.core.lane import Event, Lane, Phase
from edge.core.model import ClockTrust, Level, Line, LockoutCause, Now
from edge.core.rules import LaneRules, Rules

# A clock step or a missed timer is noticed within this even if nothing else happens.
LOOK_AGAIN_MS = 1000


@dataclass(frozen=True, slots=True)
class Gate:
    """State of a gate: lanes by id, the fire latch, trust in clock and disk, and which lockouts were last recorded."""

    lanes: Mapping[str, Lane]
    fire: bool = False
    trust: ClockTrust = ClockTrust.UNTRUSTED
    disk_works: bool = True
    devices_lost: frozenset[str] = frozenset()
    uses: Mapping[str, Use] = field(default_factory=dict)
    recorded: frozenset[tuple[str, LockoutCause]] = frozenset()
    fire_asked_ns: int | None = None
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """What follows from one input: the next state, what to do, and when to wake at the latest (monotonic ns)."""

    state: Gate
    effects: tuple[Effect, ...]
    wake_at_ns: int


def start(rules: Rules, now: Now, trust: ClockTrust = ClockTrust.UNTRUSTED) -> Step:
    """A gate that knows nothing yet: every position unknown, nothing moves, the lockouts of the hour already hold."""
    state = Gate(lanes={lane.lane: Lane() for lane in rules.lanes}, trust=trust)
    return step(state, Woke(), rules, now)


def started(state: Gate, rules: Rules) -> Record:
    """The record of a beginning, once the first levels have been heard."""
    return Record(GateFact(started=True, open_lanes=_open_lanes(state, rules)))


def step(state: Gate, given: GateInput, rules: Rules, now: Now) -> Step:
    """One input through the whole gate. Total: every input in every state gives a next state."""
    if state.stopping and not isinstance(given, LineIs | Woke):
        given = Woke()  # a gate that ends begins nothing; it only keeps watching the arm
    before = state.lanes
    state, effects = _take(state, given, rules, now)
    state, more = _settle(state, before, rules, now)
    return Step(state, (*effects, *more), _wake(state, rules, now))


def lockouts(state: Gate, lane: str, rules: Rules, now: Now) -> frozenset[LockoutCause]:
    """Every cause that keeps this lane shut now."""
    causes = set(state.lanes[lane].locked)
    if in_curfew(now.wall_ms, rules.curfews_at(now.wall_ms), rules.tz):
        causes.add(LockoutCause.CURFEW)
    if state.trust is ClockTrust.UNTRUSTED:
        causes.add(LockoutCause.CLOCK)
    if not state.disk_works:
        causes.add(LockoutCause.DISK)
    if state.lanes[lane].barrier.phase is BarrierPhase.FAULT:
        causes.add(LockoutCause.FAULT)
    return frozenset(causes)


def _circumstances(state: Gate, lane: str, rules: Rules, now: Now) -> Circumstances:
    left_ms = ms_until_curfew(now.wall_ms, rules.curfews_at(now.wall_ms), rules.tz)
    return Circumstances(lockouts(state, lane, rules, now), state.fire, left_ms)


def _moment(state: Gate, lane: LaneRules, rules: Rules, now: Now) -> Moment:
    return Moment(lane, rules, _circumstances(state, lane.lane, rules, now), now, state.uses)


def _take(state: Gate, given: GateInput, rules: Rules, now: Now) -> tuple[Gate, list[Effect]]:
    match given:
        case Woke():
            return state, []
        case Stopping():
            return replace(state, stopping=True), [
                Record(GateFact(started=False, open_lanes=_open_lanes(state, rules)))
            ]
        case DiskIs(works=works):
            return replace(state, disk_works=works), []
        case ClockIs(trust=trust, reason=reason):
            changed = trust is not state.trust
            return replace(state, trust=trust), [Record(ClockFact(trust, reason))] if changed else []
        case DeviceIs():
            return _device(state, given)
        case FireReset():
            return _fire_reset(state)
        case _ if given.lane not in state.lanes:
            return state, []
        case LineIs():
            return _line(state, given, rules, now)
        case _:
            lane_rules = rules.lane(given.lane)
            lane, effects = _lane_input(state.lanes[given.lane], given, _moment(state, lane_rules, rules, now))
            return _with(state, given.lane, lane, lane_rules, rules, now), effects


def _lane_input(
    lane: Lane,
    given: CodeRead
    | Measured
    | MaskAttested
    | OccupantsDeclared
    | ExceptionGranted
    | FeverReleased
    | CloseAsked
    | BarrierReset
    | Committed
    | CommitFailed,
    moment: Moment,
) -> Out:
    match given:
        case CodeRead():
            return encounter.happen(lane, Event.CODE, given, moment)
        case Measured():
            return encounter.happen(lane, Event.MEASURED, given, moment)
        case MaskAttested():
            return encounter.happen(lane, Event.ATTESTED, given, moment)
        case OccupantsDeclared():
            return encounter.happen(lane, Event.DECLARED, given, moment)
        case ExceptionGranted():
            return encounter.happen(lane, Event.EXCEPTION, given, moment)
        case Committed(encounter=number):
            return encounter.happen(lane, Event.COMMITTED, None, moment) if number == lane.encounter else (lane, [])
        case CommitFailed(encounter=number):
            return encounter.happen(lane, Event.COMMIT_FAILED, None, moment) if number == lane.encounter else (lane, [])
        case FeverReleased(handover=handover):
            return encounter.release_fever(lane, moment, "guard", handover)
        case CloseAsked():
            return replace(lane, close_cause=MotionCause.GUARD, close_at_ns=moment.now.mono_ns), []
        case BarrierReset():
            barrier, effects = motion.ask(lane.barrier, Signal.RESET, MotionCause.GUARD, moment.lane, moment.now)
            return replace(lane, barrier=barrier), effects


def _with(state: Gate, name: str, lane: Lane, lane_rules: LaneRules, rules: Rules, now: Now) -> Gate:
    """State with this lane; an admission that has just begun to pass counts as a use of its passes."""
    uses = state.uses
    if lane.phase is Phase.PASSING and state.lanes[name].phase is Phase.COMMITTING:
        people = tuple(person.credential.person for person in lane.party.people if person.credential)
        uses = remember(uses, people, lane_rules.direction, rules, now)
    return replace(state, lanes={**state.lanes, name: lane}, uses=uses)


def _device(state: Gate, given: DeviceIs) -> tuple[Gate, list[Effect]]:
    was_lost = given.device in state.devices_lost
    if was_lost is not given.works:
        return state, []
    lost = state.devices_lost - {given.device} if given.works else state.devices_lost | {given.device}
    fact = DeviceFact(given.device, given.lane, given.works, given.fault, given.advice)
    return replace(state, devices_lost=lost), [Record(fact)]


def _fire_reset(state: Gate) -> tuple[Gate, list[Effect]]:
    contacts = [lane.barrier.level(Line.FIRE) for lane in state.lanes.values()]
    if not state.fire or Level.ACTIVE in contacts:
        return state, []
    return replace(state, fire=False, fire_asked_ns=None), [Record(ReleaseFact("fire", started=False))]


def _line(state: Gate, given: LineIs, rules: Rules, now: Now) -> tuple[Gate, list[Effect]]:
    lane_rules = rules.lane(given.lane)
    lane = state.lanes[given.lane]
    before = lane.barrier
    barrier, effects = motion.hear(before, given.line, given.level, lane_rules, now)
    lane = replace(lane, barrier=barrier)
    rising = given.level is Level.ACTIVE and before.level(given.line) is not Level.ACTIVE
    if given.line is Line.FIRE and rising and not state.fire:
        state = replace(state, fire=True, fire_asked_ns=None)
        effects = [*effects, Record(ReleaseFact("fire", started=True))]
    lane, more = _line_events(lane, before, given, rising=rising, moment=_moment(state, lane_rules, rules, now))
    return _with(state, given.lane, lane, lane_rules, rules, now), [*effects, *more]


def _line_events(lane: Lane, before: Barrier, given: LineIs, *, rising: bool, moment: Moment) -> Out:
    """What a change of one line means for the encounter and for closing."""
    effects: list[Effect] = []
    was_clear, is_clear = motion.clear(before, moment.lane), motion.clear(lane.barrier, moment.lane)
    if was_clear and not is_clear:
        lane, effects = encounter.happen(lane, Event.OBSTRUCTED, None, moment)
    elif is_clear and not was_clear:
        if lane.close_cause and lane.close_at_ns is not None:
            lane = replace(lane, close_at_ns=moment.now.after_ms(moment.lane.timing.close_delay_ms))
        lane, effects = encounter.happen(lane, Event.CLEARED, None, moment)
    match given.line:
        case Line.APPROACH if rising or (given.level is Level.CLEAR and before.level(Line.APPROACH) is Level.ACTIVE):
            lane, more = encounter.happen(lane, Event.ARRIVED if rising else Event.LEFT, None, moment)
            effects += more
        case Line.STOP if given.level is not Level.CLEAR:
            lane = replace(lane, close_cause=None, close_at_ns=None)  # the next motion needs a fresh cause
        case Line.KEY if rising:
            barrier, more = motion.ask(lane.barrier, Signal.OPEN_FORCED, MotionCause.KEY, moment.lane, moment.now)
            lane, effects = replace(lane, barrier=barrier, close_cause=None, close_at_ns=None), [*effects, *more]
        case Line.KEY if given.level is Level.CLEAR and before.level(Line.KEY) is Level.ACTIVE:
            lane = replace(
                lane, close_cause=MotionCause.KEY, close_at_ns=moment.now.after_ms(moment.lane.timing.close_delay_ms)
            )
        case _:
            pass
    return lane, effects


def _settle(state: Gate, before: Mapping[str, Lane], rules: Rules, now: Now) -> tuple[Gate, list[Effect]]:
    """Everything that follows from time and from the lanes themselves, after any input."""
    effects: list[Effect] = []
    for lane_rules in rules.lanes:
        name = lane_rules.lane
        state, more = _record_lockouts(state, lane_rules, rules, now)
        effects += more
        moment = _moment(state, lane_rules, rules, now)
        lane, more = _settle_lane(state, state.lanes[name], before[name], moment)
        effects += more
        state = _with(state, name, lane, lane_rules, rules, now)
    if state.fire and (state.fire_asked_ns is None or now.mono_ns >= state.fire_asked_ns):
        retry_ms = max((lane.timing.travel_max_ms for lane in rules.lanes), default=0)
        state = replace(state, fire_asked_ns=now.after_ms(retry_ms))
    return state, effects


def _settle_lane(state: Gate, lane: Lane, before: Lane, moment: Moment) -> Out:
    effects: list[Effect] = []
    now = moment.now
    if lane.fever_until_ns is not None and now.mono_ns >= lane.fever_until_ns:
        lane, effects = encounter.release_fever(lane, moment, "time", None)
    barrier, more = motion.advance(lane.barrier, moment.lane, now)
    effects += more
    if state.fire and not state.stopping and (state.fire_asked_ns is None or now.mono_ns >= state.fire_asked_ns):
        barrier, more = motion.ask(barrier, Signal.OPEN_FORCED, MotionCause.FIRE, moment.lane, now)
        effects += more
    lane = replace(lane, barrier=barrier)
    if lane.phase is Phase.PASSING and barrier.phase is BarrierPhase.FAULT:
        lane, more = encounter.happen(lane, Event.BARRIER_FAILED, None, moment)
        effects += more
    if _stands_open(lane) and not _stands_open(before):
        lane, more = encounter.happen(lane, Event.OPENED, None, moment)
        effects += more
    if lane.deadline_ns is not None and now.mono_ns >= lane.deadline_ns:
        lane, more = encounter.happen(lane, Event.OVERDUE, None, moment)
        effects += more
    lane, more = _close_when_due(state, lane, moment)
    effects += more
    if lane.phase is Phase.IDLE:
        return encounter.show(lane, encounter.resting_prompt(moment), moment, effects)
    return lane, effects


def _stands_open(lane: Lane) -> bool:
    return lane.phase is Phase.PASSING and lane.barrier.phase is BarrierPhase.OPEN


def _close_when_due(state: Gate, lane: Lane, moment: Moment) -> Out:
    if lane.close_cause is None:
        return lane, []
    barrier = lane.barrier
    if barrier.phase is BarrierPhase.CLOSED and lane.phase is not Phase.PASSING:
        return replace(lane, close_cause=None, close_at_ns=None), []
    busy = lane.phase in (Phase.COMMITTING, Phase.PASSING)
    at_rest = barrier.phase in (BarrierPhase.OPEN, BarrierPhase.UNKNOWN, BarrierPhase.HALTED)
    due = lane.close_at_ns is not None and moment.now.mono_ns >= lane.close_at_ns
    held = state.fire or state.stopping or barrier.level(Line.KEY) is Level.ACTIVE
    if busy or held or not at_rest or not due:
        return lane, []
    barrier, effects = motion.ask(barrier, Signal.CLOSE_ASKED, lane.close_cause, moment.lane, moment.now)
    return replace(lane, barrier=barrier), effects


def _record_lockouts(state: Gate, lane_rules: LaneRules, rules: Rules, now: Now) -> tuple[Gate, list[Effect]]:
    """Record lockouts by time, clock, disk and barrier when they begin or end, and tell the encounter."""
    name = lane_rules.lane
    present = lockouts(state, name, rules, now)
    known = frozenset(cause for lane, cause in state.recorded if lane == name)
    tracked = present - {LockoutCause.FEVER}  # a fever's own facts are written where it is found and released
    effects: list[Effect] = [
        Record(LockoutFact(name, cause, started=True)) for cause in LockoutCause if cause in tracked - known
    ]
    effects += [
        Record(LockoutFact(name, cause, started=False, ended_by="time" if cause is LockoutCause.CURFEW else "restored"))
        for cause in LockoutCause
        if cause in known - tracked
    ]
    others = frozenset(pair for pair in state.recorded if pair[0] != name)
    state = replace(state, recorded=others | {(name, cause) for cause in tracked})
    moment = _moment(state, lane_rules, rules, now)
    fresh_fire = state.fire and state.fire_asked_ns is None
    if tracked - known or fresh_fire:
        lane, more = encounter.happen(state.lanes[name], Event.LOCKED, None, moment)
        return _with(state, name, lane, lane_rules, rules, now), [*effects, *more]
    return state, effects


def _open_lanes(state: Gate, rules: Rules) -> tuple[str, ...]:
    return tuple(lane.lane for lane in rules.lanes if position(state.lanes[lane.lane].barrier) is not Position.CLOSED)


def _wake(state: Gate, rules: Rules, now: Now) -> int:
    wakes = [now.after_ms(LOOK_AGAIN_MS)]
    edge_ms = next_edge_ms(now.wall_ms, rules.policy.curfews, rules.tz)
    if edge_ms is not None:
        wakes.append(now.after_ms(edge_ms - now.wall_ms))
    if state.fire and state.fire_asked_ns is not None:
        wakes.append(state.fire_asked_ns)
    for lane_rules in rules.lanes:
        lane = state.lanes[lane_rules.lane]
        wakes += [
            at
            for at in (lane.deadline_ns, lane.fever_until_ns, motion.wake_ns(lane.barrier, lane_rules))
            if at is not None
        ]
        if lane.close_at_ns is not None and lane.close_at_ns > now.mono_ns:
            wakes.append(lane.close_at_ns)
    return min(wakes)


def display(state: Gate, lane: str) -> Prompt:
    """What the public display of a lane shows."""
    return state.lanes[lane].prompt
