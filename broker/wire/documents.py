"""The wire in documents other people's tools read: JSON Schema 2020-12 and AsyncAPI 3.0, generated from the Structs.

Nothing here is written by hand twice: `python -m broker.wire` writes the files, a test fails when they lag.
"""

from typing import Any

import msgspec
from msgspec import Struct

from broker.wire.messages import EVENT_KINDS, Description, Envelope, Receipt, State
from broker.wire.topics import DELIVERY, PREFIX, Delivery, TopicKind

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_SCHEMA_FORMAT = "application/schema+json;version=draft-2020-12"
_ID_PATTERN = "^[a-z0-9-]{1,40}$"

_MESSAGES: dict[TopicKind, type[Struct]] = {
    TopicKind.STATE: State,
    TopicKind.META: Description,
    TopicKind.EVENT: Envelope,
    TopicKind.RECEIPT: Receipt,
}
_SUMMARY: dict[TopicKind, str] = {
    TopicKind.STATE: "What the node is doing; the will says `lost`; published anew at every connect.",
    TopicKind.META: "What the node is: versions, lanes, devices, policy in force, heads of its streams.",
    TopicKind.EVENT: "One recorded fact, the last level of the topic names its kind.",
    TopicKind.RECEIPT: "The collector has committed a stream up to here; only this empties the outbox.",
    TopicKind.COMMAND: "A signed order, expiring, to be obeyed once.",
    TopicKind.ANSWER: "What came of a command, with the measured result.",
}


def documents() -> dict[str, bytes]:
    """Content by file name."""
    files = {f"{kind}.schema.json": _schema(kind, message) for kind, message in _MESSAGES.items()}
    return {name: _text(document) for name, document in (files | {"asyncapi.json": _asyncapi()}).items()}


def _schema(kind: TopicKind, message: type[Struct]) -> dict[str, Any]:
    structs: list[type[Struct]] = [message]
    if kind is TopicKind.EVENT:
        structs += EVENT_KINDS.values()
    (root, *_), definitions = msgspec.json.schema_components(structs, ref_template="#/$defs/{name}")
    schema = {"$schema": _DIALECT, "$id": f"urn:menwei:v1:{kind}", "title": message.__name__, **root}
    if kind is TopicKind.EVENT:  # a kind that is not listed is legal: an older reader stores it as it is
        schema["allOf"] = [
            {
                "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                "then": {"properties": {"data": {"$ref": f"#/$defs/{struct.__name__}"}}},
            }
            for name, struct in EVENT_KINDS.items()
        ]
    return schema | {"$defs": dict(sorted(definitions.items()))}


def _asyncapi() -> dict[str, Any]:
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "menwei",
            "version": "1.0.0",
            "description": "What a gate says and hears, seen from the gate. MQTT 3.1.1 suffices.",
        },
        "defaultContentType": "application/json",
        "channels": {kind.value: _channel(kind) for kind in DELIVERY},
        "operations": {kind.value: _operation(kind, delivery) for kind, delivery in DELIVERY.items()},
        "components": {
            "messages": {
                kind.value: {
                    "name": message.__name__,
                    "payload": {"schemaFormat": _SCHEMA_FORMAT, "schema": {"$ref": f"./{kind}.schema.json"}},
                }
                for kind, message in _MESSAGES.items()
            },
            "parameters": {
                "node": {"description": f"Certificate name and MQTT client id of the gate, {_ID_PATTERN}"},
                "kind": {"description": f"Kind of the event, {_ID_PATTERN}", "examples": list(EVENT_KINDS)},
            },
        },
    }


def _channel(kind: TopicKind) -> dict[str, Any]:
    is_event = kind is TopicKind.EVENT
    names = ["node", "kind"] if is_event else ["node"]
    channel: dict[str, Any] = {
        "address": f"{PREFIX}/{{node}}/{kind}" + ("/{kind}" if is_event else ""),
        "summary": _SUMMARY[kind],
        "parameters": {name: {"$ref": f"#/components/parameters/{name}"} for name in names},
    }
    if kind in _MESSAGES:
        channel["messages"] = {kind.value: {"$ref": f"#/components/messages/{kind}"}}
    return channel


def _operation(kind: TopicKind, delivery: Delivery) -> dict[str, Any]:
    return {
        "action": "send" if delivery.from_node else "receive",
        "channel": {"$ref": f"#/channels/{kind}"},
        "bindings": {"mqtt": {"qos": delivery.qos, "retain": delivery.retained, "bindingVersion": "0.2.0"}},
    }


def _text(document: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n"
