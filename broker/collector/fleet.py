"""The present picture in memory: what the page and the metrics show. Touched from the event loop only."""

from bisect import bisect_left
from dataclasses import dataclass, field

from broker.collector.alarms import Alarm, Cause, Key, Raised
from broker.collector.gates import GateRecord
from broker.collector.store import Outcome, Store
from broker.collector.tables import StreamKey
from broker.collector.tally import Tally

BATCH_BOUNDS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)
COMMIT_BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0)


@dataclass(slots=True)
class Buckets:
    """A histogram: counts per upper bound (the last one for everything above), and the sum."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class Health:
    """What `/-/ready` asks."""

    connected: bool = False
    backlog: int = 0
    backlog_limit: int = 1
    store_error: str | None = None

    def complaints(self) -> list[str]:
        """Why the service is not ready; empty when it is."""
        found = []
        if self.store_error is not None:
            found.append(f"database: {self.store_error}")
        if not self.connected:
            found.append("broker: not connected")
        if self.backlog >= self.backlog_limit:
            found.append(f"backlog: {self.backlog} messages wait, the limit is {self.backlog_limit}")
        return found


@dataclass(slots=True)
class Fleet:
    """Gates, open alarms and counters. `version` grows with everything the page shows."""

    gates: dict[str, GateRecord] = field(default_factory=dict)
    heard_ms: dict[str, int] = field(default_factory=dict)
    alarms: dict[Key, Alarm] = field(default_factory=dict)
    totals: Tally = field(default_factory=dict)
    gaps: dict[StreamKey, tuple[int, int]] = field(default_factory=dict)
    batches: Buckets = field(default_factory=lambda: Buckets(BATCH_BOUNDS))
    commits: Buckets = field(default_factory=lambda: Buckets(COMMIT_BOUNDS_S))
    receipts: int = 0
    health: Health = field(default_factory=Health)
    version: int = 0
    stored: int = 0  # since the start of this process; tells the page when to read the last passages again

    @classmethod
    def of(cls, store: Store) -> "Fleet":
        """The picture as the store has it at the start."""
        return cls(
            gates=store.gates.copy(),
            heard_ms={g.node: g.heard_ms for g in store.gates.values()},
            alarms=store.book.open.copy(),
            totals=store.totals.copy(),
            gaps=store.gaps,
        )

    def absorb(self, outcome: Outcome) -> None:
        """Take over what one commit changed."""
        for key, value in outcome.counted.items():
            self.totals[key] = self.totals.get(key, 0) + value
        for gate in outcome.gates:
            self.gates[gate.node] = gate
            self.heard_ms[gate.node] = gate.heard_ms
        for node in outcome.heard:
            self.heard_ms[node] = outcome.at_ms
        for change in outcome.changes:
            key = (change.alarm.place.origin, change.alarm.cause)
            if isinstance(change, Raised):
                self.alarms[key] = change.alarm
            else:
                self.alarms.pop(key, None)
        for stream, (ranges, missing) in outcome.gaps.items():
            if ranges:
                self.gaps[stream] = (ranges, missing)
            else:
                self.gaps.pop(stream, None)
        if outcome.messages:
            self.batches.observe(outcome.messages)
            self.commits.observe(outcome.commit_s)
        self.stored += outcome.stored
        if outcome.stored or outcome.gates or outcome.changes or outcome.gaps:
            self.version += 1

    def is_up(self, node: str) -> bool:
        """Whether a gate is heard from: no open alarm says that it is silent or lost."""
        return (node, Cause.GATE_SILENT) not in self.alarms
