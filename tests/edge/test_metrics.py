import asyncio
import contextlib
import shutil
import subprocess

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from edge.core.model import ClockTrust
from edge.metrics import MAX_CONNECTIONS, Histogram, MetricsServer, NodeCollector, NodeStats


def busy_node() -> NodeStats:
    stats = NodeStats(version="0.1.0", node="gate-1", outbox_waiting=7, outbox_oldest_wall_ms=60_000, connected=True)
    stats.verdicts["main", "admit"] += 3
    stats.verdicts["main", "refuse"] += 1
    stats.lockouts["main", "curfew"] = True
    stats.lockouts["main", "fever"] = False
    stats.devices |= {"thermometer-1": True, "barrier-main": False}
    stats.clock = ClockTrust.HOLDOVER
    for seconds in (0.0004, 0.0005, 0.02, 3.0):
        stats.step_s.observe(seconds)
    return stats


def registry_of(stats: NodeStats) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(NodeCollector(stats, wall_ms=lambda: 72_500))
    return registry


def samples(text: str) -> dict[tuple[str, ...], float]:
    return {
        (s.name, *(s.labels[k] for k in sorted(s.labels))): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


def test_what_the_node_shows():
    shown = samples(generate_latest(registry_of(busy_node())).decode())
    assert shown["menwei_node_build_info", "gate-1", "0.1.0"] == 1
    assert shown["menwei_node_outbox_events",] == 7
    assert shown["menwei_node_outbox_oldest_seconds",] == 12.5
    assert shown["menwei_node_broker_up",] == 1
    assert shown["menwei_node_verdicts_total", "main", "admit"] == 3
    assert shown["menwei_node_lockout_active", "curfew", "main"] == 1
    assert shown["menwei_node_lockout_active", "fever", "main"] == 0
    assert shown["menwei_node_device_up", "barrier-main"] == 0
    assert {k[1]: v for k, v in shown.items() if k[0] == "menwei_node_clock_trust"} == {
        "trusted": 0,
        "holdover": 1,
        "untrusted": 0,
    }
    assert shown["menwei_node_step_duration_seconds_bucket", "0.0005"] == 2
    assert shown["menwei_node_step_duration_seconds_bucket", "0.025"] == 3
    assert shown["menwei_node_step_duration_seconds_bucket", "+Inf"] == 4
    assert shown["menwei_node_step_duration_seconds_count",] == 4
    assert shown["menwei_node_step_duration_seconds_sum",] == pytest.approx(3.0209)


def test_the_scrape_follows_the_numbers_and_nothing_waiting_has_no_age():
    stats = busy_node()
    registry = registry_of(stats)
    stats.outbox_waiting, stats.outbox_oldest_wall_ms = 0, None
    stats.verdicts["main", "admit"] += 1
    shown = samples(generate_latest(registry).decode())
    assert shown["menwei_node_outbox_oldest_seconds",] == 0
    assert shown["menwei_node_verdicts_total", "main", "admit"] == 4


def test_an_age_is_never_negative_after_a_clock_step():
    stats = busy_node()
    stats.outbox_oldest_wall_ms = 99_999_999
    assert samples(generate_latest(registry_of(stats)).decode())["menwei_node_outbox_oldest_seconds",] == 0


def test_buckets_are_cumulative_and_a_bound_belongs_to_its_bucket():
    h = Histogram([1.0, 2.0])
    for seconds in (0.5, 1.0, 1.5, 2.0, 9.0):
        h.observe(seconds)
    assert h.buckets() == [("1.0", 2.0), ("2.0", 4.0), ("+Inf", 5.0)]
    assert h.sum_s == 14.0


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Prometheus")
@pytest.mark.parametrize("stats", [busy_node(), NodeStats(version="0.1.0", node="gate-1")], ids=["busy", "new"])
def test_promtool_has_nothing_to_say(stats: NodeStats):
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=generate_latest(registry_of(stats)),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        async with asyncio.timeout(5):
            return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
        (b"GET /metrics?x=1 HTTP/1.0\r\n\r\n", b"200"),
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", b"405"),
        (b"\x16\x03\x01\r\n\r\n", b"404"),
        (b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 2000, b"431"),
    ],
)
async def test_answers(request_bytes: bytes, status: bytes):
    server = MetricsServer(registry_of(busy_node()))
    port = await server.start("127.0.0.1", 0)
    try:
        head, _, body = (await ask(port, request_bytes)).partition(b"\r\n\r\n")
        assert head.split(b" ")[1] == status
        assert f"Content-Length: {len(body)}".encode() in head
        if status == b"200":
            assert samples(body.decode())["menwei_node_outbox_events",] == 7
    finally:
        await server.close()


async def test_a_silent_client_is_let_go_and_others_are_served_meanwhile():
    server = MetricsServer(registry_of(busy_node()), request_timeout_s=0.2)
    port = await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /met")
    assert (await ask(port, b"GET /metrics HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.0 200 ")
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
    await server.close()


async def test_many_silent_clients_do_not_pile_up_and_closing_ends_them():
    server = MetricsServer(registry_of(busy_node()))
    port = await server.start("127.0.0.1", 0)
    clients = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MAX_CONNECTIONS + 1)]
    async with asyncio.timeout(5):
        ended, _ = await asyncio.wait(
            [asyncio.ensure_future(reader.read()) for reader, _ in clients], return_when=asyncio.FIRST_COMPLETED
        )
        assert len(ended) == 1
        await server.close()
    for _, writer in clients:
        writer.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.2", "::"])
async def test_an_address_others_can_reach_is_refused(host: str):
    with pytest.raises(ValueError, match="loopback only"):
        await MetricsServer(CollectorRegistry()).start(host, 0)
