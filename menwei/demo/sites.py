"""Two compounds of the demo as configuration files: 120,000 m² with one gate, 420,000 m² with two (rule 1)."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

KEY_ID = "demo"
LANES = (("walk", "pedestrian"), ("car", "vehicle"))
# A gate's board has 28 lines: each lane its own relays and inputs; fire and the guard's key stand at the first lane.
_RELAYS = {
    "walk": {"open": 17, "close": 27, "stop": 22},
    "car": {"open": 23, "close": 24, "stop": 25},
}
_INPUTS = {
    "walk": {"limit_open": 5, "limit_closed": 6, "photocell": 13, "approach": 19, "fire": 26, "key": 12},
    "car": {"limit_open": 16, "limit_closed": 20, "loop": 21, "photocell": 4, "approach": 18},
}
_FAIL_SAFE = {"loop", "photocell", "fire", "stop"}


@dataclass(frozen=True, slots=True)
class Site:
    """A compound."""

    site: str
    name: str
    area_m2: int
    gates: tuple[str, ...]


SITES = (
    Site("garden", "花园小区", 120_000, ("garden-1",)),
    Site("lakeside", "湖滨家园", 420_000, ("lakeside-1", "lakeside-2")),
)


@dataclass(frozen=True, slots=True)
class GateFiles:
    """Where a gate of the demo keeps what."""

    node: str
    site: Site
    folder: Path

    @property
    def config(self) -> Path:
        """Its configuration."""
        return self.folder / "gate.toml"

    @property
    def control(self) -> Path:
        """The socket that plays scenes."""
        return self.folder / "world.sock"

    @property
    def guard(self) -> Path:
        """The guard's socket."""
        return self.folder / "guard.sock"

    @property
    def log(self) -> Path:
        """Its log."""
        return self.folder / "gate.log"


TIMEZONE = ZoneInfo("Asia/Shanghai")


def unix_s(local: str) -> int:
    """Unix seconds of a local time of the compounds, "2020-02-03T23:40:00"."""
    return round(datetime.fromisoformat(local).replace(tzinfo=TIMEZONE).timestamp())


def gates(data: Path) -> list[GateFiles]:
    """Every gate of the demo."""
    return [GateFiles(node, site, data / node) for site in SITES for node in site.gates]


def gate_toml(
    files: GateFiles, *, broker_port: int, public_key: str, passes: dict[str, str], start: str, rate: float, seed: int
) -> str:
    """Configuration of one gate on virtual hardware."""
    lines = [
        f'node = "{files.node}"',
        f'site = "{files.site.site}"',
        f'state_dir = "{files.folder}"',
        f'guard_socket = "{files.guard}"',
        'clock = "assume-set"',
        "[broker]",
        f"port = {broker_port}",
        "[metrics]",
        "port = 0",
        "[[pass_keys]]",
        f'id = "{KEY_ID}"',
        f'public = "{public_key}"',
        "[simulation]",
        f'control = "{files.control}"',
        f'start = "{start}"',
        f"rate = {rate}",
        f"seed = {seed}",
        "[simulation.passes]",
        *(f'{name} = "{code}"' for name, code in passes.items()),
    ]
    for lane, kind in LANES:
        lines += _lane(lane, kind)
    return "\n".join(lines) + "\n"


def collector_toml(data: Path, *, broker_port: int, http_port: int) -> str:
    """Configuration of the collector of the demo; its broker runs already, as a child of the demo."""
    return "\n".join(
        [
            "[broker]",
            f"port = {broker_port}",
            "[http]",
            f"port = {http_port}",
            "[store]",
            f'database = "{data / "collector.db"}"',
            "",
        ]
    )


def _lane(lane: str, kind: str) -> list[str]:
    relays = [f"{name} = {{ pin = {pin} }}" for name, pin in _RELAYS[lane].items()]
    inputs = [f'{name} = {{ pin = {pin}, contact = "{_contact(name)}" }}' for name, pin in _INPUTS[lane].items()]
    return [
        "[[lanes]]",
        f'id = "{lane}"',
        f'kind = "{kind}"',
        'direction = "in"',
        "[lanes.thermometer]",
        'driver = "mlx90614"',
        "[lanes.reader]",
        'driver = "gm65"',
        'url = "simulated"',
        "[lanes.barrier]",
        f"travel_ms = {1200 if kind == 'pedestrian' else 2000}",
        "[lanes.barrier.relays]",
        *relays,
        "[lanes.barrier.lines]",
        *inputs,
    ]


def _contact(name: str) -> str:
    return "closed-is-clear" if name in _FAIL_SAFE else "closed-is-active"
