import asyncio
import ctypes
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge import clock as clock_module
from edge.clock import (
    FLOOR_INTERVAL_NS,
    HOLDOVER_NS,
    NS_PER_S,
    RTC_TOLERANCE_MS,
    Clock,
    Floor,
    SystemClock,
    Timex,
    TrustWatch,
    boot_id,
    judge_trust,
    read_timex,
)
from edge.core.model import ClockTrust

SYNCHRONISED = Timex(state=0, status=0x2001, maxerror_us=40_000)
LOST = Timex(state=5, status=0x40, maxerror_us=16_000_000)
NOW_MS = 1_580_570_000_000  # 2020-02-01
FLOOR_MS = NOW_MS - 3_600_000
MONO_NS = HOLDOVER_NS * 2


@pytest.mark.parametrize(
    ("timex", "synchronised"),
    [
        (SYNCHRONISED, True),
        (LOST, False),
        (Timex(0, 0x40, 100), False),  # chrony says so by the bit
        (Timex(5, 0, 100), False),
        (Timex(0, 0, 15_999_999), True),
        (Timex(0, 0, 16_000_000), False),
    ],
)
def test_what_counts_as_synchronised(timex: Timex, synchronised: bool):
    assert timex.synchronised is synchronised


@pytest.mark.parametrize(
    ("timex", "rtc_ms", "wall_ms", "lost_at_ns", "assume_set", "trust", "reason"),
    [
        (SYNCHRONISED, None, NOW_MS, None, False, "trusted", "synchronised"),
        (SYNCHRONISED, 0, FLOOR_MS - 1, None, False, "trusted", "synchronised"),
        (LOST, None, NOW_MS, None, False, "untrusted", "never_synchronised"),
        (LOST, NOW_MS, NOW_MS, None, False, "untrusted", "never_synchronised"),
        (LOST, None, NOW_MS, MONO_NS, False, "holdover", "holdover"),
        (LOST, None, NOW_MS, MONO_NS - HOLDOVER_NS + 1, False, "holdover", "holdover"),
        (LOST, None, NOW_MS, MONO_NS - HOLDOVER_NS, False, "untrusted", "holdover_over"),
        (LOST, NOW_MS + RTC_TOLERANCE_MS, NOW_MS, MONO_NS, False, "holdover", "holdover"),
        (LOST, NOW_MS + RTC_TOLERANCE_MS + 1, NOW_MS, MONO_NS, False, "untrusted", "rtc_disagrees"),
        (LOST, NOW_MS - RTC_TOLERANCE_MS - 1, NOW_MS, MONO_NS, False, "untrusted", "rtc_disagrees"),
        (LOST, None, FLOOR_MS, MONO_NS, False, "holdover", "holdover"),
        (LOST, None, FLOOR_MS - 1, MONO_NS, False, "untrusted", "before_floor"),
        (LOST, None, NOW_MS, None, True, "holdover", "assumed_set"),
        (LOST, None, NOW_MS, MONO_NS - HOLDOVER_NS, True, "holdover", "assumed_set"),
        (LOST, None, FLOOR_MS - 1, None, True, "untrusted", "before_floor"),
        (LOST, 0, NOW_MS, None, True, "untrusted", "rtc_disagrees"),
    ],
)
def test_trust(
    timex: Timex, rtc_ms: int | None, wall_ms: int, lost_at_ns: int | None, assume_set: bool, trust: str, reason: str
):
    judged = judge_trust(timex, rtc_ms, FLOOR_MS, wall_ms, lost_at_ns, MONO_NS, assume_set=assume_set)
    assert (judged.trust, judged.reason) == (trust, reason)


def test_the_kernel_answers_and_the_struct_has_its_size():
    assert ctypes.sizeof(clock_module._TimexBuffer) == 208
    timex = read_timex()
    assert timex.state in range(6)
    assert 0 <= timex.maxerror_us <= 16_000_000
    assert len(boot_id()) == 36


async def test_sleeping_ends_at_the_moment_never_before():
    clock: Clock = SystemClock()
    until = clock.mono_ns() + 20_000_000
    await asyncio.wait_for(clock.sleep_until_mono(until), 5)
    assert clock.mono_ns() >= until
    await asyncio.wait_for(clock.sleep_until_mono(until - 10**9), 5)
    assert abs(clock.wall_ms() - time.time() * 1000) < 1000


async def test_a_jump_reaches_everybody_who_asked(monkeypatch: pytest.MonkeyPatch):
    reading, writing = os.pipe2(os.O_NONBLOCK)
    monkeypatch.setattr(clock_module, "_open_jump_fd", lambda: reading)  # setting the machine's clock is not for tests
    clock = SystemClock()
    first, second = asyncio.Event(), asyncio.Event()
    clock.on_jump(first.set)
    clock.on_jump(second.set)
    os.write(writing, b"8 bytes.")
    await asyncio.wait_for(asyncio.gather(first.wait(), second.wait()), 5)
    clock.close()
    clock.close()
    os.close(writing)


async def test_the_kernel_takes_the_jump_timer_and_it_stays_quiet():
    jumps: list[int] = []
    clock = SystemClock()
    clock.on_jump(lambda: jumps.append(1))
    assert clock._jump_fd is not None
    with pytest.raises(BlockingIOError):
        os.read(clock._jump_fd, 8)
    clock.close()
    assert not jumps


async def test_a_kernel_without_the_timer_is_said_and_survived(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def refuse() -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(clock_module, "_open_jump_fd", refuse)
    SystemClock().on_jump(lambda: None)
    assert "not reported by this kernel" in caplog.text


async def test_the_floor_survives_a_restart_and_is_written_at_most_once_a_minute(tmp_path: Path):
    path = tmp_path / "floor"
    floor = Floor(path, "boot-1")
    assert (floor.wall_ms, floor.synchronised_mono_ns) == (0, None)
    await floor.record(NOW_MS, NS_PER_S, synchronised=True)
    written = path.stat()
    await floor.record(NOW_MS + 59_000, NS_PER_S + FLOOR_INTERVAL_NS - 1, synchronised=True)
    assert path.stat().st_ino == written.st_ino
    assert Floor(path, "boot-1").wall_ms == NOW_MS
    await floor.record(NOW_MS + 60_000, NS_PER_S + FLOOR_INTERVAL_NS, synchronised=False)
    again = Floor(path, "boot-1")
    assert again.wall_ms == NOW_MS + 60_000
    assert again.synchronised_mono_ns == NS_PER_S + FLOOR_INTERVAL_NS - 1
    assert Floor(path, "boot-2").synchronised_mono_ns is None  # monotonic time of another boot means nothing
    assert not (tmp_path / "floor.new").exists()


@pytest.mark.parametrize("content", [b"", b"{", b'{"wall_ms": "x"}', b"\xff\xfe", b"[]"])
async def test_a_damaged_floor_begins_anew_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes
):
    path = tmp_path / "floor"
    path.write_bytes(content)
    floor = Floor(path, "boot-1")
    assert floor.wall_ms == 0
    assert "cannot be read" in caplog.text
    await floor.record(NOW_MS, 0, synchronised=False)
    assert Floor(path, "boot-1").wall_ms == NOW_MS


async def test_a_floor_that_cannot_be_written_is_said_once_and_once_when_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO")
    folder = tmp_path / "later"
    floor = Floor(folder / "floor", "boot-1")
    for minute in range(3):
        await floor.record(NOW_MS + minute, minute * FLOOR_INTERVAL_NS, synchronised=False)
    assert floor.wall_ms == NOW_MS + 2
    folder.mkdir()
    await floor.record(NOW_MS + 3, 3 * FLOOR_INTERVAL_NS, synchronised=False)
    assert [r.message.split(":")[0] for r in caplog.records] == [
        "cannot write the time floor",
        "time floor is written again",
    ]


@settings(max_examples=40, deadline=None)
@given(walls=st.lists(st.tuples(st.integers(0, 2**45), st.booleans(), st.booleans()), max_size=12))
def test_the_floor_never_goes_back(walls: list[tuple[int, bool, bool]]):
    async def live(path: Path) -> None:
        floor = Floor(path, "boot-1")
        lowest = 0
        for minute, (wall_ms, synchronised, restarted) in enumerate(walls):
            await floor.record(wall_ms, minute * FLOOR_INTERVAL_NS, synchronised=synchronised)
            assert floor.wall_ms >= max(lowest, wall_ms)
            lowest = floor.wall_ms
            if restarted:
                floor = Floor(path, "boot-1")
                assert floor.wall_ms == lowest

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(live(Path(folder) / "floor"))


class FakeClock:
    def __init__(self) -> None:
        self.wall, self.mono = NOW_MS, MONO_NS

    def mono_ns(self) -> int:
        return self.mono

    def wall_ms(self) -> int:
        return self.wall

    async def sleep_until_mono(self, mono_ns: int) -> None:
        self.mono = max(self.mono, mono_ns)

    def on_jump(self, callback: Callable[[], None]) -> None:
        """Never jumps by itself."""


async def test_a_network_lost_for_a_week_and_a_clock_set_back(tmp_path: Path):
    clock, path = FakeClock(), tmp_path / "floor"
    kernel = [LOST]

    def watch() -> TrustWatch:
        return TrustWatch(clock, Floor(path, "boot-1"), build_wall_ms=NOW_MS - 10**9, timex=lambda: kernel[0])

    w = watch()
    assert (await w.judge()).reason == "never_synchronised"
    assert not path.exists()  # an unbelieved clock must not raise the floor
    kernel[0] = SYNCHRONISED
    assert (await w.judge()).trust is ClockTrust.TRUSTED
    kernel[0] = LOST
    clock.mono += HOLDOVER_NS // 2
    clock.wall += HOLDOVER_NS // 2 // 1_000_000
    assert (await w.judge()).trust is ClockTrust.HOLDOVER
    assert (await watch().judge()).trust is ClockTrust.HOLDOVER  # a restarted process of the same boot remembers
    clock.wall -= 3_600_000
    assert (await w.judge()).reason == "before_floor"
    clock.wall += 3_600_000 * 2
    clock.mono += HOLDOVER_NS
    assert (await w.judge()).reason == "holdover_over"
    clock.wall = NOW_MS - 10**9 - 1
    fresh = TrustWatch(clock, Floor(tmp_path / "none", "b"), build_wall_ms=NOW_MS - 10**9, timex=lambda: LOST)
    assert (await fresh.judge()).reason == "before_floor"
