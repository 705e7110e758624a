import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from broker.client import NotConnected, Publication
from broker.wire.codec import encode
from broker.wire.messages import Receipt
from edge.outbox import Draft, Outbox, OutboxError, OutboxProblem, Row
from edge.pump import FLUSH_AFTER_S, RESEND_LIMIT_S, UNRECEIPTED_PER_WINDOW, Pump

NS_PER_S = 1_000_000_000


def draft(*, alarm: bool = False) -> Draft:
    kind = "fever" if alarm else "verdict"
    return Draft(alarm, kind, lambda stream, seq, prev: f"{stream} {seq} {prev}".encode())


async def until(condition: Callable[[], bool], *, within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.001)


async def settle() -> None:
    """Let everything happen that can happen without time passing."""
    for _ in range(30):
        await asyncio.sleep(0.001)


class ManualClock:
    """Time stands still until it is moved."""

    def __init__(self) -> None:
        self.now_ns = 5 * NS_PER_S
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def mono_ns(self) -> int:
        return self.now_ns

    async def sleep_until_mono(self, mono_ns: int) -> None:
        if mono_ns > self.now_ns:
            future = asyncio.get_running_loop().create_future()
            self._sleepers.append((mono_ns, future))
            await future

    def move(self, seconds: float) -> None:
        self.now_ns += int(seconds * NS_PER_S)
        for due_ns, future in self._sleepers:
            if due_ns <= self.now_ns and not future.done():
                future.set_result(None)


class FastClock:
    """A thousand seconds pass in each real one."""

    def mono_ns(self) -> int:
        return time.monotonic_ns() * 1000

    async def sleep_until_mono(self, mono_ns: int) -> None:
        while (left_ns := mono_ns - self.mono_ns()) > 0:
            await asyncio.sleep(left_ns / NS_PER_S / 1000)


class Link:
    """The client's contract: a future per publication, failed with NotConnected when the connection ends."""

    def __init__(self) -> None:
        self.up = False
        self.sent: list[Publication] = []
        self.open: list[asyncio.Future[None]] = []
        self.most_open = 0

    def publish(self, publication: Publication) -> asyncio.Future[None]:
        if not self.up:
            raise NotConnected("not connected")
        self.sent.append(publication)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.open.append(future)
        self.most_open = max(self.most_open, len(self.open))
        return future

    def puback(self, count: int | None = None) -> None:
        done, self.open = self.open[:count], self.open[len(self.open) if count is None else count :]
        for future in done:
            future.set_result(None)

    def drop(self) -> None:
        self.up = False
        done, self.open = self.open, []
        for future in done:
            future.set_exception(NotConnected("connection lost"))

    def numbers(self, stream: str) -> list[int]:
        return [seq for s, seq in map(identity, self.sent) if s == stream]


def identity(publication: Publication) -> tuple[str, int]:
    stream, seq, _prev = publication.payload.decode().split()
    return stream, int(seq)


class Bench:
    """Outbox, pump and link on one table."""

    def __init__(self, box: Outbox, clock: ManualClock, link: Link, pump: Pump) -> None:
        self.box, self.clock, self.link, self.pump = box, clock, link, pump

    async def record(self, count: int, *, alarm: bool = False) -> None:
        await self.box.append([draft(alarm=alarm)] * count)
        self.pump.wake()

    def connect(self) -> None:
        self.link.up = True
        self.pump.connected()

    def receipt(self, stream: str, upto: int) -> None:
        self.pump.on_receipt(encode(Receipt(stream=stream, upto=upto)))


@asynccontextmanager
async def running(pump: Pump) -> AsyncIterator[None]:
    task = asyncio.create_task(pump.run(), name="pump")
    try:
        yield
    finally:
        assert not task.done()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def bench(path: Path, *, window: int = 500) -> AsyncIterator[Bench]:
    box, clock, link = await Outbox.open(path), ManualClock(), Link()
    pump = Pump(box, link.publish, "gate-1", window, clock=clock)
    async with running(pump):
        yield Bench(box, clock, link, pump)
    await box.close()


async def test_it_publishes_alarms_first_each_stream_in_order(tmp_path: Path):
    async with bench(tmp_path / "o.db") as b:
        await b.record(250)
        await b.record(3, alarm=True)
        await settle()
        assert not b.link.sent  # offline nothing is tried
        b.connect()
        await until(lambda: len(b.link.sent) == 253)
        streams = [identity(p)[0] for p in b.link.sent]
        assert streams == [b.box.alarm_stream] * 3 + [b.box.record_stream] * 250
        assert b.link.numbers(b.box.record_stream) == list(range(1, 251))
        assert b.link.sent[0].topic == "menwei/v1/gate-1/event/fever"
        assert b.link.sent[3].topic == "menwei/v1/gate-1/event/verdict"
        assert {(p.qos, p.retain) for p in b.link.sent} == {(1, False)}


async def test_an_alarm_overtakes_a_backlog_that_is_being_sent(tmp_path: Path):
    async with bench(tmp_path / "o.db", window=20) as b:
        await b.record(60)
        b.connect()
        await until(lambda: len(b.link.sent) == 20)
        await b.record(1, alarm=True)
        await settle()
        assert len(b.link.sent) == 20  # the window is full
        b.link.puback(5)
        await until(lambda: len(b.link.sent) == 25)
        assert identity(b.link.sent[20]) == (b.box.alarm_stream, 1)
        assert b.link.most_open == 20


async def test_a_puback_frees_nothing_and_a_receipt_does(tmp_path: Path):
    async with bench(tmp_path / "o.db") as b:
        await b.record(10)
        b.connect()
        await until(lambda: len(b.link.sent) == 10)
        b.link.puback()
        await settle()
        assert b.box.waiting() == 10
        b.receipt(b.box.record_stream, 7)
        assert b.box.waiting() == 3


async def test_without_receipts_it_stops_after_a_few_windows(tmp_path: Path):
    async with bench(tmp_path / "o.db", window=10) as b:
        await b.record(200)
        b.connect()
        for _ in range(30):
            await settle()
            b.link.puback()
        assert len(b.link.sent) == 10 * UNRECEIPTED_PER_WINDOW
        b.receipt(b.box.record_stream, 5)
        for _ in range(3):
            await settle()
            b.link.puback()
        assert b.link.numbers(b.box.record_stream) == list(range(1, 46))


async def test_after_a_reconnect_everything_without_receipt_is_sent_again(tmp_path: Path):
    async with bench(tmp_path / "o.db") as b:
        await b.record(10)
        b.connect()
        await until(lambda: len(b.link.sent) == 10)
        b.link.puback()
        b.receipt(b.box.record_stream, 4)
        b.link.drop()
        b.pump.disconnected()
        await b.record(2)
        await settle()
        assert len(b.link.sent) == 10
        b.connect()
        await until(lambda: len(b.link.sent) == 18)
        assert b.link.numbers(b.box.record_stream)[10:] == list(range(5, 13))


async def test_a_connection_lost_between_two_words_of_the_client_is_survived(tmp_path: Path):
    async with bench(tmp_path / "o.db") as b:
        b.link.up = False
        await b.record(3)
        b.pump.connected()  # said a moment before it was lost again
        await settle()
        assert not b.link.sent
        b.connect()
        await until(lambda: b.link.numbers(b.box.record_stream) == [1, 2, 3])


async def test_what_has_no_receipt_in_time_is_sent_again_ever_more_slowly(tmp_path: Path):
    async with bench(tmp_path / "o.db") as b:
        await b.record(3)
        b.connect()
        await until(lambda: len(b.link.sent) == 3)
        b.link.puback()
        b.receipt(b.box.record_stream, 1)
        b.clock.move(9.9)
        await settle()
        assert len(b.link.sent) == 3
        waits_s = []
        for _ in range(8):
            sent = len(b.link.sent)
            b.clock.move(0.2 if not waits_s else 0)
            waited_s = 0
            while len(b.link.sent) == sent:
                b.clock.move(5)
                waited_s += 5
                for _ in range(4):
                    await asyncio.sleep(0.001)
                assert waited_s <= RESEND_LIMIT_S + 5
            await until(lambda sent=sent: len(b.link.sent) == sent + 2)  # type: ignore[misc]
            b.link.puback()
            waits_s.append(waited_s)
        assert b.link.numbers(b.box.record_stream) == [1, 2, 3] + [2, 3] * 8
        assert waits_s[1:6] == pytest.approx([20, 40, 80, 160, 300], abs=6)
        assert waits_s[7] <= RESEND_LIMIT_S + 5
        b.receipt(b.box.record_stream, 3)
        assert b.box.waiting() == 0


async def test_receipts_that_keep_coming_hold_back_the_resending(tmp_path: Path):
    async with bench(tmp_path / "o.db") as b:
        await b.record(5)
        b.connect()
        await until(lambda: len(b.link.sent) == 5)
        for upto in range(1, 5):
            b.clock.move(9)
            b.receipt(b.box.record_stream, upto)
            await settle()
        assert len(b.link.sent) == 5


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not json",
        b"\xff",
        b"[]",
        b'{"stream":"r-x"}',
        b'{"stream":"r-x","upto":-1}',
        b'{"stream":"r-x","upto":1}',
    ],
)
async def test_a_receipt_that_is_none_changes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture, payload: bytes):
    async with bench(tmp_path / "o.db") as b:
        await b.record(1)
        b.pump.on_receipt(payload)
        b.receipt(b.box.record_stream, 2)  # more than was ever written
        assert b.box.waiting() == 1
        assert len([r for r in caplog.records if r.message == "receipt refused"]) == 2


async def test_a_refused_publication_is_said_and_sent_again(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    async with bench(tmp_path / "o.db") as b:
        await b.record(1)
        b.connect()
        await until(lambda: len(b.link.sent) == 1)
        b.link.open.pop().set_exception(ConnectionRefusedError("quota"))
        await until(lambda: "broker refused an event" in caplog.text)
        b.clock.move(10)
        await until(lambda: len(b.link.sent) == 2)


async def test_receipts_reach_the_file_when_all_is_quiet(tmp_path: Path):
    async with bench(tmp_path / "o.db") as b:
        b.connect()
        await b.record(3)
        await until(lambda: len(b.link.sent) == 3)
        b.receipt(b.box.record_stream, 3)
        b.clock.move(FLUSH_AFTER_S - 1)
        await settle()
        assert b.box.stale() == 3
        b.clock.move(1)
        await until(lambda: b.box.stale() == 0)


class SickOutbox(Outbox):
    """An outbox whose disk refuses to be read for a while."""

    sick = 0

    async def take(self, stream: str, after_seq: int, limit: int) -> list[Row]:
        if self.sick:
            self.sick -= 1
            raise OutboxError(OutboxProblem.FAILED, "outbox: disk I/O error")
        return await super().take(stream, after_seq, limit)


async def test_a_disk_that_refuses_is_said_once_and_asked_again(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level("INFO")
    box, clock, link = await SickOutbox.open(tmp_path / "o.db"), ManualClock(), Link()
    assert isinstance(box, SickOutbox)
    box.sick = 3
    pump = Pump(box, link.publish, "gate-1", clock=clock)
    await box.append([draft()])
    link.up = True
    async with running(pump):
        pump.connected()
        for _ in range(3):
            await settle()
            assert not link.sent
            clock.move(10)
        await until(lambda: len(link.sent) == 1)
        await settle()
    assert [r.message for r in caplog.records] == ["outbox cannot be read for sending", "outbox can be read again"]
    await box.close()


class RoughCentre:
    """A broker and collector that lose, repeat and shuffle: publications, PUBACKs, receipts, connections."""

    def __init__(self, seed: int, box: Outbox) -> None:
        self.random = random.Random(seed)
        self.box = box
        self.pump = Pump(box, self.publish, "gate-1", 25, clock=FastClock())
        self.skipped: list[tuple[str, int]] = []
        self.link = Link()
        self.stored: dict[tuple[str, int], bytes] = {}
        self.late: list[bytes] = []
        self.drops = 0
        self.last: dict[str, int] = {}

    def publish(self, publication: Publication) -> asyncio.Future[None]:
        future = self.link.publish(publication)
        stream, seq = identity(publication)
        if seq > max(self.last.get(stream, 0), self.box.confirmed()[stream]) + 1:
            self.skipped.append((stream, seq))
        self.last[stream] = seq
        if self.random.random() > 0.05:  # else the broker lost it, yet acknowledges
            self.stored[stream, seq] = publication.payload
        return future

    def watermark(self, stream: str) -> int:
        seq = 0
        while (stream, seq + 1) in self.stored:
            seq += 1
        return seq

    async def live(self) -> None:
        while True:
            await asyncio.sleep(self.random.choice([0, 0, 0.001]))
            if not self.link.up:
                self.link.up = True
                self.last.clear()
                self.pump.connected()
            elif self.random.random() < 0.1:
                self.drops += 1
                self.link.drop()
                self.pump.disconnected()
                continue
            self.link.puback(self.random.randint(0, 20))
            for stream in self.box.heads():
                if self.random.random() < 0.5:
                    self.late.append(encode(Receipt(stream=stream, upto=self.watermark(stream))))
            self.random.shuffle(self.late)
            for receipt in self.late[: self.random.randint(0, 3)]:
                self.pump.on_receipt(receipt)  # some again and again
            del self.late[: self.random.randint(0, 4)]
            for stream, confirmed in self.box.confirmed().items():
                assert confirmed <= self.watermark(stream)  # nothing is freed that the centre does not have


@pytest.mark.parametrize("seed", range(6))
async def test_over_a_rough_link_everything_arrives_and_nothing_is_freed_early(tmp_path: Path, seed: int):
    box = await Outbox.open(tmp_path / "o.db")
    centre = RoughCentre(seed, box)
    written: dict[tuple[str, int], bytes] = {}
    async with running(centre.pump):
        living = asyncio.create_task(centre.live())
        for _ in range(120):
            alarms = [centre.random.random() < 0.2 for _ in range(centre.random.randint(1, 5))]
            for row in await box.append([draft(alarm=alarm) for alarm in alarms]):
                written[row.stream, row.seq] = row.payload
            centre.pump.wake()
            await asyncio.sleep(0)
        await until(lambda: living.done() or box.waiting() == 0, within_s=30)
        assert not living.done(), living.exception()
        living.cancel()
    assert centre.stored == written
    assert not centre.skipped
    assert centre.drops
    await box.close()
