"""Configuration of Eclipse Mosquitto, written from values: one for loopback, one for production. Tried on 2.0.11.

Every setting has its reason here; the written file carries none, so that it can be compared byte by byte.
"""

from dataclasses import dataclass
from pathlib import Path

MAX_QUEUED_BYTES = 512 * 1024 * 1024  # about a million waiting events; the number of messages alone is not limited
MAX_PACKET_BYTES = 131_072  # the largest message of the wire is 64 KiB; 2.0 would allow 256 MB

# The stock limit of 1000 queued messages loses events silently: they were acknowledged to their sender before.
# Without set_tcp_nodelay, Nagle adds up to 43 ms to single acknowledgements.
_TUNING = f"""\
set_tcp_nodelay true
max_inflight_messages 1000
max_queued_messages 0
max_queued_bytes {MAX_QUEUED_BYTES}
max_packet_size {MAX_PACKET_BYTES}
retain_available true
persistence true
"""


@dataclass(frozen=True, slots=True)
class Production:
    """What a site decides. `state_dir` belongs to `user`; `acl` is the file written from `broker.mosquitto.acl`."""

    ca: Path  # authority that signs gates and collector
    cert: Path
    key: Path
    acl: Path
    state_dir: Path
    crl: Path | None = None
    bind: str = "0.0.0.0"
    port: int = 8883
    user: str = "mosquitto"
    max_connections: int = 10_000


def loopback(port: int, state_dir: Path, user: str) -> str:
    """For demo, tests and a collector on the same machine: no credentials, and nothing listens beyond loopback."""
    return f"""\
user {user}
listener {port} 127.0.0.1
allow_anonymous true
{_TUNING}\
persistence_location {state_dir}/
autosave_interval 10
log_dest stderr
log_type error
log_type warning
log_type notice
log_timestamp_format %Y-%m-%dT%H:%M:%S
"""


def production(site: Production) -> str:
    """One TLS 1.3 listener, only for holders of a certificate of the authority; the certificate says who they are.

    `use_username_as_clientid` binds the client id to it: a gate cannot throw out another by taking its id.
    """
    crl = f"crlfile {site.crl}\n" if site.crl is not None else ""
    return f"""\
user {site.user}
listener {site.port} {site.bind}
cafile {site.ca}
certfile {site.cert}
keyfile {site.key}
{crl}\
tls_version tlsv1.3
require_certificate true
use_identity_as_username true
use_username_as_clientid true
allow_anonymous false
acl_file {site.acl}
max_connections {site.max_connections}
max_keepalive 120
persistent_client_expiration 7d
{_TUNING}\
persistence_location {site.state_dir}/
autosave_interval 60
connection_messages true
log_dest stderr
log_type error
log_type warning
log_type notice
log_timestamp_format %Y-%m-%dT%H:%M:%S
"""
