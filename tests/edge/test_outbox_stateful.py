import asyncio
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from broker.wire.codec import digest
from broker.wire.messages import FIRST_PREV
from edge.outbox import Draft, Outbox, Row

SIZES = st.sampled_from([90, 300, 1500, 9000])


class OutboxMachine(RuleBasedStateMachine):
    """Appends, receipts, restarts and power cuts in any order, against two lists in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = Path(tempfile.mkdtemp(prefix="outbox-"))
        self.path = self.folder / "o.db"
        self.written: dict[str, list[Row]] = {}
        self.receipted: dict[str, int] = {}
        self.known_in_file: dict[str, int] = {}  # receipts that a power cut may no longer undo

    @initialize()
    def begin(self) -> None:
        self.box = self.runner.run(Outbox.open(self.path))
        self.written = {s: [] for s in self.box.heads()}
        self.receipted = dict.fromkeys(self.written, 0)
        self.known_in_file = dict(self.receipted)

    @rule(alarms=st.lists(st.booleans(), min_size=1, max_size=4), size=SIZES)
    def append(self, alarms: list[bool], size: int) -> None:
        rows = self.runner.run(self.box.append([self._draft(alarm, size) for alarm in alarms]))
        assert [r.stream == self.box.alarm_stream for r in rows] == alarms
        for row in rows:
            self.written[row.stream].append(row)
        self._note_clean()

    @rule(count=st.integers(200, 700))
    def append_backlog(self, count: int) -> None:
        rows = self.runner.run(self.box.append([self._draft(alarm=False, size=90)] * count))
        self.written[self.box.record_stream] += rows
        self._note_clean()

    @rule(data=st.data(), alarm=st.booleans())
    def receipt(self, data: st.DataObject, alarm: bool) -> None:
        stream = self.box.alarm_stream if alarm else self.box.record_stream
        head = len(self.written[stream])
        upto = data.draw(st.one_of(st.just(head), st.integers(0, head)))
        self.box.confirm(stream, upto)
        self.receipted[stream] = max(self.receipted[stream], upto)

    @rule()
    def flush(self) -> None:
        self.runner.run(self.box.flush())
        self._note_clean()
        assert self.box.stale() == 0

    @rule()
    def restart(self) -> None:
        self.runner.run(self.box.close())
        self.box = self.runner.run(Outbox.open(self.path))
        assert self.box.confirmed() == self.receipted  # an orderly end forgets no receipt
        self.known_in_file = dict(self.receipted)

    @precondition(lambda self: any(self.written.values()))
    @rule(torn=st.binary(max_size=3000), during_append=st.booleans())
    def power_cut(self, torn: bytes, during_append: bool) -> None:
        """The files as they lie there, with a torn page behind the log, become the next life's files."""
        copy = Path(tempfile.mkdtemp(prefix="outbox-"))
        appended: list[Row] = []
        if during_append:  # whether this one survives is open: nobody was told that it is stored
            appended = self.runner.run(self._append_and_copy(copy))
        else:
            self._copy(copy)
        with (copy / "o.db-wal").open("ab") as log:
            log.write(torn)
        self.runner.run(self.box.close())
        shutil.rmtree(self.folder)
        self.folder, self.path = copy, copy / "o.db"
        self.box = self.runner.run(Outbox.open(self.path))
        for row in appended:
            if self.box.heads()[row.stream] >= row.seq:
                self.written[row.stream].append(row)
        for stream, upto in self.box.confirmed().items():
            assert self.known_in_file[stream] <= upto <= self.receipted[stream]
            self.receipted[stream] = upto  # the collector says it again
        self._note_clean()

    @invariant()
    def nothing_lost_nothing_invented(self) -> None:
        assert self.box.heads() == {s: len(rows) for s, rows in self.written.items()}
        assert self.box.confirmed() == self.receipted
        assert self.box.waiting() == sum(len(self.written[s]) - self.receipted[s] for s in self.written)
        for stream, rows in self.written.items():
            assert self.runner.run(self.box.take(stream, 0, 100_000)) == rows[self.receipted[stream] :]

    def teardown(self) -> None:
        for rows in self.written.values():
            prev = FIRST_PREV
            for seq, row in enumerate(rows, start=1):
                assert row.payload.startswith(f"{row.stream} {seq} {prev} ".encode())
                prev = digest(row.payload)
        if hasattr(self, "box"):
            self.runner.run(self.box.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def _draft(self, alarm: bool, size: int) -> Draft:
        return Draft(
            alarm=alarm,
            kind="device" if alarm else "verdict",
            build=lambda stream, seq, prev: f"{stream} {seq} {prev} ".encode().ljust(size, b"."),
        )

    async def _append_and_copy(self, copy: Path) -> list[Row]:
        appending = asyncio.create_task(self.box.append([self._draft(alarm=False, size=300)]))
        for _ in range(4):
            await asyncio.sleep(0)
        self._copy(copy)
        return await appending

    def _copy(self, copy: Path) -> None:
        for name in ("o.db-wal", "o.db"):  # log first: a checkpoint in between only repeats what the log has
            shutil.copyfile(self.folder / name, copy / name)

    def _note_clean(self) -> None:
        """What the file must know by now: everything, unless rows are left to be deleted."""
        if self.box.stale() == 0:
            self.known_in_file = dict(self.receipted)


OutboxMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestOutbox = OutboxMachine.TestCase
