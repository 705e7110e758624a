"""Drivers to inputs: one supervised task per device; a lost one is said once, retried for ever, said once when back."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from drivers.errors import DeviceError, DeviceMissing, DeviceRefused, TransferFailed, ValueRefused
from drivers.ports import BarrierPort, CodeReader, DeviceInfo, LineChange, Thermometer
from drivers.ports import Line as PortLine
from edge.clock import Clock
from edge.core.inputs import CodeRead, DeviceIs, GateInput, LineIs, Measured
from edge.core.model import Level, Line, Pass, Reason, Sample
from edge.core.rules import ThermalRules
from edge.passes import Keys, present

log = logging.getLogger(__name__)

NS_PER_MS = 1_000_000
POLL_NS = 100 * NS_PER_MS  # safety net beside the edges (hardware reference §5.1)
CLEAR_POLLS = 2  # a line must poll clear twice: the edge path has its own debounce, the poll must not undercut it
BACK_OFF_FIRST_S, BACK_OFF_LAST_S = 0.5, 10.0
FAILURES_MAX = 5  # bad transactions in a row until a sensor counts as failed

Offer = Callable[[GateInput], None]


@dataclass(frozen=True, slots=True)
class Place:
    """A device of a lane: its name in records and the lane it serves."""

    device: str
    lane: str


class Supervisor:
    """Opens a device, keeps it open, tells the gate when it is lost and back. Retries as the error's type says."""

    def __init__(self, place: Place, clock: Clock, offer: Offer, rng: random.Random) -> None:
        self.place, self._clock, self._offer, self._rng = place, clock, offer, rng
        self._lost = False
        self.info: DeviceInfo | None = None

    def lost(self, error: DeviceError) -> None:
        """Say once that the device is lost."""
        if not self._lost:
            fields = {"device": self.place.device, "lane": self.place.lane, "error": str(error)}
            log.warning("device lost", extra={"fields": fields})
        self._lost = True
        self._offer(
            DeviceIs(self.place.device, self.place.lane, works=False, fault=fault_word(error), advice=str(error))
        )

    def back(self) -> None:
        """Say once that it is back."""
        if self._lost:
            log.info("device back", extra={"fields": {"device": self.place.device, "lane": self.place.lane}})
        self._lost = False
        self._offer(DeviceIs(self.place.device, self.place.lane, works=True, fault="none", advice=""))

    async def opened(self, open_device: Callable[[], Awaitable[DeviceInfo]]) -> DeviceInfo:
        """Open, with jittered back-off until it works."""
        pause_s = BACK_OFF_FIRST_S
        while True:
            try:
                self.info = await open_device()
            except DeviceError as e:
                self.lost(e)
                pause_s = BACK_OFF_LAST_S if isinstance(e, DeviceRefused) else min(pause_s * 2, BACK_OFF_LAST_S)
                pause_ns = round(pause_s * self._rng.uniform(0.5, 1.0) * 1e9)
                await self._clock.sleep_until_mono(self._clock.mono_ns() + pause_ns)
            else:
                self.back()
                return self.info


def fault_word(error: DeviceError) -> str:
    """Word of an error in records."""
    words = {DeviceMissing: "missing", DeviceRefused: "refused", TransferFailed: "transfer", ValueRefused: "value"}
    return words.get(type(error), "device")


async def watch_reader(reader: CodeReader, supervisor: Supervisor, keys: Keys, offer: Offer) -> None:
    """Codes of one reader into the gate, for ever."""
    while True:
        await supervisor.opened(reader.open)
        try:
            while True:
                scan = await reader.read()
                presented: Pass | Reason = present(scan, keys)
                offer(CodeRead(supervisor.place.lane, presented))
        except DeviceError as e:
            supervisor.lost(e)
            await reader.close()


class Screening:
    """Measuring cycles of one thermometer: waits for somebody, lets the reading settle, takes the samples."""

    def __init__(
        self, thermometer: Thermometer, supervisor: Supervisor, clock: Clock, rules: ThermalRules, offer: Offer
    ) -> None:
        self._thermometer, self._supervisor, self._clock = thermometer, supervisor, clock
        self._rules, self._offer = rules, offer
        self._wanted: asyncio.Queue[tuple[int, int]] = asyncio.Queue(maxsize=1)

    def measure(self, attempt: int, rest_ms: int) -> None:
        """Ask for a cycle; a newer request replaces one that has not begun."""
        while not self._wanted.empty():
            self._wanted.get_nowait()
        self._wanted.put_nowait((attempt, rest_ms))

    async def run(self) -> None:
        """Serve cycles, for ever."""
        lane = self._supervisor.place.lane
        await self._supervisor.opened(self._thermometer.open)
        while True:
            attempt, rest_ms = await self._wanted.get()
            await self._pause(rest_ms)
            try:
                samples = await self._cycle()
            except DeviceError as e:
                self._supervisor.lost(e)
                self._offer(Measured(lane, attempt, (), sensor_failed=True))
                await self._thermometer.close()
                await self._supervisor.opened(self._thermometer.open)
            else:
                self._supervisor.back()
                self._offer(Measured(lane, attempt, samples))

    async def _cycle(self) -> tuple[Sample, ...]:
        rules = self._rules
        deadline_ns = self._clock.mono_ns() + rules.cycle_ms * NS_PER_MS
        samples: list[Sample] = []
        somebody_since_ns: int | None = None
        while self._clock.mono_ns() < deadline_ns and len(samples) < rules.samples_min:
            started_ns = self._clock.mono_ns()
            sample = await self._sample()
            if sample.object_centi_c - sample.ambient_centi_c < rules.contrast_min_centi_c:
                somebody_since_ns, samples = None, []
            elif somebody_since_ns is None:
                somebody_since_ns = started_ns
            elif started_ns - somebody_since_ns >= rules.settle_ms * NS_PER_MS:
                samples.append(sample)
            await self._clock.sleep_until_mono(started_ns + rules.sample_interval_ms * NS_PER_MS)
        return tuple(samples)

    async def _sample(self) -> Sample:
        failures = 0
        while True:
            try:
                sample = await self._thermometer.sample()
            except (TransferFailed, ValueRefused):
                failures += 1
                if failures >= FAILURES_MAX:
                    raise
                await self._pause(self._rules.sample_interval_ms)
            else:
                return Sample(sample.object_centi_c, sample.ambient_centi_c)

    async def _pause(self, duration_ms: int) -> None:
        if duration_ms:
            await self._clock.sleep_until_mono(self._clock.mono_ns() + duration_ms * NS_PER_MS)


async def watch_barrier(port: BarrierPort, supervisor: Supervisor, clock: Clock, offer: Offer) -> None:
    """Lines of one barrier into the gate: edges as they come, levels polled beside them, UNKNOWN when they are lost."""
    loop = asyncio.get_running_loop()
    lane = supervisor.place.lane
    known: dict[PortLine, Level] = {}

    def heard(line: PortLine, level: Level) -> None:
        if known.get(line) is not level:
            known[line] = level
            offer(LineIs(lane, Line(line.value), level))

    def on_change(change: LineChange) -> None:
        loop.call_soon_threadsafe(heard, change.line, Level.ACTIVE if change.active else Level.CLEAR)

    while True:
        await supervisor.opened(lambda: port.open(on_change))
        quiet: dict[PortLine, int] = {}
        try:
            while True:
                for line, active in port.levels().items():
                    quiet[line] = 0 if active else quiet.get(line, CLEAR_POLLS if line not in known else 0) + 1
                    if active or quiet[line] >= CLEAR_POLLS:
                        heard(line, Level.ACTIVE if active else Level.CLEAR)
                await clock.sleep_until_mono(clock.mono_ns() + POLL_NS)
        except DeviceError as e:
            supervisor.lost(e)
            for line in known:
                heard(line, Level.UNKNOWN)
            await port.close()
