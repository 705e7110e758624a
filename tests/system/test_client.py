"""The client against both real brokers: what a gate and a collector rely on."""

import asyncio

import pytest

from broker.client import Incoming, NotConnected, Publication
from broker.embedded import Engine
from tests.system.parties import MakeParty, Party, until

pytestmark = pytest.mark.system


async def test_publish_completes_at_the_acknowledgement_and_arrives(party: MakeParty):
    received = await party("listener", subscriptions=[("t/+", 1)]).up()
    sender = await party("sender").up()
    await sender.client.publish(Publication("t/a", b"one", 1, retain=False))
    await sender.client.publish(Publication("t/b", b"zero", 0, retain=False))
    await until(lambda: len(received.received) == 2, "both arrived")
    assert [(m.topic, m.payload, m.retained, m.duplicate) for m in received.received] == [
        ("t/a", b"one", False, False),
        ("t/b", b"zero", False, False),
    ]
    assert received.received[1].mid == 0


async def test_offline_publish_is_refused_and_never_queued(party: MakeParty, engine: Engine):
    sender = await party("sender").up()
    await engine.stop()
    await until(lambda: not sender.client.connected, "loss noticed")
    with pytest.raises(NotConnected):
        sender.client.publish(Publication("t/a", b"lost", 1, retain=False))
    await engine.start()
    await sender.up()
    listener = await party("listener", subscriptions=[("t/+", 1)]).up()
    await sender.client.publish(Publication("t/a", b"after", 1, retain=False))
    await until(lambda: listener.received, "arrival")
    assert listener.payloads() == [b"after"]


async def test_a_dead_gate_is_declared_lost_by_its_will_and_born_again(party: MakeParty):
    states = await party("collector", subscriptions=[("state", 1)]).up()

    def gate(boot: str) -> Party:
        new = party("gate")
        new.will_of = lambda session: Publication("state", f"lost {boot} {session}".encode(), 1, retain=True)
        new.on_connected = lambda: new.client.publish(
            Publication("state", f"ready {boot} {new.wills}".encode(), 1, retain=True)
        )
        return new

    first = gate("boot1")
    await until(lambda: b"ready boot1 1" in states.payloads(), "birth")
    await first.crash()
    await until(lambda: b"lost boot1 1" in states.payloads(), "the will")
    gate("boot2")
    await until(lambda: b"ready boot2 1" in states.payloads(), "second birth")
    late = await party("late", subscriptions=[("state", 1)]).up()
    await until(lambda: late.received, "retained state")
    assert (late.received[0].payload, late.received[0].retained) == (b"ready boot2 1", True)


async def test_a_cut_socket_brings_the_will_of_that_session_then_the_next_birth(party: MakeParty):
    states = await party("collector", subscriptions=[("state", 1)]).up()
    gate = party("gate")
    gate.will_of = lambda session: Publication("state", f"lost {session}".encode(), 1, retain=True)
    gate.on_connected = lambda: gate.client.publish(
        Publication("state", f"ready {gate.wills}".encode(), 1, retain=True)
    )
    await until(lambda: states.payloads() == [b"ready 1"], "birth")
    gate.client._connection._mqtt.buffered._raw.shutdown(2)  # the cable
    await until(lambda: b"ready 2" in states.payloads(), "second birth")
    assert set(states.payloads()) == {b"ready 1", b"lost 1", b"ready 2"}
    assert gate.births == 2
    assert len(gate.losses) == 1


async def test_a_clean_close_says_its_last_word_and_no_will(party: MakeParty):
    states = await party("collector", subscriptions=[("state", 1)]).up()
    gate = party("gate")
    gate.will_of = lambda _session: Publication("state", b"lost", 1, retain=True)
    await gate.up()
    await gate.client.close(Publication("state", b"stopping", 1, retain=True))
    await asyncio.wait_for(gate.task, 5)
    probe = await party("probe").up()
    await probe.client.publish(Publication("state", b"marker", 1, retain=False))
    await until(lambda: b"marker" in states.payloads(), "marker")
    assert states.payloads() == [b"stopping", b"marker"]


async def test_kill_of_the_broker_reconnects_and_subscribes_again(
    party: MakeParty, engine: Engine, caplog: pytest.LogCaptureFixture
):
    caplog.set_level("INFO", logger="broker.client")
    listener = await party("listener", subscriptions=[("t/#", 1)], settings={"clean_session": True}).up()
    sender = await party("sender").up()
    engine.kill()
    await until(lambda: not sender.client.connected and not listener.client.connected, "loss noticed")
    await engine.restart()
    await listener.up()
    await sender.up()
    await sender.client.publish(Publication("t/x", b"back", 1, retain=False))
    await until(lambda: listener.received, "delivered on the new subscription")
    assert (listener.births, listener.client.generation) == (2, 2)
    lines = [r.message for r in caplog.records if r.name == "broker.client"]
    assert len([line for line in lines if line.startswith("no connection")]) == 2  # once for each client
    assert len([line for line in lines if line.startswith("connected")]) == 4


async def test_publications_in_flight_at_a_kill_fail_and_are_not_kept(party: MakeParty, engine: Engine):
    sender = await party("sender").up()
    await sender.client.publish(Publication("t/x", b"warm", 1, retain=False))
    engine.kill()
    futures = []
    try:
        futures = [sender.client.publish(Publication("t/x", b"%d" % i, 1, retain=False)) for i in range(500)]
    finally:
        results = await asyncio.wait_for(asyncio.gather(*futures, return_exceptions=True), 10)
    assert all(isinstance(r, NotConnected) for r in results)
    await until(lambda: not sender.client.connected, "loss noticed")


async def test_unacknowledged_messages_come_back_and_acknowledged_ones_do_not(party: MakeParty):
    collector = await party("collector", subscriptions=[("e/#", 1)], manual_ack=True).up()
    sender = await party("gate").up()
    await asyncio.gather(*(sender.client.publish(Publication("e/x", b"%d" % i, 1, retain=False)) for i in range(20)))
    await until(lambda: len(collector.received) == 20, "all arrived")
    old = list(collector.received)
    collector.client.ack(old[:12])
    await asyncio.sleep(0)  # the acknowledgements leave at the end of this turn
    await collector.client._connection.drained()
    await sender.client.publish(Publication("e/x", b"marker", 1, retain=False))
    await until(lambda: len(collector.received) == 21, "marker: the broker has seen the acknowledgements before it")
    await collector.crash()

    again = await party("collector", subscriptions=[("e/#", 1)], manual_ack=True).up()
    await until(lambda: len(again.received) >= 9, "redelivery")
    assert sorted(again.payloads()) == sorted([*(b"%d" % i for i in range(12, 20)), b"marker"])
    assert all(m.duplicate for m in again.received if m.payload != b"marker")


async def test_acknowledging_a_message_of_an_earlier_connection_is_ignored(party: MakeParty):
    collector = await party("collector", subscriptions=[("e/#", 1)], manual_ack=True).up()
    sender = await party("gate").up()
    await sender.client.publish(Publication("e/x", b"old", 1, retain=False))
    await until(lambda: collector.received, "arrived")
    stale = collector.received[0]
    collector.client._connection._mqtt.buffered._raw.shutdown(2)
    await until(lambda: len(collector.received) == 2, "redelivered on the next connection")
    fresh = collector.received[1]
    assert (stale.generation, fresh.generation, fresh.payload) == (1, 2, b"old")
    collector.client.ack([stale])
    assert collector.client._connection._mqtt.want_write() is False


async def test_the_window_bounds_what_is_in_flight_and_keeps_order(party: MakeParty):
    listener = await party("listener", subscriptions=[("t/#", 1)]).up()
    sender = await party("sender", settings={"window": 10}).up()
    futures = [sender.client.publish(Publication("t/x", b"%d" % i, 1, retain=False)) for i in range(300)]
    connection = sender.client._connection
    assert len(connection._in_flight) == 10
    await asyncio.wait_for(asyncio.gather(*futures), 10)
    assert not connection._in_flight
    await until(lambda: len(listener.received) == 300, "all arrived")
    assert listener.payloads() == [b"%d" % i for i in range(300)]


@pytest.mark.parametrize("place", ["on_message", "on_connected"])
async def test_a_raising_callback_is_raised_by_run(party: MakeParty, place: str):
    class Broken(Exception):  # noqa: N818 - a marker
        pass

    def fail(_message: Incoming | None = None) -> None:
        raise Broken

    listener = party("listener", subscriptions=[("t/#", 1)])
    setattr(listener, place, fail)
    sender = await party("sender").up()
    if place == "on_message":
        await listener.up()
        await sender.client.publish(Publication("t/x", b"bomb", 1, retain=False))
    await until(listener.task.done, "run ended")
    with pytest.raises(Broken):
        await listener.task
    assert not listener.client.connected


async def test_a_callback_raising_an_os_error_is_not_taken_for_a_lost_connection(party: MakeParty):
    listener = await party("listener", subscriptions=[("t/#", 1)]).up()

    def disk_full(_message: Incoming) -> None:
        raise OSError(28, "No space left on device")

    listener.on_message = disk_full
    sender = await party("sender").up()
    await sender.client.publish(Publication("t/x", b"row", 1, retain=False))
    await until(listener.task.done, "run ended")
    with pytest.raises(OSError, match="No space"):
        await listener.task


async def test_pause_stops_at_the_message_and_resume_loses_nothing(party: MakeParty):
    listener = await party("listener", subscriptions=[("t/#", 1)], manual_ack=True).up()

    def take_ten(message: Incoming) -> None:
        listener.received.append(message)
        if len(listener.received) == 10:
            listener.client.pause()

    listener.on_message = take_ten
    sender = await party("sender").up()
    payload = b"x" * 1000
    futures = [sender.client.publish(Publication("t/x", payload, 1, retain=False)) for _ in range(900)]
    await asyncio.wait_for(asyncio.gather(*futures), 20)
    assert len(listener.received) == 10  # the rest waits in kernel and broker, not here
    listener.client.resume()
    await until(lambda: len(listener.received) == 900, "the rest")
    assert listener.births == 1


async def test_a_paused_client_stays_connected_past_its_keepalive(party: MakeParty):
    listener = await party("listener", subscriptions=[("t/#", 1)], settings={"keepalive_s": 1}).up()
    listener.client.pause()
    sender = await party("sender").up()
    await sender.client.publish(Publication("t/x", b"waits", 1, retain=False))
    await asyncio.sleep(3.2)  # three keepalives: time itself is what is tested
    assert listener.received == []
    listener.client.resume()
    await until(lambda: listener.received, "delivery")
    await asyncio.sleep(1.5)
    assert (listener.births, listener.losses) == (1, [])
