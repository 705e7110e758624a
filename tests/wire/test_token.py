"""The pass token: vectors, and whatever else a scanner may read."""

import base64
import json
from dataclasses import asdict, replace
from pathlib import Path

import base45
import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from broker.wire.token import (
    CATEGORIES,
    DIRECTIONS,
    MAX_CHARACTERS,
    PREFIX,
    PassClaims,
    TokenProblem,
    TokenRefused,
    sign,
    verify,
)
from tests.wire.samples import GOOD, KEY, KEY_ID, PASSES, opened, pass_vectors, seal

KEYS = {
    name.encode(): Ed25519PublicKey.from_public_bytes(bytes.fromhex(public))
    for name, public in json.loads((PASSES / "keys.json").read_bytes()).items()
}
VECTORS = sorted(p for p in PASSES.glob("*.json") if p.name != "keys.json")


def refusal(code: bytes) -> TokenProblem:
    with pytest.raises(TokenRefused) as caught:
        verify(code, KEYS)
    return caught.value.reason


@pytest.mark.parametrize("path", VECTORS, ids=lambda p: p.stem)
def test_vector(path: Path):
    vector = json.loads(path.read_bytes())
    code = vector["code"].encode()
    if "claims" in vector:
        claims = PassClaims(**vector["claims"])
        assert verify(code, KEYS) == claims
        assert sign(claims, KEY, KEY_ID).encode() == code  # Ed25519 is deterministic, and so is our CBOR
    else:
        assert refusal(code) is TokenProblem(vector["refused"])


def test_all_vectors_are_on_disk_and_cover_every_refusal():
    vectors = pass_vectors()
    assert {p.stem for p in VECTORS} == set(vectors)
    assert {v["refused"] for v in vectors.values() if "refused" in v} == {problem.value for problem in TokenProblem}


def test_a_usual_pass_fits_version_ten_at_the_higher_correction():
    assert len(sign(replace(GOOD, curfew_exempt=False), KEY, KEY_ID)) <= 220


def test_any_cose_reader_understands_it():
    protected, payload, signature = opened(sign(GOOD, KEY, KEY_ID))
    assert cbor2.loads(protected) == {1: -8, 4: KEY_ID}
    KEYS[KEY_ID].verify(signature, cbor2.dumps(["Signature1", protected, b"", payload]))
    assert cbor2.loads(payload)[4] == GOOD.expires_s


ids = st.from_regex(r"[a-z0-9-]{1,12}", fullmatch=True)
times = st.integers(0, 2**32 - 2)
claims_strategy = st.builds(
    PassClaims,
    issuer=ids,
    serial=st.binary(min_size=8, max_size=8).map(bytes.hex),
    site=ids,
    category=st.sampled_from(CATEGORIES) | ids,
    person=ids | st.binary(min_size=4, max_size=16).map(bytes.hex),
    directions=st.sampled_from(DIRECTIONS),
    issued_s=times,
    not_before_s=times,
    expires_s=st.just(2**32 - 1),
    vehicle=st.none() | ids,
    curfew_exempt=st.booleans(),
)


@given(claims_strategy)
def test_what_is_signed_is_what_is_verified(claims: PassClaims):
    code = sign(claims, KEY, KEY_ID)
    assert len(code) <= MAX_CHARACTERS
    assert verify(code.encode(), KEYS) == claims


@given(st.binary(max_size=400) | st.text(max_size=400).map(lambda t: t.encode()))
def test_any_code_is_refused_with_a_reason(code: bytes):
    refusal(code)
    refusal(PREFIX + code)


@given(st.binary(max_size=200))
def test_any_bytes_behind_the_prefix_are_refused_with_a_reason(raw: bytes):
    refusal(PREFIX + base45.b45encode(raw))


cbor_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.binary(max_size=20)
    | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.integers(-7, 8) | st.text(max_size=3), inner, max_size=6)
    ),
    max_leaves=12,
)


@given(st.binary(max_size=120) | cbor_values.map(cbor2.dumps))
def test_any_signed_payload_is_claims_or_refused(payload: bytes):
    protected = cbor2.dumps({1: -8, 4: KEY_ID}, canonical=True)
    code = seal(protected, payload, KEY)
    assert refusal(code) in {TokenProblem.MALFORMED, TokenProblem.OVERSIZE}


@given(st.sampled_from(range(-7, 8)), cbor_values)
def test_a_signed_claim_of_the_wrong_kind_is_malformed(key: int, value: object):
    protected, payload, _ = opened(sign(GOOD, KEY, KEY_ID))
    fields = cbor2.loads(payload) | {key: value}
    code = seal(protected, cbor2.dumps(fields, canonical=True), KEY)
    try:
        claims = verify(code, KEYS)
    except TokenRefused:
        assert refusal(code) in {TokenProblem.MALFORMED, TokenProblem.OVERSIZE}
    else:  # the value happened to be legal: then it must be said in the one legal way
        assert sign(claims, KEY, KEY_ID).encode() == code


@given(st.data())
def test_no_single_changed_character_survives(data: st.DataObject):
    good = sign(GOOD, KEY, KEY_ID).encode()
    at = data.draw(st.integers(0, len(good) - 1))
    other = data.draw(st.integers(0, 255).filter(lambda c: c != good[at]))
    refusal(good[:at] + bytes([other]) + good[at + 1 :])


@pytest.mark.parametrize("tail", [b"0", b"00", b"000", b" ", b"\n", b"\r\n"])
def test_trailing_bytes_are_refused(tail: bytes):
    assert refusal(sign(GOOD, KEY, KEY_ID).encode() + tail) is TokenProblem.MALFORMED


def test_another_spelling_of_the_same_claims_is_refused():
    protected, payload, _ = opened(sign(GOOD, KEY, KEY_ID))
    fields = cbor2.loads(payload)
    backwards = cbor2.dumps(dict(reversed(list(fields.items()))))
    assert cbor2.loads(backwards) == fields
    assert refusal(seal(protected, backwards, KEY)) is TokenProblem.MALFORMED
    assert refusal(seal(protected, payload + b"\x00", KEY)) is TokenProblem.MALFORMED


def test_a_nesting_bomb_is_refused():
    protected, _, _ = opened(sign(GOOD, KEY, KEY_ID))
    assert refusal(seal(protected, b"\x81" * 110 + b"\x00", KEY)) is TokenProblem.MALFORMED


@pytest.mark.parametrize(
    "change",
    [
        {"serial": "0102"},
        {"serial": "01020304050607ZZ"},
        {"site": "Garden"},
        {"site": ""},
        {"person": "王"},
        {"directions": "up"},
        {"expires_s": GOOD.not_before_s},
        {"issued_s": -1},
        {"expires_s": 2**40},
        {"vehicle": "a b"},
    ],
)
def test_sign_refuses_what_verify_would(change: dict[str, object]):
    with pytest.raises(ValueError, match=next(iter(change)).removesuffix("_s").replace("issued", "times") + "|times"):
        sign(PassClaims(**(asdict(GOOD) | change)), KEY, KEY_ID)  # type: ignore[arg-type]


def test_sign_says_what_to_shorten():
    with pytest.raises(ValueError, match="shorter ids"):
        sign(replace(GOOD, issuer="i" * 40, site="s" * 40, person="p" * 40, vehicle="v" * 40), KEY, KEY_ID)


def test_keys_from_a_configuration_file_work():
    public = base64.b64encode(KEY.public_key().public_bytes_raw())
    keys = {b"k1": Ed25519PublicKey.from_public_bytes(base64.b64decode(public))}
    assert verify(sign(GOOD, KEY, KEY_ID).encode(), keys) == GOOD
