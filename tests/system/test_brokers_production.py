"""Debian's Mosquitto in production configuration, proved by delivery: SUBACK and PUBACK prove nothing."""

import asyncio
import contextlib
import os
import pwd
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from broker.client import NotConnected, Publication, Settings, Tls
from broker.embedded import Mosquitto
from broker.mosquitto.acl import access_list
from broker.mosquitto.config import Production, production
from broker.wire.topics import DELIVERY, TopicKind, node_topic, subscription
from tests.system.certificates import Authority
from tests.system.parties import Party, until

pytestmark = pytest.mark.system

FROM_NODES = [(subscription(kind), 1) for kind, delivery in DELIVERY.items() if delivery.from_node]


class Hardened(Mosquitto):
    """The production configuration under the ordinary engine."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(folder)
        self._server = authority.issue("broker")

    def _configuration(self) -> str:
        acl = self.state_dir / "acl"
        acl.write_text(access_list())
        acl.chmod(0o600)
        assert self._server.cert is not None
        assert self._server.key is not None
        return production(
            Production(
                ca=self._server.ca,
                cert=self._server.cert,
                key=self._server.key,
                acl=acl,
                state_dir=self.state_dir,
                bind="127.0.0.1",
                port=self.port,
                user=pwd.getpwuid(os.geteuid()).pw_name,
            )
        )

    async def _answers(self) -> bool:
        with socket.socket() as s:
            return s.connect_ex((self.host, self.port)) == 0


class Site:
    """A broker, its authority, and parties with certificates."""

    def __init__(self, broker: Hardened, authority: Authority) -> None:
        self.broker, self.authority = broker, authority
        self.parties: list[Party] = []

    def party(self, name: str, *, tls: Tls | None, client_id: str | None = None, **options: object) -> Party:
        settings = Settings(
            self.broker.host,
            self.broker.port,
            client_id or name,
            tls=tls,
            username=name,  # whatever is claimed here, the certificate decides
            backoff_first_s=0.05,
            backoff_cap_s=0.2,
        )
        party = Party(settings, **options)
        self.parties.append(party)
        return party.start()

    def member(self, name: str, **options: object) -> Party:
        return self.party(name, tls=self.authority.issue(name), **options)


@pytest_asyncio.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    authority = Authority(tmp_path / "pki")
    broker = Hardened(tmp_path / "broker", authority)
    await broker.start()
    site = Site(broker, authority)
    yield site
    for party in site.parties:
        await party.crash()
    await broker.stop()


def fact(node: str, payload: bytes) -> Publication:
    return Publication(node_topic(node, TopicKind.EVENT, "clock"), payload, 1, retain=False)


async def attempt(party: Party, publication: Publication) -> None:
    """Publish what is forbidden: over TLS Mosquitto 2.0.11 acknowledges it and then closes the connection."""
    await party.up()
    with contextlib.suppress(NotConnected):
        await party.client.publish(publication)


async def test_a_node_speaks_for_itself_only(site: Site):
    collector = await site.member("collector", subscriptions=FROM_NODES).up()
    neighbour = await site.member("gate-2", subscriptions=[("menwei/v1/gate-2/#", 1)]).up()
    gate = await site.member("gate-1", subscriptions=[("menwei/v1/gate-1/#", 1)]).up()
    for kind, delivery in DELIVERY.items():  # every topic of the neighbour, and the centre's side of its own
        event = "clock" if kind is TopicKind.EVENT else None
        await attempt(gate, Publication(node_topic("gate-2", kind, event), b"forged", 1, retain=True))
        if not delivery.from_node:
            await attempt(gate, Publication(node_topic("gate-1", kind), b"forged", 1, retain=True))
    await until(lambda: gate.client.connected, "back after the last attempt")
    honest = await site.member("gate-3").up()
    await honest.client.publish(fact("gate-3", b"own"))
    for node in ("gate-1", "gate-2"):
        await collector.client.publish(Publication(node_topic(node, TopicKind.RECEIPT), b"true", 1, retain=False))
    await until(lambda: collector.received and neighbour.received and gate.received, "what is allowed arrives")
    assert collector.payloads() == [b"own"]
    assert neighbour.payloads() == [b"true"]
    assert set(gate.payloads()) == {b"true"}


async def test_a_node_hears_only_what_is_meant_for_it(site: Site):
    collector = await site.member("collector", subscriptions=FROM_NODES).up()
    curious = await site.member(
        "gate-1", subscriptions=[("#", 1), ("menwei/v1/+/event/+", 1), ("menwei/v1/gate-2/receipt", 1)]
    ).up()
    neighbour = await site.member("gate-2", subscriptions=[(node_topic("gate-2", TopicKind.RECEIPT), 1)]).up()
    await neighbour.client.publish(fact("gate-2", b"private"))
    await neighbour.client.publish(Publication(node_topic("gate-2", TopicKind.STATE), b"private", 1, retain=True))
    await collector.client.publish(Publication(node_topic("gate-2", TopicKind.RECEIPT), b"private", 1, retain=False))
    await until(lambda: len(collector.received) == 2 and neighbour.received, "delivered to those it was meant for")
    await collector.client.publish(Publication(node_topic("gate-1", TopicKind.RECEIPT), b"mine", 1, retain=False))
    await until(lambda: curious.received, "own receipt")
    assert set(curious.payloads()) == {b"mine"}


async def test_a_node_cannot_throw_out_another_by_taking_its_client_id(site: Site):
    victim = await site.member("gate-2").up()
    thief = await site.party("gate-1", tls=site.authority.issue("gate-1"), client_id="gate-2").up()
    await thief.client.publish(fact("gate-1", b"here"))
    await victim.client.publish(fact("gate-2", b"still here"))
    assert (victim.births, victim.losses) == (1, [])


@pytest.mark.parametrize("kind", ["anonymous", "stranger", "plain"])
async def test_without_a_certificate_of_the_authority_there_is_no_connection(
    site: Site, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    issued = Authority(tmp_path / "other", "stranger").issue("collector")
    tls = {
        "anonymous": Tls(site.authority.ca),
        "stranger": Tls(site.authority.ca, issued.cert, issued.key),
        "plain": None,
    }[kind]
    collector = await site.member("collector", subscriptions=FROM_NODES).up()
    intruder = site.party("collector", tls=tls, client_id="intruder")
    await until(lambda: intruder.wills >= 3, "three attempts")
    assert intruder.births == 0
    assert (collector.births, collector.losses) == (1, [])
    complaints = [r for r in caplog.records if r.name == "broker.client" and r.levelname in {"WARNING", "ERROR"}]
    assert len(complaints) == 1
    assert complaints[0].levelname == ("WARNING" if kind == "plain" else "ERROR")


async def test_the_client_refuses_a_broker_it_does_not_trust(site: Site, tmp_path: Path):
    other = Authority(tmp_path / "other", "stranger")
    gate = site.party("gate-1", tls=other.issue("gate-1"))
    await until(lambda: gate.wills >= 2, "two attempts")
    assert gate.births == 0


async def test_a_large_message_and_a_burst_pass_through_tls(site: Site):
    collector = await site.member("collector", subscriptions=FROM_NODES).up()
    gate = await site.member("gate-1").up()
    await gate.client.publish(fact("gate-1", b"x" * 65_536))
    await asyncio.gather(*(gate.client.publish(fact("gate-1", b"%d" % i)) for i in range(2000)))
    await until(lambda: len(collector.received) == 2001, "everything")
    assert collector.payloads() == [b"x" * 65_536, *(b"%d" % i for i in range(2000))]
