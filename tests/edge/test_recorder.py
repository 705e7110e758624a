import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path

import pytest

from broker.wire import codec, messages
from edge import encode
from edge.core.effects import Record
from edge.core.facts import ClockFact, DeviceFact, VerdictFact
from edge.core.inputs import CommitFailed, Committed, DiskIs, GateInput
from edge.core.model import ClockTrust, Direction, LaneKind, Now, Party, Person, Reason, Verdict, VerdictKind
from edge.outbox import Draft, Outbox, OutboxError, OutboxProblem, Row
from edge.recorder import Recorder

from ..core.helpers import good_pass
from .fakes import JumpingClock, settle

NOW = Now(10**12, 1_580_700_000_000)
ORIGIN = encode.Origin("gate-1", "garden", "00ff00ff00ff00ff", "0.1.0", "p@1", UTC)
ADMIT = VerdictFact(
    "main",
    4,
    LaneKind.PEDESTRIAN,
    Direction.IN,
    Verdict(VerdictKind.ADMIT, (Reason.ALL_GOOD,)),
    Party((Person(credential=good_pass()),), occupants=1),
)
CLOCK = ClockFact(ClockTrust.TRUSTED, "synchronised")
DEVICE = DeviceFact("reader-1", "main", works=False, fault="missing", advice="Plug it in.")


class SickOutbox(Outbox):
    """A real outbox whose disk can be full."""

    full = False

    async def append(self, drafts: Sequence[Draft]) -> list[Row]:
        if self.full:
            raise OutboxError(OutboxProblem.FULL, "the disk is full: free space")
        return await super().append(drafts)


@contextlib.asynccontextmanager
async def recording(tmp_path: Path, answers: list[GateInput], clock: JumpingClock):
    outbox = await SickOutbox.open(tmp_path / "outbox.db")
    assert isinstance(outbox, SickOutbox)
    recorder = Recorder(outbox, ORIGIN, clock, answers.append, lambda: None)
    task = asyncio.create_task(recorder.run())
    try:
        yield recorder, outbox
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await outbox.close()


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_rule_7_an_admission_is_committed_before_it_is_answered(tmp_path: Path) -> None:
    answers: list[GateInput] = []
    async with recording(tmp_path, answers, JumpingClock()) as (recorder, outbox):
        recorder.record(Record(ADMIT, admission=("main", 4)), NOW, ClockTrust.TRUSTED)
        await until(lambda: answers)
        assert answers == [Committed("main", 4)]
        (row,) = await outbox.take(outbox.record_stream, 0, 10)
        event = codec.decode_envelope(row.payload)
        data = codec.decode_data(event)
        assert isinstance(data, messages.Verdict)
        assert data.verdict == "admit"
        assert event.id == f"gate-1/{row.stream}/{row.seq}"


async def test_streams_are_chosen_by_kind_and_chained(tmp_path: Path) -> None:
    async with recording(tmp_path, [], JumpingClock()) as (recorder, outbox):
        for fact in (CLOCK, DEVICE, CLOCK):
            recorder.record(Record(fact), NOW, ClockTrust.TRUSTED)
        await until(lambda: sum(outbox.heads().values()) == 3)
        first, second = await outbox.take(outbox.record_stream, 0, 10)
        (alarm,) = await outbox.take(outbox.alarm_stream, 0, 10)
        assert alarm.kind == "device"
        assert codec.decode_envelope(second.payload).prev == codec.digest(first.payload)


async def test_a_full_disk_refuses_the_admission_and_keeps_the_rest(tmp_path: Path) -> None:
    answers: list[GateInput] = []
    clock = JumpingClock()
    async with recording(tmp_path, answers, clock) as (recorder, outbox):
        outbox.full = True
        recorder.record(Record(CLOCK), NOW, ClockTrust.TRUSTED)
        recorder.record(Record(ADMIT, admission=("main", 4)), NOW, ClockTrust.TRUSTED)
        await until(lambda: CommitFailed("main", 4) in answers)
        assert DiskIs(works=False) in answers
        outbox.full = False
        await clock.advance(1500)
        await until(lambda: DiskIs(works=True) in answers)
        assert Committed("main", 4) not in answers
        rows = await outbox.take(outbox.record_stream, 0, 10)
        assert [row.kind for row in rows] == ["clock"]


async def test_drain_writes_what_waits(tmp_path: Path) -> None:
    outbox = await Outbox.open(tmp_path / "outbox.db")
    recorder = Recorder(outbox, ORIGIN, JumpingClock(), lambda _given: None, lambda: None)
    for _ in range(600):
        recorder.record(Record(CLOCK), NOW, ClockTrust.TRUSTED)
    await recorder.drain()
    assert sum(outbox.heads().values()) == 600
    await outbox.close()
    await settle()


@pytest.mark.parametrize("fact", [ADMIT, CLOCK, DEVICE])
def test_encoding_is_total_and_kinds_agree(fact) -> None:
    payload = encode.envelope(fact, ORIGIN, NOW, ClockTrust.TRUSTED, "r-1", 1, messages.FIRST_PREV)
    event = codec.decode_envelope(payload)
    assert event.type == encode.kind_of(fact)
    assert codec.decode_data(event) is not None
