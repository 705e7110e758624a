"""Every cell of both machines is walked; the drawn diagrams are those of the tables."""

import itertools
from dataclasses import replace
from pathlib import Path

import pytest

from edge.core import barrier, encounter, lane, motion
from edge.core.barrier import Barrier
from edge.core.decision import Circumstances
from edge.core.facts import PROMPT_OF_REASON, MotionCause, Prompt
from edge.core.lane import Lane
from edge.core.model import RULE_OF, Level, Line, Now, Party, Person, Reason, Verdict, VerdictKind

from .helpers import MS, good_pass, lane_rules, rules_of

NOW = Now(10**12, 1_580_700_000_000)
README = Path(__file__).parents[2] / "edge" / "core" / "README.md"


@pytest.mark.parametrize(("phase", "signal"), list(itertools.product(barrier.Phase, barrier.Signal)))
def test_barrier_cell(phase: barrier.Phase, signal: barrier.Signal) -> None:
    target, do = barrier.TABLE[phase][signal]
    assert target in barrier.Phase
    rules = lane_rules()
    levels = tuple((line, Level.CLEAR) for line in Line)
    state = Barrier(phase=phase, levels=levels, pulse_end_ns=NOW.mono_ns - 10**9, cause=MotionCause.GUARD)
    after, _ = motion._apply(state, signal, rules, NOW, MotionCause.GUARD)
    if do is barrier.Do.NOTHING:
        assert target is phase
        assert after == state
    elif do is not barrier.Do.SETTLED:
        assert after.phase is target
    moving = after.phase in (barrier.Phase.OPENING, barrier.Phase.CLOSING)
    waits = after.deadline_ns is not None or after.pending is not None
    if moving and do is not barrier.Do.NOTHING:
        assert waits, "a motion without an end"


@pytest.mark.parametrize(("phase", "event"), list(itertools.product(lane.Phase, lane.Event)))
def test_lane_cell(phase: lane.Phase, event: lane.Event) -> None:
    cell = lane.TABLE[phase][event]
    rules = rules_of()
    party = Party((Person(credential=good_pass()),), occupants=1)
    state = Lane(
        phase=phase,
        encounter=1,
        party=party,
        deadline_ns=NOW.mono_ns,
        verdict=Verdict(VerdictKind.WAIT, (Reason.NOT_MEASURED,)),
    )
    around = Circumstances(frozenset(), fire=False, ms_until_curfew=None)
    moment = encounter.Moment(rules.lanes[0], rules, around, NOW, {})
    for crossing in (False, True):
        after, _ = encounter.happen(replace(state, crossing=crossing), event, None, moment)
        assert after.phase in cell.to


def test_every_phase_has_an_exit_by_time_or_input() -> None:
    """Rule 11 on the tables: no phase is a trap."""
    for phase, row in lane.TABLE.items():
        assert any(cell.to - {phase} for cell in row.values())
    for phase, cells in barrier.TABLE.items():
        assert any(target is not phase for target, _ in cells.values())


def test_every_fault_has_an_instruction() -> None:
    assert set(barrier.ADVICE) == set(barrier.Fault)
    assert all(len(sentence) <= 200 for sentence in barrier.ADVICE.values())


def test_every_reason_stands_on_a_rule() -> None:
    assert set(RULE_OF) == set(Reason)
    assert set(PROMPT_OF_REASON.values()) <= set(Prompt)


def test_no_prompt_tells_a_fever() -> None:
    """Rule 9 of the notice: the public display shows nothing private."""
    assert not any("fever" in prompt for prompt in Prompt)


@pytest.mark.parametrize("diagram", [barrier.mermaid(), lane.mermaid()], ids=["barrier", "lane"])
def test_diagrams_in_the_readme_are_those_of_the_tables(diagram: str) -> None:
    assert diagram in README.read_text(encoding="utf-8"), "run: python -m edge.draw"


def test_reversal_before_the_arm_has_left_ends_open() -> None:
    rules = lane_rules()
    state = Barrier()
    for line in Line:
        state, _ = motion.hear(state, line, Level.ACTIVE if line is Line.LIMIT_OPEN else Level.CLEAR, rules, NOW)
    state, _ = motion.ask(state, barrier.Signal.CLOSE_ASKED, MotionCause.GUARD, rules, NOW)
    later = Now(NOW.mono_ns + 50 * MS, NOW.wall_ms + 50)
    state, _ = motion.hear(state, Line.LOOP, Level.ACTIVE, rules, later)
    assert state.phase is barrier.Phase.OPENING
    after = Now(later.mono_ns + 300 * MS, later.wall_ms + 300)
    state, effects = motion.advance(state, rules, after)
    assert state.phase is barrier.Phase.OPEN
    assert effects
