"""Facts to disk: one batch, one commit, one sync. Whatever gathered during the last commit is the next batch.

An admission is answered Committed only after its commit, and CommitFailed when it could not be written; a failed
admission is not written later, since nobody was let in. Every other fact waits, bounded, until the disk works again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edge import encode
from edge.clock import Clock
from edge.core.effects import Record
from edge.core.inputs import CommitFailed, Committed, DiskIs, GateInput
from edge.core.model import ClockTrust, Now
from edge.outbox import Draft, Outbox, OutboxError

log = logging.getLogger(__name__)

WAITING_MAX = 10_000  # facts kept in memory while the disk fails
BATCH_MAX = 256
RETRY_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Pending:
    """A fact with the instant and the trust it was found under."""

    record: Record
    now: Now
    trust: ClockTrust


class Recorder:
    """The only writer of the outbox. `answer` takes Committed, CommitFailed and DiskIs back into the gate."""

    def __init__(
        self,
        outbox: Outbox,
        origin: encode.Origin,
        clock: Clock,
        answer: Callable[[GateInput], None],
        wake_pump: Callable[[], None],
    ) -> None:
        self._outbox, self._origin, self._clock = outbox, origin, clock
        self._answer, self._wake_pump = answer, wake_pump
        self._waiting: deque[Pending] = deque()
        self._arrived = asyncio.Event()
        self._disk_works = True
        self.dropped = 0

    def record(self, record: Record, now: Now, trust: ClockTrust) -> None:
        """Queue a fact; never blocks, never fails."""
        if len(self._waiting) >= WAITING_MAX:
            self._drop_oldest()
        self._waiting.append(Pending(record, now, trust))
        self._arrived.set()

    async def run(self) -> None:
        """Write batches until cancelled."""
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                await self._write()

    async def drain(self) -> None:
        """Write what waits, at the end of a process after `run` was cancelled; gives up when the disk fails."""
        while self._waiting and self._disk_works:
            await self._write()

    async def _write(self) -> None:
        batch = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
        try:
            await self._outbox.append([self._draft(pending) for pending in batch])
        except OutboxError as e:
            await self._failed(batch, e)
            return
        if not self._disk_works:
            self._disk_works = True
            log.info("recording works again")
            self._answer(DiskIs(works=True))
        for pending in batch:
            if pending.record.admission:
                self._answer(Committed(*pending.record.admission))
        self._wake_pump()

    async def _failed(self, batch: list[Pending], error: OutboxError) -> None:
        if self._disk_works:
            self._disk_works = False
            log.error("recording failed, no pass opens until it works again: %s", error)
        self._answer(DiskIs(works=False))
        for pending in batch:
            if pending.record.admission:
                self._answer(CommitFailed(*pending.record.admission))
        self._waiting.extendleft(pending for pending in reversed(batch) if not pending.record.admission)
        await self._clock.sleep_until_mono(self._clock.mono_ns() + RETRY_NS)

    def _draft(self, pending: Pending) -> Draft:
        fact, now, trust = pending.record.fact, pending.now, pending.trust

        def build(stream: str, seq: int, prev: str) -> bytes:
            return encode.envelope(fact, self._origin, now, trust, stream, seq, prev)

        return Draft(encode.is_alarm(fact), encode.kind_of(fact), build)

    def _drop_oldest(self) -> None:
        for index, pending in enumerate(self._waiting):
            if not encode.is_alarm(pending.record.fact):
                del self._waiting[index]
                break
        else:
            self._waiting.popleft()
        self.dropped += 1
        if self.dropped == 1:
            log.error("more than %d facts wait for the disk: the oldest are lost from here on", WAITING_MAX)
