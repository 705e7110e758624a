"""Real brokers for the system tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from broker.client import Settings
from broker.embedded import Engine, EngineName
from broker.embedded import engine as make_engine
from tests.system.parties import MakeParty, Party


@pytest_asyncio.fixture(params=["nats-server", "mosquitto"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    """A running broker of each kind: host, port, pid, restart(), kill()."""
    name: EngineName = request.param
    broker = make_engine(name, tmp_path / "broker")
    await broker.start()
    yield broker
    await broker.stop()


@pytest_asyncio.fixture
async def party(engine: Engine) -> AsyncIterator[MakeParty]:
    """Factory of started clients, ended with the test."""
    made: list[Party] = []

    def make(client_id: str, *, settings: dict[str, object] | None = None, **options: object) -> Party:
        values = {"backoff_first_s": 0.05, "backoff_cap_s": 0.5} | (settings or {})
        new = Party(Settings(engine.host, engine.port, client_id, **values), **options)  # type: ignore[arg-type]
        made.append(new)
        return new.start()

    yield make
    for each in made:
        await each.crash()
