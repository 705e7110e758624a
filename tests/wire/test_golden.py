"""Both ends against the same files: what is encoded is exactly these bytes, what is decoded is exactly this value."""

import json

import jsonschema
import msgspec
import pytest

from broker.wire.__main__ import FOLDER
from broker.wire.codec import WireError, decode_data, decode_envelope, decode_message, encode
from broker.wire.documents import documents
from broker.wire.messages import EVENT_KINDS
from broker.wire.topics import DELIVERY, TopicKind
from tests.wire.samples import EVENTS, GOLDEN, MESSAGES, envelope


def test_every_kind_of_event_and_message_has_a_golden_file():
    assert set(EVENTS) == set(EVENT_KINDS)
    assert {p.name for p in GOLDEN.glob("*.json")} == {f"{kind}.v1.json" for kind in (*EVENTS, *MESSAGES)}


@pytest.mark.parametrize("kind", EVENTS)
def test_golden_event(kind: str):
    golden = (GOLDEN / f"{kind}.v1.json").read_bytes()
    assert encode(envelope(kind)) == golden
    decoded = decode_envelope(golden)
    assert decoded == envelope(kind)
    assert decode_data(decoded) == EVENTS[kind]


@pytest.mark.parametrize("kind", MESSAGES)
def test_golden_message(kind: str):
    golden = (GOLDEN / f"{kind}.v1.json").read_bytes()
    assert encode(MESSAGES[kind]) == golden
    assert decode_message(golden, type(MESSAGES[kind])) == MESSAGES[kind]


@pytest.mark.parametrize("kind", EVENTS)
def test_a_newer_sender_is_understood(kind: str):
    newer = json.loads((GOLDEN / f"{kind}.v1.json").read_bytes())
    newer["unheard_of"] = 1
    newer["data"]["unheard_of"] = {"deep": [1]}
    decoded = decode_envelope(json.dumps(newer).encode())
    assert decode_data(decoded) == EVENTS[kind]
    assert b"unheard_of" in bytes(decoded.data)  # kept when stored


def test_an_unknown_kind_is_kept_and_not_typed():
    newer = json.loads((GOLDEN / "clock.v1.json").read_bytes()) | {"type": "drone", "data": {"height_m": 3}}
    decoded = decode_envelope(json.dumps(newer).encode())
    assert decode_data(decoded) is None
    assert json.loads(bytes(decoded.data)) == {"height_m": 3}


@pytest.mark.parametrize(
    "field", json.loads((GOLDEN / "verdict.v1.json").read_bytes()).keys() - {"specversion", "datacontenttype"}
)
def test_a_missing_field_is_named(field: str):
    broken = json.loads((GOLDEN / "verdict.v1.json").read_bytes())
    del broken[field]
    with pytest.raises(WireError, match=field):
        decode_envelope(json.dumps(broken).encode())


@pytest.mark.parametrize("name", documents())
def test_generated_documents_do_not_lag(name: str):
    assert (FOLDER / name).read_bytes() == documents()[name], "run: python -m broker.wire"


def test_no_document_is_left_over():
    assert {p.name for p in FOLDER.iterdir()} == set(documents())


@pytest.mark.parametrize("kind", [*EVENTS, *MESSAGES])
def test_golden_files_satisfy_the_json_schema(kind: str):
    schema = json.loads((FOLDER / f"{'event' if kind in EVENTS else kind}.schema.json").read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    golden = json.loads((GOLDEN / f"{kind}.v1.json").read_bytes())
    validator.validate(golden)
    inner = golden["data"] if kind in EVENTS else golden
    del inner[next(iter(inner))]
    assert not validator.is_valid(golden), "the schema must look into the data"


def test_asyncapi_names_every_topic_with_its_delivery():
    document = msgspec.json.decode((FOLDER / "asyncapi.json").read_bytes())
    assert document["asyncapi"] == "3.0.0"
    for kind, delivery in DELIVERY.items():
        operation, channel = document["operations"][kind], document["channels"][kind]
        assert operation["bindings"]["mqtt"] == {
            "qos": delivery.qos,
            "retain": delivery.retained,
            "bindingVersion": "0.2.0",
        }
        assert operation["action"] == ("send" if delivery.from_node else "receive")
        assert channel["address"].endswith("/event/{kind}" if kind is TopicKind.EVENT else f"/{kind}")
        for message in channel.get("messages", {}).values():
            name = message["$ref"].rpartition("/")[2]
            file = document["components"]["messages"][name]["payload"]["schema"]["$ref"]
            assert (FOLDER / file).exists()
