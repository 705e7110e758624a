"""What a message from the bus is: a sound event, a flawed one, a state, a self-description, or rubbish. Pure.

Every byte string has an answer; nothing here raises. An event whose identity can be read but whose rest cannot is
*flawed*: it is stored as evidence with the flaw named and takes its place in its stream, so that one bad payload never
holds up the receipts of the good ones behind it. Without a readable identity it is rubbish and goes to quarantine only.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import msgspec

from broker.wire import codec, topics
from broker.wire.codec import WireError
from broker.wire.messages import Description, Envelope, EventData, Id, State

MAX_SEQ = 2**62  # a column holds 63 bits
_MAX_PEEK_BYTES = 1_000_000  # beyond this not even the identity of an event is looked for
_CACHE_LIMIT = 100_000
V = TypeVar("V")
_SOURCE = re.compile(r"/site/([a-z0-9-]{1,40})/gate/([a-z0-9-]{1,40})")


@dataclass(frozen=True, slots=True)
class Event:
    """An event with an identity. `flaw` names what is wrong with it; then `envelope` and `data` may be missing."""

    node: str
    site: str
    kind: str
    stream: str
    seq: int
    time: str
    envelope: Envelope | None
    data: EventData | None
    flaw: str | None = None


@dataclass(frozen=True, slots=True)
class StateSeen:
    """A gate's state."""

    state: State


@dataclass(frozen=True, slots=True)
class DescriptionSeen:
    """A gate's self-description."""

    description: Description


@dataclass(frozen=True, slots=True)
class Rubbish:
    """Nothing that can be attributed; the reason says why."""

    reason: str


Judged = Event | StateSeen | DescriptionSeen | Rubbish


class _Identity(msgspec.Struct, frozen=True):
    """The least an event must have to be counted."""

    id: str
    stream: Id
    seq: int


_identity_decoder = msgspec.json.Decoder(_Identity)


class Intake:
    """Judges messages one by one; remembers parsed topics and sources, bounded, because both repeat for ever."""

    def __init__(self) -> None:
        self._topics: dict[str, topics.NodeTopic] = {}
        self._sources: dict[str, tuple[str, str]] = {}

    def judge(self, topic: str, payload: bytes) -> Judged:
        """What this message is. Never raises."""
        parsed = self._topics.get(topic)
        if parsed is None:
            try:
                parsed = topics.parse(topic)
            except topics.TopicError as e:
                return Rubbish(str(e))
            _remember(self._topics, topic, parsed)
        if parsed.event is not None:
            return self._event(parsed.node, parsed.event, payload)
        if parsed.kind is topics.TopicKind.STATE:
            return _state(parsed.node, payload)
        if parsed.kind is topics.TopicKind.META:
            return _description(parsed.node, payload)
        return Rubbish(f"{parsed.kind} is not for the centre")

    def _event(self, node: str, kind: str, payload: bytes) -> Judged:
        try:
            envelope = codec.decode_envelope(payload)
        except WireError as e:
            return _peek(node, kind, payload, str(e))
        if envelope.seq > MAX_SEQ or envelope.id != f"{node}/{envelope.stream}/{envelope.seq}":
            return _peek(node, kind, payload, "id is not node/stream/seq of the topic and the fields")
        source = self._sources.get(envelope.source)
        if source is None:
            match = _SOURCE.fullmatch(envelope.source)
            source = (match[1], match[2]) if match else ("", "")
            _remember(self._sources, envelope.source, source)
        site, source_node = source
        flaw, data = None, None
        if source_node != node:
            flaw = "source does not name the node of the topic"
        elif envelope.type != kind:
            flaw = "type is not the kind of the topic"
        elif not _is_time(envelope.time):
            flaw = "time is not RFC 3339 with an offset"
        else:
            try:
                data = codec.decode_data(envelope)
            except WireError as e:
                flaw = str(e)
        return Event(node, site, kind, envelope.stream, envelope.seq, envelope.time, envelope, data, flaw)


def _state(node: str, payload: bytes) -> StateSeen | Rubbish:
    try:
        state = codec.decode_message(payload, State)
    except WireError as e:
        return Rubbish(str(e))
    if state.session > MAX_SEQ:
        return Rubbish("session is out of range")
    return StateSeen(state) if state.node == node else Rubbish("state of another node than its topic")


def _description(node: str, payload: bytes) -> DescriptionSeen | Rubbish:
    try:
        description = codec.decode_message(payload, Description)
    except WireError as e:
        return Rubbish(str(e))
    return DescriptionSeen(description) if description.node == node else Rubbish("meta of another node than its topic")


def _peek(node: str, kind: str, payload: bytes, flaw: str) -> Event | Rubbish:
    """Flawed event if the bytes at least say which one they are."""
    if len(payload) > _MAX_PEEK_BYTES:
        return Rubbish(flaw)
    try:
        identity = _identity_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Rubbish(flaw)
    expected = f"{node}/{identity.stream}/{identity.seq}"
    if not 1 <= identity.seq <= MAX_SEQ or identity.id != expected:
        return Rubbish(flaw)
    return Event(node, "", kind, identity.stream, identity.seq, "", None, None, flaw)


def _is_time(value: str) -> bool:
    try:
        return datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


def _remember(cache: dict[str, V], key: str, value: V) -> None:
    if len(cache) >= _CACHE_LIMIT:
        cache.clear()
    cache[key] = value
