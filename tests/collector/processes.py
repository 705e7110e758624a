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
from tests.system.parties import MakeParty, Party, until


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

    async def start(self) -> "CollectorProcess":
        with (self.folder / "collector.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "broker.collector", "--config", str(self.config), stderr=log
            )
        async with httpx.AsyncClient() as http:
            async with asyncio.timeout(20):
                while not await self._ready(http):
                    assert self.process.returncode is None, (self.folder / "collector.log").read_text()
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
    """A gate's outbox in small: sends all it holds at every birth, forgets only on receipts."""

    def __init__(self, make: MakeParty, node: str, count: int) -> None:
        self.node, self.count, self.upto = node, count, 0
        self.receipts: list[int] = []
        self._party = make(node, subscriptions=[(f"menwei/v1/{node}/receipt", 1)], settings={"window": 500})
        self._party.on_message = self._receipt
        self._party.on_connected = self._send
        self._sending: asyncio.Task[None] | None = None

    @property
    def party(self) -> Party:
        return self._party

    def done(self) -> bool:
        return self.upto == self.count

    async def finished(self) -> None:
        await until(self.done, f"receipts of {self.node} reach the end", 60)
        if self._sending is not None:
            await self._sending

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
