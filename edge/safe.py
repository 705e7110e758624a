"""`menwei edge safe`: claim every relay line at its released level and let go; called when the service has ended."""

import asyncio
import sys
from collections.abc import Iterable
from pathlib import Path

from configs.loader import ConfigError
from drivers.errors import DeviceError
from drivers.ports import BarrierPort, LineChange
from edge import check
from edge.config import load_edge_config
from edge.hardware import real

OK, BAD_CONFIGURATION, FAILED = 0, 2, 3


def main(config_path: Path) -> int:
    """Exit code 0 when every relay is released, 2 configuration, 3 when a line could not be claimed."""
    try:
        config = load_edge_config(config_path)
    except ConfigError as e:
        check.complain(e)
        return BAD_CONFIGURATION
    if config.simulation is not None:
        return OK
    try:
        asyncio.run(_release([devices.barrier for devices in real(config).lanes.values()]))
    except DeviceError as e:
        sys.stderr.write(f"relays not released: {e}\n")
        return FAILED
    return OK


async def _release(barriers: Iterable[BarrierPort]) -> None:
    for barrier in barriers:
        await barrier.open(_ignore)
        await barrier.close()


def _ignore(_change: LineChange) -> None:
    """Nothing is decided here."""
