"""The verdict about a party: every reason, ordered; admits only when nothing speaks against it (safety rule 6)."""

from dataclasses import dataclass

from edge.core.model import ExceptionKind, LockoutCause, Mask, Party, Person, Reason, Thermal, Verdict, VerdictKind
from edge.core.rules import Policy, Waiver
from edge.core.thermal import BEYOND_RETEST, KEEP_MEASURING

_NO_WAIVER = Waiver(credential=False, screening=False, curfew=False)

LOCKOUT_REASON: dict[LockoutCause, Reason] = {
    LockoutCause.CURFEW: Reason.CURFEW,
    LockoutCause.CLOCK: Reason.CLOCK_UNTRUSTED,
    LockoutCause.FEVER: Reason.LOCKOUT_FEVER,
    LockoutCause.FAULT: Reason.LOCKOUT_FAULT,
    LockoutCause.DISK: Reason.LOCKOUT_DISK,
    LockoutCause.COMMAND: Reason.LOCKOUT_COMMAND,
    LockoutCause.SEALED: Reason.LOCKOUT_SEALED,
    LockoutCause.TAMPER: Reason.LOCKOUT_TAMPER,
}
EXCEPTION_REASON: dict[ExceptionKind, Reason] = {
    ExceptionKind.AMBULANCE: Reason.EXCEPTION_AMBULANCE,
    ExceptionKind.FIRE_BRIGADE: Reason.EXCEPTION_FIRE_BRIGADE,
    ExceptionKind.POLICE: Reason.EXCEPTION_POLICE,
    ExceptionKind.MEDICAL: Reason.EXCEPTION_MEDICAL,
    ExceptionKind.DUTY: Reason.EXCEPTION_DUTY,
}
# A lane locked for these causes can still be opened by a recorded exception that waives the curfew.
_TIME_LOCKOUTS = frozenset({LockoutCause.CURFEW, LockoutCause.CLOCK})


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What surrounds a party: lockouts of the lane, a fire, time left until curfew (ms; None = none comes)."""

    lockouts: frozenset[LockoutCause]
    fire: bool
    ms_until_curfew: int | None


def decide(party: Party, around: Circumstances, policy: Policy) -> Verdict:
    """Total over its arguments. REFUSE outranks RETEST outranks WAIT; ADMIT needs every one of them empty."""
    waiver = policy.waivers.get(party.grant.kind, _NO_WAIVER) if party.grant else _NO_WAIVER
    refusals = [*_circumstances(party, around, waiver, policy), *_people_refused(party, waiver, policy)]
    if refusals:
        return Verdict(VerdictKind.REFUSE, _once(refusals))
    retests = [
        person.reading_failure
        for person in party.people
        if not waiver.screening
        and person.reading is None
        and person.reading_failure not in KEEP_MEASURING
        and person.reading_failure
    ]
    if retests:
        return Verdict(VerdictKind.RETEST, _once(retests))
    missing = _missing(party, waiver)
    if missing:
        return Verdict(VerdictKind.WAIT, _once(missing))
    return Verdict(VerdictKind.ADMIT, (EXCEPTION_REASON[party.grant.kind],) if party.grant else (Reason.ALL_GOOD,))


def _circumstances(party: Party, around: Circumstances, waiver: Waiver, policy: Policy) -> list[Reason]:
    exempt = waiver.curfew or _all_exempt(party)
    binding = around.lockouts - _TIME_LOCKOUTS if waiver.curfew else around.lockouts
    if exempt:
        binding = binding - {LockoutCause.CURFEW}
    reasons = [LOCKOUT_REASON[cause] for cause in LockoutCause if cause in binding]
    if around.fire:
        reasons.insert(0, Reason.FIRE)
    left_ms = around.ms_until_curfew
    if not exempt and left_ms is not None and 0 < left_ms <= policy.encounter.admit_until_before_curfew_s * 1000:
        reasons.append(Reason.CURFEW_IMMINENT)
    return reasons


def _people_refused(party: Party, waiver: Waiver, policy: Policy) -> list[Reason]:
    reasons: list[Reason] = []
    for person in party.people:
        if person.refusal and not waiver.credential:
            reasons.append(person.refusal)
        if person.thermal is Thermal.FEVER:  # no exception waives a fever that was measured
            reasons.append(Reason.FEVER)
        if not waiver.screening:
            reasons.extend(_screening_refused(person, policy))
    if party.occupants is not None and party.occupants > policy.encounter.occupants_max:
        reasons.append(Reason.TOO_MANY_OCCUPANTS)
    return reasons


def _screening_refused(person: Person, policy: Policy) -> list[Reason]:
    reasons: list[Reason] = []
    failure = person.reading_failure
    tired = person.retests > policy.thermal.retests_max or failure in BEYOND_RETEST
    if person.reading is None and failure is not None and failure not in KEEP_MEASURING and tired:
        reasons += [failure, Reason.NOT_MEASURED]
    if person.mask is Mask.REFUSED:
        reasons.append(Reason.MASK_REFUSED)
    return reasons


def _missing(party: Party, waiver: Waiver) -> list[Reason]:
    if waiver.credential and waiver.screening:
        return []
    reasons: list[Reason] = []
    if party.occupants is None:
        reasons.append(Reason.OCCUPANTS_UNKNOWN)
    for person in party.people:
        if person.credential is None and not waiver.credential:
            reasons.append(Reason.PASS_MISSING)
        if not waiver.screening:
            if person.reading is None:
                reasons.append(Reason.NOT_MEASURED)
            if person.mask is Mask.UNKNOWN:
                reasons.append(Reason.MASK_UNKNOWN)
    # One person after the other: whoever stands there is finished before the next pass is asked for.
    if not party.people or len(party.people) < (party.occupants or 0):
        reasons.append(Reason.PASS_MISSING)
    return reasons


def _all_exempt(party: Party) -> bool:
    return bool(party.people) and all(
        person.credential is not None and person.credential.curfew_exempt for person in party.people
    )


def _once(reasons: list[Reason]) -> tuple[Reason, ...]:
    return tuple(dict.fromkeys(reasons))
