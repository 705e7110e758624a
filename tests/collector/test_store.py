import sqlite3
from collections.abc import Iterable
from pathlib import Path

import pytest

from broker.collector.alarms import Cause, Cleared, Raised
from broker.collector.schema import VERSION, StoreError, migrate, open_reader, open_writer
from broker.collector.store import MAX_KEPT_BYTES
from broker.wire.messages import Clock, DeviceState, Release, StreamHead
from tests.collector.helpers import (
    NODE,
    STREAM,
    Msg,
    at,
    event,
    fever,
    meta,
    open_store,
    passage,
    state,
    verdict,
)

KEY = (NODE, STREAM)


def rows(path: Path, question: str) -> list[tuple[object, ...]]:
    reader = open_reader(path / "c.db")
    try:
        return reader.execute(question).fetchall()
    finally:
        reader.close()


def seqs(path: Path) -> list[int]:
    return [int(str(row[0])) for row in rows(path, "SELECT seq FROM recorded ORDER BY id")]


def test_stored_once_with_exact_bytes_and_a_cumulative_receipt(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    messages = [passage(n) for n in (1, 2, 3)]
    outcome = store.commit(messages, at(1))
    assert (outcome.stored, outcome.receipts) == (3, {KEY: 3})
    again = store.commit([messages[1], passage(4)], at(2))
    assert (again.stored, again.receipts, again.counted[("events_duplicate",)]) == (1, {KEY: 4}, 1)
    store.close()
    stored = rows(tmp_path, "SELECT node, stream, seq, kind, received_ms, flaw, body FROM recorded ORDER BY id")
    assert stored[1] == (NODE, STREAM, 2, "passage", at(1).wall_ms, None, messages[1].payload)
    assert len(stored) == 4


def test_duplicates_alone_are_receipted_again(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([passage(1), passage(2)], at(0))
    outcome = store.commit([passage(1)], at(1))
    assert (outcome.stored, outcome.receipts) == (0, {KEY: 2})
    store.close()


def test_a_gap_holds_the_receipt_and_survives_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    assert store.commit([passage(1), passage(4)], at(0)).receipts == {KEY: 1}
    store.close()
    store = open_store(tmp_path, 10)
    assert store.gaps == {KEY: (1, 2)}
    assert store.commit([passage(3)], at(11)).receipts == {KEY: 1}
    assert store.commit([passage(3), passage(2)], at(12)).receipts == {KEY: 4}
    assert store.gaps == {}
    store.close()
    assert seqs(tmp_path) == [1, 4, 3, 2]
    assert rows(tmp_path, "SELECT * FROM gap") == []


def test_a_gap_alarm_is_raised_by_age_and_cleared_by_the_fill(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([passage(1), passage(3)], at(0))
    assert store.tick(at(29)).changes == []
    (raised,) = store.tick(at(31)).changes
    assert isinstance(raised, Raised)
    assert (raised.alarm.cause, raised.alarm.detail) == (Cause.GAP, "1")
    (cleared,) = store.commit([passage(2)], at(32)).changes
    assert isinstance(cleared, Cleared)
    store.close()
    assert rows(tmp_path, "SELECT cause, cleared_ms FROM alarm") == [("gap", at(32).wall_ms)]


def test_what_the_gate_no_longer_holds_stops_holding_the_receipt(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([passage(5)], at(0))
    outcome = store.commit([meta([StreamHead(stream=STREAM, seq=5, first=5)])], at(1))
    assert outcome.receipts == {KEY: 5}
    store.close()
    assert rows(tmp_path, "SELECT first, last, lost FROM gap") == [(1, 4, 1)]


def test_bad_payloads_are_kept_bounded_and_the_stream_goes_on(tmp_path: Path) -> None:
    store = open_store(tmp_path, quarantine=10)
    topic = f"menwei/v1/{NODE}/event/passage"
    flawed = event("passage", b'{"lane":7}', 2)
    outcome = store.commit([passage(1), Msg(topic, b"{" * 99_999), flawed, passage(3)], at(0))
    assert (outcome.stored, outcome.receipts) == (3, {KEY: 3})
    assert outcome.counted[("events_quarantined",)] == 2
    assert outcome.counted[("events_stored", "passage")] == 2, "a flawed one counts for nothing else"
    kept = rows(tmp_path, "SELECT topic, size, length(body) FROM quarantine ORDER BY id")
    assert kept == [(topic, 99_999, MAX_KEPT_BYTES), (topic, len(flawed.payload), len(flawed.payload))]
    assert rows(tmp_path, "SELECT seq, flaw IS NULL FROM event ORDER BY id") == [(1, 1), (2, 0), (3, 1)]
    store.commit([Msg("rubbish", bytes([n])) for n in range(50)], at(1))
    store.close()
    assert rows(tmp_path, "SELECT count(*), max(body) FROM quarantine") == [(10, b"\x31")]


def test_unknown_kinds_are_stored(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    outcome = store.commit([event("weather", b'{"sky":"blue"}', 1)], at(0))
    assert outcome.counted == {("events_stored", "other"): 1}
    store.close()
    assert rows(tmp_path, "SELECT kind, flaw FROM recorded") == [("weather", None)]


def test_a_failed_commit_keeps_nothing_and_the_same_batch_succeeds_later(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([passage(1)], at(0))
    batch = [passage(2), passage(4), fever(1), state(), Msg("rubbish", b"")]
    before = (store.totals.copy(), store.gates.copy(), store.gaps, store.book.copy())
    # A full disk: SQLite may not grow the file.
    store._db.execute(f"PRAGMA max_page_count={store._db.execute('PRAGMA page_count').fetchone()[0]}")
    bulk = [event("weather", b'{"x":"' + b"y" * 9000 + b'"}', n, stream="r-2") for n in range(1, 20)]
    with pytest.raises(StoreError, match="free space"):
        store.commit([*batch, *bulk], at(1))
    assert (store.totals, store.gates, store.gaps, store.book) == before
    assert seqs(tmp_path) == [1]
    store._db.execute("PRAGMA max_page_count=100000")
    outcome = store.commit([*batch, *bulk], at(2))
    assert (outcome.stored, outcome.receipts[KEY], outcome.counted.get(("events_duplicate",))) == (22, 2, None)
    assert len(outcome.changes) == 1
    store.close()


def test_counters_and_alarms_survive_a_restart(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([verdict(1, "refuse", ("curfew", "fever", "of-tomorrow")), passage(2), fever(1), state()], at(0))
    totals, open_alarms = store.totals, store.book.open
    store.close()
    store = open_store(tmp_path, 100)
    assert store.totals == totals
    assert totals[("refusals", "garden", NODE, "curfew")] == 1
    assert totals[("refusals", "garden", NODE, "other")] == 1
    assert totals[("fever_alarms", "garden", NODE)] == 1
    assert store.book.open == open_alarms
    assert [key[1] for key in open_alarms] == [Cause.FEVER]
    (change,) = store.commit([fever(2, "released")], at(101)).changes
    assert isinstance(change, Cleared)
    store.close()


def test_after_a_restart_an_old_event_does_not_raise_what_a_newer_one_cleared(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([fever(1), fever(3, "released")], at(0))
    store.close()
    store = open_store(tmp_path, 5)
    assert store.commit([fever(2)], at(6)).changes == []
    store.close()


def causes(messages: Iterable[Msg], tmp_path: Path) -> list[tuple[str, str, str]]:
    store = open_store(tmp_path)
    outcome = store.commit(list(messages), at(0))
    store.close()
    return [("+" if isinstance(c, Raised) else "-", c.alarm.cause, c.alarm.place.origin) for c in outcome.changes]


def device(seq: int, phase: str) -> Msg:
    data = DeviceState(device="thermometer-1", lane="main", phase=phase, fault="missing", advice="plug it in")
    return event("device", data, seq)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([fever(1), fever(2, "released")], [("+", "fever", "gate-1/main"), ("-", "fever", "gate-1/main")]),
        ([fever(1), fever(2, "of-tomorrow")], [("+", "fever", "gate-1/main")]),
        (
            [device(1, "fault"), device(2, "fault"), device(3, "ok")],
            [("+", "device_fault", "gate-1/thermometer-1"), ("-", "device_fault", "gate-1/thermometer-1")],
        ),
        (
            [event("release", Release(cause="fire", phase=p), n) for n, p in ((1, "started"), (2, "ended"))],
            [("+", "fire", "gate-1"), ("-", "fire", "gate-1")],
        ),
        (
            [event("clock", Clock(trust=t, reason="rtc"), n) for n, t in ((1, "untrusted"), (2, "holdover"))],
            [("+", "clock_untrusted", "gate-1"), ("-", "clock_untrusted", "gate-1")],
        ),
        (
            [state(clock="untrusted"), state(clock="trusted", second=1)],
            [("+", "clock_untrusted", "gate-1"), ("-", "clock_untrusted", "gate-1")],
        ),
        ([state(), state("lost")], [("+", "gate_silent", "gate-1")]),
        ([state(), state("lost"), state("lost")], [("+", "gate_silent", "gate-1")]),
        (
            [state(), state("lost"), state(session=2, second=1)],
            [("+", "gate_silent", "gate-1"), ("-", "gate_silent", "gate-1")],
        ),
        ([state(boot="b2"), state("lost", boot="b1", session=9)], []),
        ([state(session=4), state("lost", session=3)], []),
    ],
)
def test_alarms_from_real_bytes(messages: list[Msg], expected: list[tuple[str, str, str]], tmp_path: Path) -> None:
    assert causes(messages, tmp_path) == expected


def test_a_retained_copy_is_no_sign_of_life(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([state()], at(0))
    store.commit([state(retained=True)], at(40))
    assert [c.alarm.cause for c in store.tick(at(46)).changes] == [Cause.GATE_SILENT]
    (cleared,) = store.commit([state(retained=True, second=30)], at(50)).changes
    assert isinstance(cleared, Cleared), "a copy newer than what we know is news"
    store.close()


def test_a_lost_gate_keeps_its_last_lanes(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([state(), state("lost")], at(0))
    known = store.gates[NODE].state
    assert known is not None
    assert (known.phase, known.lanes[0].lane) == ("lost", "main")
    store.close()


def test_events_are_a_sign_of_life(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.commit([state()], at(0))
    store.commit([passage(1)], at(40))
    assert store.tick(at(80)).changes == []
    store.close()
    store = open_store(tmp_path, 200)
    assert store.gates[NODE].heard_ms == at(40).wall_ms
    assert store.tick(at(240)).changes == [], "silence is counted from when somebody listens"
    assert len(store.tick(at(246)).changes) == 1
    store.close()


def test_every_version_can_be_migrated_twice_and_a_newer_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    connection = open_writer(path)
    migrate(connection)
    assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
    assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.execute(f"PRAGMA user_version={VERSION + 1}")
    connection.close()
    with pytest.raises(StoreError, match="newer program"):
        open_store(tmp_path)


def test_a_file_that_is_no_database_is_refused_untouched(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    path.write_bytes(b"a letter to the editor, not a database" * 100)
    with pytest.raises(StoreError, match="cannot open"):
        open_store(tmp_path)
    assert path.read_bytes().startswith(b"a letter")


def test_the_reader_cannot_write(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    reader = open_reader(tmp_path / "c.db")
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM event")
    reader.close()
