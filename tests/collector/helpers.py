"""Real bytes as gates send them, and a store to put them in."""

from dataclasses import dataclass
from pathlib import Path

import msgspec

from broker.collector.alarms import Limits, Now
from broker.collector.store import Store
from broker.wire import codec
from broker.wire.messages import (
    FIRST_PREV,
    Cause,
    Description,
    Envelope,
    EventData,
    Fever,
    LaneStatus,
    Passage,
    Screened,
    State,
    StreamHead,
    Verdict,
)

SITE, NODE, STREAM = "garden", "gate-1", "r-1"
LIMITS = Limits(silence_s=45, gap_s=30)


@dataclass(frozen=True)
class Msg:
    """A message as the client hands it over."""

    topic: str
    payload: bytes
    retained: bool = False
    duplicate: bool = False
    mid: int = 0
    generation: int = 1


def at(seconds: float) -> Now:
    return Now(1000.0 + seconds, 1_600_000_000_000 + round(seconds * 1000))


def open_store(path: Path, seconds: float = 0, limits: Limits = LIMITS, quarantine: int = 100) -> Store:
    return Store(path / "c.db", limits, quarantine, at(seconds))


def envelope(kind: str, data: EventData | bytes, seq: int, node: str = NODE, stream: str = STREAM) -> Envelope:
    return Envelope(
        id=f"{node}/{stream}/{seq}",
        source=f"/site/{SITE}/gate/{node}",
        type=kind,
        time=f"2020-02-10T08:{seq // 60 % 60:02}:{seq % 60:02}.000+08:00",
        mono=seq,
        boot="b1",
        clock="trusted",
        stream=stream,
        seq=seq,
        prev=FIRST_PREV,
        policy="kunshan-2020-17@1",
        data=msgspec.Raw(data if isinstance(data, bytes) else codec.encode(data)),
    )


def event(kind: str, data: EventData | bytes, seq: int, node: str = NODE, stream: str = STREAM) -> Msg:
    return Msg(f"menwei/v1/{node}/event/{kind}", codec.encode(envelope(kind, data, seq, node, stream)))


def passage(seq: int, node: str = NODE, stream: str = STREAM, encounter: str = "e1") -> Msg:
    data = Passage(lane="main", encounter=encounter, direction="in", outcome="crossed", occupants=1, took_ms=900)
    return event("passage", data, seq, node, stream)


def verdict(seq: int, word: str = "admit", reasons: tuple[str, ...] = (), encounter: str = "e1", **more: str) -> Msg:
    person = Screened(
        category="resident",
        pass_status="valid",  # noqa: S106 - a word of the domain
        thermal=more.get("thermal", "normal"),
        mask="worn",
        attested_by="none",
    )
    data = Verdict(
        lane="main",
        encounter=encounter,
        direction=more.get("direction", "in"),
        lane_kind="vehicle",
        verdict=word,
        reasons=[Cause(code=r, rule=1) for r in reasons],
        people=[person],
        occupants=1,
    )
    return event("verdict", data, seq)


def fever(seq: int, phase: str = "raised", stream: str = "a-1") -> Msg:
    data = Fever(lane="main", encounter="e1", phase=phase, direction="in", body_centi_c=3810)
    return event("fever", data, seq, stream=stream)


def state(
    phase: str = "ready", *, boot: str = "b1", session: int = 1, second: int = 0, retained: bool = False, **more: str
) -> Msg:
    lane = LaneStatus(lane="main", kind="vehicle", position="closed", phase="idle", lockouts=["curfew"], message="idle")
    value = State(
        node=more.get("node", NODE),
        site=SITE,
        boot=boot,
        session=session,
        phase=phase,
        at=f"2020-02-10T08:00:{second:02}.000+08:00",
        clock=more.get("clock", "trusted"),
        lanes=[lane],
        waiting=3,
    )
    return Msg(f"menwei/v1/{value.node}/state", codec.encode(value), retained)


def meta(heads: list[StreamHead] | None = None) -> Msg:
    value = Description(
        node=NODE,
        site=SITE,
        boot="b1",
        version="0.1.0",
        policy="kunshan-2020-17@1",
        lanes=[],
        devices=[],
        heads=heads or [],
    )
    return Msg(f"menwei/v1/{NODE}/meta", codec.encode(value))
