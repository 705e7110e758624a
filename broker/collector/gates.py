"""What is known of each gate, and what a state message changes in it. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

import msgspec

from broker.wire.messages import Description, State

LOST_PHASE = "lost"


@dataclass(frozen=True, slots=True)
class GateRecord:
    """The centre's last knowledge of one gate. `state` keeps the last lanes even when its phase became `lost`."""

    node: str
    site: str
    heard_ms: int
    boot: str = ""
    session: int = 0
    state: State | None = None
    description: Description | None = None


class Seen(Enum):
    """What a state message means."""

    NEWS = "news"  # the gate speaks
    REPEATED = "repeated"  # the broker repeats what we know, or an older retained copy: no sign of life
    LOST = "lost"  # the will of the present connection
    STALE_LOST = "stale_lost"  # the will of an older boot or connection: the gate is back already


def see(known: GateRecord | None, state: State, *, retained: bool) -> Seen:
    """Judge a state message against what is known; `retained` = delivered as a stored copy at our own connect."""
    if state.phase == LOST_PHASE:
        if known is None or known.state is None:
            return Seen.LOST
        if state.boot != known.boot or state.session < known.session:
            return Seen.STALE_LOST
        return Seen.REPEATED if known.state.phase == LOST_PHASE else Seen.LOST
    if retained and known is not None and known.state is not None and not _is_newer(state, known.state):
        return Seen.REPEATED
    return Seen.NEWS


def with_state(known: GateRecord | None, state: State, seen: Seen, now_ms: int) -> GateRecord:
    """The record after a state message that was NEWS or LOST."""
    base = known or GateRecord(state.node, state.site, now_ms)
    if seen is Seen.LOST and base.state is not None:
        return replace(base, state=msgspec.structs.replace(base.state, phase=LOST_PHASE))
    heard_ms = base.heard_ms if seen is Seen.LOST else now_ms
    return replace(base, site=state.site, boot=state.boot, session=state.session, state=state, heard_ms=heard_ms)


def _is_newer(state: State, known: State) -> bool:
    try:
        return datetime.fromisoformat(state.at) > datetime.fromisoformat(known.at)
    except (ValueError, TypeError):
        return (state.boot, state.session, state.at) != (known.boot, known.session, known.at)
