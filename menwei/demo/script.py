"""The scripted day at three gates by the guard's clock: a winter evening, midnight, the small hours, the morning."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from menwei.demo.processes import Compounds
from menwei.demo.sites import TIMEZONE, GateFiles
from menwei.demo.talk import ask

EVENING = "2020-02-03T17:30:00"
SCENE_S = 90.0  # real seconds a scene may take at most
POLL_S = 0.05

Say = Callable[[str, str], None]  # Chinese, English


class SceneStuck(Exception):  # noqa: N818 - named by the condition
    """A scene did not end."""


@dataclass(frozen=True, slots=True)
class Play:
    """One thing that happens: a scene at a lane."""

    scene: str
    lane: str


EVENING_AT: dict[str, tuple[Play, ...]] = {
    "garden-1": (
        Play("resident", "walk"),
        Play("resident", "walk"),
        Play("car_with_three", "car"),
        Play("courier", "walk"),
        Play("stranger", "walk"),
        Play("expired_pass", "walk"),
        Play("oversize_qr", "walk"),
        Play("feverish_driver", "car"),
        Play("resident", "walk"),
    ),
    "lakeside-1": (
        Play("resident", "walk"),
        Play("car_with_three", "car"),
        Play("stranger", "walk"),
        Play("resident", "walk"),
        Play("broken_loop", "car"),
        Play("resident", "walk"),
    ),
    "lakeside-2": (
        Play("resident", "walk"),
        Play("courier", "walk"),
        Play("car_with_three", "car"),
        Play("resident", "walk"),
    ),
}


async def play_day(compounds: Compounds, say: Say) -> None:
    """Play it all; every gate has its own evening, then midnight comes to all of them."""
    say("傍晚", "evening: residents, cars, a courier, a stranger, a fever")
    await asyncio.gather(*(_evening(gate) for gate in compounds.gates))
    await asyncio.gather(*(_power_cut(compounds, gate, say) for gate in compounds.gates if gate.node == "lakeside-2"))
    say("接近午夜", "23:59:30: one more resident in time, then the curfew falls")
    await _all(compounds, lambda gate: _to(gate, "23:59:30"))
    await _all(compounds, lambda gate: _scene(gate, Play("resident", "walk")))
    await _all(compounds, lambda gate: _until(gate, "00:00:01"))
    await _all(compounds, lambda gate: _scene(gate, Play("walk_through_curfew", "walk")))
    say("凌晨", "02:00: an ambulance is let in by the guard, with a reason")
    await _all(compounds, lambda gate: _to(gate, "02:00:00"))
    garden = next(gate for gate in compounds.gates if gate.node == "garden-1")
    await _scene(garden, Play("ambulance", "car"))
    say("火警", "03:00: fire opens everything, the guard resets it on site")
    lakeside = next(gate for gate in compounds.gates if gate.node == "lakeside-1")
    await _to(lakeside, "03:00:00")
    await _scene(lakeside, Play("fire", "walk"))
    say("清晨六点", "06:00: the curfew ends, the same residents go in")
    await _all(compounds, lambda gate: _to(gate, "05:59:57"))
    await _all(compounds, lambda gate: _until(gate, "06:00:01"))
    await _all(compounds, lambda gate: _scene(gate, Play("resident", "walk")))


async def to_midnight(compounds: Compounds) -> None:
    """Skip every gate to 23:59:50 of its day."""
    await _all(compounds, lambda gate: _to(gate, "23:59:50"))


async def _evening(gate: GateFiles) -> None:
    for play in EVENING_AT[gate.node]:
        await _scene(gate, play)


async def _power_cut(compounds: Compounds, gate: GateFiles, say: Say) -> None:
    say("断电", f"the power of {gate.node} is cut in the middle of an encounter (kill -9), then it comes back")
    await ask(gate.control, {"do": "scene", "name": "resident", "lane": "walk"})
    async with asyncio.timeout(SCENE_S):
        while (await _lane(gate, "walk"))["phase"] == "idle":
            await asyncio.sleep(POLL_S)
    compounds.children[gate.node].kill()
    await compounds.restart(gate.node)


async def _scene(gate: GateFiles, play: Play) -> None:
    """Play a scene and wait until it is over and the lane is at rest again."""
    answer = await ask(gate.control, {"do": "scene", "name": play.scene, "lane": play.lane})
    if not answer.get("ok"):
        raise SceneStuck(f"{gate.node}: scene {play.scene}: {answer.get('error')}")
    try:
        async with asyncio.timeout(SCENE_S):
            while (await ask(gate.control, {"do": "status"}))["scenes"]:
                await asyncio.sleep(POLL_S)
            while not _at_rest(await _lane(gate, play.lane)):
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        lane = await _lane(gate, play.lane)
        raise SceneStuck(f"{gate.node}: scene {play.scene} did not end: lane {lane}, see {gate.log}") from None


def _at_rest(lane: dict[str, Any]) -> bool:
    return bool(lane["phase"] == "idle" and lane["position"] == "closed")


async def _lane(gate: GateFiles, name: str) -> dict[str, Any]:
    status = await ask(gate.guard, {"do": "status"})
    lane: dict[str, Any] = next(lane for lane in status["lanes"] if lane["lane"] == name)
    return lane


async def _to(gate: GateFiles, clock: str) -> None:
    """Skip to the next time the gate's clock shows this time of day."""
    await ask(gate.control, {"do": "skip_to", "wall_ms": await _next(gate, clock)})


async def _until(gate: GateFiles, clock: str) -> None:
    """Let time run, really, until the gate's clock shows this time of day."""
    until_ms = await _next(gate, clock)
    async with asyncio.timeout(SCENE_S):
        while (await ask(gate.control, {"do": "status"}))["wall_ms"] < until_ms:
            await asyncio.sleep(POLL_S)


async def _next(gate: GateFiles, clock: str) -> int:
    now_ms = int((await ask(gate.control, {"do": "status"}))["wall_ms"])
    now = datetime.fromtimestamp(now_ms / 1000, TIMEZONE)
    hour, minute, second = (int(part) for part in clock.split(":"))
    then = now.replace(hour=hour, minute=minute, second=second, microsecond=0)
    return round((then if then > now else then + timedelta(days=1)).timestamp() * 1000)


async def _all(compounds: Compounds, each: Callable[[GateFiles], Awaitable[None]]) -> None:
    await asyncio.gather(*(each(gate) for gate in compounds.gates))
