"""A simulated gate: for each lane a bus with a sensor, a reader on a pty, and a barrier on a board, in one world.

The real drivers run on top. What a composition needs: `bus`, `reader_url`, `pins`, `pace`, and `world.on_prompt`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from drivers.barrier.wiring import BarrierWiring
from drivers.ports import Line
from drivers.sim.barrier import BarrierFault, SimBarrier
from drivers.sim.board import SimBoard
from drivers.sim.i2c_bus import SimI2cBus
from drivers.sim.mlx90614 import MlxFault, SimMlx90614
from drivers.sim.people import Weather
from drivers.sim.readers import Make, SimSerialReader
from drivers.sim.scenes import Scenes
from drivers.sim.time import SimTime
from drivers.sim.world import Guard, World
from drivers.thermometer.smbus import SharedBus

log = logging.getLogger(__name__)

ARM_OPEN = 0.9  # of the travel: from here a driver sees the way free
BACKGROUND_CENTI_C = 30  # the wall opposite is this much warmer than the air
READER_MAKES = {"gm65": Make.GM65_TEXT, "serial-text": Make.GM65_TEXT, "rdm6300": Make.RDM6300}
READER_FAULTS = ("none", "unplugged", "mute")


@dataclass(frozen=True, slots=True)
class SimLaneSpec:
    """What stands in a lane. `reader` is the driver's name in the configuration."""

    lane: str
    vehicle: bool
    wiring: BarrierWiring
    chip: int | None = None
    travel_s: float = 1.5
    reader: str = "gm65"
    address: int = 0x5A


class SimLane:
    """The devices of one lane, as the world touches them (`Stage`)."""

    def __init__(self, spec: SimLaneSpec, time: SimTime, board: SimBoard, directory: Path | None, seed: int) -> None:
        self.vehicle = spec.vehicle
        self.sensor = SimMlx90614(spec.address)
        wires = SimI2cBus(f"i2c-{spec.lane}")
        wires.attach(self.sensor)
        self.bus: SharedBus = wires.shared()
        self.reader = SimSerialReader(
            READER_MAKES[spec.reader], directory=directory, name=f"reader-{spec.lane}", seed=seed
        )
        self.unplugged = False
        self.barrier = SimBarrier(time, board, spec.wiring, spec.travel_s)

    def set_line(self, line: Line, active: bool) -> None:
        """See Stage."""
        self.barrier.set_line(line, active)

    def present(self, code: bytes) -> None:
        """See Stage. A code that this kind of reader cannot read at all is not seen by it."""
        if self.unplugged:
            return
        try:
            self.reader.present(code)
        except ValueError as e:
            log.info("the reader cannot see this", extra={"fields": {"why": str(e)}})

    def face(self, skin_centi_c: int | None, ambient_centi_c: int) -> None:
        """See Stage."""
        seen = ambient_centi_c + BACKGROUND_CENTI_C if skin_centi_c is None else skin_centi_c
        self.sensor.set_temperatures(object_centi_c=seen, ambient_centi_c=ambient_centi_c)

    def arm_open(self) -> bool:
        """See Stage."""
        return self.barrier.boom.position >= ARM_OPEN and BarrierFault.ARM_BROKEN not in self.barrier.faults

    def set_reader_fault(self, fault: str) -> None:
        """Unplug the reader, silence it, or put it right."""
        if fault == "unplugged" and not self.unplugged:
            self.reader.unplug()
        elif fault != "unplugged" and self.unplugged:
            self.reader.replug()
        self.unplugged = fault == "unplugged"
        self.reader.mute = fault == "mute"


class SimGate:
    """Everything that is simulated at one gate. Make it inside the running loop; `close` at the end."""

    def __init__(
        self,
        time: SimTime,
        lanes: Sequence[SimLaneSpec],
        passes: Mapping[str, bytes],
        guard: Guard,
        *,
        seed: int = 1,
        weather: Weather | None = None,
        directory: Path | None = None,
    ) -> None:
        """`directory`: where the readers' lines get lasting names; without it they have the names of their ptys."""
        self.time = time
        self._boards = {chip: SimBoard(_place(chip)) for chip in {spec.chip for spec in lanes}}
        self.lanes = {spec.lane: SimLane(spec, time, self._boards[spec.chip], directory, seed) for spec in lanes}
        self.world = World(time, self.lanes, guard, passes, seed=seed, weather=weather)
        for name, lane in self.lanes.items():
            lane.barrier.on_moved = _teller(self.world, name)
        self.scenes = Scenes(self.world, self.fault)

    def pace(self) -> float:
        """What the drivers' own real durations are multiplied with."""
        return 1.0 / self.time.rate

    def pins(self, chip: int | None) -> SimBoard:
        """The board that stands for a chip."""
        return self._boards[chip]

    def bus(self, lane: int | str) -> SharedBus:
        """The bus of a lane: each sensor has one of its own, so that all may keep their address."""
        return self.lanes[str(lane)].bus

    def reader_url(self, lane: str) -> str:
        """Where the reader of a lane is opened."""
        return self.lanes[lane].reader.url

    def fault(self, device: str, fault: str) -> None:
        """Break or mend `barrier-LANE`, `thermometer-LANE` or `reader-LANE`. Raises LookupError naming what exists."""
        kind, _, name = device.partition("-")
        if kind not in ("barrier", "thermometer", "reader") or name not in self.lanes:
            devices = (f"{k}-{lane}" for lane in self.lanes for k in ("barrier", "thermometer", "reader"))
            raise LookupError(f"there is no device {device!r}; devices are {', '.join(devices)}")
        lane = self.lanes[name]
        match kind:
            case "barrier":
                known = ("none", *BarrierFault)
                self._require(fault, known, device)
                lane.barrier.set_faults(*([] if fault == "none" else [BarrierFault(fault)]))
            case "thermometer":
                self._require(fault, tuple(MlxFault), device)
                lane.sensor.fault = MlxFault(fault)
            case _:
                self._require(fault, READER_FAULTS, device)
                lane.set_reader_fault(fault)

    def status(self) -> dict[str, Any]:
        """What an onlooker could write down: times, scenes, arms, physical counts."""
        booms = {name: lane.barrier.boom for name, lane in self.lanes.items()}
        return {
            "wall_ms": self.time.wall_ms(),
            "mono_ns": self.time.mono_ns(),
            "rate": self.time.rate,
            "scenes": self.scenes.running,
            "outcomes": dict(self.world.outcomes),
            "openings": sum(boom.openings for boom in booms.values()),
            "both_energised": sum(boom.both_energised for boom in booms.values()),
            "lanes": {
                name: {
                    "arm": round(boom.position, 3),
                    "moving": boom.moving,
                    "openings": boom.openings,
                    "reopenings": boom.reopenings,
                    "faults": sorted(boom.faults),
                }
                for name, boom in booms.items()
            },
        }

    async def close(self) -> None:
        """Everybody goes home, the lines are unplugged."""
        await self.scenes.close()
        for lane in self.lanes.values():
            lane.reader.close()

    @staticmethod
    def _require(fault: str, known: Sequence[str], device: str) -> None:
        if fault not in known:
            raise LookupError(f"{device} knows no fault {fault!r}; it knows {', '.join(known)}")


def _place(chip: int | None) -> str:
    return "gpiochip-sim" if chip is None else f"gpiochip-sim{chip}"


def _teller(world: World, lane: str) -> Callable[[], None]:
    return lambda: world.on_moved(lane)
