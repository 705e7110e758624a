"""From the bus to the disk: a bounded list, one writer, adaptive group commit, then receipts, then acknowledgements.

Whatever arrived during the last commit is the next batch. Nothing is awaited per message. A message leaves the list
only when its commit succeeded; until then the broker keeps it too: its acknowledgement waits for the same commit.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

from broker.client import Incoming, NotConnected, Publication
from broker.collector.alarms import Cleared, Now, Raised
from broker.collector.fleet import Fleet
from broker.collector.schema import StoreError
from broker.collector.store import Outcome, Store
from broker.collector.tables import StreamKey
from broker.daemon import notify, watchdog_interval_s
from broker.wire import codec
from broker.wire.messages import Receipt
from broker.wire.topics import DELIVERY, TopicKind, node_topic, subscription

logger = logging.getLogger(__name__)

SUBSCRIPTIONS = [
    (subscription(kind), DELIVERY[kind].qos) for kind in (TopicKind.STATE, TopicKind.META, TopicKind.EVENT)
]


class Bus(Protocol):
    """What ingest needs of `broker.client.Client`."""

    def publish(self, publication: Publication) -> "asyncio.Future[None]":
        """Hand over; the future is done when the broker has it. Raises NotConnected."""

    def ack(self, messages: Iterable[Incoming]) -> None:
        """Acknowledge in one write; those of an earlier connection are ignored."""

    def pause(self) -> None:
        """Stop reading from the broker."""

    def resume(self) -> None:
        """Read again."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How ingest paces itself. Seconds."""

    tick_s: float = 1.0  # how often silence and gaps are looked at
    retry_s: float = 1.0  # after a commit that failed
    receipts_s: float = 0.1  # receipts are gathered this long while more messages wait; at once otherwise


class Ingest:
    """Create it, give it a bus with `attach`, `run` it; `finish` ends the run after the list is empty."""

    def __init__(self, store: Store, fleet: Fleet, *, batch: int, pending: int, timing: Timing | None = None) -> None:
        self._store, self._fleet = store, fleet
        self._batch, self._limit = batch, pending
        self._timing = timing or Timing()
        self._bus: Bus | None = None
        self._pending: list[Incoming] = []
        self._paused = False
        self._wake = asyncio.Event()
        self._finishing = False
        self._due: dict[StreamKey, int] = {}
        self._receipts_at_s = 0.0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="store")
        fleet.health.backlog_limit = pending

    def attach(self, bus: Bus) -> None:
        """The connection to take messages from and to answer on."""
        self._bus = bus

    def on_message(self, message: Incoming) -> None:
        """Called for every message; must stay cheap."""
        self._pending.append(message)
        if len(self._pending) >= self._limit and not self._paused and self._bus is not None:
            self._paused = True
            self._bus.pause()
        self._wake.set()

    def on_connected(self) -> None:
        """The broker is there (again): receipts that waited go out with the next round."""
        self._fleet.health.connected = True
        self._fleet.version += 1
        self._wake.set()

    def on_disconnected(self, reason: str) -> None:
        """The broker is gone; the client goes on trying."""
        self._fleet.health.connected = False
        self._fleet.version += 1
        if not self._finishing:
            logger.warning("broker lost", extra={"fields": {"reason": reason}})

    def finish(self) -> None:
        """Read no more, commit what is there, end the run."""
        self._finishing = True
        if self._bus is not None:
            self._paused = True
            self._bus.pause()
        self._wake.set()

    async def run(self) -> None:
        """Until `finish`, or cancelled. Feeds the watchdog: a writer that hangs stops feeding it."""
        timing, feed_s = self._timing, watchdog_interval_s()
        fed_s = ticked_s = time.monotonic()
        while True:
            if self._pending:
                await self._commit()
            elif self._finishing:
                self._send_receipts()
                return
            else:
                self._wake.clear()
                await self._sleep(timing.tick_s)
            now_s = time.monotonic()
            if now_s - ticked_s >= timing.tick_s:
                ticked_s = now_s
                await self._tick()
            if feed_s is not None and now_s - fed_s >= min(feed_s, timing.tick_s):
                fed_s = now_s
                notify("WATCHDOG=1")

    def close(self) -> None:
        """Wait for the writer's thread and close the store. Call it after the run ended."""
        self._executor.submit(self._store.close).result()
        self._executor.shutdown()

    async def _commit(self) -> None:
        batch = self._pending[: self._batch]
        loop = asyncio.get_running_loop()
        try:
            outcome = await loop.run_in_executor(self._executor, self._store.commit, batch, _now())
        except StoreError as e:
            self._trouble(e)
            if self._finishing:
                self._pending.clear()  # neither stored nor acknowledged: the broker gives them again
            else:
                await asyncio.sleep(self._timing.retry_s)
            return
        del self._pending[: len(batch)]
        self._absorb(outcome)
        self._due.update(outcome.receipts)
        if not self._pending or time.monotonic() - self._receipts_at_s >= self._timing.receipts_s:
            self._send_receipts()
        if self._bus is not None:
            self._bus.ack(batch)
            if self._paused and not self._finishing and len(self._pending) < self._limit // 2:
                self._paused = False
                self._bus.resume()
        self._fleet.health.backlog = len(self._pending)

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._absorb(await loop.run_in_executor(self._executor, self._store.tick, _now()))
        except StoreError as e:
            self._trouble(e)
        if self._due and not self._pending:
            self._send_receipts()

    async def _sleep(self, limit_s: float) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), limit_s)
        except TimeoutError:
            return

    def _absorb(self, outcome: Outcome) -> None:
        if self._fleet.health.store_error is not None:
            logger.info("the store works again")
            self._fleet.health.store_error = None
        self._fleet.absorb(outcome)
        for change in outcome.changes:
            fields = {"cause": str(change.alarm.cause), "origin": change.alarm.place.origin}
            match change:
                case Raised():
                    logger.warning("alarm raised", extra={"fields": fields | {"detail": change.alarm.detail}})
                case Cleared():
                    logger.info("alarm cleared", extra={"fields": fields})

    def _send_receipts(self) -> None:
        self._receipts_at_s = time.monotonic()
        if self._bus is None or not self._fleet.health.connected:
            return
        delivery = DELIVERY[TopicKind.RECEIPT]
        for (node, stream), upto in self._due.items():
            payload = codec.encode(Receipt(stream=stream, upto=upto))
            topic = node_topic(node, TopicKind.RECEIPT)
            try:
                sent = self._bus.publish(Publication(topic, payload, delivery.qos, delivery.retained))
            except NotConnected:
                return  # they stay due; the ones sent twice are harmless, receipts are cumulative
            sent.add_done_callback(_forget)
            self._fleet.receipts += 1
        self._due.clear()

    def _trouble(self, error: StoreError) -> None:
        if self._fleet.health.store_error is None:
            logger.error("the store does not take events; trying again", extra={"fields": {"error": str(error)}})
        self._fleet.health.store_error = str(error)
        self._fleet.health.backlog = len(self._pending)


def _now() -> Now:
    return Now(time.monotonic(), time.time_ns() // 1_000_000)


def _forget(sent: "asyncio.Future[None]") -> None:
    """A receipt lost with its connection is asked for again: the gate sends its events once more."""
    if not sent.cancelled():
        sent.exception()
