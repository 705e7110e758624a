import asyncio
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from broker.client import Incoming, NotConnected, Publication
from broker.collector.fleet import Fleet
from broker.collector.ingest import Ingest, Timing
from broker.collector.schema import open_reader
from broker.collector.store import Store
from tests.collector.helpers import NODE, Msg, open_store, passage
from tests.system.parties import until

PENDING = 100


class Log:
    """A bus that writes down what is asked of it, with what the database held at that moment."""

    def __init__(self, path: Path) -> None:
        self.reader = open_reader(path / "c.db")
        self.lines: list[tuple[str, int, int]] = []  # what, how far, rows committed by then
        self.reading = True
        self.connected = True

    def rows(self) -> int:
        return int(self.reader.execute("SELECT count(*) FROM event").fetchone()[0])

    def publish(self, publication: Publication) -> "asyncio.Future[None]":
        if not self.connected:
            raise NotConnected("gone")
        assert publication.topic == f"menwei/v1/{NODE}/receipt"
        self.lines.append(("receipt", int(publication.payload.split(b":")[-1].rstrip(b"}")), self.rows()))
        return asyncio.get_running_loop().create_future()

    def ack(self, messages: Iterable[Incoming]) -> None:
        self.lines.append(("ack", sum(1 for _ in messages), self.rows()))

    def pause(self) -> None:
        self.reading = False

    def resume(self) -> None:
        self.reading = True

    def of(self, what: str) -> list[tuple[int, int]]:
        return [line[1:] for line in self.lines if line[0] == what]


class Running:
    """An ingest at work."""

    def __init__(self, path: Path) -> None:
        self.store: Store = open_store(path)
        self.fleet = Fleet.of(self.store)
        timing = Timing(tick_s=0.05, retry_s=0.02, receipts_s=0.02)
        self.ingest = Ingest(self.store, self.fleet, batch=20, pending=PENDING, timing=timing)
        self.bus = Log(path)
        self.ingest.attach(self.bus)
        self.ingest.on_connected()
        self.task = asyncio.create_task(self.ingest.run())

    def give(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            message: Msg = passage(number)
            self.ingest.on_message(Incoming(message.topic, message.payload, False, False, number, 1))


@pytest.fixture
async def at_work(tmp_path: Path) -> AsyncIterator[Running]:
    running = Running(tmp_path)
    yield running
    running.ingest.finish()
    await running.task
    running.ingest.close()
    running.bus.reader.close()


async def test_commit_then_receipt_then_acknowledgement(at_work: Running) -> None:
    at_work.give(range(1, 51))
    await until(lambda: sum(n for n, _ in at_work.bus.of("ack")) == 50, "all acknowledged")
    assert at_work.bus.of("receipt")[-1][0] == 50
    for upto, committed in at_work.bus.of("receipt"):
        assert committed >= upto
    acked = 0
    for count, committed in at_work.bus.of("ack"):
        acked += count
        assert committed >= acked
    assert at_work.bus.lines[0][0] == "receipt", "the receipt does not wait for the acknowledgement"


async def test_a_database_that_fails_means_no_receipt_no_acknowledgement_and_a_pause(at_work: Running) -> None:
    pages = at_work.store._db.execute("PRAGMA page_count").fetchone()[0]
    at_work.store._db.execute(f"PRAGMA max_page_count={pages}")
    at_work.give(range(1, PENDING + 1))
    await until(lambda: at_work.fleet.health.store_error, "trouble is known")
    await until(lambda: at_work.fleet.health.backlog == PENDING - at_work.bus.rows(), "backlog is known")
    assert not at_work.bus.reading
    assert at_work.fleet.health.complaints()
    committed = at_work.bus.rows()
    assert committed < PENDING
    assert sum(n for n, _ in at_work.bus.of("ack")) == committed
    at_work.store._db.execute("PRAGMA max_page_count=100000")
    await until(lambda: sum(n for n, _ in at_work.bus.of("ack")) == PENDING, "goes on")
    await until(lambda: at_work.bus.of("receipt")[-1][0] == PENDING, "receipted")
    assert at_work.bus.reading
    assert at_work.fleet.health.complaints() == []
    assert at_work.bus.rows() == PENDING


async def test_receipts_wait_for_the_broker(at_work: Running) -> None:
    at_work.bus.connected = False
    at_work.give([1, 2, 3])
    await until(lambda: at_work.bus.of("ack"), "committed")
    assert at_work.bus.of("receipt") == []
    at_work.bus.connected = True
    at_work.ingest.on_connected()
    await until(lambda: at_work.bus.of("receipt"), "receipted later")
    assert at_work.bus.of("receipt") == [(3, 3)]


async def test_finish_empties_the_list_first(tmp_path: Path) -> None:
    running = Running(tmp_path)
    running.give(range(1, 91))
    running.ingest.finish()
    await running.task
    assert running.bus.rows() == 90
    assert running.bus.of("receipt")[-1] == (90, 90)
    assert not running.bus.reading
    running.ingest.close()
    running.bus.reader.close()
