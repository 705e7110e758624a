"""A clock that jumps to whatever is waited for, and devices that do what a test tells them; no patches."""

import asyncio
import heapq
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from drivers.errors import DeviceError
from drivers.ports import BadScan, DeviceInfo, Line, LineChange, Relay, Scan, ThermometerSample

INFO = DeviceInfo("fake", "bench", "none")


class JumpingClock:
    """Time stands still until `advance` moves it; whoever waits is woken in order."""

    def __init__(self, wall_ms: int = 1_580_700_000_000) -> None:
        self._mono_ns, self._wall_ms = 10**12, wall_ms
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = itertools.count()
        self.jumped: list[Callable[[], None]] = []

    def mono_ns(self) -> int:
        return self._mono_ns

    def wall_ms(self) -> int:
        return self._wall_ms

    async def sleep_until_mono(self, mono_ns: int) -> None:
        if mono_ns <= self._mono_ns:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (mono_ns, next(self._count), future))
        await future

    def on_jump(self, callback: Callable[[], None]) -> None:
        self.jumped.append(callback)

    async def advance(self, ms: int) -> None:
        """Let time pass, waking everybody on the way and letting them act."""
        until_ns = self._mono_ns + ms * 1_000_000
        await settle()
        while self._waiting and self._waiting[0][0] <= until_ns:
            at, _, future = heapq.heappop(self._waiting)
            self._move(at)
            if not future.done():
                future.set_result(None)
            await settle()
        self._move(until_ns)
        await settle()

    def _move(self, mono_ns: int) -> None:
        self._wall_ms += (mono_ns - self._mono_ns) // 1_000_000
        self._mono_ns = max(self._mono_ns, mono_ns)


async def settle(turns: int = 20) -> None:
    """Let everything that can run, run."""
    for _ in range(turns):
        await asyncio.sleep(0)


@dataclass
class FakeThermometer:
    answers: list[ThermometerSample | DeviceError] = field(default_factory=list)
    opens: list[DeviceError | None] = field(default_factory=list)
    last: ThermometerSample = ThermometerSample(2201, 2201)

    async def open(self) -> DeviceInfo:
        problem = self.opens.pop(0) if self.opens else None
        if problem is not None:
            raise problem
        return INFO

    async def sample(self) -> ThermometerSample:
        answer = self.answers.pop(0) if self.answers else self.last
        if isinstance(answer, DeviceError):
            raise answer
        return answer

    async def close(self) -> None:
        pass


@dataclass
class FakeReader:
    scans: asyncio.Queue[Scan | BadScan | DeviceError] = field(default_factory=asyncio.Queue)
    opened: int = 0

    async def open(self) -> DeviceInfo:
        self.opened += 1
        return INFO

    async def read(self) -> Scan | BadScan:
        scan = await self.scans.get()
        if isinstance(scan, DeviceError):
            raise scan
        return scan

    async def close(self) -> None:
        pass


@dataclass
class FakeBarrier:
    lines: dict[Line, bool] = field(default_factory=dict)
    lost: DeviceError | None = None
    pulses: list[tuple[Relay, int]] = field(default_factory=list)
    releases: int = 0
    on_change: Callable[[LineChange], None] | None = None

    async def open(self, on_change: Callable[[LineChange], None]) -> DeviceInfo:
        if self.lost is not None:
            raise self.lost
        self.on_change = on_change
        return INFO

    def levels(self) -> Mapping[Line, bool]:
        if self.lost is not None:
            raise self.lost
        return dict(self.lines)

    def pulse(self, relay: Relay, duration_ms: int) -> None:
        if self.lost is not None:
            raise self.lost
        self.pulses.append((relay, duration_ms))

    def release(self) -> None:
        self.releases += 1

    async def close(self) -> None:
        self.on_change = None
