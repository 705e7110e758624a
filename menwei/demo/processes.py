"""The demo's real processes: one broker, one collector, three gates; started, watched, killed and ended here."""

import asyncio
import contextlib
import shutil
import signal
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from broker.embedded import Engine, engine
from menwei.demo import people, sites
from menwei.demo.sites import GateFiles
from menwei.demo.talk import NoAnswer, ask

READY_S = 30.0
STOP_S = 10.0
POLL_S = 0.1


class StartFailed(Exception):  # noqa: N818 - named by the condition
    """A process did not come up; the text names it and its log."""


@dataclass(slots=True)
class Child:
    """One process and its log."""

    name: str
    arguments: list[str]
    log: Path
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, output to its log."""
        with self.log.open("ab") as out:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "menwei",
                *self.arguments,
                stdout=out,
                stderr=out,
                stdin=asyncio.subprocess.DEVNULL,
            )

    def kill(self) -> None:
        """Cut its power."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()

    async def stop(self) -> None:
        """Ask it to end; kill it if it does not."""
        if self.process is None or self.process.returncode is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()

    def check(self) -> None:
        """Raise StartFailed if it has ended by itself."""
        if self.process is not None and self.process.returncode is not None:
            raise StartFailed(
                f"{self.name} ended with code {self.process.returncode}; its last words are in {self.log}"
            )


@dataclass(slots=True)
class Compounds:
    """Everything that runs."""

    data: Path
    engine_name: Literal["nats-server", "mosquitto"]
    http_port: int
    start: str
    rate: float
    gates: list[GateFiles] = field(default_factory=list)
    children: dict[str, Child] = field(default_factory=dict)
    broker: Engine | None = None

    @property
    def page(self) -> str:
        """Address of the live page."""
        return f"http://127.0.0.1:{self.http_port}/"

    async def up(self) -> None:
        """Start broker, collector, gates; each is ready when this returns. Raises StartFailed."""
        shutil.rmtree(self.data, ignore_errors=True)
        self.data.mkdir(parents=True, mode=0o700)
        self.http_port = self.http_port if self.http_port and _is_free(self.http_port) else _free_port()
        self.broker = engine(self.engine_name, self.data / "broker", 0)
        port = await self.broker.start()
        await self._collector_up(port)
        await self._gates_up(port)

    async def down(self) -> None:
        """End everything, gates first."""
        for child in reversed(self.children.values()):
            await child.stop()
        if self.broker is not None:
            await self.broker.stop()

    async def restart(self, name: str) -> None:
        """Power comes back."""
        child = self.children[name]
        if child.process is not None:
            await child.process.wait()
        await child.start()
        for gate in self.gates:
            if gate.node == name:
                await self._gate_ready(gate)

    async def _collector_up(self, broker_port: int) -> None:
        config = self.data / "collector.toml"
        config.write_text(
            sites.collector_toml(self.data, broker_port=broker_port, http_port=self.http_port), encoding="utf-8"
        )
        child = Child("collector", ["collector", "run", "--config", str(config)], self.data / "collector.log")
        self.children["collector"] = child
        await child.start()
        async with _deadline(child):
            while not await asyncio.to_thread(_answers, f"{self.page}-/ready"):
                child.check()
                await asyncio.sleep(POLL_S)

    async def _gates_up(self, broker_port: int) -> None:
        issuer = people.Issuer.fresh()
        self.gates = sites.gates(self.data)
        for number, gate in enumerate(self.gates):
            gate.folder.mkdir(mode=0o700)
            now_s = sites.unix_s(self.start)
            text = sites.gate_toml(
                gate,
                broker_port=broker_port,
                public_key=issuer.public,
                passes=people.passes(issuer, gate.site.site, now_s),
                start=self.start,
                rate=self.rate,
                seed=number + 1,
            )
            gate.config.write_text(text, encoding="utf-8")
            child = Child(gate.node, ["edge", "run", "--config", str(gate.config)], gate.log)
            self.children[gate.node] = child
            await child.start()
        for gate in self.gates:
            await self._gate_ready(gate)

    async def _gate_ready(self, gate: GateFiles) -> None:
        child = self.children[gate.node]
        async with _deadline(child):
            while True:
                child.check()
                try:
                    status = await ask(gate.guard, {"do": "status"})
                    await ask(gate.control, {"do": "status"})
                except NoAnswer:
                    await asyncio.sleep(POLL_S)
                    continue
                if status["broker"] == "connected" and all(lane["position"] == "closed" for lane in status["lanes"]):
                    return
                await asyncio.sleep(POLL_S)


@contextlib.asynccontextmanager
async def _deadline(child: Child) -> AsyncIterator[None]:
    """Turn a time-out into StartFailed naming the process."""
    try:
        async with asyncio.timeout(READY_S):
            yield
    except TimeoutError:
        raise StartFailed(f"{child.name} was not ready within {READY_S:.0f} s; see {child.log}") from None


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our own page on loopback
            return bool(response.status == 200)  # noqa: PLR2004 - OK
    except (urllib.error.URLError, OSError):
        return False


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
