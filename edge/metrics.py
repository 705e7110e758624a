"""What one node shows of itself to Prometheus: plain numbers the controller keeps, rendered when somebody asks.

Served on loopback only, by a small HTTP answerer on the same loop: no thread, no label objects per event.
"""

import asyncio
import ipaddress
import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from edge.core.model import ClockTrust

logger = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 4096
MAX_CONNECTIONS = 8
REQUEST_TIMEOUT_S = 5.0
STEP_BOUNDS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5)
LAG_BOUNDS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)
_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """Counts by upper bound in seconds; cheap enough for every step of the loop."""

    __slots__ = ("_bounds_s", "_counts", "_sum_s")

    def __init__(self, bounds_s: Sequence[float]) -> None:
        self._bounds_s = tuple(bounds_s)
        self._counts = [0] * (len(bounds_s) + 1)
        self._sum_s = 0.0

    def observe(self, seconds: float) -> None:
        """Count one duration; a bound belongs to its own bucket."""
        self._counts[bisect_left(self._bounds_s, seconds)] += 1
        self._sum_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts as Prometheus has them, `+Inf` last."""
        total, found = 0, []
        for bound, count in zip((*map(str, self._bounds_s), "+Inf"), self._counts, strict=True):
            total += count
            found.append((bound, float(total)))
        return found

    @property
    def sum_s(self) -> float:
        """Sum of all durations."""
        return self._sum_s


@dataclass(slots=True)
class NodeStats:
    """The numbers of a node. The controller updates them in place; only known words become labels."""

    version: str
    node: str
    outbox_waiting: int = 0
    outbox_oldest_wall_ms: int | None = None  # when the event was recorded that waits longest; None = nothing waits
    connected: bool = False  # to the broker
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)  # (lane, admit | refuse | retest)
    lockouts: dict[tuple[str, str], bool] = field(default_factory=dict)  # (lane, cause) -> in force
    devices: dict[str, bool] = field(default_factory=dict)  # device -> works
    clock: ClockTrust = ClockTrust.UNTRUSTED
    step_s: Histogram = field(default_factory=lambda: Histogram(STEP_BOUNDS_S))  # one input through the core and out
    loop_lag_s: Histogram = field(default_factory=lambda: Histogram(LAG_BOUNDS_S))  # how late the loop's timer fired


class NodeCollector(Collector):
    """Turns NodeStats into metric families at the moment of the scrape."""

    def __init__(self, stats: NodeStats, wall_ms: Callable[[], int]) -> None:
        self._stats, self._wall_ms = stats, wall_ms

    def describe(self) -> list[Metric]:
        """Nothing in advance: one collector per registry."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All families of the node."""
        s = self._stats
        info = GaugeMetricFamily("menwei_node_build_info", "Version of the gate process.", labels=["node", "version"])
        info.add_metric([s.node, s.version], 1)
        yield info
        yield GaugeMetricFamily(
            "menwei_node_outbox_events", "Events on disk without a receipt.", value=s.outbox_waiting
        )
        oldest_ms = s.outbox_oldest_wall_ms
        yield GaugeMetricFamily(
            "menwei_node_outbox_oldest_seconds",
            "Age of the event waiting longest for its receipt; 0 when none waits.",
            value=0.0 if oldest_ms is None else max(0, self._wall_ms() - oldest_ms) / 1000,
        )
        yield GaugeMetricFamily("menwei_node_broker_up", "1 while connected to the broker.", value=float(s.connected))
        verdicts = CounterMetricFamily("menwei_node_verdicts", "Verdicts by lane.", labels=["lane", "verdict"])
        for (lane, verdict), count in sorted(s.verdicts.items()):
            verdicts.add_metric([lane, verdict], count)
        yield verdicts
        lockouts = GaugeMetricFamily(
            "menwei_node_lockout_active", "1 while a lane is locked.", labels=["lane", "cause"]
        )
        for (lane, cause), active in sorted(s.lockouts.items()):
            lockouts.add_metric([lane, cause], float(active))
        yield lockouts
        devices = GaugeMetricFamily("menwei_node_device_up", "1 while the device works.", labels=["device"])
        for device, works in sorted(s.devices.items()):
            devices.add_metric([device], float(works))
        yield devices
        clock = GaugeMetricFamily("menwei_node_clock_trust", "1 at the present trust in the clock.", labels=["trust"])
        for trust in ClockTrust:
            clock.add_metric([trust.value], float(trust is s.clock))
        yield clock
        for name, text, histogram in (
            ("menwei_node_step_duration_seconds", "From input to effects handed out.", s.step_s),
            ("menwei_node_loop_lag_seconds", "How late the control loop's timer fired.", s.loop_lag_s),
        ):
            yield HistogramMetricFamily(name, text, buckets=histogram.buckets(), sum_value=histogram.sum_s)


class MetricsServer:
    """Answers `GET /metrics` on loopback, and nothing else."""

    def __init__(self, registry: CollectorRegistry, *, request_timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self._registry, self._request_timeout_s = registry, request_timeout_s
        self._server: asyncio.Server | None = None
        self._handlers: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen; port 0 picks one. Return the port. Raises ValueError if others can reach the address, OSError."""
        if not ipaddress.ip_address(host).is_loopback:
            raise ValueError(f"metrics address {host}: a gate shows its metrics on loopback only, use 127.0.0.1 or ::1")
        self._server = await asyncio.start_server(self._handle, host, port, limit=MAX_REQUEST_BYTES)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening and end open requests; idempotent."""
        if self._server is not None:
            self._server.close()
            for handler in tuple(self._handlers):
                handler.cancel()
            await asyncio.gather(*self._handlers, return_exceptions=True)
            await self._server.wait_closed()
            self._server = None

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._handlers.add(task)
            task.add_done_callback(self._handlers.discard)
        try:
            if len(self._handlers) <= MAX_CONNECTIONS:
                async with asyncio.timeout(self._request_timeout_s):
                    writer.write(await self._answer(reader))
                    writer.close()
                    await writer.wait_closed()  # until the other side has taken it
        except (TimeoutError, ConnectionError):
            logger.debug("metrics request given up")
        finally:
            writer.transport.abort()  # after an orderly end this does nothing

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return _response("400 Bad Request", b"an HTTP request ends in an empty line\n")
        except asyncio.LimitOverrunError:
            return _response("431 Request Header Fields Too Large", b"request too large\n")
        method, _, rest = head.partition(b" ")
        target = rest.partition(b" ")[0].partition(b"?")[0]
        if target != b"/metrics":
            return _response("404 Not Found", b"see /metrics\n")
        if method != b"GET":
            return _response("405 Method Not Allowed", b"GET only\n")
        return _response("200 OK", generate_latest(self._registry))


def _response(status: str, body: bytes) -> bytes:
    head = (f"HTTP/1.0 {status}", f"Content-Type: {_CONTENT_TYPE}", f"Content-Length: {len(body)}", "Connection: close")
    return "\r\n".join((*head, "", "")).encode() + body
