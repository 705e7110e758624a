"""One value for every message of the wire, with its golden file; and the pass vectors.

`python -m tests.wire.samples` writes golden files that are missing. It never changes one: a golden file is a promise to
gates and collectors in the field, and a message that must change gets a new version beside the old.
"""

import json
from dataclasses import asdict
from pathlib import Path

import base45
import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from msgspec import Raw

from broker.wire.codec import digest, encode, event_id
from broker.wire.messages import (
    FIRST_PREV,
    Actuation,
    Cause,
    Clock,
    Description,
    DeviceMeta,
    DeviceState,
    Envelope,
    EventData,
    Fever,
    GateState,
    LaneMeta,
    LaneStatus,
    Lockout,
    Passage,
    Receipt,
    Release,
    Screened,
    State,
    StreamHead,
    Verdict,
)
from broker.wire.token import PREFIX, PassClaims, TokenProblem, sign

GOLDEN = Path(__file__).parent / "golden"
PASSES = GOLDEN / "passes"

NODE, SITE, BOOT = "garden-north", "garden", "b-5f3a9c01"
ENCOUNTER = "e-5f3a9c01-17"
PERSON = "9f86d081884c7d65"

EVENTS: dict[str, EventData] = {
    "verdict": Verdict(
        lane="main",
        encounter=ENCOUNTER,
        direction="in",
        lane_kind="vehicle",
        verdict="refuse",
        reasons=[Cause(code="fever", rule=4), Cause(code="pass_missing", rule=2)],
        people=[
            Screened(
                category="resident",
                pass_status="valid",  # noqa: S106 - a word of the domain
                thermal="fever",
                mask="worn",
                attested_by="guard",
                person=PERSON,
            ),
            Screened(
                category="none",
                pass_status="missing",  # noqa: S106 - a word of the domain
                thermal="not_measured",
                mask="unknown",
                attested_by="none",
                thermal_reason="no_target",
            ),
        ],
        occupants=2,
        exception="ambulance",
        approver="guard-3",
    ),
    "actuation": Actuation(
        lane="main",
        motion="open",
        cause="admission",
        result="reached",
        position="open",
        took_ms=2140,
        encounter=ENCOUNTER,
    ),
    "passage": Passage(lane="main", encounter=ENCOUNTER, direction="in", outcome="crossed", occupants=2, took_ms=6320),
    "lockout": Lockout(lane="main", cause="curfew", phase="ended", ended_by="time"),
    "release": Release(cause="fire", phase="started"),
    "fever": Fever(
        lane="main",
        encounter=ENCOUNTER,
        phase="raised",
        direction="in",
        body_centi_c=3850,
        person=PERSON,
        released_by="guard",
        handover="h-2020-02-10-1",
    ),
    "device": DeviceState(
        device="thermometer-1",
        lane="main",
        phase="fault",
        fault="no_answer",
        advice="Check the cable of the thermometer, then measure by hand.",
    ),
    "gate": GateState(phase="started", version="0.1.0", boot=BOOT, open_lanes=["main"]),
    "clock": Clock(trust="untrusted", reason="rtc_lost_power"),
}


def envelope(kind: str) -> Envelope:
    """The sample event of a kind, second of its stream."""
    stream = "a-77aa" if kind in {"fever", "device", "release"} else "r-77aa"
    return Envelope(
        id=event_id(NODE, stream, 2),
        source=f"/site/{SITE}/gate/{NODE}",
        type=kind,
        time="2020-02-10T23:59:59.250+08:00",
        mono=86_399_250_000_000,
        boot=BOOT,
        clock="trusted",
        stream=stream,
        seq=2,
        prev=digest(FIRST_PREV.encode()),
        policy="kunshan-2020-17@1",
        data=Raw(encode(EVENTS[kind])),
    )


MESSAGES: dict[str, State | Description | Receipt] = {
    "state": State(
        node=NODE,
        site=SITE,
        boot=BOOT,
        session=3,
        phase="degraded",
        at="2020-02-10T23:59:59.250+08:00",
        clock="holdover",
        lanes=[
            LaneStatus(
                lane="main", kind="vehicle", position="closed", phase="idle", lockouts=["curfew"], message="curfew"
            )
        ],
        releases=["fire"],
        waiting=12,
    ),
    "meta": Description(
        node=NODE,
        site=SITE,
        boot=BOOT,
        version="0.1.0",
        policy="kunshan-2020-17@1",
        lanes=[LaneMeta(lane="main", kind="vehicle", direction="both")],
        devices=[DeviceMeta(device="thermometer-1", model="MLX90614", place="/dev/i2c-1@0x5a", integrity="pec")],
        heads=[StreamHead(stream="a-77aa", seq=2), StreamHead(stream="r-77aa", seq=41)],
    ),
    "receipt": Receipt(stream="r-77aa", upto=41),
}

KEY_ID = b"k1"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))  # of the vectors; signs nothing real
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32, 64)))
NOW_S = 1_581_350_399  # 2020-02-10T23:59:59+08:00
DAY_S = 86_400
GOOD = PassClaims(
    issuer="zhuhu",
    serial="0102030405060708",
    site=SITE,
    category="resident",
    person=PERSON,
    directions="both",
    issued_s=NOW_S - DAY_S,
    not_before_s=NOW_S - DAY_S,
    expires_s=NOW_S + 13 * DAY_S,
    vehicle="60303ae22b998861",
    curfew_exempt=True,
)


def seal(protected: bytes, payload: bytes, key: Ed25519PrivateKey, *, signature: bytes | None = None) -> bytes:
    """A token from any parts, signed over exactly these: what `sign` would refuse to make."""
    signature = signature or key.sign(cbor2.dumps(["Signature1", protected, b"", payload]))
    code: bytes = PREFIX + base45.b45encode(cbor2.dumps(cbor2.CBORTag(18, [protected, {}, payload, signature])))
    return code


def opened(code: str) -> tuple[bytes, bytes, bytes]:
    """Protected header, payload and signature of a code, by the general CBOR library."""
    protected, _, payload, signature = cbor2.loads(base45.b45decode(code.encode()[len(PREFIX) :])).value
    return protected, payload, signature


def pass_vectors() -> dict[str, dict[str, object]]:
    """Code, and what `verify` says: claims or the reason of the refusal. Times and site are for the gate to judge."""
    good = sign(GOOD, KEY, KEY_ID)
    protected, payload, signature = opened(good)
    flipped = bytes([payload[0], *payload[1:-1], payload[-1] ^ 1])

    def accepted(**changes: object) -> dict[str, object]:
        claims = PassClaims(**(asdict(GOOD) | changes))  # type: ignore[arg-type]
        return {"code": sign(claims, KEY, KEY_ID), "claims": asdict(claims)}

    def refused(code: str | bytes, reason: TokenProblem) -> dict[str, object]:
        return {"code": code if isinstance(code, str) else code.decode(), "refused": reason.value}

    return {
        "good": accepted(),
        "good_on_foot": accepted(vehicle=None, curfew_exempt=False, category="courier", person="p-052"),
        "expired": accepted(issued_s=NOW_S - 15 * DAY_S, not_before_s=NOW_S - 15 * DAY_S, expires_s=NOW_S - DAY_S),
        "not_yet": accepted(issued_s=NOW_S, not_before_s=NOW_S + DAY_S, expires_s=NOW_S + 14 * DAY_S),
        "wrong_site": accepted(site="another"),
        "wrong_key": refused(sign(GOOD, OTHER_KEY, KEY_ID), TokenProblem.BAD_SIGNATURE),
        "unknown_key": refused(sign(GOOD, OTHER_KEY, b"k2"), TokenProblem.UNKNOWN_KEY),
        "truncated": refused(good[:-9], TokenProblem.MALFORMED),
        "bit_flipped": refused(seal(protected, flipped, KEY, signature=signature), TokenProblem.BAD_SIGNATURE),
        "oversize": refused("MW1:" + "A" * 10_240, TokenProblem.OVERSIZE),
        "wrong_algorithm": refused(
            seal(cbor2.dumps({1: -7, 4: KEY_ID}, canonical=True), payload, KEY), TokenProblem.WRONG_ALGORITHM
        ),
        "not_ours": refused("https://example.org/not-a-pass", TokenProblem.NOT_OURS),
    }


def golden_files() -> dict[Path, bytes]:
    """Content by path, as this version makes it."""
    files = {GOLDEN / f"{kind}.v1.json": encode(envelope(kind)) for kind in EVENTS}
    files |= {GOLDEN / f"{kind}.v1.json": encode(message) for kind, message in MESSAGES.items()}
    files |= {PASSES / f"{name}.json": _json(vector) for name, vector in pass_vectors().items()}
    public_keys = {KEY_ID.decode(): KEY.public_key().public_bytes_raw().hex()}
    return files | {PASSES / "keys.json": _json(public_keys)}


def _json(value: object) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"


if __name__ == "__main__":
    for path, content in golden_files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_bytes(content)
