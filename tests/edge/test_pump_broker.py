import asyncio
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from broker.client import Client, Incoming, NotConnected, Publication, Settings
from broker.wire.codec import digest, encode
from broker.wire.messages import FIRST_PREV, Receipt
from broker.wire.topics import TopicKind, node_topic, subscription
from edge.clock import SystemClock
from edge.outbox import Draft, Outbox
from edge.pump import Pump

MOSQUITTO = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
NODE = "gate-1"
EVENTS = 1500


async def until(condition: Callable[[], bool], *, within_s: float = 30.0) -> None:
    async with asyncio.timeout(within_s):
        while not condition():
            await asyncio.sleep(0.005)


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def start_broker(folder: Path, port: int) -> subprocess.Popen[bytes]:
    config = folder / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\n")
    assert MOSQUITTO is not None
    return subprocess.Popen([MOSQUITTO, "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGKILL)
    process.wait(10)


class Centre:
    """Stores what arrives, once, and gives receipts for what is whole from the beginning."""

    def __init__(self, port: int) -> None:
        self.stored: dict[tuple[str, int], bytes] = {}
        self.whole: dict[str, int] = {}
        self.client = Client(
            Settings("127.0.0.1", port, "centre", backoff_first_s=0.05, backoff_cap_s=0.2),
            subscriptions=[(subscription(TopicKind.EVENT), 1)],
            will=lambda: None,
            on_message=self._store,
            on_connected=lambda: None,
            on_disconnected=lambda _reason: None,
        )

    def _store(self, message: Incoming) -> None:
        stream, seq, _prev = message.payload.decode().split()
        self.stored[stream, int(seq)] = message.payload
        upto = self.whole.get(stream, 0)
        while (stream, upto + 1) in self.stored:
            upto += 1
        self.whole[stream] = upto
        try:
            self.client.publish(
                Publication(node_topic(NODE, TopicKind.RECEIPT), encode(Receipt(stream=stream, upto=upto)), 1, False)
            )
        except NotConnected:
            return  # the gate sends again


@pytest.mark.skipif(MOSQUITTO is None, reason="needs the mosquitto broker")
async def test_a_broker_killed_twice_that_forgets_everything_costs_no_event(tmp_path: Path):
    port = free_port()
    broker = start_broker(tmp_path, port)
    box = await Outbox.open(tmp_path / "o.db")
    pump: Pump
    gate = Client(
        Settings("127.0.0.1", port, NODE, backoff_first_s=0.05, backoff_cap_s=0.2),
        subscriptions=[(node_topic(NODE, TopicKind.RECEIPT), 1)],
        will=lambda: None,
        on_message=lambda message: pump.on_receipt(message.payload),
        on_connected=lambda: pump.connected(),  # noqa: PLW0108 - the pump is made below
        on_disconnected=lambda _reason: pump.disconnected(),
    )
    pump = Pump(box, gate.publish, NODE, 100, clock=SystemClock(), resend_after_s=0.3)
    centre = Centre(port)
    written: dict[tuple[str, int], bytes] = {}
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(work) for work in (gate.run(), centre.client.run(), pump.run())]
            for number in range(EVENTS):
                alarm = number % 7 == 0
                draft = Draft(alarm, "fever" if alarm else "verdict", lambda s, n, p: f"{s} {n} {p}".encode())
                (row,) = await box.append([draft])
                written[row.stream, row.seq] = row.payload
                pump.wake()
                if number in (EVENTS // 3, 2 * EVENTS // 3):
                    await until(lambda number=number: len(centre.stored) > number // 2)  # type: ignore[misc]
                    kill(broker)
                    broker = start_broker(tmp_path, port)
            await until(lambda: box.waiting() == 0)
            for task in tasks:
                task.cancel()
    finally:
        kill(broker)
        await box.close()
    assert centre.stored == written
    for stream in (box.alarm_stream, box.record_stream):
        prev = FIRST_PREV
        for seq in range(1, centre.whole[stream] + 1):
            assert centre.stored[stream, seq].split()[2].decode() == prev
            prev = digest(centre.stored[stream, seq])
