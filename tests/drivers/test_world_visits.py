"""Whole visits: people of the world at a small gate made of the real drivers over the simulated hardware."""

import asyncio
import json
import stat
import time as real_time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from drivers.barrier.wiring import BarrierWiring, RelayWire, contact_to_ground
from drivers.catalog import Shelf
from drivers.errors import DeviceMissing
from drivers.ports import BadScan, Line, LineChange, Medium, Relay, Scan
from drivers.sim.control import LINE_MAX_BYTES, ControlSocket
from drivers.sim.gate import SimGate, SimLaneSpec
from drivers.sim.people import Weather, offset_centi_c, skin_centi_c
from drivers.sim.scenes import SCENES
from drivers.sim.time import SimTime

RATE = 30.0
NOON_MS = 1_580_616_000_000
PASSES = {f"resident-{n}": f"PASS {n} ".encode() for n in range(1, 5)} | {"expired": b"OLD", "forged": b"BAD"}
FEVER_SKIN_CENTI_C = 37_30 - offset_centi_c(Weather().mean_centi_c)


def wiring(first_pin: int, lines: tuple[Line, ...]) -> BarrierWiring:
    fail_safe = (Line.LOOP, Line.PHOTOCELL, Line.FIRE, Line.STOP)
    return BarrierWiring(
        {Relay.OPEN: RelayWire(first_pin), Relay.CLOSE: RelayWire(first_pin + 1), Relay.STOP: RelayWire(first_pin + 2)},
        {
            line: contact_to_ground(first_pin + 3 + i, closed_is_active=line not in fail_safe)
            for i, line in enumerate(lines)
        },
    )


LIMITS = (Line.LIMIT_OPEN, Line.LIMIT_CLOSED)
SPECS = (
    SimLaneSpec("car", vehicle=True, wiring=wiring(2, (*LIMITS, Line.LOOP, Line.APPROACH)), travel_s=2.0),
    SimLaneSpec("walk", vehicle=False, wiring=wiring(12, (*LIMITS, Line.PHOTOCELL, Line.FIRE, Line.APPROACH))),
)


class SmallGate:
    """Just enough of a gate: asks in turn, opens for the known and healthy, closes behind them."""

    def __init__(self) -> None:
        self.time = SimTime(NOON_MS, rate=RATE)
        self.guarded: list[tuple[str, dict[str, Any]]] = []
        self.scans: list[bytes | BadScan] = []
        self.asked: Counter[str] = Counter()
        self.curfew = False
        self._answers: dict[str, asyncio.Event] = {}
        self.occupants = 1
        self.worn = True
        self.levels: dict[tuple[str, Line], bool] = {}
        self.changed = asyncio.Condition()

    async def start(self) -> None:
        self.sim = SimGate(self.time, SPECS, PASSES, self.guard)
        shelf = Shelf(pins=self.sim.pins, buses=self.sim.bus)
        self.tasks = [asyncio.create_task(self._lane(shelf, spec)) for spec in SPECS]
        self.drivers: list[Any] = []
        while len(self.drivers) < 3 * len(SPECS):
            await asyncio.sleep(0.001)

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for driver in self.drivers:
            await driver.close()
        await self.sim.close()

    def guard(self, action: str, **fields: Any) -> None:
        self.guarded.append((action, fields))
        match action:
            case "occupants":
                self.occupants = fields["count"]
            case "mask":
                self.worn = fields["worn"]
        if action in self._answers:
            self._answers[action].set()

    def show(self, lane: str, prompt: str) -> None:
        self.asked[prompt] += 1
        self.sim.world.on_prompt(lane, prompt)

    async def _lane(self, shelf: Shelf, spec: SimLaneSpec) -> None:
        lane = spec.lane
        thermometer = shelf.thermometer("mlx90614", bus=lane, address=spec.address)
        reader = shelf.reader(spec.reader, url=self.sim.reader_url(lane), baud=9600)
        barrier = shelf.barrier("gpio", wiring=spec.wiring, chip=spec.chip, name=lane, pace=self.sim.pace)
        loop = asyncio.get_running_loop()
        seen = asyncio.Event()

        def on_change(_change: LineChange) -> None:
            loop.call_soon_threadsafe(seen.set)

        async def until(line: Line, active: bool) -> None:
            while barrier.levels().get(line, active) is not active:
                seen.clear()
                try:
                    await asyncio.wait_for(seen.wait(), 0.02)
                except TimeoutError:
                    continue

        await thermometer.open()
        await reader.open()
        await barrier.open(on_change)
        self.drivers += [thermometer, reader, barrier]
        safety = Line.LOOP if spec.vehicle else Line.PHOTOCELL
        while True:
            self.show(lane, "curfew" if self.curfew else "idle")
            await until(Line.APPROACH, active=True)
            granted = asyncio.create_task(self._answer("exception"))
            screened = asyncio.create_task(self._screen(lane, spec, reader, thermometer))
            gone = asyncio.create_task(until(Line.APPROACH, active=False))
            done, rest = await asyncio.wait({granted, screened, gone}, return_when=asyncio.FIRST_COMPLETED)
            for task in rest:
                task.cancel()
            if granted in done or (screened in done and screened.result()):
                barrier.pulse(Relay.OPEN, 500)
                self.show(lane, "go")
                await until(safety, active=True)
                await until(safety, active=False)
                await self.time.sleep(1.0)
                barrier.pulse(Relay.CLOSE, 500)
                await until(Line.LIMIT_CLOSED, active=True)
            elif gone not in done:
                await until(Line.APPROACH, active=False)

    async def _screen(self, lane: str, spec: SimLaneSpec, reader: Any, thermometer: Any) -> bool:
        if self.curfew:
            self.scans.append((await reader.read()).payload)
            self.show(lane, "refused")
            return False
        self.occupants = 1
        if spec.vehicle:
            self.show(lane, "occupants")
            await self._answer("occupants")
        for _ in range(self.occupants):
            self.show(lane, "show_pass")
            scan = await reader.read()
            self.scans.append(scan.payload if isinstance(scan, Scan) else scan)
            if isinstance(scan, BadScan) or scan.payload not in [p for n, p in PASSES.items() if "resident" in n]:
                self.show(lane, "refused")
                return False
            self.show(lane, "measure")
            if await self._skin(thermometer) >= FEVER_SKIN_CENTI_C:
                self.show(lane, "guard")
                return False
            self.show(lane, "mask")
            await self._answer("mask")
            if not self.worn:
                self.show(lane, "refused")
                return False
        return True

    async def _skin(self, thermometer: Any) -> int:
        while True:
            sample = await thermometer.sample()
            if sample.object_centi_c - sample.ambient_centi_c > 200:
                return int(sample.object_centi_c)
            await self.time.sleep(0.15)

    async def _answer(self, action: str) -> None:
        event = self._answers[action] = asyncio.Event()
        await event.wait()

    def boom(self, lane: str) -> Any:
        return self.sim.lanes[lane].barrier.boom

    async def play(self, scene: str, lane: str) -> dict[str, int]:
        before = Counter(self.sim.world.outcomes)
        self.sim.scenes.play(scene, lane)
        await until(lambda: not self.sim.scenes.running)
        return dict(Counter(self.sim.world.outcomes) - before)


async def until(condition: Callable[[], bool], deadline_s: float = 15.0) -> None:
    ends = real_time.monotonic() + deadline_s
    while not condition():
        assert real_time.monotonic() < ends, "waited in vain"
        await asyncio.sleep(0.002)


@pytest.fixture
async def gate() -> AsyncIterator[SmallGate]:
    gate = SmallGate()
    await gate.start()
    yield gate
    await gate.stop()


@pytest.mark.parametrize("lane", ["walk", "car"])
async def test_residents_are_screened_and_cross(gate: SmallGate, lane: str) -> None:
    for _ in range(2):
        assert await gate.play("resident", lane) == {"crossed": 1}
    assert gate.scans == [b"PASS 1 ", b"PASS 2 "]  # each resident in turn, to the last byte
    await until(lambda: gate.boom(lane).position == 0.0)
    assert gate.boom(lane).openings == 2
    assert gate.sim.status()["openings"] == 2
    assert gate.boom(lane).both_energised == 0


async def test_three_in_a_car_are_screened_one_after_the_other(gate: SmallGate) -> None:
    assert await gate.play("car_with_three", "car") == {"crossed": 1}
    assert gate.scans == [b"PASS 1 ", b"PASS 2 ", b"PASS 3 "]
    assert ("occupants", {"lane": "car", "count": 3}) in gate.guarded
    assert gate.boom("car").openings == 1


async def test_a_feverish_driver_is_measured_warm_and_handed_over(gate: SmallGate) -> None:
    assert await gate.play("feverish_driver", "car") == {"refused": 1}
    assert gate.guarded[-1] == ("fever_release", {"lane": "car", "handover": "community-clinic-1"})
    assert gate.boom("car").openings == 0


@pytest.mark.parametrize(
    ("scene", "outcome"),
    [
        ("courier", "gave_up"),
        ("stranger", "refused"),
        ("expired_pass", "refused"),
        ("oversize_qr", "refused"),
        ("no_mask", "refused"),
    ],
)
async def test_who_has_no_business_here_does_not_get_in(gate: SmallGate, scene: str, outcome: str) -> None:
    assert await gate.play(scene, "walk") == {outcome: 1}
    assert gate.boom("walk").openings == 0


async def test_an_ambulance_is_let_in_by_the_guard(gate: SmallGate) -> None:
    assert await gate.play("ambulance", "car") == {"crossed": 1}
    assert gate.guarded == [
        ("exception", {"lane": "car", "kind": "ambulance", "approver": "guard-1", "reason": "ambulance"})
    ]
    assert gate.scans == []


async def test_walking_through_the_curfew_shows_the_pass_and_leaves(gate: SmallGate) -> None:
    gate.curfew = True
    gate.tasks[1].cancel()
    gate.sim.world.on_prompt("walk", "curfew")
    gate.tasks[1] = asyncio.create_task(asyncio.sleep(3600))
    reader = gate.drivers[4]
    scan = asyncio.create_task(reader.read())
    gate.sim.scenes.play("walk_through_curfew", "walk")
    assert (await asyncio.wait_for(scan, 10)).payload == b"PASS 1 "
    await until(lambda: not gate.sim.scenes.running)
    assert gate.sim.world.outcomes == {"refused": 1}


async def test_parties_of_a_lane_queue(gate: SmallGate) -> None:
    for _ in range(3):
        gate.sim.scenes.play("resident", "walk")
    assert len(gate.sim.scenes.running) == 3
    await until(lambda: not gate.sim.scenes.running)
    assert gate.sim.world.outcomes == {"crossed": 3}
    assert gate.boom("walk").openings == 3


async def test_fire_is_on_the_wired_lane_until_the_guard_resets(gate: SmallGate) -> None:
    gate.sim.scenes.play("fire")
    barrier = gate.drivers[5]
    await until(lambda: barrier.levels()[Line.FIRE])
    await until(lambda: not gate.sim.scenes.running)
    assert not barrier.levels()[Line.FIRE]
    assert gate.guarded == [("fire_reset", {})]


async def test_a_broken_loop_is_repaired(gate: SmallGate) -> None:
    gate.sim.scenes.play("broken_loop", "car")
    barrier = gate.drivers[2]
    await until(lambda: barrier.levels()[Line.LOOP])
    await until(lambda: not gate.sim.scenes.running)
    assert not barrier.levels()[Line.LOOP]


async def test_control_socket(gate: SmallGate, tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    control = ControlSocket(path, gate.sim)
    await control.start()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    reader, writer = await asyncio.open_unix_connection(path)

    async def ask(question: Any) -> dict[str, Any]:
        writer.write((question if isinstance(question, bytes) else json.dumps(question).encode()) + b"\n")
        answer: dict[str, Any] = json.loads(await asyncio.wait_for(reader.readline(), 5))
        return answer

    assert await ask({"do": "scene", "name": "resident", "lane": "walk"}) == {"ok": True}
    status = await ask({"do": "status"})
    assert status["ok"]
    assert status["scenes"] == [{"scene": "resident", "lane": "walk"}]
    await until(lambda: not gate.sim.scenes.running)
    status = await ask({"do": "status"})
    assert status["openings"] == 1
    assert status["outcomes"] == {"crossed": 1}
    assert status["lanes"]["walk"]["openings"] == 1

    assert (await ask({"do": "rate", "rate": 5}))["rate"] == 5
    assert gate.sim.pace() == 0.2
    later = status["wall_ms"] + 3_600_000
    assert (await ask({"do": "skip_to", "wall_ms": later}))["wall_ms"] >= later
    assert await ask({"do": "fault", "device": "thermometer-car", "fault": "absent"}) == {"ok": True}
    assert gate.sim.lanes["car"].sensor.fault == "absent"
    assert await ask({"do": "fault", "device": "barrier-walk", "fault": "jammed"}) == {"ok": True}
    assert (await ask({"do": "status"}))["lanes"]["walk"]["faults"] == ["jammed"]

    for question, words in (
        ({"do": "scene", "name": "picnic"}, "scenes are resident, "),
        ({"do": "scene", "name": "resident", "lane": "roof"}, "lanes are car, walk"),
        ({"do": "fault", "device": "toaster", "fault": "x"}, "devices are barrier-car"),
        ({"do": "fault", "device": "barrier-car", "fault": "x"}, "it knows none, both_limits"),
        ({"do": "fault", "device": "reader-car", "fault": "x"}, "it knows none, unplugged, mute"),
        ({"do": "rate", "rate": 0}, "rate"),
        ({"do": "skip_to", "wall_ms": 5}, "only goes forward"),
        ({"do": "dance"}, "dance"),
        (b"{", "truncated"),
        (b"\xff\xfe", ""),
        ({"do": "status", "extra": 1}, "extra"),
    ):
        answer = await ask(question)
        assert answer["ok"] is False
        assert words in answer["error"]
    answer = await ask(b"x" * (LINE_MAX_BYTES + 10))
    assert answer == {"ok": False, "error": f"a line has at most {LINE_MAX_BYTES} bytes"}
    assert await reader.read() == b""  # and the line is hung up
    writer.close()
    await control.close()
    await control.close()
    assert not path.exists()


async def test_an_unplugged_reader_is_missed_and_comes_back_under_its_name(tmp_path: Path) -> None:
    sim = SimGate(SimTime(NOON_MS), SPECS[:1], PASSES, lambda _action, **_fields: None, directory=tmp_path)
    reader = Shelf().reader("gm65", url=sim.reader_url("car"), baud=9600)
    await reader.open()
    sim.fault("reader-car", "unplugged")
    sim.lanes["car"].present(b"PASS 1 ")  # held to a dead reader: nothing
    with pytest.raises(DeviceMissing):
        await asyncio.wait_for(reader.read(), 5)
    await reader.close()
    sim.fault("reader-car", "none")
    await reader.open()
    sim.lanes["car"].present(b"PASS 2 ")
    assert (await asyncio.wait_for(reader.read(), 5)) == Scan(b"PASS 2 ", Medium.QR)
    await reader.close()
    await sim.close()


def test_every_scene_is_known_by_name() -> None:
    assert {"resident", "car_with_three", "feverish_driver", "courier", "stranger", "ambulance", "fire"} <= set(SCENES)
    assert {"broken_loop", "walk_through_curfew", "oversize_qr", "expired_pass"} <= set(SCENES)


@pytest.mark.parametrize(("ambient", "offset"), [(-500, 340), (1600, 340), (1800, 320), (2000, 300), (4000, 220)])
def test_skin_lies_below_the_body_more_so_in_the_cold(ambient: int, offset: int) -> None:
    assert skin_centi_c(36_60, ambient) == 36_60 - offset


def test_weather_is_coldest_before_dawn() -> None:
    weather = Weather(mean_centi_c=2000, swing_centi_c=500)
    midnight_ms = 1_580_572_800_000  # 2020-02-02T00:00+08:00
    by_hour = [weather.ambient_centi_c(midnight_ms + hour * 3_600_000) for hour in range(24)]
    assert (by_hour.index(min(by_hour)), by_hour.index(max(by_hour))) == (5, 17)
    assert (min(by_hour), max(by_hour)) == (1500, 2500)
