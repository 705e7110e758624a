"""A verified pass against site, direction, dates, revocation and re-use: None, or the reason why not."""

from collections.abc import Mapping
from dataclasses import dataclass

from edge.core.model import Direction, Now, Pass, Reason
from edge.core.rules import Rules


@dataclass(frozen=True, slots=True)
class Use:
    """When and in which direction a person was last admitted (monotonic ns)."""

    direction: Direction
    mono_ns: int


def check(credential: Pass, direction: Direction, uses: Mapping[str, Use], rules: Rules, now: Now) -> Reason | None:
    """Why this pass does not open this lane now, or None. Signature and issuer were checked before it became a Pass."""
    wall_s = now.wall_ms // 1000
    checks = (
        (credential.site != rules.site, Reason.PASS_WRONG_SITE),
        (credential.serial in rules.revoked, Reason.PASS_REVOKED),
        (credential.serial in rules.suspended, Reason.PASS_SUSPENDED),
        (wall_s < credential.not_before_s, Reason.PASS_NOT_YET),
        (wall_s >= credential.expires_s, Reason.PASS_EXPIRED),
        (direction not in credential.directions, Reason.PASS_WRONG_DIRECTION),
        (_used_again(credential, direction, uses, rules, now), Reason.PASS_REUSED),
    )
    return next((reason for wrong, reason in checks if wrong), None)


def remember(
    uses: Mapping[str, Use], people: tuple[str, ...], direction: Direction, rules: Rules, now: Now
) -> dict[str, Use]:
    """Uses with these people added and everything older than the re-use interval forgotten (so it stays small)."""
    oldest = now.mono_ns - rules.policy.encounter.pass_reuse_s * 1_000_000_000
    kept = {person: use for person, use in uses.items() if use.mono_ns > oldest}
    return kept | {person: Use(direction, now.mono_ns) for person in people}


def _used_again(credential: Pass, direction: Direction, uses: Mapping[str, Use], rules: Rules, now: Now) -> bool:
    use = uses.get(credential.person)
    if use is None or use.direction is not direction:
        return False
    return now.mono_ns - use.mono_ns < rules.policy.encounter.pass_reuse_s * 1_000_000_000
