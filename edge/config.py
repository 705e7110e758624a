"""The gate's configuration: the only place where its options are spelled. The notice's numbers lie in the policy."""

import base64
import binascii
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import Meta, Struct, field

from configs.loader import load
from edge.core.model import Direction, LaneKind, Line

Id = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,40}$")]
Port = Annotated[int, Meta(ge=1, le=65_535)]
Pin = Annotated[int, Meta(ge=0, le=27)]
Milliseconds = Annotated[int, Meta(ge=0, le=600_000)]
PUBLIC_KEY_BYTES = 32


class BrokerConfig(Struct, frozen=True, kw_only=True):
    """Where the broker is. Without certificates only a broker on this machine is accepted."""

    host: str = "127.0.0.1"
    port: Port = 1883
    tls_ca: str | None = None
    tls_certificate: str | None = None
    tls_key: str | None = None


class PassKey(Struct, frozen=True, kw_only=True):
    """A public key that signs passes: key id and 32 bytes in base64."""

    id: Annotated[str, Meta(min_length=1, max_length=16)]
    public: str


class RelayPin(Struct, frozen=True, kw_only=True):
    """A relay output."""

    pin: Pin
    active_high: bool = True


class InputPin(Struct, frozen=True, kw_only=True):
    """A dry contact to ground. `contact`: what the closed contact means; a cut wire always reads as open."""

    pin: Pin
    contact: Literal["closed-is-active", "closed-is-clear"]


class RelayPins(Struct, frozen=True, kw_only=True):
    """Outputs of a barrier."""

    open: RelayPin
    close: RelayPin
    stop: RelayPin | None = None


class BarrierConfig(Struct, frozen=True, kw_only=True):
    """Wires and times of one barrier."""

    driver: str = "gpio"
    chip: int | None = None
    relays: RelayPins
    lines: dict[Line, InputPin]
    pulse_ms: Annotated[int, Meta(ge=200, le=2000)] = 500
    stop_pulse_ms: Annotated[int, Meta(ge=50, le=2000)] = 200
    dead_time_ms: Annotated[int, Meta(ge=300, le=5000)] = 300
    response_ms: Milliseconds = 2000
    travel_ms: Annotated[int, Meta(ge=200, le=30_000)] = 3000
    disturbed_ms: Milliseconds = 4000
    close_delay_ms: Annotated[int, Meta(ge=200, le=60_000)] = 1000


class ThermometerConfig(Struct, frozen=True, kw_only=True):
    """An infrared thermometer on an I2C bus."""

    driver: str = "mlx90614"
    bus: int | str = 1
    address: Annotated[int, Meta(ge=0x03, le=0x77)] = 0x5A


class ReaderConfig(Struct, frozen=True, kw_only=True):
    """A pass reader on a serial line: a device path, or socket://host:port."""

    driver: str = "gm65"
    url: str
    baud: int = 9600


class DisplayConfig(Struct, frozen=True, kw_only=True):
    """The public display of a lane."""

    driver: str = "none"
    url: str | None = None


class LaneConfig(Struct, frozen=True, kw_only=True):
    """One lane: one barrier, one thermometer, one reader."""

    id: Id
    kind: LaneKind
    direction: Direction
    barrier: BarrierConfig
    thermometer: ThermometerConfig
    reader: ReaderConfig
    display: DisplayConfig = DisplayConfig()


class MetricsConfig(Struct, frozen=True, kw_only=True):
    """Node metrics, always on loopback. Port 0 takes a free one."""

    port: Annotated[int, Meta(ge=0, le=65_535)] = 9817


class SimulationConfig(Struct, frozen=True, kw_only=True):
    """Virtual hardware in place of the devices: the demo, training and tests."""

    control: str  # Unix socket that plays scenes
    start: str | None = None  # local time at which the simulated clock begins; else the real one
    rate: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    seed: int = 1
    passes: dict[str, str] = {}


class EdgeConfig(Struct, frozen=True, kw_only=True):
    """One gate."""

    node: Id
    site: Id
    timezone: str = "Asia/Shanghai"
    state_dir: str
    policy: str = "policy-2020-17.toml"
    clock: Literal["judge", "assume-set"] = "judge"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    guard_socket: str | None = None
    broker: BrokerConfig = BrokerConfig()
    metrics: MetricsConfig = MetricsConfig()
    pass_keys: list[PassKey] = field(default_factory=list)
    lanes: Annotated[list[LaneConfig], Meta(min_length=1, max_length=8)]
    simulation: SimulationConfig | None = None


def load_edge_config(file: Path) -> EdgeConfig:
    """The gate's file, fully checked. Raises configs.loader.ConfigError with every mistake."""
    return load(file, EdgeConfig, mistakes)


def mistakes(config: EdgeConfig) -> Iterable[tuple[str, str]]:
    """What no single field can tell: (path, message) of every contradiction between fields."""
    try:
        ZoneInfo(config.timezone)
    except (ZoneInfoNotFoundError, ValueError):
        yield "timezone", f"{config.timezone!r} is not a time zone; write one like Asia/Shanghai"
    for index, key in enumerate(config.pass_keys):
        try:
            size = len(base64.b64decode(key.public, validate=True))
        except binascii.Error:
            size = 0
        if size != PUBLIC_KEY_BYTES:
            yield f"pass_keys[{index}].public", "must be the base64 of 32 bytes, an Ed25519 public key"
    yield from _broker_mistakes(config.broker)
    seen: set[str] = set()
    pins: dict[tuple[int | None, int], str] = {}
    for index, lane in enumerate(config.lanes):
        path = f"lanes[{index}]"
        if lane.id in seen:
            yield f"{path}.id", f"{lane.id!r} is used twice; every lane needs an id of its own"
        seen.add(lane.id)
        yield from _barrier_mistakes(f"{path}.barrier", lane.barrier)
        yield from _pin_mistakes(f"{path}.barrier", lane.barrier, pins)


def _broker_mistakes(broker: BrokerConfig) -> Iterable[tuple[str, str]]:
    given = [broker.tls_ca, broker.tls_certificate, broker.tls_key]
    if any(given) and not all(given):
        yield "broker", "tls_ca, tls_certificate and tls_key belong together; give all three"
    if not any(given) and broker.host not in ("127.0.0.1", "::1", "localhost"):
        yield (
            "broker.host",
            f"{broker.host!r} is another machine: certificates are required (tls_ca, tls_certificate, tls_key)",
        )


def _barrier_mistakes(path: str, barrier: BarrierConfig) -> Iterable[tuple[str, str]]:
    for line in (Line.LIMIT_OPEN, Line.LIMIT_CLOSED):
        if line not in barrier.lines:
            yield f"{path}.lines", f"{line} is missing: positions are measured at both limit switches, never guessed"
    if not {Line.LOOP, Line.PHOTOCELL} & set(barrier.lines):
        yield f"{path}.lines", "loop or photocell is missing: without a safety line the barrier would never close"
    for line in (Line.LOOP, Line.PHOTOCELL, Line.FIRE, Line.STOP):
        wired = barrier.lines.get(line)
        if wired and wired.contact != "closed-is-clear":
            yield f"{path}.lines.{line}.contact", 'must be "closed-is-clear", so that a cut wire is noticed as danger'
    if barrier.stop_pulse_ms > barrier.dead_time_ms:
        yield f"{path}.stop_pulse_ms", f"must not be longer than dead_time_ms ({barrier.dead_time_ms})"
    if barrier.response_ms > 2 * barrier.travel_ms + 2000:
        yield f"{path}.response_ms", "must not be longer than 2 x travel_ms + 2000"


def _pin_mistakes(
    path: str, barrier: BarrierConfig, pins: dict[tuple[int | None, int], str]
) -> Iterable[tuple[str, str]]:
    relays = {"open": barrier.relays.open, "close": barrier.relays.close, "stop": barrier.relays.stop}
    used = [(f"{path}.relays.{name}.pin", relay.pin) for name, relay in relays.items() if relay]
    used += [(f"{path}.lines.{line}.pin", wired.pin) for line, wired in barrier.lines.items()]
    for where, pin in used:
        other = pins.setdefault((barrier.chip, pin), where)
        if other != where:
            yield where, f"pin {pin} is already used by {other}"
