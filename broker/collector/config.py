"""Options of the collector: the only place where their names and ranges are spelled."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Port = Annotated[int, Meta(ge=1, le=65535)]
Name = Annotated[str, Meta(min_length=1, max_length=255)]
PathText = Annotated[str, Meta(min_length=1, max_length=4096)]


class BrokerOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which broker. `external` = it runs already at host:port; the others are started as a child on 127.0.0.1:port."""

    engine: Literal["external", "nats-server", "mosquitto"] = "external"
    host: Name = "127.0.0.1"
    port: Port = 1883
    client_id: Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,40}$")] = "collector"
    username: Name | None = None
    password_file: PathText | None = None
    state_dir: PathText = "broker"  # of a started engine


class HttpOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the page and the metrics are served. Loopback unless said otherwise: there is no login yet."""

    host: Name = "127.0.0.1"
    port: Port = 8080
    live_clients: Annotated[int, Meta(ge=1, le=1000)] = 100


class StoreOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where facts are kept."""

    database: PathText = "collector.db"
    quarantine_rows: Annotated[int, Meta(ge=10, le=1_000_000)] = 10_000


class IngestOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much is held in memory at once."""

    batch: Annotated[int, Meta(ge=1, le=5000)] = 1000
    pending: Annotated[int, Meta(ge=100, le=200_000)] = 10_000


class AlarmOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long is too long, seconds. Gates speak at least every 10 s."""

    silence_s: Annotated[float, Meta(ge=1, le=86_400)] = 45.0
    gap_s: Annotated[float, Meta(ge=0.5, le=86_400)] = 30.0


class CollectorConfig(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole configuration file. Relative paths are relative to it."""

    broker: BrokerOptions = BrokerOptions()
    http: HttpOptions = HttpOptions()
    store: StoreOptions = StoreOptions()
    ingest: IngestOptions = IngestOptions()
    alarms: AlarmOptions = AlarmOptions()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
