"""The client against brokers that are silent, refuse, or are missing: the line itself is the test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio

from broker import client as client_module
from broker.client import NotConnected, Publication, Settings, Tls
from broker.embedded import Engine
from broker.mqtt import back_off_s
from tests.system.parties import MakeParty, Party, until

CONNACK = b"\x20\x02\x00\x00"
NOT_AUTHORISED = b"\x20\x02\x00\x05"
SUBACK_REFUSED = b"\x90\x03\x00\x01\x80"

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
Serve = Callable[[Talk], Awaitable[Settings]]


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Serve]:
    """Start a hand-made broker; gives settings that lead to it."""
    servers: list[asyncio.Server] = []

    async def start(talk: Talk) -> Settings:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read(1024)  # CONNECT
                await talk(reader, writer)
            finally:
                writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        servers.append(server)
        port = server.sockets[0].getsockname()[1]
        return Settings("127.0.0.1", port, "gate", keepalive_s=1, backoff_first_s=0.05, backoff_cap_s=0.2)

    yield start
    for server in servers:
        server.close()


async def test_a_half_open_connection_is_noticed(serve: Serve):
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CONNACK)
        await reader.read()  # whatever comes: no answer

    party = await Party(await serve(silent)).start().up()
    pending = party.client.publish(Publication("t", b"x", 1, retain=False))
    await until(lambda: party.losses, "the loss", deadline_s=6)
    with pytest.raises(NotConnected):
        await pending
    assert "Keep alive" in party.losses[0]
    await party.crash()


async def test_refused_credentials_are_said_once_and_tried_slowly(serve: Serve, caplog: pytest.LogCaptureFixture):
    async def refuse(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(NOT_AUTHORISED)
        await writer.drain()

    party = Party(await serve(refuse)).start()
    await until(lambda: party.wills >= 4, "four attempts")
    lines = [r.message for r in caplog.records if r.name == "broker.client"]
    assert len(lines) == 1
    assert "refuses" in lines[0]
    assert (party.births, party.losses) == (0, [])
    await party.crash()


async def test_a_refused_subscription_is_not_a_connection(serve: Serve, caplog: pytest.LogCaptureFixture):
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CONNACK)
        await reader.read(1024)
        writer.write(SUBACK_REFUSED)
        await reader.read()

    party = Party(await serve(refuse), subscriptions=[("t/#", 1)]).start()
    await until(lambda: party.wills >= 2, "next attempt")
    assert party.births == 0
    assert [r.fields["reason"] for r in caplog.records if r.name == "broker.client"] == [  # type: ignore[attr-defined]
        "subscription to t/# refused"
    ]
    await party.crash()


async def test_a_missing_certificate_file_is_a_trouble_that_passes(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    settings = Settings("127.0.0.1", 9, "gate", tls=Tls(tmp_path / "none.pem"), backoff_first_s=0.05, backoff_cap_s=0.2)
    party = Party(settings).start()
    await until(lambda: party.wills >= 2, "second attempt")
    assert not party.task.done()  # type: ignore[union-attr]
    assert "No such file" in caplog.records[0].fields["reason"]  # type: ignore[attr-defined]
    await party.crash()


async def test_garbage_from_the_far_end_ends_the_connection_not_the_client(serve: Serve):
    async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CONNACK + b"\xff\xff\xff\xff\xff\xff" * 10)
        await writer.drain()

    party = Party(await serve(babble)).start()
    await until(lambda: party.wills >= 3, "tries again")
    assert not party.task.done()  # type: ignore[union-attr]
    await party.crash()


async def test_close_while_there_is_no_broker_returns_at_once():
    party = Party(Settings("127.0.0.1", 9, "gate")).start()
    await until(lambda: party.wills, "first attempt")
    await party.client.close(Publication("state", b"stopping", 1, retain=True))
    await asyncio.wait_for(party.task, 2)  # type: ignore[arg-type]


@pytest.mark.system
async def test_without_the_hook_of_paho_everything_still_works(
    party: MakeParty, engine: Engine, monkeypatch: pytest.MonkeyPatch
):
    assert hasattr(client_module.paho.Client, "_create_socket"), "paho lost its hook: the buffered socket is not used"
    monkeypatch.delattr(client_module._Paho, "_create_socket")
    listener = await party("listener", subscriptions=[("t", 1)], manual_ack=True).up()
    sender = await party("sender").up()
    await asyncio.gather(*(sender.client.publish(Publication("t", b"%d" % i, 1, retain=False)) for i in range(300)))
    await until(lambda: len(listener.received) == 300, "all arrived")
    listener.client.ack(listener.received)
    engine.kill()
    await until(lambda: not listener.client.connected, "loss noticed")
    assert sender.client._connection is None or sender.client._connection._mqtt.buffered is None


def test_back_off_is_spread_doubles_and_is_capped():
    settings = Settings("h", 1, "c", backoff_first_s=0.5, backoff_cap_s=30)
    for failures, ceiling_s in [(0, 0.5), (1, 1), (4, 8), (10, 30), (10_000, 30)]:
        delays = [back_off_s(settings, failures, refused=False) for _ in range(300)]
        assert max(delays) <= ceiling_s
        assert min(delays) < ceiling_s * 0.2
        assert max(delays) > ceiling_s * 0.8
    assert all(15 <= back_off_s(settings, 0, refused=True) <= 30 for _ in range(100))


@pytest.mark.parametrize("window", [0, 65_536])
def test_an_impossible_window_is_refused(window: int):
    with pytest.raises(ValueError, match="use 1 to 65535"):
        Party(Settings("h", 1, "c", window=window))
