"""Every fact on disk before anything else happens; gone only when the collector has it.

Two streams, each with its own id, sequence and hash chain. An append is one commit is one sync. The newest row of a
stream stays in the file for ever, receipted or not: sequence and `prev` survive a restart without a second record.
"""

import asyncio
import logging
import os
import secrets
import sqlite3
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite

from broker.wire.codec import digest
from broker.wire.messages import FIRST_PREV

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

SCHEMA_VERSION = 1
LOCK_WAIT_S = 2.0  # a killed predecessor is gone by then
DELETES_PER_COMMIT = 256  # bounds what rides along with an append: an admission waits for it


@dataclass(frozen=True, slots=True)
class Draft:
    """A fact to be recorded: `build(stream, seq, prev)` gives the exact bytes of its event."""

    alarm: bool
    kind: str
    build: Callable[[str, int, str], bytes]


@dataclass(frozen=True, slots=True)
class Row:
    """A recorded event."""

    stream: str
    seq: int
    kind: str
    payload: bytes


class OutboxProblem(StrEnum):
    """What keeps the outbox from working."""

    FULL = "full"
    READ_ONLY = "read_only"
    CORRUPT = "corrupt"
    IN_USE = "in_use"
    UNUSABLE = "unusable"
    FAILED = "failed"


class OutboxError(Exception):
    """Nothing was stored, or nothing can be read; the text says what to do next."""

    def __init__(self, problem: OutboxProblem, message: str) -> None:
        super().__init__(message)
        self.problem = problem


class Outbox:
    """The file of unreceipted events. One task appends; take, confirm and flush belong to the pump."""

    def __init__(self, path: Path, connection: aiosqlite.Connection, streams: Sequence["_Stream"]) -> None:
        """Use `open`."""
        self._path, self._db = path, connection
        self._alarm, self._record = streams
        self._streams = {s.id: s for s in streams}
        self._write_lock = asyncio.Lock()
        self._writes: set[asyncio.Task[Any]] = set()
        self._closed = False

    @classmethod
    async def open(cls, path: Path, *, stream_id: Callable[[], str] = lambda: secrets.token_hex(8)) -> "Outbox":
        """Open or begin the file; a corrupt one is kept under another name, a fresh one begun. Raises OutboxError."""
        try:
            return cls(path, *await _open(path, stream_id))
        except OutboxError as e:
            if e.problem is not OutboxProblem.CORRUPT:
                raise
            kept = _set_aside(path)
            logger.error(
                "outbox was corrupt: kept aside, a fresh one with new streams begun; send the kept file to support",
                extra={"fields": {"file": str(path), "kept": str(kept), "error": str(e)}},
            )
        return cls(path, *await _open(path, stream_id))

    @property
    def alarm_stream(self) -> str:
        """Id of the stream that is drained first."""
        return self._alarm.id

    @property
    def record_stream(self) -> str:
        """Id of the stream of everything else."""
        return self._record.id

    def heads(self) -> dict[str, int]:
        """Sequence number of the newest committed event by stream; 0 before the first."""
        return {s.id: s.head for s in self._streams.values()}

    def confirmed(self) -> dict[str, int]:
        """Up to which number the collector has each stream."""
        return {s.id: s.confirmed for s in self._streams.values()}

    def waiting(self) -> int:
        """Committed events without a receipt."""
        return sum(s.head - s.confirmed for s in self._streams.values())

    def stale(self) -> int:
        """Receipted rows the file does not yet know to be receipted: offered again if the power went now."""
        return sum(s.stale() for s in self._streams.values())

    async def append(self, drafts: Sequence[Draft]) -> list[Row]:
        """Store all in one commit; durable when it returns, none stored when it raises OutboxError."""
        return await self._to_the_end(self._append(drafts))

    async def take(self, stream: str, after_seq: int, limit: int) -> list[Row]:
        """At most `limit` unreceipted events of a stream behind `after_seq`, in order. Raises OutboxError."""
        s = self._streams[stream]
        first, last = max(after_seq, s.confirmed) + 1, s.head  # never a row still being committed
        try:
            found = await self._db.execute_fetchall(
                "SELECT key, kind, payload FROM event WHERE key BETWEEN ? AND ? ORDER BY key LIMIT ?",
                (s.key(first), s.key(last), limit),
            )
        except sqlite3.Error as e:
            raise _ours(e, self._path) from e
        first = max(first, s.confirmed + 1)  # receipts that came meanwhile may have deleted the beginning
        rows = [Row(stream, key - s.key(0), kind, payload) for key, kind, payload in found if key >= s.key(first)]
        missing = not found and first <= last and limit > 0
        if missing or any(row.seq != seq for seq, row in enumerate(rows, start=first)):
            raise OutboxError(
                OutboxProblem.CORRUPT, f"outbox {self._path}: rows are missing behind {stream} {first}: {_DAMAGED}"
            )
        return rows

    async def firsts(self) -> list[Row]:
        """The unreceipted event waiting longest, of each stream that has any. Raises OutboxError."""
        return [row for stream in self._streams for row in await self.take(stream, 0, 1)]

    def confirm(self, stream: str, upto: int) -> None:
        """The collector has `stream` up to `upto` (cumulative; an older word changes nothing). Raises ValueError.

        Nothing is written now: the deletion rides in the next append or flush.
        """
        s = self._streams.get(stream)
        if s is None:
            raise ValueError(f"stream {stream} is not one of this outbox")
        if upto > s.head:
            raise ValueError(f"receipt up to {upto} of stream {stream}, of which only {s.head} were ever written here")
        s.confirmed = max(s.confirmed, upto)

    async def flush(self) -> None:
        """Make the file know every receipt. Raises OutboxError."""
        while self.stale():
            await self._to_the_end(self._clean_up())

    async def close(self) -> None:
        """Flush and let go of the file; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            await self.flush()
        except OutboxError as e:  # the rows are offered again after the next start: harmless
            logger.warning("receipts were not written down at close", extra={"fields": {"error": str(e)}})
        async with self._write_lock:
            await self._db.close()

    async def _append(self, drafts: Sequence[Draft]) -> list[Row]:
        if not drafts:
            return []
        async with self._write_lock:
            heads = {s.id: (s.head, s.prev) for s in self._streams.values()}
            rows = []
            for draft in drafts:
                stream = (self._alarm if draft.alarm else self._record).id
                seq, prev = heads[stream][0] + 1, heads[stream][1]
                payload = draft.build(stream, seq, prev)
                heads[stream] = seq, digest(payload)
                rows.append(Row(stream, seq, draft.kind, payload))
            await self._commit(rows, {stream: seq for stream, (seq, _) in heads.items()})
            for s in self._streams.values():
                s.head, s.prev = heads[s.id]
            return rows

    async def _clean_up(self) -> None:
        async with self._write_lock:
            await self._commit([], self.heads())

    async def _commit(self, rows: Sequence[Row], heads: Mapping[str, int]) -> None:
        """One transaction: the new rows, and what receipts allow to delete by now."""
        progress = {s.id: s.next_clean_up(heads[s.id]) for s in self._streams.values()}
        try:
            if rows:
                await self._db.executemany(
                    "INSERT INTO event (key, kind, done, payload) VALUES (?, ?, 0, ?)",
                    [(self._streams[r.stream].key(r.seq), r.kind, r.payload) for r in rows],
                )
            for s in self._streams.values():
                low, marked = progress[s.id]
                if low > s.low:
                    await self._db.execute(
                        "DELETE FROM event WHERE key BETWEEN ? AND ?", (s.key(s.low), s.key(low - 1))
                    )
                if marked and not s.marked:
                    await self._db.execute("UPDATE event SET done = 1 WHERE key = ?", (s.key(low),))
            await self._db.commit()
        except sqlite3.Error as e:
            await self._roll_back()
            raise _ours(e, self._path) from e
        for s in self._streams.values():
            s.low, s.marked = progress[s.id]

    async def _roll_back(self) -> None:
        try:
            await self._db.rollback()
        except sqlite3.Error as e:  # SQLite has rolled back by itself then
            logger.warning("rollback after a failed write failed too", extra={"fields": {"error": str(e)}})

    async def _to_the_end(self, work: Coroutine[Any, Any, _T]) -> _T:
        """A cancelled caller must not leave a transaction half done."""
        task = asyncio.create_task(work)
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)
        return await asyncio.shield(task)


_SCHEMA = (
    "CREATE TABLE stream (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE)",
    # key = stream number and sequence in one integer: one small tree whose last page takes nearly every write.
    # done = 1 only on a newest row that has its receipt: it stays for the sequence, not for sending.
    "CREATE TABLE event (key INTEGER PRIMARY KEY, kind TEXT NOT NULL, done INTEGER NOT NULL, payload BLOB NOT NULL)",
    f"PRAGMA user_version = {SCHEMA_VERSION}",
)
_STREAMS = ((1, "a"), (2, "r"))  # number in the key, first letter of the id
_SEQ_BITS = 48

_DAMAGED = "it is damaged: restart the gate, which keeps it aside and begins anew"

# By SQLite's primary result code: what it is and what to do next.
_PROBLEMS: dict[int, tuple[OutboxProblem, str]] = {
    sqlite3.SQLITE_FULL: (OutboxProblem.FULL, "the disk is full: free space there; passes are held until then"),
    sqlite3.SQLITE_READONLY: (
        OutboxProblem.READ_ONLY,
        "it cannot be written: check owner and mount of the data partition",
    ),
    sqlite3.SQLITE_PERM: (OutboxProblem.READ_ONLY, "it cannot be written: check owner and mount of the data partition"),
    sqlite3.SQLITE_CANTOPEN: (OutboxProblem.UNUSABLE, "it cannot be opened: check that the folder exists and is ours"),
    sqlite3.SQLITE_BUSY: (OutboxProblem.IN_USE, "another process holds it: stop the other gate process first"),
    sqlite3.SQLITE_LOCKED: (OutboxProblem.IN_USE, "another process holds it: stop the other gate process first"),
    sqlite3.SQLITE_CORRUPT: (
        OutboxProblem.CORRUPT,
        _DAMAGED,
    ),
    sqlite3.SQLITE_NOTADB: (
        OutboxProblem.CORRUPT,
        _DAMAGED,
    ),
}
_FAILED = (OutboxProblem.FAILED, "the disk refuses: check the kernel log and the card; passes are held until then")


@dataclass(slots=True)
class _Stream:
    """What memory knows of a stream; the file follows with the next commit."""

    number: int
    id: str
    head: int = 0
    prev: str = FIRST_PREV
    confirmed: int = 0
    low: int = 1  # lowest number still in the file
    marked: bool = False  # the newest row is known in the file to be receipted

    def key(self, seq: int) -> int:
        return (self.number << _SEQ_BITS) + seq

    def stale(self) -> int:
        if self.head == 0 or self.confirmed < self.head:
            return max(0, self.confirmed - self.low + 1)
        return self.head - self.low + (0 if self.marked else 1)

    def next_clean_up(self, head: int) -> tuple[int, bool]:
        """(`low`, `marked`) after a commit that makes `head` the newest row."""
        low = max(self.low, min(self.confirmed, head - 1, self.low + DELETES_PER_COMMIT - 1) + 1)
        if head != self.head:
            return low, False
        return low, self.marked or (head > 0 and self.confirmed == head == low)


async def _open(path: Path, stream_id: Callable[[], str]) -> tuple[aiosqlite.Connection, list[_Stream]]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(_probe, path)  # aiosqlite leaves a thread to itself when connecting fails
        db = await aiosqlite.connect(path, timeout=LOCK_WAIT_S, isolation_level="IMMEDIATE")
    except OSError as e:
        raise OutboxError(OutboxProblem.UNUSABLE, f"outbox {path}: {e}: make its folder writable for this user") from e
    except sqlite3.Error as e:
        raise _ours(e, path) from e
    try:
        # One process, so the index of the log stays in memory: no third file, and a second gate process is refused.
        await db.execute("PRAGMA locking_mode = EXCLUSIVE")
        # 1 KiB pages keep an event with and without receipts under 10 kB of flash writes (4 KiB: 12 kB while offline).
        await db.execute("PRAGMA page_size = 1024")
        await db.execute("PRAGMA wal_autocheckpoint = 4000")
        await db.execute("PRAGMA journal_mode = WAL")
        await db.execute("PRAGMA synchronous = FULL")
        await db.execute("PRAGMA secure_delete = OFF")  # on in Debian's build: it would write every deleted page again
        await _prepare(db, path, stream_id)
        return db, [await _read_stream(db, path, number, letter) for number, letter in _STREAMS]
    except sqlite3.Error as e:
        await db.close()
        raise _ours(e, path) from e
    except OutboxError:
        await db.close()
        raise


def _probe(path: Path) -> None:
    sqlite3.connect(path).close()


async def _prepare(db: aiosqlite.Connection, path: Path, stream_id: Callable[[], str]) -> None:
    """Create the tables in an empty file; prove that those of an old one are sound."""
    version = (await _all(db, "PRAGMA user_version"))[0][0]
    tables = (await _all(db, "SELECT count(*) FROM sqlite_schema"))[0][0]
    if version == 0 and tables == 0:
        await db.execute("BEGIN IMMEDIATE")
        for statement in _SCHEMA:
            await db.execute(statement)
        ids = [(number, f"{letter}-{stream_id()}") for number, letter in _STREAMS]
        await db.executemany("INSERT INTO stream (number, id) VALUES (?, ?)", ids)
        await db.commit()
        _sync_folder(path.parent)
    elif version != SCHEMA_VERSION:
        raise OutboxError(
            OutboxProblem.UNUSABLE,
            f"outbox {path}: its layout is {version}, this version knows {SCHEMA_VERSION}:"
            " install the version that wrote it, or move the file away",
        )
    elif (verdict := (await _all(db, "PRAGMA quick_check(1)"))[0][0]) != "ok":
        raise OutboxError(OutboxProblem.CORRUPT, f"outbox {path}: {verdict}")


async def _read_stream(db: aiosqlite.Connection, path: Path, number: int, letter: str) -> _Stream:
    ids = await _all(db, "SELECT id FROM stream WHERE number = ?", number)
    if len(ids) != 1 or not str(ids[0][0]).startswith(f"{letter}-"):
        raise OutboxError(OutboxProblem.CORRUPT, f"outbox {path}: stream {number} has lost its id")
    stream = _Stream(number, str(ids[0][0]))
    span = stream.key(0), stream.key(2**_SEQ_BITS - 1)
    count, low, head = (
        await _all(db, "SELECT count(*), min(key), max(key) FROM event WHERE key BETWEEN ? AND ?", *span)
    )[0]
    if count == 0:
        return stream
    if count != head - low + 1:
        raise OutboxError(OutboxProblem.CORRUPT, f"outbox {path}: rows are missing in stream {stream.id}")
    done, payload = (await _all(db, "SELECT done, payload FROM event WHERE key = ?", head))[0]
    stream.low, stream.head = low - stream.key(0), head - stream.key(0)
    stream.prev, stream.marked = digest(payload), done == 1
    stream.confirmed = stream.head if stream.marked else stream.low - 1
    return stream


async def _all(db: aiosqlite.Connection, sql: str, *parameters: object) -> list[Any]:
    return list(await db.execute_fetchall(sql, parameters))


def _ours(error: sqlite3.Error, path: Path) -> OutboxError:
    code = getattr(error, "sqlite_errorcode", None)
    problem, advice = _FAILED if code is None else _PROBLEMS.get(code & 0xFF, _FAILED)
    return OutboxError(problem, f"outbox {path}: {error}: {advice}")


def _set_aside(path: Path) -> Path:
    """Rename the file and its log so that both stay together; return the new name. Raises OutboxError."""
    number = 1
    while (kept := path.with_name(f"{path.name}.corrupt-{number}")).exists():
        number += 1
    try:
        for suffix in ("-wal", ""):  # the log first: it must never be read into a fresh file
            if (old := path.with_name(path.name + suffix)).exists():
                old.rename(kept.with_name(kept.name + suffix))
        _sync_folder(path.parent)
    except OSError as e:
        raise OutboxError(OutboxProblem.UNUSABLE, f"outbox {path} is damaged and cannot be moved: {e}: move it") from e
    return kept


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
