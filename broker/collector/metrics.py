"""What Prometheus scrapes, rendered from the picture in memory: no metric object is touched per event."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from broker.collector.alarms import Cause
from broker.collector.fleet import Buckets, Fleet
from broker.collector.tally import COUNTERS

_HELP = {
    "passages": "Encounters after an admission, by what was observed to cross.",
    "verdicts": "Decisions about parties, before anything moved.",
    "refusals": "Refusals by reason; one refusal may have several reasons.",
    "fever_alarms": "Fever readings that raised an alarm.",
    "events_stored": "Events committed to the store, by kind.",
    "events_duplicate": "Events that had been stored before and were dropped.",
    "events_quarantined": "Messages that were not what they should be.",
    "events_deferred": "Events left to the gate to send again because their stream has too many gaps.",
}


def registry(fleet: Fleet, version: str) -> CollectorRegistry:
    """A registry of its own: the picture, and this process."""
    own = CollectorRegistry()
    own.register(FleetCollector(fleet, version))
    ProcessCollector(registry=own)
    return own


def render(own: CollectorRegistry) -> bytes:
    """The text that `/metrics` answers."""
    return generate_latest(own)


class FleetCollector(Collector):
    """Renders the picture at each scrape."""

    def __init__(self, fleet: Fleet, version: str) -> None:
        self._fleet, self._version = fleet, version

    def describe(self) -> list[Metric]:
        """Nothing to compare at registration: the registry is ours alone."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All families."""
        yield from self._counters()
        yield from self._gates()
        yield from self._alarms()
        yield from self._ingest()
        yield InfoMetricFamily("menwei_build", "This program.", value={"version": self._version})

    def _counters(self) -> Iterator[Metric]:
        families = {
            name: CounterMetricFamily(f"menwei_{name}", _HELP[name], labels=labels) for name, labels in COUNTERS.items()
        }
        for key, value in self._fleet.totals.items():
            family = families.get(key[0])
            if family is not None and len(key) == len(COUNTERS[key[0]]) + 1:
                family.add_metric(key[1:], value)
        for name, labels in COUNTERS.items():
            if not labels and (name,) not in self._fleet.totals:
                families[name].add_metric((), 0)
        yield from families.values()

    def _gates(self) -> Iterator[Metric]:
        up = GaugeMetricFamily("menwei_gate_up", "1 while the gate is heard from.", labels=("site", "gate"))
        seen = GaugeMetricFamily(
            "menwei_gate_last_seen_timestamp_seconds", "When the gate was last heard from.", labels=("site", "gate")
        )
        waiting = GaugeMetricFamily(
            "menwei_gate_waiting_events", "Events in the gate's outbox, as it last said.", labels=("site", "gate")
        )
        info = InfoMetricFamily("menwei_gate", "What the gate says of itself.", labels=("site", "gate"))
        for gate in self._fleet.gates.values():
            labels = (gate.site, gate.node)
            up.add_metric(labels, int(self._fleet.is_up(gate.node)))
            seen.add_metric(labels, self._fleet.heard_ms.get(gate.node, gate.heard_ms) / 1000)
            if gate.state is not None:
                waiting.add_metric(labels, gate.state.waiting)
            if gate.description is not None:
                words = {"version": gate.description.version, "policy": gate.description.policy[:80]}
                info.add_metric(labels, words)
        yield from (up, seen, waiting, info)

    def _alarms(self) -> Iterator[Metric]:
        open_alarms = GaugeMetricFamily("menwei_open_alarms", "Alarms open now, by cause.", labels=("cause",))
        for cause in Cause:
            open_alarms.add_metric((cause,), sum(key[1] is cause for key in self._fleet.alarms))
        yield open_alarms
        ranges = sum(count for count, _ in self._fleet.gaps.values())
        missing = sum(count for _, count in self._fleet.gaps.values())
        yield GaugeMetricFamily("menwei_stream_gaps", "Ranges of events missing below a stream's head.", value=ranges)
        yield GaugeMetricFamily("menwei_missing_events", "Events missing below the heads of streams.", value=missing)

    def _ingest(self) -> Iterator[Metric]:
        fleet = self._fleet
        yield _histogram("menwei_ingest_batch_messages", "Messages per commit.", fleet.batches)
        yield _histogram("menwei_ingest_commit_seconds", "Time of one durable commit.", fleet.commits)
        yield CounterMetricFamily("menwei_receipts", "Receipts published by this process.", value=fleet.receipts)
        yield GaugeMetricFamily(
            "menwei_ingest_backlog_messages", "Messages received and not committed.", value=fleet.health.backlog
        )
        yield GaugeMetricFamily(
            "menwei_broker_connected", "1 while connected to the broker.", value=int(fleet.health.connected)
        )


def _histogram(name: str, text: str, buckets: Buckets) -> Metric:
    cumulative, rows = 0, []
    for bound, count in zip((*map(str, buckets.bounds), "+Inf"), buckets.counts, strict=True):
        cumulative += count
        rows.append((bound, float(cumulative)))
    return HistogramMetricFamily(name, text, buckets=rows, sum_value=buckets.total)
