"""Bytes to messages and back: strict out, tolerant in. Every refusal is a WireError that says which field."""

import hashlib
from typing import TypeVar

import msgspec

from broker.wire.messages import (
    EVENT_KINDS,
    Description,
    Envelope,
    EventData,
    Receipt,
    State,
)

MAX_EVENT_BYTES = 16_384
MAX_STATE_BYTES = 65_536

Message = State | Description | Receipt
T = TypeVar("T")
_encoder = msgspec.json.Encoder()
_envelope_decoder = msgspec.json.Decoder(Envelope)
_data_decoders = {kind: msgspec.json.Decoder(struct) for kind, struct in EVENT_KINDS.items()}
_message_decoders = {struct: msgspec.json.Decoder(struct) for struct in (State, Description, Receipt)}


class WireError(ValueError):
    """Bytes that are not the message they should be; the text names the field."""


def encode(message: Envelope | EventData | Message) -> bytes:
    """Compact JSON, fields in declaration order: the same value always gives the same bytes."""
    return _encoder.encode(message)


def digest(event_bytes: bytes) -> str:
    """SHA-256 of the exact bytes of an event, as the next event's `prev` has it."""
    return hashlib.sha256(event_bytes).hexdigest()


def event_id(node: str, stream: str, seq: int) -> str:
    """Identity of an event in the whole fleet."""
    return f"{node}/{stream}/{seq}"


def decode_envelope(payload: bytes) -> Envelope:
    """Envelope with its data still raw. Raises WireError."""
    if len(payload) > MAX_EVENT_BYTES:
        raise WireError(f"event of {len(payload)} bytes: the limit is {MAX_EVENT_BYTES}")
    try:
        return _envelope_decoder.decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise WireError(str(e)) from e


def decode_data(envelope: Envelope) -> EventData | None:
    """Typed data of a known kind; None for a kind this version does not know (store it as it is). Raises WireError."""
    decoder = _data_decoders.get(envelope.type)
    if decoder is None:
        return None
    try:
        return decoder.decode(envelope.data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise WireError(f"data of kind {envelope.type}: {e}") from e


def decode_message(payload: bytes, message_type: type[T]) -> T:
    """One of State, Description, Receipt. Raises WireError."""
    if len(payload) > MAX_STATE_BYTES:
        raise WireError(f"message of {len(payload)} bytes: the limit is {MAX_STATE_BYTES}")
    try:
        return _message_decoders[message_type].decode(payload)  # type: ignore[index,return-value]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
        raise WireError(str(e)) from e
