"""What callers of the MQTT client pass and get, and how a lost connection is tried again. Knows no MQTT library."""

import random
import ssl
from dataclasses import dataclass
from pathlib import Path

MAX_UNACKNOWLEDGED = 65_535  # packet ids of MQTT


@dataclass(frozen=True, slots=True)
class Publication:
    """A message to send."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message received; `generation` names the connection it came on: only there can it be acknowledged."""

    topic: str
    payload: bytes
    retained: bool
    duplicate: bool
    mid: int  # 0 at QoS 0
    generation: int


@dataclass(frozen=True, slots=True)
class Tls:
    """Files in PEM: the authority to trust; certificate and key to show (both or none). TLS 1.3 only."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to connect and as whom. `window`: publications at most in flight, the others wait in memory."""

    host: str
    port: int
    client_id: str
    keepalive_s: int = 20
    clean_session: bool = False
    username: str | None = None
    password: str | None = None
    tls: Tls | None = None
    window: int = 1000
    backoff_first_s: float = 0.5
    backoff_cap_s: float = 30.0


class NotConnected(Exception):  # noqa: N818 - reads as what it is at every place that catches it
    """There is no connection, or it ended before the broker acknowledged. Publish again after `on_connected`."""


def back_off_s(settings: Settings, failures: int, *, refused: bool) -> float:
    """Full jitter up to a doubling cap, so a fleet does not come back in step; near the cap at once when refused."""
    cap_s = settings.backoff_cap_s
    if refused:
        return random.uniform(cap_s / 2, cap_s)  # noqa: S311 - spreads load, guards nothing
    return random.uniform(0, min(cap_s, settings.backoff_first_s * 2.0 ** min(failures, 16)))  # noqa: S311 - see above


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Reads the files. Raises OSError, ssl.SSLError."""
    context = ssl.create_default_context(cafile=tls.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key)
    return context


def is_refusal(error: OSError | None) -> bool:
    """A TLS alert or an untrusted certificate, but not a connection cut short."""
    return isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError)
