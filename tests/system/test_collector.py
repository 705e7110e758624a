"""The collector against real brokers: nothing published is lost, nothing is stored twice, whatever dies."""

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from broker.client import Publication
from broker.collector.fleet import Fleet
from broker.collector.ingest import SUBSCRIPTIONS, Ingest
from broker.embedded import Engine
from tests.collector.helpers import NODE, fever, open_store, passage, state
from tests.collector.processes import CollectorProcess, Outbox, free_port
from tests.system.parties import MakeParty, until

pytestmark = pytest.mark.system

COMPLETE = "SELECT count(*), count(DISTINCT node || stream || seq), count(flaw) FROM recorded"


@pytest_asyncio.fixture
async def collector(engine: Engine, tmp_path: Path) -> AsyncIterator[CollectorProcess]:
    process = CollectorProcess(tmp_path, engine)
    await process.start()
    yield process
    assert await process.stop() == 0


async def test_kill_9_of_the_collector_amid_ten_thousand_events(
    engine: Engine, collector: CollectorProcess, party: MakeParty
) -> None:
    del engine
    gates = [Outbox(party, f"gate-{n}", 5000) for n in (1, 2)]
    for part in (1500, 5000):
        await until(lambda part=part: collector.stored() >= part, f"{part} stored")  # type: ignore[misc]
        await collector.kill()
        assert collector.stored() < 10_000, "killed amid the events"
        await collector.start()
    for gate in gates:
        await gate.finished()
        assert gate.receipts == sorted(gate.receipts)
    assert collector.ask(COMPLETE) == [(10_000, 10_000, 0)]
    assert collector.ask("SELECT count(*) FROM gap") == [(0,)]
    assert "menwei_missing_events 0.0" in (await collector.get("/metrics")).text


async def test_kill_9_of_the_broker_amid_the_events(
    engine: Engine, collector: CollectorProcess, party: MakeParty
) -> None:
    gate = Outbox(party, NODE, 4000)
    await until(lambda: collector.stored() >= 500, "a part is stored")
    engine.kill()
    await engine.restart()
    await gate.finished()
    assert collector.ask(COMPLETE) == [(4000, 4000, 0)]
    assert collector.ask("SELECT head FROM stream") == [(4000,)]
    assert collector.ask("SELECT count(*) FROM gap") == [(0,)]


async def test_a_crash_between_commit_and_acknowledgement_loses_and_doubles_nothing(
    engine: Engine, party: MakeParty, tmp_path: Path
) -> None:
    del engine
    gate = await party("gate").up()

    async def run(*, acknowledge: bool, expect: int) -> Fleet:
        store = open_store(tmp_path)
        fleet = Fleet.of(store)
        ingest = Ingest(store, fleet, batch=100, pending=1000)
        centre = party("collector", subscriptions=SUBSCRIPTIONS, manual_ack=True)
        centre.on_message, centre.on_connected = ingest.on_message, ingest.on_connected
        if acknowledge:
            ingest.attach(centre.client)
        work = asyncio.create_task(ingest.run())
        await centre.up()
        if not acknowledge:
            for n in range(1, 201):
                message = passage(n)
                gate.client.publish(Publication(message.topic, message.payload, 1, False))
        await until(lambda: fleet.totals.get(("events_stored", "passage"), 0) == 200, "committed")
        await until(lambda: fleet.totals.get(("events_duplicate",), 0) == expect, "given again")
        await centre.crash()
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        ingest.close()
        return fleet

    # The first one commits and dies before it says so to anybody.
    await run(acknowledge=False, expect=0)
    again = await run(acknowledge=True, expect=200)
    assert again.receipts >= 1
    assert again.totals[("events_stored", "passage")] == 200


async def test_bad_payloads_gaps_and_duplicates_over_the_wire(
    engine: Engine, collector: CollectorProcess, party: MakeParty
) -> None:
    del engine
    receipts: list[bytes] = []
    gate = party("gate-1", subscriptions=[(f"menwei/v1/{NODE}/receipt", 1)])
    gate.on_message = lambda message: receipts.append(message.payload)
    await gate.up()

    async def send(topic: str, payload: bytes) -> None:
        await gate.client.publish(Publication(topic, payload, 1, False))

    topic = passage(1).topic
    await send(topic, passage(1).payload)
    await send(topic, b"\xff\x00 not an event")
    await send(topic, b"[" * 20_000)
    await send(topic, passage(4).payload)
    await send(topic, passage(4).payload)
    await until(lambda: collector.ask("SELECT seq FROM event ORDER BY id") == [(1,), (4,)], "two stored")
    await until(lambda: collector.ask("SELECT first, last FROM gap") == [(2, 3)], "the gap is named")
    await until(lambda: receipts, "a receipt")
    assert all(b'"upto":1' in receipt for receipt in receipts), "no receipt beyond the gap"
    await send(topic, passage(3).payload)
    await send(topic, passage(2).payload)
    await until(lambda: b'"upto":4' in receipts[-1], "the gap filled")
    assert collector.ask("SELECT count(*) FROM gap") == [(0,)]
    assert collector.ask("SELECT count(*) FROM quarantine") == [(2,)]
    text = (await collector.get("/metrics")).text
    assert "menwei_events_quarantined_total 2.0" in text
    assert "menwei_events_duplicate_total 1.0" in text


async def test_the_page_is_live_and_an_open_page_does_not_hold_up_the_stop(
    engine: Engine, collector: CollectorProcess, party: MakeParty
) -> None:
    del engine
    gate = await party("gate-1").up()
    async with httpx.AsyncClient() as http, http.stream("GET", f"{collector.url}/live?lang=en") as stream:
        lines = stream.aiter_lines()
        async with asyncio.timeout(20):
            async for line in lines:
                if "No gate has reported" in line:
                    break
            message = state()
            gate.client.publish(Publication(message.topic, message.payload, 1, True))
            async for line in lines:
                if "gate-1" in line:
                    break
        assert await collector.stop() == 0


@pytest.mark.parametrize("engine", ["nats-server"], indirect=True)  # what Prometheus sees depends on no broker
async def test_prometheus_shows_passages_and_the_fever_alarm(
    engine: Engine, collector: CollectorProcess, party: MakeParty, tmp_path: Path
) -> None:
    del engine
    program = shutil.which("prometheus")
    assert program is not None, "prometheus is missing: apt install prometheus"
    gate = await party("gate-1").up()
    for message in (state(), passage(1), passage(2), fever(1)):
        gate.client.publish(Publication(message.topic, message.payload, 1, False))
    config, port = tmp_path / "prometheus.yml", free_port()
    config.write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
        f"scrape_configs: [{{job_name: menwei, static_configs: [{{targets: ['127.0.0.1:{collector.port}']}}]}}]\n"
    )
    with (tmp_path / "prometheus.log").open("wb") as log:
        prometheus = await asyncio.create_subprocess_exec(
            program,
            f"--config.file={config}",
            f"--storage.tsdb.path={tmp_path / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stderr=log,
        )
    try:
        wanted = {
            'sum(menwei_passages_total{outcome="crossed"})': "2",
            'menwei_open_alarms{cause="fever"}': "1",
            'menwei_gate_up{gate="gate-1"}': "1",
        }
        async with httpx.AsyncClient() as http, asyncio.timeout(30):
            for query, value in wanted.items():
                while await _query(http, port, query) != value:
                    assert prometheus.returncode is None, (tmp_path / "prometheus.log").read_text()
                    await asyncio.sleep(0.1)
    finally:
        if prometheus.returncode is None:
            prometheus.terminate()
        await prometheus.wait()


async def _query(http: httpx.AsyncClient, port: int, query: str) -> str | None:
    try:
        answer = await http.get(f"http://127.0.0.1:{port}/api/v1/query", params={"query": query})
    except httpx.TransportError:
        return None
    if answer.status_code != 200:
        return None
    results = answer.json()["data"]["result"]
    return str(results[0]["value"][1]) if results else None


async def test_exit_codes(engine: Engine, tmp_path: Path) -> None:
    process = CollectorProcess(tmp_path, engine)
    with socket.create_server(("127.0.0.1", process.port)):
        assert await process.run_to_its_end() == 3
    assert "change [http]" in process.log()
    process.config.write_text("[brokr]\n[http]\nport = 99999\n")
    process.database.unlink(missing_ok=True)
    assert await process.run_to_its_end() == 2
    assert "brokr" in process.log()
    assert "http.port" in process.log()
    assert not process.database.exists()
