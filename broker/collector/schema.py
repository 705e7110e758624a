"""Tables of the collector's database and the steps from each version to the next (`PRAGMA user_version`)."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

BUSY_TIMEOUT_MS = 5_000
_WAL_PAGES = 4_000  # checkpoint about every 16 MB: fewer, larger writes than the default of 1000 pages


class StoreError(Exception):
    """The database cannot be used now; the message says what to do. Nothing of the batch was kept."""


def open_writer(path: Path) -> sqlite3.Connection:
    """The one writing connection, migrated to this version: WAL, every commit synced. Raises StoreError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            path, isolation_level=None, check_same_thread=False, timeout=BUSY_TIMEOUT_MS / 1000
        )
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA wal_autocheckpoint={_WAL_PAGES}")
            connection.execute("PRAGMA cache_size=-65536")
            migrate(connection)
        except BaseException:
            connection.close()
            raise
    except (OSError, sqlite3.Error) as e:
        raise StoreError(f"cannot open the database {path}: {e}; check the folder, its owner and the free space") from e
    return connection


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that cannot write. Raises StoreError."""
    try:
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_TIMEOUT_MS / 1000,
        )
    except sqlite3.Error as e:
        raise StoreError(f"cannot read the database {path}: {e}") from e


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to VERSION, one transaction per step. Raises StoreError for a file of a newer program."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise StoreError(
            f"the database has version {version}, this program knows {VERSION}: install the newer program again"
        )
    for step in range(version, VERSION):
        connection.execute("BEGIN IMMEDIATE")
        try:
            _STEPS[step](connection)
            connection.execute(f"PRAGMA user_version={step + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _to_1(connection: sqlite3.Connection) -> None:
    """First version: events, streams with their gaps, gates, alarms, quarantine, counters."""
    for statement in (
        """CREATE TABLE stream (
            id INTEGER PRIMARY KEY, node TEXT NOT NULL, stream TEXT NOT NULL,
            head INTEGER NOT NULL, heard_ms INTEGER NOT NULL, UNIQUE (node, stream)) STRICT""",
        """CREATE TABLE gap (
            stream_id INTEGER NOT NULL REFERENCES stream (id), first INTEGER NOT NULL, last INTEGER NOT NULL,
            opened_ms INTEGER NOT NULL, lost INTEGER NOT NULL, PRIMARY KEY (stream_id, first)) STRICT, WITHOUT ROWID""",
        """CREATE TABLE event (
            id INTEGER PRIMARY KEY, stream_id INTEGER NOT NULL REFERENCES stream (id), seq INTEGER NOT NULL,
            kind TEXT NOT NULL, time TEXT NOT NULL, received_ms INTEGER NOT NULL,
            flaw TEXT, body BLOB NOT NULL) STRICT""",
        """CREATE VIEW recorded AS
            SELECT event.id, node, stream, seq, kind, time, received_ms, flaw, body
            FROM event JOIN stream ON stream.id = event.stream_id""",
        """CREATE TABLE gate (
            node TEXT PRIMARY KEY, site TEXT NOT NULL, boot TEXT NOT NULL, session INTEGER NOT NULL,
            heard_ms INTEGER NOT NULL, state BLOB, meta BLOB) STRICT, WITHOUT ROWID""",
        """CREATE TABLE alarm (
            id INTEGER PRIMARY KEY, origin TEXT NOT NULL, cause TEXT NOT NULL,
            site TEXT NOT NULL, node TEXT NOT NULL, part TEXT NOT NULL, detail TEXT NOT NULL,
            raised_ms INTEGER NOT NULL, raised_stream TEXT NOT NULL, raised_seq INTEGER NOT NULL,
            cleared_ms INTEGER, cleared_stream TEXT, cleared_seq INTEGER) STRICT""",
        "CREATE UNIQUE INDEX alarm_open ON alarm (origin, cause) WHERE cleared_ms IS NULL",
        """CREATE TABLE quarantine (
            id INTEGER PRIMARY KEY, received_ms INTEGER NOT NULL, topic TEXT NOT NULL, reason TEXT NOT NULL,
            size INTEGER NOT NULL, body BLOB NOT NULL) STRICT""",
        """CREATE TABLE counter (
            name TEXT NOT NULL, labels TEXT NOT NULL, value INTEGER NOT NULL,
            PRIMARY KEY (name, labels)) STRICT, WITHOUT ROWID""",
    ):
        connection.execute(statement)


_STEPS: tuple[Callable[[sqlite3.Connection], None], ...] = (_to_1,)
VERSION = len(_STEPS)
