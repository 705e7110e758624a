"""Topic names, and for each kind of topic its quality of service and whether it is retained (design: the wire)."""

import re
from dataclasses import dataclass
from enum import StrEnum

PREFIX = "menwei/v1"
_ID = re.compile(r"[a-z0-9-]{1,40}")
NODE_LEVEL = 2  # menwei / v1 / <node>; the level that an access list compares with the certificate's name


class TopicKind(StrEnum):
    """The last words of a node's topics."""

    STATE = "state"
    META = "meta"
    EVENT = "event"
    RECEIPT = "receipt"
    COMMAND = "command"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Delivery:
    """How messages of one topic travel."""

    qos: int
    retained: bool
    from_node: bool  # published by the node (else by the centre)


DELIVERY: dict[TopicKind, Delivery] = {
    TopicKind.STATE: Delivery(qos=1, retained=True, from_node=True),
    TopicKind.META: Delivery(qos=1, retained=True, from_node=True),
    TopicKind.EVENT: Delivery(qos=1, retained=False, from_node=True),
    TopicKind.RECEIPT: Delivery(qos=1, retained=False, from_node=False),
    TopicKind.COMMAND: Delivery(qos=1, retained=False, from_node=False),
    TopicKind.ANSWER: Delivery(qos=1, retained=False, from_node=True),
}


class TopicError(ValueError):
    """A topic that is not ours, or an id outside `[a-z0-9-]{1,40}`."""


@dataclass(frozen=True, slots=True)
class NodeTopic:
    """A parsed topic of one node; `event` is the event kind where there is one."""

    node: str
    kind: TopicKind
    event: str | None = None


def check_id(value: str) -> str:
    """Return `value` if it can be one topic level anywhere (MQTT, NATS subjects, AMQP), else raise TopicError."""
    if not _ID.fullmatch(value):
        raise TopicError(f"{value!r} is not an id: use 1 to 40 of a-z, 0-9 and '-'")
    return value


def node_topic(node: str, kind: TopicKind, event: str | None = None) -> str:
    """Topic of one node, e.g. `menwei/v1/gate-1/event/verdict`."""
    if (kind is TopicKind.EVENT) != (event is not None):
        raise TopicError("an event topic names its kind, no other topic does")
    base = f"{PREFIX}/{check_id(node)}/{kind}"
    return base if event is None else f"{base}/{check_id(event)}"


def subscription(kind: TopicKind) -> str:
    """Filter that matches this kind of topic of every node."""
    return f"{PREFIX}/+/{kind}/+" if kind is TopicKind.EVENT else f"{PREFIX}/+/{kind}"


def parse(topic: str) -> NodeTopic:
    """Inverse of `node_topic`. Raises TopicError."""
    parts = topic.split("/")
    if len(parts) not in (4, 5) or "/".join(parts[:2]) != PREFIX:
        raise TopicError(f"{topic!r} is not a topic of a node")
    try:
        kind = TopicKind(parts[3])
    except ValueError:
        raise TopicError(f"{topic!r}: unknown kind of topic {parts[3]!r}") from None
    if (len(parts) == 5) != (kind is TopicKind.EVENT):  # noqa: PLR2004 - five levels is what an event has
        raise TopicError(f"{topic!r} has the wrong number of levels for {kind}")
    return NodeTopic(check_id(parts[NODE_LEVEL]), kind, check_id(parts[4]) if kind is TopicKind.EVENT else None)
