"""The pass in a QR code: CBOR claims, signed with Ed25519 as COSE_Sign1, in base45 behind `MW1:`.

RFC 8949, 9052, 9285. Verified at the gate without any network. A code has one spelling only: what does not re-encode to
itself is refused, so neither code nor claims can be varied without the key. Whether a pass is valid now, here, and not
revoked is for the gate to judge from the claims.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import base45
import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PREFIX = b"MW1:"
MAX_CHARACTERS = 311  # what a QR code of version 10 holds at level M; with short ids a pass fits level Q, 221
SERIAL_BYTES = 8
SIGNATURE_BYTES = 64
MAX_KEY_ID_BYTES = 8
MAX_TIME_S = 2**40 - 1
DIRECTIONS = ("in", "out", "both")
CATEGORIES = (
    "resident",
    "staff",
    "visitor",
    "service",
    "duty",
    "emergency",
)  # these travel as a number, others in full

# Claim keys: those of CWT (RFC 8392) where they exist, negative ones are this prefix's own.
_ISSUER, _EXPIRES, _NOT_BEFORE, _ISSUED, _SERIAL = 1, 4, 5, 6, 7
_SITE, _CATEGORY, _PERSON, _DIRECTIONS, _VEHICLE, _CURFEW_EXEMPT = -1, -2, -3, -4, -5, -6

# COSE_Sign1, tagged: [protected {1: -8 (EdDSA), 4: key id}, {}, payload, signature]; every length is definite.
_HEAD = b"\xd2\x84"
_EDDSA = -8
_EMPTY_MAP = b"\xa0"
_SIGNATURE_HEAD = b"\x58\x40"
_SHORT_BYTES, _LONG_BYTES = 0x40, 0x58  # byte string with its length in the first byte, or in the next
_CONTEXT = "Signature1"

_ID = re.compile(r"[a-z0-9-]{1,40}")
_EVEN_HEX = re.compile(r"(?:[0-9a-f]{2}){4,20}")  # pseudonyms travel as bytes, at half the size


class TokenProblem(StrEnum):
    """Why a code is no pass of ours."""

    NOT_OURS = "not_ours"  # another kind of code
    MALFORMED = "malformed"
    OVERSIZE = "oversize"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    WRONG_ALGORITHM = "wrong_algorithm"


class TokenRefused(Exception):  # noqa: N818 - the word that the gate shows
    """The code is not a pass; `reason` says why."""

    def __init__(self, reason: TokenProblem) -> None:
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PassClaims:
    """What a pass says. Times are Unix seconds; ids are `[a-z0-9-]{1,40}`; person and vehicle are keyed pseudonyms."""

    issuer: str
    serial: str  # 8 bytes, hexadecimal
    site: str
    category: str
    person: str
    directions: str  # in | out | both
    issued_s: int
    not_before_s: int
    expires_s: int
    vehicle: str | None = None
    curfew_exempt: bool = False


def sign(claims: PassClaims, private_key: Ed25519PrivateKey, key_id: bytes) -> str:
    """The text of the QR code. Raises ValueError for claims that are out of range or do not fit in 220 characters."""
    mistake = _mistake(claims)
    if mistake is not None:
        raise ValueError(mistake)
    if not 1 <= len(key_id) <= MAX_KEY_ID_BYTES:
        raise ValueError(f"key id of {len(key_id)} bytes: use 1 to {MAX_KEY_ID_BYTES}")
    protected = cbor2.dumps({1: _EDDSA, 4: key_id}, canonical=True)
    payload = _to_cbor(claims)
    signature = private_key.sign(_to_be_signed(protected, payload))
    sealed = _HEAD + cbor2.dumps(protected) + _EMPTY_MAP + cbor2.dumps(payload) + _SIGNATURE_HEAD + signature
    code: bytes = PREFIX + base45.b45encode(sealed)
    if len(code) > MAX_CHARACTERS:
        raise ValueError(
            f"the pass needs {len(code)} characters and {MAX_CHARACTERS} is the limit: "
            "use shorter ids of issuer and site, or pseudonyms of 16 hexadecimal digits"
        )
    return code.decode()


def verify(code: bytes, keys: Mapping[bytes, Ed25519PublicKey]) -> PassClaims:
    """Claims of a code signed by one of `keys`. Raises TokenRefused, and never anything else, whatever was scanned."""
    if not code.startswith(PREFIX):
        raise TokenRefused(TokenProblem.NOT_OURS)
    if len(code) > MAX_CHARACTERS:
        raise TokenRefused(TokenProblem.OVERSIZE)
    protected, payload, signature = _unseal(_from_base45(code[len(PREFIX) :]))
    key = keys.get(_key_id(protected))
    if key is None:
        raise TokenRefused(TokenProblem.UNKNOWN_KEY)
    try:
        key.verify(signature, _to_be_signed(protected, payload))
    except InvalidSignature:
        raise TokenRefused(TokenProblem.BAD_SIGNATURE) from None
    return _from_cbor(payload)


def _to_be_signed(protected: bytes, payload: bytes) -> bytes:
    return cbor2.dumps([_CONTEXT, protected, b"", payload])


def _from_base45(text: bytes) -> bytes:
    try:
        raw: bytes = base45.b45decode(text)
    except ValueError:  # also what is not UTF-8
        raise TokenRefused(TokenProblem.MALFORMED) from None
    return raw


def _unseal(sealed: bytes) -> tuple[bytes, bytes, bytes]:
    """Split without a general CBOR parser: unsigned bytes meet nothing that could recurse, allocate or interpret."""
    if not sealed.startswith(_HEAD):
        raise TokenRefused(TokenProblem.MALFORMED)
    protected, at = _byte_string(sealed, len(_HEAD))
    if sealed[at : at + 1] != _EMPTY_MAP:
        raise TokenRefused(TokenProblem.MALFORMED)
    payload, at = _byte_string(sealed, at + 1)
    head, signature = sealed[at : at + len(_SIGNATURE_HEAD)], sealed[at + len(_SIGNATURE_HEAD) :]
    if head != _SIGNATURE_HEAD or len(signature) != SIGNATURE_BYTES:
        raise TokenRefused(TokenProblem.MALFORMED)
    return protected, payload, signature


def _byte_string(data: bytes, at: int) -> tuple[bytes, int]:
    """The byte string of at most 255 bytes at `at`, shortest form only, and where it ends."""
    head = data[at : at + 2]
    if head and _SHORT_BYTES <= head[0] < _LONG_BYTES:
        start, length = at + 1, head[0] - _SHORT_BYTES
    elif len(head) == 2 and head[0] == _LONG_BYTES and head[1] >= _LONG_BYTES - _SHORT_BYTES:  # noqa: PLR2004 - two bytes
        start, length = at + 2, head[1]
    else:
        raise TokenRefused(TokenProblem.MALFORMED)
    value = data[start : start + length]
    if len(value) != length:
        raise TokenRefused(TokenProblem.MALFORMED)
    return value, start + length


def _key_id(protected: bytes) -> bytes:
    """`{1: -8, 4: key id}` and nothing else. A key is bound to EdDSA; a code cannot choose another algorithm."""
    if protected[:2] != b"\xa2\x01":
        raise TokenRefused(TokenProblem.MALFORMED)
    if protected[2:3] != b"\x27":
        raise TokenRefused(TokenProblem.WRONG_ALGORITHM)
    if protected[3:4] != b"\x04":
        raise TokenRefused(TokenProblem.MALFORMED)
    key_id, end = _byte_string(protected, 4)
    if end != len(protected) or not 1 <= len(key_id) <= MAX_KEY_ID_BYTES:
        raise TokenRefused(TokenProblem.MALFORMED)
    return key_id


def _to_cbor(claims: PassClaims) -> bytes:
    fields: dict[int, Any] = {
        _ISSUER: claims.issuer,
        _EXPIRES: claims.expires_s,
        _ISSUED: claims.issued_s,
        _SERIAL: bytes.fromhex(claims.serial),
        _SITE: claims.site,
        _CATEGORY: CATEGORIES.index(claims.category) if claims.category in CATEGORIES else claims.category,
        _PERSON: _packed(claims.person),
        _DIRECTIONS: DIRECTIONS.index(claims.directions),
    }
    if claims.not_before_s != claims.issued_s:
        fields[_NOT_BEFORE] = claims.not_before_s
    if claims.vehicle is not None:
        fields[_VEHICLE] = _packed(claims.vehicle)
    if claims.curfew_exempt:
        fields[_CURFEW_EXEMPT] = True
    return cbor2.dumps(fields, canonical=True)


def _from_cbor(payload: bytes) -> PassClaims:
    """Claims of a signed payload; only the one spelling that `sign` gives."""
    try:
        fields = cbor2.loads(payload)
        category = fields[_CATEGORY]
        claims = PassClaims(
            issuer=fields[_ISSUER],
            serial=fields[_SERIAL].hex(),
            site=fields[_SITE],
            category=CATEGORIES[category] if isinstance(category, int) else category,
            person=_unpacked(fields[_PERSON]),
            directions=DIRECTIONS[fields[_DIRECTIONS]],
            issued_s=fields[_ISSUED],
            not_before_s=fields.get(_NOT_BEFORE, fields[_ISSUED]),
            expires_s=fields[_EXPIRES],
            vehicle=_unpacked(fields[_VEHICLE]) if _VEHICLE in fields else None,
            curfew_exempt=fields.get(_CURFEW_EXEMPT, False),
        )
        spelled = None if _mistake(claims) is not None else _to_cbor(claims)
    except (cbor2.CBORError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        raise TokenRefused(TokenProblem.MALFORMED) from None
    if spelled != payload:
        raise TokenRefused(TokenProblem.MALFORMED)
    return claims


def _packed(identifier: str) -> str | bytes:
    return bytes.fromhex(identifier) if _EVEN_HEX.fullmatch(identifier) else identifier


def _unpacked(value: str | bytes) -> str:
    return value.hex() if isinstance(value, bytes) else value


def _mistake(claims: PassClaims) -> str | None:
    """What is wrong with the claims."""
    ids: dict[str, object] = {
        "issuer": claims.issuer,
        "site": claims.site,
        "category": claims.category,
        "person": claims.person,
    }
    if claims.vehicle is not None:
        ids["vehicle"] = claims.vehicle
    for name, value in ids.items():
        if not isinstance(value, str) or not _ID.fullmatch(value):
            return f"{name}: use 1 to 40 of a-z, 0-9 and '-'"
    if not re.fullmatch(rf"[0-9a-f]{{{2 * SERIAL_BYTES}}}", claims.serial):
        return f"serial: use {SERIAL_BYTES} bytes as lower-case hexadecimal"
    if claims.directions not in DIRECTIONS:
        return f"directions: use one of {', '.join(DIRECTIONS)}"
    times = (claims.issued_s, claims.not_before_s, claims.expires_s)
    if not all(type(t) is int and 0 <= t <= MAX_TIME_S for t in times):
        return f"times: use whole Unix seconds from 0 to {MAX_TIME_S}"
    if claims.not_before_s >= claims.expires_s:
        return "expires_s: must be later than not_before_s"
    return None
