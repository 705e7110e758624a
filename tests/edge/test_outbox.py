import asyncio
import itertools
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from broker.wire.codec import digest
from broker.wire.messages import FIRST_PREV
from edge.outbox import Draft, Outbox, OutboxError, OutboxProblem, Row

BODY_BYTES = 700
BYTES_PER_EVENT = 10_000


def draft(word: str = "x", *, alarm: bool = False, size: int = BODY_BYTES) -> Draft:
    return Draft(
        alarm=alarm,
        kind="fever" if alarm else "verdict",
        build=lambda stream, seq, prev: f"{stream} {seq} {prev} {word}".encode().ljust(size, b"."),
    )


def check_chain(rows: list[Row], *, prev: str = FIRST_PREV, seq: int = 1) -> None:
    for row in rows:
        assert row.payload.startswith(f"{row.stream} {seq} {prev} ".encode())
        assert row.seq == seq
        prev, seq = digest(row.payload), seq + 1


async def test_an_append_is_numbered_chained_and_offered_in_order(tmp_path: Path):
    box = await Outbox.open(tmp_path / "o.db")
    rows = await box.append([draft("a"), draft("b", alarm=True), draft("c")])
    more = await box.append([draft("d")])
    assert [(r.stream, r.seq) for r in rows] == [(box.record_stream, 1), (box.alarm_stream, 1), (box.record_stream, 2)]
    check_chain([rows[0], rows[2], more[0]])
    check_chain([rows[1]])
    assert await box.take(box.record_stream, 0, 10) == [rows[0], rows[2], more[0]]
    assert await box.take(box.record_stream, 1, 1) == [rows[2]]
    assert await box.take(box.alarm_stream, 0, 10) == [rows[1]]
    assert {r.seq for r in await box.firsts()} == {1}
    assert box.waiting() == 4
    assert await box.append([]) == []
    await box.close()
    await box.close()


async def test_ids_are_random_and_kept(tmp_path: Path):
    one, two = await Outbox.open(tmp_path / "1.db"), await Outbox.open(tmp_path / "2.db")
    assert len({one.alarm_stream[2:], one.record_stream[2:], two.alarm_stream[2:], two.record_stream[2:]}) == 4
    assert one.alarm_stream.startswith("a-")
    assert one.record_stream.startswith("r-")
    ids = one.heads()
    await one.close()
    await two.close()
    again = await Outbox.open(tmp_path / "1.db")
    assert again.heads() == ids
    await again.close()


async def test_receipts_free_rows_but_the_newest_keeps_number_and_chain(tmp_path: Path):
    path = tmp_path / "o.db"
    box = await Outbox.open(path)
    rows = await box.append([draft(str(i)) for i in range(5)])
    box.confirm(box.record_stream, 3)
    assert box.waiting() == 2
    assert [r.seq for r in await box.take(box.record_stream, 0, 10)] == [4, 5]
    box.confirm(box.record_stream, 1)  # an older word changes nothing
    assert box.confirmed()[box.record_stream] == 3
    box.confirm(box.record_stream, 5)
    await box.close()
    assert _numbers_in_file(path) == [5]
    box = await Outbox.open(path)
    assert (box.waiting(), box.stale(), await box.take(box.record_stream, 0, 10)) == (0, 0, [])
    new = await box.append([draft("next")])
    check_chain(new, prev=digest(rows[-1].payload), seq=6)
    await box.close()
    assert _numbers_in_file(path) == [6]


def _numbers_in_file(path: Path) -> list[int]:
    db = sqlite3.connect(path)
    try:
        return [key & (2**48 - 1) for (key,) in db.execute("SELECT key FROM event ORDER BY key")]
    finally:
        db.close()


async def test_a_receipt_for_what_was_never_written_is_refused(tmp_path: Path):
    box = await Outbox.open(tmp_path / "o.db")
    await box.append([draft()])
    with pytest.raises(ValueError, match="only 1 were ever written"):
        box.confirm(box.record_stream, 2)
    with pytest.raises(ValueError, match="not one of this outbox"):
        box.confirm("r-0123456789abcdef", 1)
    assert box.waiting() == 1
    await box.close()


async def test_deletions_ride_along_and_a_large_backlog_goes_in_bounded_steps(tmp_path: Path):
    path = tmp_path / "o.db"
    box = await Outbox.open(path)
    await box.append([draft(size=50) for _ in range(1000)])
    box.confirm(box.record_stream, 1000)
    assert box.stale() == 1000
    await box.append([draft()])
    assert box.stale() == 1000 - 256
    await box.flush()
    assert box.stale() == 0
    await box.close()
    assert _numbers_in_file(path) == [1001]


async def test_rows_of_an_unfinished_commit_are_never_offered(tmp_path: Path):
    box = await Outbox.open(tmp_path / "o.db")
    appending = asyncio.create_task(box.append([draft(str(i), size=2000) for i in range(3000)]))
    seen = set()
    while not appending.done():
        rows = await box.take(box.record_stream, 0, 5000)
        seen.add((len(rows), appending.done()))
    assert {done for count, done in seen if count} <= {True}
    assert len(await box.take(box.record_stream, 0, 5000)) == 3000
    await box.close()


async def test_a_cancelled_append_is_stored_whole_and_the_next_goes_on(tmp_path: Path):
    box = await Outbox.open(tmp_path / "o.db")
    for step in range(6):
        appending = asyncio.create_task(box.append([draft("a"), draft("b")]))
        for _ in range(step):
            await asyncio.sleep(0)
        appending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await appending
    await box.append([draft("last")])
    rows = await box.take(box.record_stream, 0, 100)
    check_chain(rows)
    assert rows[-1].payload.rstrip(b".").endswith(b"last")
    assert len(rows) % 2 == 1
    await box.close()


async def test_a_draft_that_cannot_be_built_stores_nothing(tmp_path: Path):
    def broken(_stream: str, _seq: int, _prev: str) -> bytes:
        raise ArithmeticError

    box = await Outbox.open(tmp_path / "o.db")
    with pytest.raises(ArithmeticError):
        await box.append([draft(), Draft(alarm=False, kind="verdict", build=broken)])
    assert box.waiting() == 0
    check_chain(await box.append([draft()]))
    await box.close()


@pytest.mark.parametrize("where", [0, 1024, 3 * 1024, 40 * 1024])
async def test_a_corrupt_file_is_kept_aside_and_a_fresh_one_begun(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, where: int
):
    path = tmp_path / "o.db"
    box = await Outbox.open(path)
    old = set(box.heads())
    await box.append([draft() for _ in range(100)])
    await box.close()
    damaged = bytearray(path.read_bytes())
    damaged[where : where + 600] = b"\xa5" * 600
    path.write_bytes(damaged)
    box = await Outbox.open(path)
    kept = tmp_path / "o.db.corrupt-1"
    assert kept.read_bytes() == bytes(damaged)
    assert not old & set(box.heads())
    assert box.waiting() == 0
    assert "kept aside" in caplog.text
    assert caplog.records[-1].fields["kept"] == str(kept)  # type: ignore[attr-defined]
    check_chain(await box.append([draft()]))
    await box.close()


async def test_what_is_no_database_at_all_is_kept_aside_twice_under_two_names(tmp_path: Path):
    path = tmp_path / "o.db"
    for _ in range(2):
        path.write_text("this is a note, not a database" * 100)
        await (await Outbox.open(path)).close()
    assert _names(tmp_path) == {"o.db", "o.db.corrupt-1", "o.db.corrupt-2"}


def _names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


async def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path):
    path = tmp_path / "o.db"
    db = sqlite3.connect(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA user_version = 99")
    db.execute("CREATE TABLE future (x)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(OutboxError, match="install the version that wrote it"):
        await Outbox.open(path)
    assert path.read_bytes() == before


async def test_a_second_process_is_refused(tmp_path: Path):
    path = tmp_path / "o.db"
    box = await Outbox.open(path)
    await box.append([draft()])
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _OPEN_ONCE, str(path), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await child.communicate()
    assert out.decode().startswith("in_use")
    assert b"stop the other gate process" in out
    await box.close()


async def test_a_folder_in_its_place_is_named(tmp_path: Path):
    (tmp_path / "o.db").mkdir()
    with pytest.raises(OutboxError) as caught:
        await Outbox.open(tmp_path / "o.db")
    assert caught.value.problem is OutboxProblem.UNUSABLE


async def test_one_sync_and_few_bytes_for_each_event_with_and_without_receipts(tmp_path: Path):
    for receipted in (True, False):
        box = await Outbox.open(tmp_path / f"{receipted}.db")
        await box.append([draft()])
        before = _written_bytes()
        for _ in range(300):
            (row,) = await box.append([draft()])
            if receipted:
                box.confirm(row.stream, row.seq)
        written = (_written_bytes() - before) / 300
        await box.close()
        if before == 0 == _written_bytes():
            pytest.skip("this file system does not account for writes")
        assert written <= BYTES_PER_EVENT


def _written_bytes() -> int:
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("write_bytes")).split()[1])


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace counts the syncs")
def test_one_sync_for_each_append(tmp_path: Path):
    log = tmp_path / "strace"
    subprocess.run(
        [
            "strace",
            "-f",
            "-e",
            "trace=fsync,fdatasync",
            "-o",
            log,
            sys.executable,
            "-c",
            _APPEND_100,
            tmp_path / "o.db",
        ],
        check=True,
        timeout=60,
    )
    syncs = log.read_text().count("sync(")
    assert 100 <= syncs <= 100 + 12  # the rest is creating and closing the file


def test_a_full_disk_stores_none_and_recovers_when_there_is_room(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, tmp_path / "o.db"], capture_output=True, text=True, timeout=60, check=True
    )
    stored, problem, after, heads = done.stdout.split()
    assert int(stored) > 10
    assert problem in {"full", "failed"}
    assert int(after) == int(heads) == int(stored) + 1


def test_kill_9_in_the_middle_loses_no_acknowledged_append(tmp_path: Path):
    path = tmp_path / "o.db"
    for kill_at in (150, 700, 1300):
        child = subprocess.Popen(
            [sys.executable, "-c", _APPEND_AND_SAY, path], stdout=subprocess.PIPE, text=True, pipesize=4096
        )
        assert child.stdout is not None
        said = [int(line) for line in itertools.islice(child.stdout, kill_at)]
        os.kill(child.pid, signal.SIGKILL)
        said += [int(line) for line in child.stdout.read().splitlines() if line]
        child.stdout.close()
        assert child.wait(10) == -signal.SIGKILL
        rows = asyncio.run(_everything(path))
        check_chain(rows)
        assert said == list(range(said[0], said[-1] + 1))
        assert said[-1] <= rows[-1].seq <= said[-1] + 1  # at most the one that was not said yet


async def _everything(path: Path) -> list[Row]:
    box = await Outbox.open(path)
    try:
        return await box.take(box.record_stream, 0, 100_000)
    finally:
        await box.close()


_PRELUDE = """
import asyncio, resource, sys
from pathlib import Path
from edge.outbox import Draft, Outbox, OutboxError
path = Path(sys.argv[1])
def draft():
    return Draft(False, "verdict", lambda st, seq, prev: f"{st} {seq} {prev} x".encode().ljust(700, b"."))
"""
_OPEN_ONCE = (
    _PRELUDE
    + """
async def main():
    try:
        await Outbox.open(path)
    except OutboxError as e:
        print(e.problem, e)
asyncio.run(main())
"""
)
_APPEND_100 = (
    _PRELUDE
    + """
async def main():
    box = await Outbox.open(path)
    for _ in range(100):
        (row,) = await box.append([draft()])
        box.confirm(row.stream, row.seq)
    await box.close()
asyncio.run(main())
"""
)
_APPEND_AND_SAY = (
    _PRELUDE
    + """
async def main():
    box = await Outbox.open(path)
    for _ in range(2000):
        (row,) = await box.append([draft()])
        print(row.seq, flush=True)
asyncio.run(main())
"""
)
_FULL_DISK = (
    _PRELUDE
    + """
async def main():
    box = await Outbox.open(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    stored = 0
    try:
        while stored < 1000:
            await box.append([draft()])
            stored += 1
    except OutboxError as e:
        print(stored, e.problem)
    for _ in range(2):
        try:
            await box.append([draft(), draft()])
            raise SystemExit("stored on a full disk")
        except OutboxError:
            pass
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await box.append([draft()])
    print(len(await box.take(box.record_stream, 0, 10_000)), box.heads()[box.record_stream])
    await box.close()
asyncio.run(main())
"""
)
