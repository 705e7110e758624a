"""What hangs off the lane's table: inputs become a party, a party a verdict, a verdict a record, a record an opening.

Decision, actuation and crossing are three facts. An admission moves nothing until its record is on disk (Committed).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from edge.core import motion, thermal
from edge.core.barrier import Signal
from edge.core.credential import Use, check
from edge.core.decision import Circumstances, decide
from edge.core.effects import Effect, Measure, Record, Show
from edge.core.facts import PROMPT_OF_REASON, FeverFact, LockoutFact, MotionCause, PassageFact, Prompt, VerdictFact
from edge.core.inputs import CodeRead, ExceptionGranted, MaskAttested, Measured, OccupantsDeclared
from edge.core.lane import TABLE, Do, Event, Lane, Phase
from edge.core.model import (
    ExceptionGrant,
    LaneKind,
    LockoutCause,
    Mask,
    Now,
    Party,
    Pass,
    Person,
    Reading,
    Reason,
    Thermal,
    Verdict,
    VerdictKind,
)
from edge.core.rules import LaneRules, Rules


@dataclass(frozen=True, slots=True)
class Moment:
    """What a handler needs beside the lane."""

    lane: LaneRules
    rules: Rules
    around: Circumstances
    now: Now
    uses: Mapping[str, Use]  # of all lanes of this gate


Out = tuple[Lane, list[Effect]]
Input = CodeRead | Measured | MaskAttested | OccupantsDeclared | ExceptionGranted | None


def happen(lane: Lane, event: Event, given: Input, moment: Moment) -> Out:
    """One event through the table."""
    cell = TABLE[lane.phase][event]
    match cell.do:
        case Do.NOTHING:
            return lane, []
        case Do.BEGIN:
            return _judge(_begin(lane, moment), given, moment)
        case Do.JUDGE:
            return _judge(lane, given, moment)
        case Do.ABANDON:
            return _abandon(lane, Reason.LEFT if event is Event.LEFT else Reason.TIMED_OUT, moment)
        case Do.GO:
            return _go(lane, moment)
        case Do.HOLD:
            return _refuse(lane, Reason.LOCKOUT_DISK, moment)
        case Do.MARK_OPEN:
            return replace(lane, deadline_ns=moment.now.after_ms(moment.rules.policy.encounter.crossing_start_ms)), []
        case Do.MARK_CROSSING:
            deadline_ns = moment.now.after_ms(moment.rules.policy.encounter.crossing_ms)
            return replace(lane, crossing=True, deadline_ns=deadline_ns), []
        case Do.CROSSED:
            return _passed(lane, moment, crossed=True) if lane.crossing else (lane, [])
        case Do.NOT_CROSSED:
            return _not_crossed(lane, event, moment)
        case Do.CUT_SHORT:
            return (lane, []) if lane.crossing else _passed(lane, moment, crossed=False)
        case Do.REST:
            return _rest(lane, moment)


def release_fever(lane: Lane, moment: Moment, released_by: str, handover: str | None) -> Out:
    """End a fever lockout, recorded with who ended it."""
    if LockoutCause.FEVER not in lane.locked:
        return lane, []
    lane = replace(lane, locked=lane.locked - {LockoutCause.FEVER}, fever_until_ns=None)
    released = FeverFact(
        moment.lane.lane,
        lane.encounter,
        moment.lane.direction,
        raised=False,
        released_by=released_by,
        handover=handover,
    )
    ended = LockoutFact(moment.lane.lane, LockoutCause.FEVER, started=False, ended_by=released_by)
    return show(lane, resting_prompt(moment), moment, [Record(released), Record(ended)])


def show(lane: Lane, prompt: Prompt, moment: Moment, effects: list[Effect] | None = None) -> Out:
    """Change the public display if it shows something else."""
    effects = effects or []
    if lane.prompt is prompt:
        return lane, effects
    return replace(lane, prompt=prompt), [*effects, Show(moment.lane.lane, prompt)]


def resting_prompt(moment: Moment) -> Prompt:
    """What an empty lane shows."""
    if moment.around.fire:
        return Prompt.FIRE
    if LockoutCause.CURFEW in moment.around.lockouts:
        return Prompt.CURFEW
    return Prompt.CLOSED if moment.around.lockouts else Prompt.IDLE


def _begin(lane: Lane, moment: Moment) -> Lane:
    occupants = 1 if moment.lane.kind is LaneKind.PEDESTRIAN else None
    return replace(
        lane,
        phase=Phase.SCREENING,
        encounter=lane.encounter + 1,
        party=Party(occupants=occupants),
        deadline_ns=moment.now.after_ms(moment.rules.policy.encounter.screening_ms),
        began_ns=moment.now.mono_ns,
        attempt=lane.attempt + 1,
        measuring=False,
        verdict=None,
        crossing=False,
    )


def _judge(lane: Lane, given: Input, moment: Moment) -> Out:
    if isinstance(given, Measured):
        if not lane.measuring or given.attempt != lane.attempt:
            return lane, []
        lane = replace(lane, measuring=False)
    lane = replace(lane, party=_taken(lane, given, moment))
    if isinstance(given, CodeRead | Measured | ExceptionGranted):
        lane = replace(lane, deadline_ns=moment.now.after_ms(moment.rules.policy.encounter.screening_ms))
    verdict = decide(lane.party, moment.around, moment.rules.policy)
    lane = replace(lane, verdict=verdict)
    match verdict.kind:
        case VerdictKind.ADMIT:
            deadline_ns = moment.now.after_ms(moment.rules.policy.encounter.commit_ms)
            lane = replace(lane, phase=Phase.COMMITTING, deadline_ns=deadline_ns)
            return show(
                lane, Prompt.WAIT, moment, [Record(_fact(lane, moment), admission=(moment.lane.lane, lane.encounter))]
            )
        case VerdictKind.REFUSE:
            return _refused(lane, verdict, moment)
        case VerdictKind.RETEST:
            effects: list[Effect] = [Record(_fact(lane, moment))]
            lane, effects = show(lane, Prompt.RETEST, moment, effects)
            lane = replace(lane, party=_retested(lane.party))
            return _measure(lane, moment, effects, rest_ms=moment.rules.policy.thermal.retest_rest_ms)
        case VerdictKind.WAIT:
            lane, effects = show(lane, _prompt(verdict), moment)
            return _measure(lane, moment, effects)


def _taken(lane: Lane, given: Input, moment: Moment) -> Party:
    """The party with the input taken in; an input that fits nobody changes nothing."""
    party = lane.party
    match given:
        case CodeRead(presented=presented):
            return _with_code(lane, presented, moment)
        case Measured(samples=samples, sensor_failed=failed):
            judged = thermal.evaluate(samples, moment.rules.policy.thermal, sensor_failed=failed)
            return _first(party, lambda person: person.reading is None, lambda person: _with_reading(person, judged))
        case MaskAttested(worn=worn):
            mask = Mask.WORN if worn else Mask.REFUSED
            return _first(party, lambda person: person.mask is Mask.UNKNOWN, lambda person: replace(person, mask=mask))
        case OccupantsDeclared(count=count):
            return replace(party, occupants=max(count, len(party.people), 1))
        case ExceptionGranted(kind=kind, approver=approver):
            waiver = moment.rules.policy.waivers.get(kind)
            people = party.people
            if waiver is not None and waiver.credential and not waiver.screening and not people:
                people = (Person(),) * (party.occupants or 1)
            return replace(
                party,
                people=people,
                occupants=party.occupants or len(people) or None,
                grant=ExceptionGrant(kind, approver),
            )
        case None:
            return party


def _with_code(lane: Lane, presented: Pass | Reason, moment: Moment) -> Party:
    party = lane.party
    if isinstance(presented, Reason):
        person = Person(refusal=presented)
    else:
        refusal = check(presented, moment.lane.direction, moment.uses, moment.rules, moment.now)
        if any(other.credential and other.credential.person == presented.person for other in party.people):
            return party  # the same pass twice in one party adds nobody; the encounter goes on asking for the next one
        person = Person(credential=presented, refusal=refusal)
    if party.occupants is not None and len(party.people) >= party.occupants:
        return party
    return replace(party, people=(*party.people, person))


def _with_reading(person: Person, judged: Reading | Reason) -> Person:
    if isinstance(judged, Reading):
        return replace(person, reading=judged, reading_failure=None)
    retests = person.retests if judged in thermal.KEEP_MEASURING else person.retests + 1
    return replace(person, reading_failure=judged, retests=retests)


def _retested(party: Party) -> Party:
    people = (replace(person, reading_failure=None) if person.reading is None else person for person in party.people)
    return replace(party, people=tuple(people))


def _first(party: Party, wanted: Callable[[Person], bool], changed: Callable[[Person], Person]) -> Party:
    for index, person in enumerate(party.people):
        if wanted(person):
            return replace(party, people=(*party.people[:index], changed(person), *party.people[index + 1 :]))
    return party


def _measure(lane: Lane, moment: Moment, effects: list[Effect], rest_ms: int = 0) -> Out:
    if lane.measuring or all(person.reading is not None for person in lane.party.people):
        return lane, effects
    lane = replace(lane, measuring=True, attempt=lane.attempt + 1)
    return lane, [*effects, Measure(moment.lane.lane, lane.attempt, rest_ms)]


def _refuse(lane: Lane, reason: Reason, moment: Moment) -> Out:
    return _refused(lane, Verdict(VerdictKind.REFUSE, (reason,)), moment)


def _refused(lane: Lane, verdict: Verdict, moment: Moment) -> Out:
    lane = replace(
        lane,
        phase=Phase.REFUSED,
        verdict=verdict,
        measuring=False,
        deadline_ns=moment.now.after_ms(moment.rules.policy.encounter.refusal_shown_ms),
    )
    effects: list[Effect] = [Record(_fact(lane, moment))]
    feverish = [person for person in lane.party.people if person.thermal is Thermal.FEVER]
    if Reason.FEVER in verdict.reasons:
        lane, effects = _lock_for_fever(lane, feverish, moment, effects)
    return show(lane, _prompt(verdict), moment, effects)


def _lock_for_fever(lane: Lane, feverish: list[Person], moment: Moment, effects: list[Effect]) -> Out:
    for person in feverish:
        reading = person.reading
        fact = FeverFact(
            moment.lane.lane,
            lane.encounter,
            moment.lane.direction,
            raised=True,
            body_centi_c=reading.body_centi_c if reading else None,
            person=person.credential.person if person.credential else None,
        )
        effects = [*effects, Record(fact)]
    if LockoutCause.FEVER not in lane.locked:
        effects = [*effects, Record(LockoutFact(moment.lane.lane, LockoutCause.FEVER, started=True))]
    until_ns = moment.now.after_ms(moment.rules.policy.thermal.lockout_ms)
    return replace(lane, locked=lane.locked | {LockoutCause.FEVER}, fever_until_ns=until_ns), effects


def _abandon(lane: Lane, reason: Reason, moment: Moment) -> Out:
    verdict = Verdict(VerdictKind.REFUSE, (reason, *(lane.verdict.reasons if lane.verdict else ())))
    lane = replace(lane, verdict=verdict, measuring=False)
    effects: list[Effect] = [Record(_fact(lane, moment))] if lane.party.people else []
    return _rest(lane, moment, effects)


def _go(lane: Lane, moment: Moment) -> Out:
    # Between decision and commit a fire, a fault or midnight may have come: decide again with what is known now.
    again = decide(lane.party, moment.around, moment.rules.policy)
    if again.kind is not VerdictKind.ADMIT:
        return _refused(lane, again, moment)
    lane = replace(
        lane,
        phase=Phase.PASSING,
        crossing=False,
        began_ns=moment.now.mono_ns,
        close_at_ns=None,
        close_cause=MotionCause.AUTO_CLOSE,
        deadline_ns=moment.now.after_ms(
            moment.rules.policy.encounter.crossing_start_ms + moment.lane.timing.travel_max_ms
        ),
    )
    cause = MotionCause.EXCEPTION if lane.party.grant else MotionCause.ADMISSION
    barrier, effects = motion.ask(lane.barrier, Signal.OPEN_ASKED, cause, moment.lane, moment.now, lane.encounter)
    return show(replace(lane, barrier=barrier), Prompt.GO, moment, effects)


def _not_crossed(lane: Lane, event: Event, moment: Moment) -> Out:
    if lane.crossing and event is Event.OVERDUE:
        # Somebody stands under the arm: it stays open until they have left, however long that takes.
        return replace(lane, deadline_ns=moment.now.after_ms(moment.rules.policy.encounter.crossing_ms)), []
    return _passed(lane, moment, crossed=False)


def _passed(lane: Lane, moment: Moment, *, crossed: bool) -> Out:
    took_ms = (moment.now.mono_ns - lane.began_ns) // 1_000_000
    occupants = lane.party.occupants or len(lane.party.people)
    fact = PassageFact(moment.lane.lane, lane.encounter, moment.lane.direction, crossed, occupants, took_ms)
    lane = replace(lane, close_at_ns=moment.now.after_ms(moment.lane.timing.close_delay_ms))
    return _rest(lane, moment, [Record(fact)])


def _rest(lane: Lane, moment: Moment, effects: list[Effect] | None = None) -> Out:
    lane = replace(lane, phase=Phase.IDLE, party=Party(), deadline_ns=None, measuring=False, crossing=False)
    return show(lane, resting_prompt(moment), moment, effects)


def _fact(lane: Lane, moment: Moment) -> VerdictFact:
    assert lane.verdict is not None  # noqa: S101 - callers set it one line above
    return VerdictFact(
        moment.lane.lane, lane.encounter, moment.lane.kind, moment.lane.direction, lane.verdict, lane.party
    )


def _prompt(verdict: Verdict) -> Prompt:
    fallback = Prompt.WAIT if verdict.kind is VerdictKind.WAIT else Prompt.REFUSED
    return PROMPT_OF_REASON.get(verdict.reasons[0], fallback)
