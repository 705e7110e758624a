"""What hangs off the barrier's table: levels and deadlines become signals, cells become pulses and records."""

from dataclasses import replace

from edge.core.barrier import ADVICE, TABLE, Barrier, Do, Fault, Phase, Signal, position
from edge.core.effects import Effect, Pulse, Record
from edge.core.facts import ActuationFact, DeviceFact, Motion, MotionCause, MotionResult, Position
from edge.core.model import SAFETY_LINES, Level, Line, Now
from edge.core.rules import LaneRules

_SIGNAL_AT = {
    Position.OPEN: Signal.AT_OPEN,
    Position.CLOSED: Signal.AT_CLOSED,
    Position.BETWEEN: Signal.AT_NEITHER,
    Position.UNKNOWN: Signal.AT_UNKNOWN,
}


def clear(barrier: Barrier, rules: LaneRules) -> bool:
    """Every wired safety line is known and clear; a lane without one never counts as clear."""
    wired = SAFETY_LINES & rules.wired
    return bool(wired) and all(barrier.level(line) is Level.CLEAR for line in wired)


def stopped(barrier: Barrier, rules: LaneRules) -> bool:
    """The local stop is pressed (or its wire is cut): nothing may move."""
    return Line.STOP in rules.wired and barrier.level(Line.STOP) is not Level.CLEAR


def ask(
    barrier: Barrier, signal: Signal, cause: MotionCause, rules: LaneRules, now: Now, encounter: int | None = None
) -> tuple[Barrier, list[Effect]]:
    """Ask for a motion. Whatever is asked, an obstruction forbids closing and the local stop forbids both."""
    if stopped(barrier, rules):
        return barrier, []
    if signal is Signal.CLOSE_ASKED and not clear(barrier, rules):
        return barrier, []
    return _apply(barrier, signal, rules, now, cause, encounter)


def hear(barrier: Barrier, line: Line, level: Level, rules: LaneRules, now: Now) -> tuple[Barrier, list[Effect]]:
    """Take in a line's level and whatever follows from it."""
    if barrier.level(line) is level:
        return barrier, []
    before = position(barrier)
    levels = (*((known, value) for known, value in barrier.levels if known is not line), (line, level))
    barrier = replace(barrier, levels=levels)
    if line is Line.STOP and level is not Level.CLEAR:
        return _apply(barrier, Signal.STOP_PRESSED, rules, now, MotionCause.STOP_BUTTON)
    if line in SAFETY_LINES and line in rules.wired and level is not Level.CLEAR:
        return _apply(barrier, Signal.OBSTRUCTED, rules, now, MotionCause.OBSTRUCTION)
    if line in (Line.LIMIT_OPEN, Line.LIMIT_CLOSED):
        after = position(barrier)
        if barrier.origin is before and after is not before:
            barrier = replace(barrier, answered=True)
        if after is not before or after is Position.UNKNOWN:
            return _apply(barrier, _limit_signal(barrier), rules, now, None)
    return barrier, []


def advance(barrier: Barrier, rules: LaneRules, now: Now) -> tuple[Barrier, list[Effect]]:
    """Let time pass: send a pulse whose dead time is over, notice what is overdue."""
    effects: list[Effect] = []
    if barrier.pending is not None and now.mono_ns >= earliest_ns(barrier, barrier.pending, rules):
        motion = barrier.pending
        barrier = replace(barrier, pending=None)
        if stopped(barrier, rules) or (motion is Motion.CLOSE and not clear(barrier, rules)):
            barrier = replace(barrier, phase=Phase.HALTED, deadline_ns=None)
        else:
            barrier, effects = _send(barrier, motion, rules, now)
    if barrier.deadline_ns is not None and now.mono_ns >= barrier.deadline_ns:
        if (
            barrier.phase in (Phase.OPENING, Phase.CLOSING)
            and barrier.answered
            and now.mono_ns < _travel_deadline(barrier, rules)
        ):
            barrier = replace(barrier, deadline_ns=_travel_deadline(barrier, rules))
        else:
            barrier, more = _apply(barrier, Signal.OVERDUE, rules, now, None)
            effects += more
    return barrier, effects


def wake_ns(barrier: Barrier, rules: LaneRules) -> int | None:
    """When `advance` has something to do next, monotonic ns."""
    pending = None if barrier.pending is None else earliest_ns(barrier, barrier.pending, rules)
    return min((at for at in (pending, barrier.deadline_ns) if at is not None), default=None)


def earliest_ns(barrier: Barrier, motion: Motion, rules: LaneRules) -> int:
    """First instant at which a pulse of this motion may be sent: the dead time counts after any other pulse."""
    if barrier.pulse is None or barrier.pulse is motion:
        return 0
    return barrier.pulse_end_ns + rules.timing.dead_time_ms * 1_000_000


def _limit_signal(barrier: Barrier) -> Signal:
    at_open, at_closed = barrier.level(Line.LIMIT_OPEN), barrier.level(Line.LIMIT_CLOSED)
    if (at_open, at_closed) == (Level.ACTIVE, Level.ACTIVE):
        return Signal.AT_BOTH
    return _SIGNAL_AT[position(barrier)]


def _travel_deadline(barrier: Barrier, rules: LaneRules) -> int:
    return barrier.started_ns + rules.timing.travel_max_ms * 1_000_000


def _apply(
    barrier: Barrier,
    signal: Signal,
    rules: LaneRules,
    now: Now,
    cause: MotionCause | None,
    encounter: int | None = None,
) -> tuple[Barrier, list[Effect]]:
    phase, do = TABLE[barrier.phase][signal]
    before = barrier
    barrier = replace(barrier, phase=phase)
    match do:
        case Do.NOTHING:
            return barrier, []
        case Do.OPEN | Do.CLOSE:
            motion = Motion.OPEN if do is Do.OPEN else Motion.CLOSE
            healed = _healed(before, rules)
            barrier, effects = _start(replace(barrier, fault=None), motion, cause, encounter, rules, now)
            return barrier, [*healed, *effects]
        case Do.HALT:
            barrier, effects = _halt(barrier, rules, now)
            barrier = replace(barrier, deadline_ns=None, cause=None, encounter=None)
            return barrier, [*effects, *_report(before, MotionResult.STOPPED, now, rules)]
        case Do.REVERSE:
            barrier, effects = _halt(barrier, rules, now)
            reported = _report(before, MotionResult.REVERSED, now, rules)
            barrier, more = _start(barrier, Motion.OPEN, cause, encounter or before.encounter, rules, now)
            return barrier, [*effects, *reported, *more]
        case Do.ARRIVED:
            return replace(barrier, deadline_ns=None, pending=None), _report(barrier, MotionResult.REACHED, now, rules)
        case Do.SETTLED:
            if _limit_signal(before) is Signal.AT_BOTH:
                return before, []
            settled = replace(barrier, fault=None, deadline_ns=None, pending=None, cause=None)
            return _resettle(settled), _healed(before, rules)
        case Do.WATCH:
            return replace(barrier, cause=None, deadline_ns=now.after_ms(rules.timing.disturbed_ms)), []
        case Do.FAIL:
            return _fail(before, barrier, signal, rules, now)


def _start(
    barrier: Barrier, motion: Motion, cause: MotionCause | None, encounter: int | None, rules: LaneRules, now: Now
) -> tuple[Barrier, list[Effect]]:
    barrier = replace(
        barrier,
        cause=cause,
        encounter=encounter,
        started_ns=now.mono_ns,
        answered=False,
        origin=position(barrier),
        deadline_ns=None,
    )
    if now.mono_ns < earliest_ns(barrier, motion, rules):
        return replace(barrier, pending=motion), []
    return _send(replace(barrier, pending=None), motion, rules, now)


def _send(barrier: Barrier, motion: Motion, rules: LaneRules, now: Now) -> tuple[Barrier, list[Effect]]:
    duration_ms = rules.timing.pulse_ms
    wait_ms = (
        rules.timing.response_ms if barrier.origin in (Position.OPEN, Position.CLOSED) else rules.timing.travel_max_ms
    )
    barrier = replace(
        barrier,
        pulse=motion,
        pulse_end_ns=now.after_ms(duration_ms),
        started_ns=now.mono_ns,
        deadline_ns=now.after_ms(wait_ms),
    )
    effects: list[Effect] = [Pulse(rules.lane, motion, duration_ms)]
    if (
        motion is Motion.OPEN and position(barrier) is Position.OPEN
    ):  # reversed before it left: there is no edge to wait for
        barrier = replace(barrier, phase=Phase.OPEN, deadline_ns=None)
        effects += _report(barrier, MotionResult.REACHED, now, rules)
    return barrier, effects


def _halt(barrier: Barrier, rules: LaneRules, now: Now) -> tuple[Barrier, list[Effect]]:
    # STOP releases OPEN and CLOSE at once, so the dead time of the next pulse counts from now.
    ended = now.mono_ns if barrier.pulse is not None else barrier.pulse_end_ns
    barrier = replace(barrier, pending=None, pulse=Motion.STOP, pulse_end_ns=ended)
    return barrier, [Pulse(rules.lane, Motion.STOP, rules.timing.stop_pulse_ms)]


def _fail(
    before: Barrier, barrier: Barrier, signal: Signal, rules: LaneRules, now: Now
) -> tuple[Barrier, list[Effect]]:
    moving = before.phase in (Phase.OPENING, Phase.CLOSING)
    if signal is Signal.AT_BOTH:
        fault, result = Fault.BOTH_LIMITS, MotionResult.JAM
    elif not moving:
        fault, result = Fault.FORCED, MotionResult.JAM
    elif before.answered or before.origin not in (Position.OPEN, Position.CLOSED):
        fault, result = Fault.JAM, MotionResult.JAM
    else:
        fault, result = Fault.NO_RESPONSE, MotionResult.NO_RESPONSE
    reported = _report(before, result, now, rules) if moving else []
    barrier, halted = _halt(barrier, rules, now) if moving else (barrier, [])
    barrier = replace(barrier, fault=fault, deadline_ns=None, pending=None, cause=None, encounter=None)
    return barrier, [
        *halted,
        *reported,
        Record(DeviceFact(_device(rules), rules.lane, works=False, fault=fault, advice=ADVICE[fault])),
    ]


def _report(barrier: Barrier, result: MotionResult, now: Now, rules: LaneRules) -> list[Effect]:
    if barrier.cause is None or barrier.phase not in (Phase.OPENING, Phase.CLOSING, Phase.OPEN, Phase.CLOSED):
        return []
    if result is not MotionResult.REACHED and barrier.phase in (Phase.OPEN, Phase.CLOSED):
        return []  # halted at rest: no motion was under way
    motion = Motion.OPEN if barrier.phase in (Phase.OPENING, Phase.OPEN) else Motion.CLOSE
    took_ms = (now.mono_ns - barrier.started_ns) // 1_000_000
    return [
        Record(ActuationFact(rules.lane, motion, barrier.cause, result, position(barrier), took_ms, barrier.encounter))
    ]


def _healed(before: Barrier, rules: LaneRules) -> list[Effect]:
    if before.fault is None:
        return []
    return [Record(DeviceFact(_device(rules), rules.lane, works=True, fault=before.fault, advice=""))]


def _resettle(barrier: Barrier) -> Barrier:
    resting = {Position.OPEN: Phase.OPEN, Position.CLOSED: Phase.CLOSED}
    return replace(barrier, phase=resting.get(position(barrier), barrier.phase))


def _device(rules: LaneRules) -> str:
    return f"barrier-{rules.lane}"
