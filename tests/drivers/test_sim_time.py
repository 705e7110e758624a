import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.sim.time import NS_PER_S, SimTime

NOON_MS = 1_580_616_000_000


class Real:
    def __init__(self) -> None:
        self.ns = 5_000

    def __call__(self) -> int:
        return self.ns


MOVES = st.one_of(
    st.tuples(st.just("real"), st.integers(0, 10**12)),
    st.tuples(st.just("rate"), st.floats(0.01, 1000)),
    st.tuples(st.just("skip"), st.floats(0, 10**6)),
    st.tuples(st.just("step"), st.floats(-(10**6), 10**6)),
)


@given(st.lists(MOVES, max_size=30))
def test_mono_never_runs_back_and_only_steps_part_the_clocks(moves: list[tuple[str, float]]) -> None:
    real = Real()
    time = SimTime(NOON_MS, real_ns=real)
    apart_ns = 0
    start_ns = time.mono_ns()
    for move, amount in moves:
        before_ns = time.mono_ns()
        match move:
            case "real":
                real.ns += int(amount)
            case "rate":
                time.rate = amount
            case "skip":
                time.skip(amount)
                assert time.mono_ns() == before_ns + round(amount * NS_PER_S)
            case "step":
                time.step_wall(amount)
                apart_ns += round(amount * NS_PER_S)
                assert time.mono_ns() == before_ns
        assert time.mono_ns() >= before_ns
        passed_ns = time.mono_ns() - start_ns
        assert time.wall_ms() == (NOON_MS * 1_000_000 + passed_ns + apart_ns) // 1_000_000


async def test_sleepers_wake_in_order_and_on_time() -> None:
    time = SimTime(NOON_MS, rate=1000)
    woken: list[int] = []

    async def sleep(seconds: int) -> None:
        due_ns = time.mono_ns() + seconds * NS_PER_S
        await time.sleep(seconds)
        assert time.mono_ns() >= due_ns
        woken.append(seconds)

    await asyncio.wait_for(asyncio.gather(*(sleep(s) for s in (30, 10, 20, 10))), 5)
    assert woken == [10, 10, 20, 30]


async def test_a_sleeper_wakes_by_a_skip() -> None:
    time = SimTime(NOON_MS)
    sleeper = asyncio.create_task(time.sleep(3600))
    await asyncio.sleep(0)
    time.skip_to(NOON_MS + 3_500_000)
    await asyncio.sleep(0.01)
    assert not sleeper.done()
    time.skip(200)
    await asyncio.wait_for(sleeper, 1)


async def test_a_sleeper_wakes_by_a_new_rate() -> None:
    time = SimTime(NOON_MS, rate=0.01)
    sleeper = asyncio.create_task(time.sleep(10))
    await asyncio.sleep(0)
    time.rate = 1000
    await asyncio.wait_for(sleeper, 1)


async def test_a_cancelled_sleeper_leaves_nothing_behind() -> None:
    time = SimTime(NOON_MS)
    sleepers = [asyncio.create_task(time.sleep(3600)) for _ in range(5)]
    await asyncio.sleep(0)
    for sleeper in sleepers:
        sleeper.cancel()
    await asyncio.gather(*sleepers, return_exceptions=True)
    assert time._timers == set()


async def test_a_step_is_a_jump_and_a_skip_is_none() -> None:
    time, jumps = SimTime(NOON_MS), list[int]()
    time.on_jump(lambda: jumps.append(time.wall_ms()))
    time.skip(60)
    assert jumps == []
    time.step_wall(-86_400)
    assert len(jumps) == 1
    assert jumps[0] < NOON_MS


async def test_time_starts_now_unless_told() -> None:
    import time as real  # noqa: PLC0415

    assert abs(SimTime().wall_ms() - real.time_ns() // 10**6) < 1000


def test_time_only_goes_forward() -> None:
    time = SimTime(NOON_MS)
    with pytest.raises(ValueError, match="only goes forward"):
        time.skip(-1)
    with pytest.raises(ValueError, match="only goes forward"):
        time.skip_to(NOON_MS - 1)
    for rate in (0, -1, 1001, float("nan")):
        with pytest.raises(ValueError, match="rate"):
            time.rate = rate
