"""What the node says of itself: retained state (birth, changes, heartbeat, will) and retained description."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from broker.client import Client, NotConnected, Publication
from broker.wire import codec, messages
from broker.wire.topics import DELIVERY, TopicKind, node_topic
from edge import encode
from edge.core import gate
from edge.core.barrier import position
from edge.core.gate import Gate
from edge.core.model import LockoutCause, Now
from edge.core.rules import Rules

HEARTBEAT_S = 10.0
COALESCE_S = 0.3


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a state message is made from."""

    state: Gate
    now: Now
    waiting: int


class Presence:
    """Publishes state and meta; the same message serves as birth, heartbeat and change notice."""

    def __init__(self, origin: encode.Origin, rules: Rules, snapshot: Callable[[], Snapshot]) -> None:
        self._origin, self._rules, self._snapshot = origin, rules, snapshot
        self.session = 0
        self._changed = asyncio.Event()
        self._last: object = None

    def will(self) -> Publication:
        """The will of the connection about to be made."""
        return self._state("lost", session=self.session + 1)

    def last_words(self) -> Publication:
        """State of a gate that ends in order."""
        return self._state("stopping")

    def connected(self, client: Client, description: messages.Description) -> None:
        """Birth: state and description, at every connect."""
        self.session += 1
        self._publish(client, self._state(self._phase()))
        delivery = DELIVERY[TopicKind.META]
        topic = node_topic(self._origin.node, TopicKind.META)
        self._publish(client, Publication(topic, codec.encode(description), delivery.qos, delivery.retained))

    def after_step(self, state: Gate) -> None:
        """Notice whether something that the page shows has changed."""
        shown = tuple((lane.phase, lane.prompt, position(lane.barrier)) for lane in state.lanes.values())
        glance = (shown, state.recorded, state.fire, state.trust, tuple(lane.locked for lane in state.lanes.values()))
        if glance != self._last:
            self._last = glance
            self._changed.set()

    async def run(self, client: Client) -> None:
        """Publish on change, coalesced, and as a heartbeat."""
        while True:
            try:
                await asyncio.wait_for(self._changed.wait(), HEARTBEAT_S)
                await asyncio.sleep(COALESCE_S)
            except TimeoutError:
                pass
            self._changed.clear()
            if client.connected:
                self._publish(client, self._state(self._phase()))

    def _publish(self, client: Client, publication: Publication) -> None:
        try:
            acknowledged = client.publish(publication)
        except NotConnected:
            return  # the next birth says it all again
        acknowledged.add_done_callback(_forget)

    def _phase(self) -> str:
        state = self._snapshot().state
        faulty = bool(state.devices_lost) or any(cause is not LockoutCause.CURFEW for _, cause in state.recorded)
        return "degraded" if faulty else "ready"

    def _state(self, phase: str, session: int | None = None) -> Publication:
        shot = self._snapshot()
        state = messages.State(
            node=self._origin.node,
            site=self._origin.site,
            boot=self._origin.boot,
            session=self.session if session is None else session,
            phase=phase,
            at=encode.timestamp(shot.now.wall_ms, self._origin.tz),
            clock=shot.state.trust,
            lanes=[self._lane(shot, lane.lane) for lane in self._rules.lanes],
            releases=["fire"] if shot.state.fire else [],
            waiting=shot.waiting,
        )
        delivery = DELIVERY[TopicKind.STATE]
        topic = node_topic(self._origin.node, TopicKind.STATE)
        return Publication(topic, codec.encode(state), delivery.qos, delivery.retained)

    def _lane(self, shot: Snapshot, lane: str) -> messages.LaneStatus:
        state = shot.state.lanes[lane]
        return messages.LaneStatus(
            lane=lane,
            kind=self._rules.lane(lane).kind,
            position=position(state.barrier),
            phase=state.phase,
            lockouts=sorted(gate.lockouts(shot.state, lane, self._rules, shot.now)),
            message=state.prompt,
        )


def _forget(acknowledged: asyncio.Future[None]) -> None:
    """State is said again at every connect: an acknowledgement lost with its connection is nobody's loss."""
    if not acknowledged.cancelled():
        acknowledged.exception()
