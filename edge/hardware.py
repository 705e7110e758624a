"""Configuration to devices: real ones by their drivers' names, or the same drivers over a simulated gate."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from drivers import catalog
from drivers.barrier.wiring import BarrierWiring, InputWire, RelayWire, contact_to_ground
from drivers.ports import BarrierPort, CodeReader, DisplayPort, Line, Relay, Thermometer
from edge.clock import Clock, SystemClock
from edge.config import BarrierConfig, EdgeConfig, InputPin, LaneConfig, RelayPin


@dataclass(frozen=True, slots=True)
class LaneDevices:
    """The devices of one lane."""

    thermometer: Thermometer
    reader: CodeReader
    barrier: BarrierPort
    display: DisplayPort


async def _nothing() -> None:
    """End of hardware that has nothing to end."""
    await asyncio.sleep(0)


@dataclass(frozen=True, slots=True)
class Hardware:
    """Everything with a wire.

    A simulated world also sees what the public displays show (`prompted`) and has a guard of its own, who speaks to the
    desk that `meet_guard` is given.
    """

    clock: Clock
    lanes: Mapping[str, LaneDevices]
    prompted: Callable[[str, str], None] = field(default=lambda _lane, _prompt: None)
    meet_guard: Callable[[Callable[[bytes], bytes]], None] = field(default=lambda _desk: None)
    close: Callable[[], Awaitable[None]] = _nothing


def real(config: EdgeConfig) -> Hardware:
    """Devices of this machine. Opens nothing yet."""
    shelf = catalog.Shelf()
    lanes = {lane.id: _real_lane(lane, shelf) for lane in config.lanes}
    return Hardware(SystemClock(), lanes)


def wiring(barrier: BarrierConfig) -> BarrierWiring:
    """Wires of a barrier as its driver wants them."""
    relays: dict[Relay, RelayWire] = {
        Relay.OPEN: _relay(barrier.relays.open),
        Relay.CLOSE: _relay(barrier.relays.close),
    }
    if barrier.relays.stop is not None:
        relays[Relay.STOP] = _relay(barrier.relays.stop)
    return BarrierWiring(relays, {Line(line.value): _input(pin) for line, pin in barrier.lines.items()})


def _real_lane(lane: LaneConfig, shelf: catalog.Shelf) -> LaneDevices:
    thermometer, reader, barrier = lane.thermometer, lane.reader, lane.barrier
    return LaneDevices(
        thermometer=shelf.thermometer(thermometer.driver, bus=thermometer.bus, address=thermometer.address),
        reader=shelf.reader(reader.driver, url=reader.url, baud=reader.baud),
        barrier=shelf.barrier(barrier.driver, wiring=wiring(barrier), chip=barrier.chip, name=f"barrier-{lane.id}"),
        display=shelf.display(lane.display.driver, name=lane.id),
    )


def _relay(relay: RelayPin) -> RelayWire:
    return RelayWire(relay.pin, relay.active_high)


def _input(wire: InputPin) -> InputWire:
    return contact_to_ground(wire.pin, closed_is_active=wire.contact == "closed-is-active")


def state_path(config: EdgeConfig, name: str) -> Path:
    """A file of the gate's own state."""
    return Path(config.state_dir) / name
