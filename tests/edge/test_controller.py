import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable

from edge.controller import Controller
from edge.core.effects import Effect, Measure, Pulse, Record
from edge.core.facts import LockoutFact, Motion
from edge.core.inputs import CodeRead, Committed, LineIs, MaskAttested, Measured
from edge.core.model import ClockTrust, Level, Line, LockoutCause, Now

from ..core.helpers import good_pass, rules_of, samples, wall
from .fakes import JumpingClock, settle


class Hands:
    """Keeps what it was asked to do, with the instant."""

    def __init__(self) -> None:
        self.done: list[tuple[Now, Effect]] = []

    def do(self, effects: Iterable[Effect], now: Now, _trust: ClockTrust) -> None:
        self.done += [(now, effect) for effect in effects]

    def of(self, kind: type) -> list:
        return [effect for _, effect in self.done if isinstance(effect, kind)]


@contextlib.asynccontextmanager
async def controlling(clock: JumpingClock) -> AsyncIterator[tuple[Controller, Hands, list[float]]]:
    fed: list[float] = []
    hands = Hands()
    controller = Controller(
        rules_of(), clock, ClockTrust.TRUSTED, lambda _state, _s: None, lambda: fed.append(clock.mono_ns())
    )
    task = asyncio.create_task(controller.run(hands))
    await settle()
    try:
        yield controller, hands, fed
        if task.done():
            task.result()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_an_encounter_through_the_loop() -> None:
    async with controlling(JumpingClock()) as (controller, hands, _):
        for line in Line:
            controller.offer(LineIs("main", line, Level.ACTIVE if line is Line.LIMIT_CLOSED else Level.CLEAR))
        controller.offer(CodeRead("main", good_pass()))
        await settle()
        (measure,) = hands.of(Measure)
        controller.offer(Measured("main", measure.attempt, samples()))
        controller.offer(MaskAttested("main", worn=True))
        await settle()
        assert hands.of(Pulse) == []
        controller.offer(Committed("main", 1))
        await settle()
        assert [pulse.motion for pulse in hands.of(Pulse)] == [Motion.OPEN]


async def test_midnight_comes_by_the_timer_alone() -> None:
    clock = JumpingClock(wall("2020-02-03 23:59:58.500"))
    async with controlling(clock) as (_, hands, _):
        await clock.advance(3000)
        started = [
            now
            for now, effect in hands.done
            if isinstance(effect, Record) and effect.fact == LockoutFact("main", LockoutCause.CURFEW, started=True)
        ]
        assert [now.wall_ms for now in started] == [wall("2020-02-04 00:00:00")]


async def test_rule_8_a_clock_step_over_the_edge_is_noticed_when_it_is_reported() -> None:
    clock = JumpingClock(wall("2020-02-03 12:00:00"))
    async with controlling(clock) as (controller, hands, _):
        clock._wall_ms = wall("2020-02-04 03:00:00")
        for callback in clock.jumped:
            callback()
        await settle()
        assert any(
            isinstance(effect, Record) and effect.fact == LockoutFact("main", LockoutCause.CURFEW, started=True)
            for _, effect in hands.done
        )
        assert controller.state.recorded


async def test_the_watchdog_is_fed_after_steps_at_least_every_second() -> None:
    clock = JumpingClock()
    async with controlling(clock) as (_, _, fed):
        before = len(fed)
        await clock.advance(10_000)
        assert len(fed) - before >= 10


async def test_an_earlier_wake_replaces_a_later_one() -> None:
    clock = JumpingClock()
    async with controlling(clock) as (controller, hands, _):
        for line in Line:
            controller.offer(LineIs("main", line, Level.CLEAR))
        controller.offer(LineIs("main", Line.KEY, Level.ACTIVE))
        await settle()
        controller.offer(LineIs("main", Line.LIMIT_OPEN, Level.ACTIVE))
        controller.offer(LineIs("main", Line.KEY, Level.CLEAR))
        await clock.advance(1000)
        assert [pulse.motion for pulse in hands.of(Pulse)] == [Motion.OPEN, Motion.CLOSE]
