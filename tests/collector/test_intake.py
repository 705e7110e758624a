import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.collector.intake import MAX_SEQ, DescriptionSeen, Event, Intake, Rubbish, StateSeen
from tests.collector.helpers import NODE, STREAM, envelope, event, meta, passage, state

TOPIC = f"menwei/v1/{NODE}/event/passage"
GOOD = json.loads(passage(4).payload)


def changed(**fields: object) -> bytes:
    return json.dumps(GOOD | fields).encode()


def test_a_sound_event() -> None:
    judged = Intake().judge(TOPIC, passage(4).payload)
    assert isinstance(judged, Event)
    assert (judged.node, judged.stream, judged.seq, judged.kind) == (NODE, STREAM, 4, "passage")
    assert judged.flaw is None
    assert judged.data is not None


def test_an_unknown_kind_and_unknown_fields_are_sound() -> None:
    judged = Intake().judge(f"menwei/v1/{NODE}/event/weather", event("weather", b'{"sky":"blue"}', 1).payload)
    assert isinstance(judged, Event)
    assert (judged.flaw, judged.data) == (None, None)
    judged = Intake().judge(TOPIC, changed(colour="red", data=GOOD["data"] | {"mood": 1}))
    assert isinstance(judged, Event)
    assert judged.flaw is None


@pytest.mark.parametrize(
    ("payload", "flaw"),
    [
        (changed(data={"lane": "main"}), "encounter"),
        (changed(type="verdict"), "type"),
        (changed(source="/site/garden/gate/other"), "source"),
        (changed(source="nonsense"), "source"),
        (changed(time="yesterday, about half past"), "time"),
        (changed(time="2020-02-10T08:00:00.000"), "offset"),
        (changed(prev="zz"), "prev"),
        (changed(mono=-1), "mono"),
        (changed(mono="1"), "mono"),
        (changed(note="x" * 17_000), "limit"),
    ],
)
def test_flawed_but_identified(payload: bytes, flaw: str) -> None:
    judged = Intake().judge(TOPIC, payload)
    assert isinstance(judged, Event)
    assert judged.seq == 4
    assert flaw in str(judged.flaw)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b"{}",
        b"[" * 8000,
        b'{"data":' + b"[" * 16_000,
        b"\x00" * 2_000_000,
        changed(seq=0),
        changed(seq=5),
        changed(seq=True),
        changed(seq=MAX_SEQ + 1, id=f"{NODE}/{STREAM}/{MAX_SEQ + 1}"),
        changed(stream="UPPER", id=f"{NODE}/UPPER/4"),
        changed(id="gate-2/r-1/4"),
        changed(id="\ud800"),
    ],
)
def test_rubbish_has_a_reason(payload: bytes) -> None:
    judged = Intake().judge(TOPIC, payload)
    assert isinstance(judged, Rubbish)
    assert judged.reason


@pytest.mark.parametrize(
    "topic", ["menwei/v1", "menwei/v1/gate-1/event", "menwei/v1/GATE/state", "menwei/v1/gate-1/command", "a/b/c/d", ""]
)
def test_foreign_topics_are_rubbish(topic: str) -> None:
    assert isinstance(Intake().judge(topic, passage(1).payload), Rubbish)


def test_state_and_description_must_be_of_the_node_of_their_topic() -> None:
    intake = Intake()
    assert isinstance(intake.judge(state().topic, state().payload), StateSeen)
    assert isinstance(intake.judge(meta().topic, meta().payload), DescriptionSeen)
    assert isinstance(intake.judge("menwei/v1/gate-2/state", state().payload), Rubbish)
    assert isinstance(intake.judge("menwei/v1/gate-2/meta", meta().payload), Rubbish)
    assert isinstance(intake.judge(state().topic, b'{"node":"gate-1"}'), Rubbish)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first text of a run builds tables of characters
@given(st.dictionaries(st.sampled_from(sorted(GOOD)), json_values), st.sampled_from(["event/passage", "state", "meta"]))
def test_whatever_comes_has_an_answer(fields: dict[str, object], tail: str) -> None:
    judged = Intake().judge(f"menwei/v1/{NODE}/{tail}", json.dumps(GOOD | fields).encode())
    if isinstance(judged, Event):
        assert 1 <= judged.seq <= MAX_SEQ


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=300), st.text(max_size=40))
def test_whatever_bytes_come_have_an_answer(payload: bytes, topic: str) -> None:
    intake = Intake()
    assert isinstance(intake.judge(topic, payload), Rubbish)
    intake.judge(TOPIC, payload)


def test_the_envelope_of_the_helpers_is_what_gates_send() -> None:
    assert envelope("x", b"{}", 1).specversion == "1.0"
