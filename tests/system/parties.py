"""MQTT parties that remember what happened to them, and waiting for what must happen."""

import asyncio
from collections.abc import Callable
from typing import Protocol

import pytest

from broker.client import Client, Incoming, Publication, Settings

DEADLINE_S = 20.0


async def until(condition: Callable[[], object], what: str, deadline_s: float = DEADLINE_S) -> None:
    """Wait for a condition; fail with its name."""
    loop = asyncio.get_running_loop()
    end_s = loop.time() + deadline_s
    while not condition():
        if loop.time() > end_s:
            pytest.fail(f"waited {deadline_s:.0f} s in vain: {what}")
        await asyncio.sleep(0.005)


class Party:
    """One client with everything that came in, running until the test ends."""

    def __init__(self, settings: Settings, **options: object) -> None:
        self.received: list[Incoming] = []
        self.births = 0
        self.losses: list[str] = []
        self.wills = 0
        self.will_of: Callable[[int], Publication | None] = lambda _session: None
        self.on_message: Callable[[Incoming], None] = self.received.append
        self.on_connected: Callable[[], None] = lambda: None
        self.client = Client(
            settings,
            will=self._will,
            on_message=self._received,
            on_connected=self._connected,
            on_disconnected=self.losses.append,
            **options,  # type: ignore[arg-type]
        )
        self.task: asyncio.Task[None] | None = None

    def start(self) -> "Party":
        self.task = asyncio.create_task(self.client.run())
        return self

    async def up(self) -> "Party":
        assert self.task is not None
        await until(lambda: self.client.connected or self.task.done(), "connected")  # type: ignore[union-attr]
        if self.task.done():
            await self.task
        return self

    async def crash(self) -> None:
        """The process dies: no DISCONNECT, the will speaks."""
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.received]

    def _will(self) -> Publication | None:
        self.wills += 1
        return self.will_of(self.wills)

    def _connected(self) -> None:
        self.births += 1
        self.on_connected()

    def _received(self, message: Incoming) -> None:
        self.on_message(message)


class MakeParty(Protocol):
    """`party("name", subscriptions=[...], manual_ack=True, settings={...})` starts a client."""

    def __call__(self, client_id: str, *, settings: dict[str, object] | None = None, **options: object) -> Party: ...
