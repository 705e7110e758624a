"""Rows in and out of the tables: the only SQL of the writing side, inside the caller's transaction."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import msgspec

from broker.collector.alarms import Alarm, Book, Cause, Change, Cleared, Place, Raised
from broker.collector.continuity import Continuity, Gap
from broker.collector.gates import GateRecord
from broker.collector.tally import Tally
from broker.wire import codec
from broker.wire.messages import Description, State

StreamKey = tuple[str, str]  # node, stream
EventRow = tuple[int, int, str, str, int, str | None, bytes]  # stream id, seq, kind, time, received, flaw, body
QuarantineRow = tuple[int, str, str, int, bytes]  # received, topic, reason, size, body

_ROWS_PER_INSERT = 100
_INSERT = "INSERT INTO event (stream_id, seq, kind, time, received_ms, flaw, body) VALUES "
_INSERT_ONE = _INSERT + "(?, ?, ?, ?, ?, ?, ?)"
_INSERT_MANY = _INSERT + ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * _ROWS_PER_INSERT)


@dataclass(slots=True)
class StreamRow:
    """A stream's row and its ranges; `saved_gaps` is what the gap table holds."""

    id: int
    held: Continuity
    heard_ms: int
    saved_gaps: list[Gap] = field(default_factory=list)

    @classmethod
    def new(cls, row_id: int, now_ms: int) -> "StreamRow":
        """A stream met for the first time: everything from 1 on is expected."""
        return cls(row_id, Continuity(), now_ms)

    def copy(self) -> "StreamRow":
        """An independent copy."""
        return StreamRow(self.id, self.held.copy(), self.heard_ms, self.saved_gaps)


def write_streams(db: sqlite3.Connection, rows: Mapping[StreamKey, StreamRow], new: Sequence[StreamKey]) -> None:
    """Insert new streams, move the heads of all, rewrite the ranges of those whose ranges changed."""
    if new:
        db.executemany(
            "INSERT INTO stream (id, node, stream, head, heard_ms) VALUES (?, ?, ?, ?, ?)",
            [(rows[k].id, *k, rows[k].held.head, rows[k].heard_ms) for k in new],
        )
    db.executemany(
        "UPDATE stream SET head = ?, heard_ms = ? WHERE id = ?",
        [(row.held.head, row.heard_ms, row.id) for row in rows.values()],
    )
    changed = [row for row in rows.values() if row.held.gaps != row.saved_gaps]
    if changed:
        db.executemany("DELETE FROM gap WHERE stream_id = ?", [(row.id,) for row in changed])
        db.executemany(
            "INSERT INTO gap (stream_id, first, last, opened_ms, lost) VALUES (?, ?, ?, ?, ?)",
            [(row.id, g.first, g.last, g.opened_ms, int(g.lost)) for row in changed for g in row.held.gaps],
        )


def write_events(db: sqlite3.Connection, rows: Sequence[EventRow]) -> None:
    """Append events, many rows per statement: each statement gives up and retakes the interpreter's lock once."""
    whole = len(rows) - len(rows) % _ROWS_PER_INSERT
    for at in range(0, whole, _ROWS_PER_INSERT):
        db.execute(_INSERT_MANY, tuple(chain.from_iterable(rows[at : at + _ROWS_PER_INSERT])))
    db.executemany(_INSERT_ONE, rows[whole:])


def write_counters(db: sqlite3.Connection, totals: Tally) -> None:
    """Set counters to their new totals."""
    db.executemany(
        "INSERT INTO counter (name, labels, value) VALUES (?, ?, ?)"
        " ON CONFLICT (name, labels) DO UPDATE SET value = excluded.value",
        [(key[0], _labels(key[1:]), value) for key, value in totals.items()],
    )


def write_gates(db: sqlite3.Connection, gates: Iterable[GateRecord]) -> None:
    """Insert or replace what is known of gates."""
    db.executemany(
        "INSERT OR REPLACE INTO gate (node, site, boot, session, heard_ms, state, meta) VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (
                g.node,
                g.site,
                g.boot,
                g.session,
                g.heard_ms,
                None if g.state is None else codec.encode(g.state),
                None if g.description is None else codec.encode(g.description),
            )
            for g in gates
        ],
    )


def write_alarms(db: sqlite3.Connection, changes: Iterable[Change]) -> None:
    """Write alarms raised and cleared, in order: one may do both within a batch."""
    for change in changes:
        alarm, place = change.alarm, change.alarm.place
        match change:
            case Raised():
                db.execute(
                    "INSERT INTO alarm (origin, cause, site, node, part, detail, raised_ms, raised_stream, raised_seq)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        place.origin,
                        alarm.cause,
                        place.site,
                        place.node,
                        place.part,
                        alarm.detail,
                        alarm.raised_ms,
                        alarm.stream,
                        alarm.seq,
                    ),
                )
            case Cleared():
                db.execute(
                    "UPDATE alarm SET cleared_ms = ?, cleared_stream = ?, cleared_seq = ?"
                    " WHERE origin = ? AND cause = ? AND cleared_ms IS NULL",
                    (change.cleared_ms, change.stream, change.seq, place.origin, alarm.cause),
                )


def write_quarantine(db: sqlite3.Connection, rows: Sequence[QuarantineRow], keep: int) -> None:
    """Append bad payloads and drop the oldest beyond `keep` rows."""
    db.executemany("INSERT INTO quarantine (received_ms, topic, reason, size, body) VALUES (?, ?, ?, ?, ?)", rows)
    db.execute("DELETE FROM quarantine WHERE id <= (SELECT max(id) FROM quarantine) - ?", (keep,))


def load_streams(db: sqlite3.Connection) -> dict[StreamKey, StreamRow]:
    """All streams with their ranges."""
    gaps: dict[int, list[Gap]] = {}
    for row_id, first, last, opened_ms, lost in db.execute(
        "SELECT stream_id, first, last, opened_ms, lost FROM gap ORDER BY stream_id, first"
    ):
        gaps.setdefault(row_id, []).append(Gap(first, last, opened_ms, bool(lost)))
    return {
        (node, stream): StreamRow(row_id, Continuity(head, gaps.get(row_id, []).copy()), heard_ms, gaps.get(row_id, []))
        for row_id, node, stream, head, heard_ms in db.execute("SELECT id, node, stream, head, heard_ms FROM stream")
    }


def load_gates(db: sqlite3.Connection) -> dict[str, GateRecord]:
    """All gates as they were last known."""
    return {
        node: GateRecord(
            node,
            site,
            heard_ms,
            boot,
            session,
            None if state is None else codec.decode_message(state, State),
            None if meta is None else codec.decode_message(meta, Description),
        )
        for node, site, boot, session, heard_ms, state, meta in db.execute(
            "SELECT node, site, boot, session, heard_ms, state, meta FROM gate"
        )
    }


def load_counters(db: sqlite3.Connection) -> Tally:
    """All counters."""
    return {
        (name, *msgspec.json.decode(labels, type=list[str])): value
        for name, labels, value in db.execute("SELECT name, labels, value FROM counter")
    }


def load_book(db: sqlite3.Connection) -> Book:
    """Open alarms, and the last event that moved each condition."""
    book = Book()
    for cause, site, node, part, detail, raised_ms, stream, seq in db.execute(
        "SELECT cause, site, node, part, detail, raised_ms, raised_stream, raised_seq"
        " FROM alarm WHERE cleared_ms IS NULL"
    ):
        place = Place(site, node, part)
        book.open[place.origin, Cause(cause)] = Alarm(place, Cause(cause), detail, raised_ms, stream, seq)
    for column in ("raised", "cleared"):
        for origin, cause, stream, seq in db.execute(
            f"SELECT origin, cause, {column}_stream, max({column}_seq) FROM alarm"  # noqa: S608 - two fixed words
            f" WHERE {column}_seq > 0 GROUP BY 1, 2, 3"
        ):
            key = (origin, Cause(cause), stream)
            book.last_seq[key] = max(seq, book.last_seq.get(key, 0))
    return book


def _labels(values: Sequence[str]) -> str:
    return msgspec.json.encode(values).decode()
