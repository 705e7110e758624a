"""The only writer: one batch of messages in, one transaction, one outcome out. Runs in one worker thread.

Memory holds what the tables hold (streams, gates, counters, alarms); a batch works on copies that replace the originals
only after COMMIT, so a failed commit leaves both as they were and the same batch can be tried again.
"""

import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from broker.collector import alarms, tables, tally
from broker.collector.alarms import Book, Change, Fact, Gone, Heard, Limits, Missing, Now, Place
from broker.collector.continuity import Taken
from broker.collector.gates import GateRecord, Seen, see, with_state
from broker.collector.intake import DescriptionSeen, Event, Intake, Rubbish, StateSeen
from broker.collector.schema import StoreError, open_writer
from broker.collector.tables import StreamKey, StreamRow
from broker.collector.tally import Tally
from broker.wire.messages import Description, State

MAX_KEPT_BYTES = 16_384  # of a bad payload
_MAX_TOPIC = 256
_MAX_REASON = 400


class Message(Protocol):
    """What the writer needs of a message from the bus (`broker.client.Incoming` has it)."""

    @property
    def topic(self) -> str:
        """Where it was published."""

    @property
    def payload(self) -> bytes:
        """Exact bytes."""

    @property
    def retained(self) -> bool:
        """Whether the broker delivered a stored copy at our own connect."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one committed batch did."""

    messages: int = 0
    stored: int = 0
    receipts: dict[StreamKey, int] = field(default_factory=dict)
    counted: Tally = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    gates: list[GateRecord] = field(default_factory=list)
    heard: list[str] = field(default_factory=list)  # nodes that gave a sign of life
    gaps: dict[StreamKey, tuple[int, int]] = field(default_factory=dict)  # ranges, events missing
    at_ms: int = 0
    commit_s: float = 0.0


@dataclass(slots=True)
class _Work:
    """One batch before its commit."""

    now: Now
    book: Book
    streams: dict[StreamKey, StreamRow] = field(default_factory=dict)
    gates: dict[str, GateRecord] = field(default_factory=dict)
    heard: dict[str, Place] = field(default_factory=dict)
    events: list[tuple[int, int, str, str, int, str | None, bytes]] = field(default_factory=list)
    quarantine: list[tuple[int, str, str, int, bytes]] = field(default_factory=list)
    counted: Tally = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    receipts: set[StreamKey] = field(default_factory=set)
    new_streams: int = 0

    def count(self, name: str, value: int = 1) -> None:
        self.counted[(name,)] = self.counted.get((name,), 0) + value


class Store:
    """Open it, then `commit` batches and `tick` from one thread; `close` when done."""

    def __init__(self, path: Path, limits: Limits, quarantine_rows: int, now: Now) -> None:
        self._limits, self._quarantine_rows = limits, quarantine_rows
        self._intake = Intake()
        self._db = open_writer(path)
        self._streams: dict[StreamKey, StreamRow] = {}
        self.gates: dict[str, GateRecord] = {}
        self.totals: Tally = {}
        self._series: dict[str, int] = {}
        self.book = Book()
        try:
            self._load(now)
        except sqlite3.Error as e:
            self._db.close()
            raise StoreError(f"cannot read the database {path}: {e}; restore it from a copy") from e

    @property
    def gaps(self) -> dict[StreamKey, tuple[int, int]]:
        """Streams with missing events: ranges and events."""
        return {k: (len(s.held.gaps), s.held.missing()) for k, s in self._streams.items() if s.held.gaps}

    def commit(self, batch: Sequence[Message], now: Now) -> Outcome:
        """Store a batch durably. Raises StoreError, then nothing of it is kept and it may be tried again."""
        work = _Work(now, self.book.copy())
        for message in batch:
            self._judge(work, message)
        work.facts.extend(Heard(place) for place in work.heard.values())
        gaps: dict[StreamKey, tuple[int, int]] = {}
        for key, stream in work.streams.items():
            if stream.held.gaps != stream.saved_gaps:
                gaps[key] = (len(stream.held.gaps), stream.held.missing())
                place = Place(self._site(work, key[0]), key[0], key[1])
                work.facts.append(Missing(place, stream.held.missing_open()))
        changes = alarms.step(work.book, work.facts, now)
        return self._finish(work, changes, len(batch), gaps)

    def tick(self, now: Now) -> Outcome:
        """Raise what the passing of time raises. Raises StoreError."""
        work = _Work(now, self.book.copy())
        changes = alarms.tick(work.book, self._limits, now)
        return self._finish(work, changes, 0, {}) if changes else Outcome()

    def close(self) -> None:
        """Close the file; what was committed stays."""
        self._db.close()

    def _finish(self, work: _Work, changes: list[Change], size: int, gaps: dict[StreamKey, tuple[int, int]]) -> Outcome:
        counted = tally.settle(self.totals, self._series, work.counted)
        totals = {key: self.totals.get(key, 0) + value for key, value in counted.items()}
        begun = time.perf_counter()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            self._write(work, changes, totals)
            self._db.execute("COMMIT")
        except sqlite3.Error as e:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise StoreError(f"cannot commit: {e}; check the disk and its free space") from e
        commit_s = time.perf_counter() - begun
        for stream in work.streams.values():
            stream.saved_gaps = stream.held.gaps.copy()
        self._streams.update(work.streams)
        self.gates.update(work.gates)
        for key in totals.keys() - self.totals.keys():
            self._series[key[0]] = self._series.get(key[0], 0) + 1
        self.totals.update(totals)
        self.book = work.book
        return Outcome(
            messages=size,
            stored=len(work.events),
            receipts={key: work.streams[key].held.upto() for key in work.receipts},
            counted=counted,
            changes=changes,
            gates=list(work.gates.values()),
            heard=list(work.heard),
            at_ms=work.now.wall_ms,
            gaps=gaps,
            commit_s=commit_s,
        )

    def _judge(self, work: _Work, message: Message) -> None:
        judged = self._intake.judge(message.topic, message.payload)
        if type(judged) is Event:
            self._take_event(work, judged, message)
        elif isinstance(judged, StateSeen):
            self._take_state(work, judged.state, message)
        elif isinstance(judged, DescriptionSeen):
            self._take_description(work, judged.description, message)
        elif isinstance(judged, Rubbish):
            self._reject(work, judged.reason, message)

    def _take_event(self, work: _Work, event: Event, message: Message) -> None:
        now_ms, node = work.now.wall_ms, event.node
        key = (node, event.stream)
        stream = work.streams.get(key)
        if stream is None:
            known = self._streams.get(key)
            stream = known.copy() if known else self._new_stream(work)
            work.streams[key] = stream
        stream.heard_ms = now_ms
        if node not in work.heard:
            gate = self._gate(work, node)
            if gate is None or (event.site and not gate.site):
                gate = work.gates[node] = replace(gate or GateRecord(node, "", now_ms), site=event.site)
            work.heard[node] = Place(gate.site, node)
        taken = stream.held.take(event.seq, now_ms)
        if taken is Taken.DEFERRED:
            work.count("events_deferred")
            return
        work.receipts.add(key)
        if taken is Taken.DUPLICATE:
            work.count("events_duplicate")
            return
        if event.flaw is not None:
            self._reject(work, event.flaw, message)
            body = message.payload[:MAX_KEPT_BYTES]
            work.events.append((stream.id, event.seq, event.kind, event.time, now_ms, event.flaw[:_MAX_REASON], body))
            return
        work.events.append((stream.id, event.seq, event.kind, event.time, now_ms, None, message.payload))
        tally.count(work.counted, event)
        fact = tally.fact(event)
        if fact is not None:
            work.facts.append(fact)

    def _take_state(self, work: _Work, state: State, message: Message) -> None:
        known = self._gate(work, state.node)
        seen = see(known, state, retained=message.retained)
        if seen in (Seen.REPEATED, Seen.STALE_LOST):
            return
        gate = with_state(known, state, seen, work.now.wall_ms)
        work.gates[state.node] = gate
        place = Place(gate.site, gate.node)
        if seen is Seen.LOST:
            work.facts.append(Gone(place))
            return
        work.facts.append(Heard(place, connected=True))
        untrusted = state.clock == "untrusted"
        work.facts.append(alarms.Told(place, alarms.Cause.CLOCK_UNTRUSTED, untrusted, state.clock))

    def _take_description(self, work: _Work, description: Description, message: Message) -> None:
        node = description.node
        known = self._gate(work, node) or GateRecord(node, description.site, work.now.wall_ms)
        work.gates[node] = replace(known, site=description.site, description=description)
        if not message.retained:
            work.heard[node] = Place(known.site, node)
        for head in description.heads:
            key = (node, head.stream)
            stream = work.streams.get(key) or self._streams.get(key)
            if stream is None or head.first <= 1:
                continue
            stream = stream if key in work.streams else stream.copy()
            if stream.held.declare_lost_below(head.first):
                work.streams[key] = stream
                work.receipts.add(key)

    def _reject(self, work: _Work, reason: str, message: Message) -> None:
        body = message.payload
        work.quarantine.append(
            (work.now.wall_ms, message.topic[:_MAX_TOPIC], reason[:_MAX_REASON], len(body), body[:MAX_KEPT_BYTES])
        )
        work.count("events_quarantined")

    def _gate(self, work: _Work, node: str) -> GateRecord | None:
        return work.gates.get(node) or self.gates.get(node)

    def _site(self, work: _Work, node: str) -> str:
        gate = self._gate(work, node)
        return gate.site if gate else ""

    def _new_stream(self, work: _Work) -> StreamRow:
        work.new_streams += 1
        return StreamRow.new(len(self._streams) + work.new_streams, work.now.wall_ms)

    def _write(self, work: _Work, changes: list[Change], totals: Tally) -> None:
        tables.write_streams(self._db, work.streams, new=[k for k in work.streams if k not in self._streams])
        tables.write_events(self._db, work.events)
        tables.write_counters(self._db, totals)
        if work.gates:
            tables.write_gates(self._db, work.gates.values())
        if changes:
            tables.write_alarms(self._db, changes)
        if work.quarantine:
            tables.write_quarantine(self._db, work.quarantine, self._quarantine_rows)

    def _load(self, now: Now) -> None:
        self._streams = tables.load_streams(self._db)
        self.gates = tables.load_gates(self._db)
        self.totals = tables.load_counters(self._db)
        for name, *_ in self.totals:
            self._series[name] = self._series.get(name, 0) + 1
        for (node, _), row in self._streams.items():
            gate = self.gates.get(node)
            if gate is not None and row.heard_ms > gate.heard_ms:
                self.gates[node] = replace(gate, heard_ms=row.heard_ms)
        self.book = tables.load_book(self._db)
        # How long a gate was silent or a gap open while nobody watched is not known: both clocks begin now.
        for gate in self.gates.values():
            self.book.heard_s[gate.node] = (Place(gate.site, gate.node), now.mono_s)
        for (node, stream), row in self._streams.items():
            count = row.held.missing_open()
            if count:
                place = Place(self.gates[node].site if node in self.gates else "", node, stream)
                self.book.missing_since_s[place.origin] = (place, count, now.mono_s)
