"""Virtual hardware of a gate: the same drivers over a simulated bus, pty and board, in a world of people and time."""

import json
import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from drivers import catalog
from drivers.sim.control import ControlSocket
from drivers.sim.gate import SimGate, SimLaneSpec
from drivers.sim.time import SimTime
from edge.config import EdgeConfig, LaneConfig, SimulationConfig
from edge.core.model import LaneKind
from edge.hardware import Hardware, LaneDevices, wiring

log = logging.getLogger(__name__)


class SimulatedGuard:
    """The guard of the simulated world: says to the gate's desk what a guard at the console would."""

    def __init__(self) -> None:
        self._desk: Callable[[bytes], bytes] | None = None

    def meet(self, desk: Callable[[bytes], bytes]) -> None:
        """Whom to speak to."""
        self._desk = desk

    def do(self, action: str, **fields: object) -> None:
        """Speak one verb; what the desk refuses is logged."""
        if self._desk is None:
            return
        fields.pop("reason", None)  # the kind says it; the desk asks for no more
        answer = json.loads(self._desk(json.dumps({"do": action, **fields}).encode()))
        if not answer["ok"]:
            log.warning(
                "the desk refused the simulated guard", extra={"fields": {"action": action, "error": answer["error"]}}
            )


async def simulated(config: EdgeConfig, simulation: SimulationConfig) -> Hardware:
    """A world, its devices, and the drivers over them; the control socket listens when this returns. Raises OSError."""
    time = SimTime(_start_ms(config, simulation), simulation.rate)
    guard = SimulatedGuard()
    specs = [_spec(lane) for lane in config.lanes]
    passes = {name: code.encode() for name, code in simulation.passes.items()}
    gate = SimGate(time, specs, passes, guard.do, seed=simulation.seed, directory=Path(config.state_dir))
    control = ControlSocket(Path(simulation.control), gate)
    await control.start()

    async def close() -> None:
        await control.close()
        await gate.close()

    return Hardware(
        clock=time,
        lanes={lane.id: _lane(lane, gate) for lane in config.lanes},
        prompted=gate.world.on_prompt,
        meet_guard=guard.meet,
        close=close,
    )


def _lane(lane: LaneConfig, gate: SimGate) -> LaneDevices:
    shelf = catalog.Shelf(pins=gate.pins, buses=lambda _bus: gate.bus(lane.id))
    barrier, thermometer, reader = lane.barrier, lane.thermometer, lane.reader
    return LaneDevices(
        thermometer=shelf.thermometer(thermometer.driver, bus=thermometer.bus, address=thermometer.address),
        reader=shelf.reader(reader.driver, url=gate.reader_url(lane.id), baud=reader.baud),
        barrier=shelf.barrier(
            barrier.driver, wiring=wiring(barrier), chip=barrier.chip, name=f"barrier-{lane.id}", pace=gate.pace
        ),
        display=shelf.display(lane.display.driver, name=lane.id),
    )


def _spec(lane: LaneConfig) -> SimLaneSpec:
    return SimLaneSpec(
        lane=lane.id,
        vehicle=lane.kind is LaneKind.VEHICLE,
        wiring=wiring(lane.barrier),
        chip=lane.barrier.chip,
        travel_s=lane.barrier.travel_ms / 1000,
        reader=lane.reader.driver,
        address=lane.thermometer.address,
    )


def _start_ms(config: EdgeConfig, simulation: SimulationConfig) -> int | None:
    if simulation.start is None:
        return None
    local = datetime.fromisoformat(simulation.start).replace(tzinfo=ZoneInfo(config.timezone))
    return round(local.timestamp() * 1000)
