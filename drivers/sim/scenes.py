"""The scenes that can be played at a simulated gate, by name: what people do. What comes of it is the gate's."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from drivers.ports import Line
from drivers.sim.people import BODY_FEVER_CENTI_C, Person, Visitor
from drivers.sim.world import World

log = logging.getLogger(__name__)

FOREIGN_CODE = b"HTTPS://PAY.EXAMPLE/Q?ID=4711"
OVERSIZE_CODE = b"A" * 10_000
FIRE_S = 20.0
HANDOVER_S = 20.0  # until somebody fetched the feverish person
REPAIR_S = 20.0

Fault = Callable[[str, str], None]  # fault(device, fault): as over the control socket


@dataclass(frozen=True, slots=True)
class Play:
    """What a scene works with."""

    world: World
    lane: str
    fault: Fault


Scene = Callable[[Play], Awaitable[None]]


class Scenes:
    """Starts scenes and knows which run. Belongs to the loop that made it."""

    def __init__(self, world: World, fault: Fault) -> None:
        self._world, self._fault = world, fault
        self._tasks: dict[asyncio.Task[None], tuple[str, str]] = {}

    def play(self, name: str, lane: str | None = None) -> None:
        """Begin a scene and return. Raises LookupError naming what exists, also for passes that are missing."""
        if name not in SCENES:
            raise LookupError(f"there is no scene {name!r}; scenes are {', '.join(SCENES)}")
        lanes = list(self._world.stages)
        lane = lanes[0] if lane is None else lane
        if lane not in lanes:
            raise LookupError(f"there is no lane {lane!r}; lanes are {', '.join(lanes)}")
        if name == "expired_pass" and "expired" not in self._world.passes:
            raise LookupError("the scene needs a pass named 'expired'")
        self._world.require_residents(RESIDENTS.get(name, 0))
        task = asyncio.get_running_loop().create_task(self._run(name, lane), name=f"scene {name}")
        self._tasks[task] = (name, lane)
        task.add_done_callback(self._tasks.pop)

    @property
    def running(self) -> list[dict[str, str]]:
        """Scenes under way, in the order they began."""
        return [{"scene": name, "lane": lane} for name, lane in self._tasks.values()]

    async def close(self) -> None:
        """Everybody goes home."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, name: str, lane: str) -> None:
        try:
            await SCENES[name](Play(self._world, lane, self._fault))
        except LookupError as e:
            log.warning("scene ended early", extra={"fields": {"scene": name, "lane": lane, "why": str(e)}})


async def _resident(play: Play) -> None:
    await play.world.visit(play.lane, _party(play.world, 1))


async def _car_with_three(play: Play) -> None:
    await play.world.visit(play.lane, _party(play.world, 3))


async def _feverish_driver(play: Play) -> None:
    code = play.world.residents(1)[0]
    await play.world.visit(play.lane, Visitor((Person(code, BODY_FEVER_CENTI_C),)))
    await play.world.time.sleep(HANDOVER_S)
    play.world.guard("fever_release", lane=play.lane, handover="community-clinic-1")


async def _no_mask(play: Play) -> None:
    code = play.world.residents(1)[0]
    await play.world.visit(play.lane, Visitor((Person(code, mask=False),)))


async def _courier(play: Play) -> None:
    await play.world.visit(play.lane, Visitor((Person(None),)))


async def _stranger(play: Play) -> None:
    world = play.world
    bad = [world.passes[name] for name in ("forged", "foreign", "wrong_site", "not_yet") if name in world.passes]
    await world.visit(play.lane, Visitor((Person(world.random.choice(bad or [FOREIGN_CODE])),)))


async def _oversize_qr(play: Play) -> None:
    code = play.world.passes.get("oversize", OVERSIZE_CODE)
    await play.world.visit(play.lane, Visitor((Person(code),)))


async def _expired_pass(play: Play) -> None:
    await play.world.visit(play.lane, Visitor((Person(play.world.passes["expired"]),)))


async def _ambulance(play: Play) -> None:
    await play.world.visit(play.lane, Visitor((Person(None), Person(None)), exception="ambulance"))


async def _walk_through_curfew(play: Play) -> None:
    code = play.world.residents(1)[0]
    await play.world.visit(play.lane, Visitor((Person(code),), patience_s=8.0, insists=True))


async def _fire(play: Play) -> None:
    world = play.world
    for stage in world.stages.values():
        stage.set_line(Line.FIRE, active=True)
    try:
        await world.time.sleep(FIRE_S)
    finally:
        for stage in world.stages.values():
            stage.set_line(Line.FIRE, active=False)
    await world.time.sleep(2.0)
    world.guard("fire_reset")
    await world.time.sleep(1.0)
    for lane, stage in world.stages.items():
        if stage.arm_open():
            world.guard("barrier_close", lane=lane)


async def _broken_loop(play: Play) -> None:
    device = f"barrier-{play.lane}"
    play.fault(device, "loop_cut")
    try:
        await play.world.time.sleep(REPAIR_S)
    finally:
        play.fault(device, "none")


SCENES: dict[str, Scene] = {
    "resident": _resident,
    "car_with_three": _car_with_three,
    "feverish_driver": _feverish_driver,
    "no_mask": _no_mask,
    "courier": _courier,
    "stranger": _stranger,
    "ambulance": _ambulance,
    "fire": _fire,
    "broken_loop": _broken_loop,
    "walk_through_curfew": _walk_through_curfew,
    "oversize_qr": _oversize_qr,
    "expired_pass": _expired_pass,
}
RESIDENTS = {"resident": 1, "car_with_three": 3, "feverish_driver": 1, "no_mask": 1, "walk_through_curfew": 1}


def _party(world: World, count: int) -> Visitor:
    return Visitor(tuple(Person(code) for code in world.residents(count)))
