"""A collector as its own process, and gates that keep their events until the receipt comes."""

import asyncio
import signal
import socket
import sqlite3
import sys
from pathlib import Path

import httpx
import msgspec

from broker.client import Incoming, NotConnected, Publication
from broker.embedded import Engine
from broker.wire.messages import Receipt
from tests.collector.helpers import passage
from tests.system.parties import MakeParty

RESEND_S = 2.0  # without a receipt


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class CollectorProcess:
    """`python -m broker.collector` with its files in one folder."""

    def __init__(self, folder: Path, engine: Engine, more: str = "") -> None:
        self.port = free_port()
        self.folder, self.database = folder, folder / "collector.db"
        self.config = folder / "collector.toml"
        self.config.write_text(
            f'[broker]\nhost = "{engine.host}"\nport = {engine.port}\n[http]\nport = {self.port}\n{more}'
        )
        self.process: asyncio.subprocess.Process | None = None
        self.url = f"http://127.0.0.1:{self.port}"

    async def run(self) -> asyncio.subprocess.Process:
        with (self.folder / "collector.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", "broker.collector", "--config", str(self.config), stderr=log
            )

    async def run_to_its_end(self) -> int:
        return await asyncio.wait_for((await self.run()).wait(), 15)

    def log(self) -> str:
        return (self.folder / "collector.log").read_text()

    async def start(self) -> "CollectorProcess":
        self.process = await self.run()
        async with httpx.AsyncClient() as http:
            async with asyncio.timeout(20):
                while not await self._ready(http):
                    assert self.process.returncode is None, self.log()
                    await asyncio.sleep(0.02)
        return self

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> int:
        if self.process is None or self.process.returncode is not None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.wait_for(self.process.wait(), 15)

    def ask(self, question: str) -> list[tuple[object, ...]]:
        db = sqlite3.connect(f"{self.database.as_uri()}?mode=ro", uri=True)
        try:
            return db.execute(question).fetchall()
        finally:
            db.close()

    def stored(self) -> int:
        return int(str(self.ask("SELECT count(*) FROM event")[0][0]))

    async def get(self, path: str) -> httpx.Response:
        async with httpx.AsyncClient() as http:
            return await http.get(self.url + path)

    async def _ready(self, http: httpx.AsyncClient) -> bool:
        try:
            return (await http.get(f"{self.url}/-/ready")).status_code == 200
        except httpx.TransportError:
            return False


class Outbox:
    """A gate's outbox in small: forgets only on receipts; sends what it holds at birth, and when receipts stay away.

    The latter matters where a broker lost its sessions: what comes before the collector is back reaches nobody.
    """

    def __init__(self, make: MakeParty, node: str, count: int) -> None:
        self.node, self.count, self.upto = node, count, 0
        self.receipts: list[int] = []
        self._party = make(node, subscriptions=[(f"menwei/v1/{node}/receipt", 1)], settings={"window": 500})
        self._party.on_message = self._receipt
        self._party.on_connected = self._send
        self._sending: asyncio.Task[None] | None = None

    def done(self) -> bool:
        return self.upto == self.count

    async def finished(self) -> None:
        loop = asyncio.get_running_loop()
        end_s = loop.time() + 60
        while not self.done() and loop.time() < end_s:
            before = len(self.receipts)
            try:
                await asyncio.wait_for(self._receipt_after(before), RESEND_S)
            except TimeoutError:
                if self._party.client.connected:
                    self._send()
        assert self.done(), f"{self.node}: receipts end at {self.upto} of {self.count}"
        if self._sending is not None:
            await self._sending

    async def _receipt_after(self, seen: int) -> None:
        while not self.done() and len(self.receipts) == seen:
            await asyncio.sleep(0.01)

    def _receipt(self, message: Incoming) -> None:
        upto = msgspec.json.decode(message.payload, type=Receipt).upto
        self.receipts.append(upto)
        self.upto = max(self.upto, upto)

    def _send(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
        self._sending = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        for first in range(self.upto + 1, self.count + 1, 100):
            batch = [passage(n, self.node) for n in range(first, min(first + 100, self.count + 1))]
            try:
                sent = [self._party.client.publish(Publication(m.topic, m.payload, 1, False)) for m in batch]
                await asyncio.gather(*sent)
            except NotConnected:
                return
