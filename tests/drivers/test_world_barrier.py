"""The simulated barrier under the real driver: what the arm does, what the lines say, what is counted."""

import asyncio
import time as real_time
from collections.abc import Callable

import pytest

from drivers.barrier.gpio import GpioBarrier
from drivers.barrier.wiring import BarrierWiring, RelayWire, contact_to_ground
from drivers.ports import Line, LineChange, Relay
from drivers.sim.barrier import BarrierFault, SimBarrier
from drivers.sim.board import SimBoard
from drivers.sim.time import SimTime

RATE = 20.0
TRAVEL_S = 2.0
FAIL_SAFE = (Line.LOOP, Line.PHOTOCELL, Line.FIRE, Line.STOP)
WIRING = BarrierWiring(
    {Relay.OPEN: RelayWire(17), Relay.CLOSE: RelayWire(18, active_high=False), Relay.STOP: RelayWire(19)},
    {line: contact_to_ground(20 + i, closed_is_active=line not in FAIL_SAFE) for i, line in enumerate(list(Line)[:7])},
)


class Bench:
    def __init__(self) -> None:
        self.time = SimTime(1_580_616_000_000, rate=RATE)
        self.board = SimBoard()
        self.sim = SimBarrier(self.time, self.board, WIRING, TRAVEL_S)
        self.driver = GpioBarrier(WIRING, self.board, pace=lambda: 1 / self.time.rate)
        self.changes: list[LineChange] = []

    async def until(self, condition: Callable[[], bool], deadline_s: float = 5.0) -> None:
        ends = real_time.monotonic() + deadline_s
        while not condition():
            assert real_time.monotonic() < ends, f"waited in vain at {self.sim.boom.position}; {self.driver.levels()}"
            await asyncio.sleep(0.001)

    async def until_level(self, line: Line, active: bool = True) -> None:
        await self.until(lambda: self.driver.levels()[line] is active)

    async def pulse(self, relay: Relay) -> None:
        """A pulse, a well-behaved caller's dead time, and the contact really closed."""
        self.driver.pulse(relay, 500)
        await self.time.sleep(0.9)


@pytest.fixture
async def bench():
    bench = Bench()
    await bench.driver.open(bench.changes.append)
    yield bench
    await bench.driver.close()


async def test_at_rest_it_is_closed_and_clear(bench: Bench) -> None:
    assert {line for line, active in bench.driver.levels().items() if active} == {Line.LIMIT_CLOSED}


async def test_it_opens_and_closes_by_pulses_and_counts(bench: Bench) -> None:
    began_ns = bench.time.mono_ns()
    bench.driver.pulse(Relay.OPEN, 500)
    await bench.until_level(Line.LIMIT_CLOSED, active=False)
    await bench.until_level(Line.LIMIT_OPEN)
    assert (bench.time.mono_ns() - began_ns) / 1e9 >= TRAVEL_S * 0.9
    await bench.pulse(Relay.OPEN)  # already open: nothing moves
    await bench.pulse(Relay.CLOSE)
    await bench.until_level(Line.LIMIT_CLOSED)
    assert (bench.sim.boom.openings, bench.sim.boom.reopenings, bench.sim.boom.both_energised) == (1, 0, 0)
    await bench.until(lambda: len(bench.changes) == 4)
    moved = [(c.line, c.active) for c in bench.changes]
    assert moved == [
        (Line.LIMIT_CLOSED, False),
        (Line.LIMIT_OPEN, True),
        (Line.LIMIT_OPEN, False),
        (Line.LIMIT_CLOSED, True),
    ]


async def test_stop_halts_and_a_reversal_is_a_reopening(bench: Bench) -> None:
    await bench.pulse(Relay.OPEN)
    await bench.until_level(Line.LIMIT_OPEN)
    bench.driver.pulse(Relay.CLOSE, 500)
    await bench.until(lambda: bench.sim.boom.position < 0.7)
    bench.driver.pulse(Relay.STOP, 200)
    await bench.until(lambda: not bench.sim.boom.moving)
    stood = bench.sim.boom.position
    await bench.time.sleep(1)
    assert bench.sim.boom.position == stood
    await bench.pulse(Relay.OPEN)
    await bench.until_level(Line.LIMIT_OPEN)
    assert (bench.sim.boom.openings, bench.sim.boom.reopenings) == (2, 1)


async def test_a_jammed_arm_counts_no_opening(bench: Bench) -> None:
    bench.sim.set_faults(BarrierFault.JAMMED)
    await bench.pulse(Relay.OPEN)
    assert bench.sim.boom.openings == 0
    assert bench.driver.levels()[Line.LIMIT_CLOSED]


async def test_a_slow_arm_takes_four_times_as_long(bench: Bench) -> None:
    bench.sim.set_faults(BarrierFault.SLOW)
    began_ns = bench.time.mono_ns()
    await bench.pulse(Relay.OPEN)
    await bench.until_level(Line.LIMIT_OPEN)
    assert (bench.time.mono_ns() - began_ns) / 1e9 >= 4 * TRAVEL_S * 0.9


@pytest.mark.parametrize(
    ("fault", "at_open", "at_closed"),
    [
        (BarrierFault.BOTH_LIMITS, True, True),
        (BarrierFault.ARM_BROKEN, False, False),
        (BarrierFault.LIMIT_SWAP, True, False),
    ],
)
async def test_limit_faults_of_a_closed_barrier(
    bench: Bench, fault: BarrierFault, at_open: bool, at_closed: bool
) -> None:
    bench.sim.set_faults(fault)
    levels = bench.driver.levels()
    assert (levels[Line.LIMIT_OPEN], levels[Line.LIMIT_CLOSED]) == (at_open, at_closed)
    bench.sim.set_faults()
    levels = bench.driver.levels()
    assert (levels[Line.LIMIT_OPEN], levels[Line.LIMIT_CLOSED]) == (False, True)


async def test_a_welded_relay_opens_and_holds_open(bench: Bench) -> None:
    bench.sim.set_faults(BarrierFault.WELDED_OPEN)
    await bench.until_level(Line.LIMIT_OPEN)
    await bench.pulse(Relay.CLOSE)
    await bench.time.sleep(TRAVEL_S)
    assert bench.driver.levels()[Line.LIMIT_OPEN]
    bench.sim.set_faults()
    await bench.pulse(Relay.CLOSE)
    await bench.until_level(Line.LIMIT_CLOSED)


@pytest.mark.parametrize("fault", [BarrierFault.LOOP_CUT, BarrierFault.STUCK_LOOP])
async def test_a_broken_loop_reads_as_occupied(bench: Bench, fault: BarrierFault) -> None:
    bench.sim.set_faults(fault)
    assert bench.driver.levels()[Line.LOOP]
    bench.sim.set_line(Line.LOOP, active=False)
    assert bench.driver.levels()[Line.LOOP]
    bench.sim.set_faults()
    assert not bench.driver.levels()[Line.LOOP]


async def test_a_dead_photocell_sees_nobody(bench: Bench) -> None:
    bench.sim.set_line(Line.PHOTOCELL, active=True)
    assert bench.driver.levels()[Line.PHOTOCELL]
    bench.sim.set_faults(BarrierFault.DEAD_PHOTOCELL)
    assert not bench.driver.levels()[Line.PHOTOCELL]


async def test_the_arm_finishes_its_way_over_a_skip_of_time(bench: Bench) -> None:
    await bench.pulse(Relay.OPEN)
    bench.time.rate = 1.0
    bench.time.skip(60)
    await bench.until_level(Line.LIMIT_OPEN)


async def test_a_driver_that_starts_anew_moves_nothing_and_sees_the_same(bench: Bench) -> None:
    await bench.pulse(Relay.OPEN)
    await bench.until_level(Line.LIMIT_OPEN)
    bench.sim.set_line(Line.FIRE, active=True)
    await bench.driver.close()
    await bench.driver.open(bench.changes.append)
    await asyncio.sleep(0.02)
    levels = bench.driver.levels()
    assert levels[Line.LIMIT_OPEN]
    assert levels[Line.FIRE]
    assert bench.sim.boom.position == 1.0
    assert bench.sim.boom.openings == 1


async def test_a_relay_held_over_a_closing_driver_is_let_go(bench: Bench) -> None:
    bench.driver.pulse(Relay.CLOSE, 5000)
    await bench.until(lambda: Relay.CLOSE in bench.sim.boom._energised)
    await bench.driver.close()
    await bench.until(lambda: not bench.sim.boom._energised)
    await bench.driver.open(bench.changes.append)
    assert not bench.sim.boom._energised
