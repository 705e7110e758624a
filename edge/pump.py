"""Outbox to broker: alarms first, each stream in order, sent again until the collector's receipt.

A PUBACK only paces: the broker may lose what it acknowledged. Rows leave the outbox on a receipt, nothing else.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from broker.client import NotConnected, Publication
from broker.wire.codec import decode_message
from broker.wire.messages import Receipt
from broker.wire.topics import DELIVERY, TopicKind, node_topic
from edge.outbox import Outbox, OutboxError, Row

logger = logging.getLogger(__name__)

PAGE = 100  # rows read at once; between two pages new alarms get their turn
UNRECEIPTED_PER_WINDOW = (
    4  # published without receipt per stream, in windows: a broker without collector is not flooded
)
RESEND_LIMIT_S = 300.0  # resending slows down to this while the collector is away
FLUSH_AFTER_S = 60.0  # idle time after which receipts get a commit of their own
FLUSH_STALE = 1_000  # as many receipted rows get one at once: one sync for all of them
_NS_PER_S = 1_000_000_000

Publish = Callable[[Publication], asyncio.Future[None]]


class PumpClock(Protocol):
    """The part of a clock that pacing needs."""

    def mono_ns(self) -> int:
        """Monotonic nanoseconds."""

    async def sleep_until_mono(self, mono_ns: int) -> None:
        """Return once `mono_ns()` has reached this value."""


class Pump:
    """Empties the outbox. All methods belong to one loop; only `run` awaits."""

    def __init__(
        self,
        outbox: Outbox,
        publish: Publish,
        node: str,
        window: int = 500,
        *,
        clock: PumpClock,
        resend_after_s: float = 10.0,
    ) -> None:
        """`window`: publications without PUBACK at one time."""
        self._outbox, self._publish, self._node, self._window, self._clock = outbox, publish, node, window, clock
        self._resend_after_ns = int(resend_after_s * _NS_PER_S)
        self._streams = {s: _Progress(self._resend_after_ns) for s in (outbox.alarm_stream, outbox.record_stream)}
        self._in_flight: set[asyncio.Future[None]] = set()
        self._connected = False
        self._wake = asyncio.Event()
        self._active_ns = clock.mono_ns()
        self._failing = False

    def connected(self) -> None:
        """The broker is there (again): everything without receipt is sent from the lowest number on."""
        self._forget_flight()
        self._connected = True
        now = self._clock.mono_ns()
        for stream, progress in self._streams.items():
            progress.restart(self._outbox.confirmed()[stream], now, self._resend_after_ns)
        self._wake.set()

    def disconnected(self) -> None:
        """The broker is gone."""
        self._connected = False
        self._forget_flight()
        self._wake.set()

    def on_receipt(self, payload: bytes) -> None:
        """Take the collector's word for what it has committed; whatever is no sound receipt is logged and dropped."""
        try:
            receipt = decode_message(payload, Receipt)
            self._outbox.confirm(receipt.stream, receipt.upto)
        except ValueError as e:  # WireError is one
            # Above the head: the outbox file was put back from a copy, or the card lost what it had promised.
            logger.error("receipt refused", extra={"fields": {"error": str(e)}})
            return
        progress = self._streams[receipt.stream]
        if receipt.upto > progress.receipted:
            now = self._clock.mono_ns()
            self._active_ns = now
            progress.receipted = receipt.upto
            progress.sent = max(progress.sent, receipt.upto)  # what an earlier connection delivered is not sent again
            progress.quiet(now, self._resend_after_ns)
            self._wake.set()

    def wake(self) -> None:
        """New rows are in the outbox."""
        self._active_ns = self._clock.mono_ns()
        self._wake.set()

    async def run(self) -> None:
        """Pump until cancelled."""
        try:
            while True:
                self._wake.clear()
                try:
                    await self._send()
                    await self._flush()
                except OutboxError as e:
                    self._say_failed(e)
                else:
                    self._say_well()
                await self._sleep()
        finally:
            self._forget_flight()

    async def _send(self) -> None:
        """Publish what the window and the receipts allow, the alarm stream first."""
        self._resend_what_is_due()
        while self._connected:
            page = await self._next_page()
            if not page:
                return
            for row in page:
                if not self._send_one(row):
                    break

    async def _next_page(self) -> list[Row]:
        room = self._window - len(self._in_flight)
        for stream, progress in self._streams.items():
            ahead = UNRECEIPTED_PER_WINDOW * self._window - (progress.sent - progress.receipted)
            limit = min(PAGE, room, ahead)
            if limit > 0 and progress.sent < self._outbox.heads()[stream]:
                return await self._outbox.take(stream, progress.sent, limit)
        return []

    def _send_one(self, row: Row) -> bool:
        """Hand a row to the client; False when the connection is gone or a receipt or reconnect moved the turn."""
        progress = self._streams[row.stream]
        if not self._connected or row.seq != progress.sent + 1:
            return False
        publication = Publication(
            topic=node_topic(self._node, TopicKind.EVENT, row.kind),
            payload=row.payload,
            qos=DELIVERY[TopicKind.EVENT].qos,
            retain=DELIVERY[TopicKind.EVENT].retained,
        )
        try:
            future = self._publish(publication)
        except NotConnected:
            self._connected = False  # `connected` will be called when it is back
            return False
        now = self._clock.mono_ns()
        if progress.sent == progress.receipted:  # the first one out starts the clock
            progress.quiet(now, progress.patience_ns)
        progress.sent = row.seq
        self._active_ns = now
        self._in_flight.add(future)
        future.add_done_callback(partial(self._on_puback, row))
        return True

    def _on_puback(self, row: Row, future: asyncio.Future[None]) -> None:
        if not future.cancelled() and (error := future.exception()) is not None and not isinstance(error, NotConnected):
            logger.warning(  # sent again after the time for receipts
                "broker refused an event", extra={"fields": {"stream": row.stream, "seq": row.seq, "error": str(error)}}
            )
        if future in self._in_flight:
            self._in_flight.discard(future)
            self._wake.set()

    def _forget_flight(self) -> None:
        self._in_flight.clear()  # their callbacks find themselves no longer counted

    def _resend_what_is_due(self) -> None:
        now = self._clock.mono_ns()
        for stream, progress in self._streams.items():
            if self._connected and progress.sent > progress.receipted and now >= progress.due_ns:
                logger.info(
                    "no receipt yet: sending again",
                    extra={"fields": {"stream": stream, "from": progress.receipted + 1, "upto": progress.sent}},
                )
                progress.sent = progress.receipted
                progress.quiet(now, min(2 * progress.patience_ns, int(RESEND_LIMIT_S * _NS_PER_S)))

    async def _flush(self) -> None:
        stale = self._outbox.stale()
        idle = self._outbox.waiting() == 0 and self._clock.mono_ns() >= self._flush_due_ns()
        if stale >= FLUSH_STALE or (stale and idle):
            await self._outbox.flush()

    def _flush_due_ns(self) -> int:
        return self._active_ns + int(FLUSH_AFTER_S * _NS_PER_S)

    async def _sleep(self) -> None:
        """Until woken, or until something is due."""
        due_ns = [p.due_ns for p in self._streams.values() if self._connected and p.sent > p.receipted]
        if self._outbox.stale() and self._outbox.waiting() == 0:
            due_ns.append(self._flush_due_ns())
        if self._failing:
            due_ns = [self._clock.mono_ns() + self._resend_after_ns]  # a sick disk is not asked without a pause
            self._wake.clear()
        if not due_ns:
            await self._wake.wait()
            return
        timer = asyncio.ensure_future(self._clock.sleep_until_mono(min(due_ns)))
        woken = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait((timer, woken), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (timer, woken):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def _say_failed(self, error: OutboxError) -> None:
        if not self._failing:
            logger.error("outbox cannot be read for sending", extra={"fields": {"error": str(error)}})
        self._failing = True

    def _say_well(self) -> None:
        if self._failing:
            logger.info("outbox can be read again")
        self._failing = False


@dataclass(slots=True)
class _Progress:
    """How far one stream was sent on this connection, and receipted at all."""

    patience_ns: int  # time a receipt may take; grows while none comes
    sent: int = 0
    receipted: int = 0
    due_ns: int = field(default=0)

    def restart(self, confirmed: int, now_ns: int, patience_ns: int) -> None:
        self.sent = self.receipted = confirmed
        self.quiet(now_ns, patience_ns)

    def quiet(self, now_ns: int, patience_ns: int) -> None:
        """Nothing is due before `patience_ns` from now."""
        self.patience_ns, self.due_ns = patience_ns, now_ns + patience_ns
