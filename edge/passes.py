"""What a reader saw becomes what the core can judge: a verified pass, or the reason why it is none."""

import base64
from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from broker.wire.token import PassClaims, TokenProblem, TokenRefused, verify
from drivers.ports import BadScan, Medium, Scan, ScanProblem
from edge.config import PassKey
from edge.core.model import Direction, Pass, Reason

_SCAN_REASON: dict[ScanProblem, Reason] = {
    ScanProblem.OVERSIZE: Reason.TOKEN_OVERSIZE,
    ScanProblem.CHECKSUM: Reason.CODE_CHECKSUM,
    ScanProblem.CONTROL_CHARACTERS: Reason.CODE_CONTROL_CHARACTERS,
    ScanProblem.FRAME: Reason.CODE_FRAME,
}
_TOKEN_REASON: dict[TokenProblem, Reason] = {
    TokenProblem.NOT_OURS: Reason.TOKEN_NOT_OURS,
    TokenProblem.MALFORMED: Reason.TOKEN_MALFORMED,
    TokenProblem.OVERSIZE: Reason.TOKEN_OVERSIZE,
    TokenProblem.UNKNOWN_KEY: Reason.TOKEN_UNKNOWN_KEY,
    TokenProblem.BAD_SIGNATURE: Reason.TOKEN_BAD_SIGNATURE,
    TokenProblem.WRONG_ALGORITHM: Reason.TOKEN_WRONG_ALGORITHM,
}
_DIRECTIONS: dict[str, frozenset[Direction]] = {
    "in": frozenset({Direction.IN}),
    "out": frozenset({Direction.OUT}),
    "both": frozenset(Direction),
}

Keys = Mapping[bytes, Ed25519PublicKey]


def load_keys(keys: list[PassKey]) -> Keys:
    """Public keys by key id; the configuration has checked them."""
    return {key.id.encode(): Ed25519PublicKey.from_public_bytes(base64.b64decode(key.public)) for key in keys}


def present(scan: Scan | BadScan, keys: Keys) -> Pass | Reason:
    """Judge one presented code. Total: whatever was scanned, no exception leaves here."""
    if isinstance(scan, BadScan):
        return _SCAN_REASON[scan.problem]
    if scan.medium is not Medium.QR:
        return Reason.CARD_UNKNOWN  # cards are a mapped second medium; no map, no pass
    try:
        return _pass(verify(scan.payload, keys))
    except TokenRefused as e:
        return _TOKEN_REASON[e.reason]


def _pass(claims: PassClaims) -> Pass:
    return Pass(
        serial=claims.serial,
        site=claims.site,
        category=claims.category,
        person=claims.person,
        directions=_DIRECTIONS.get(claims.directions, frozenset()),
        not_before_s=claims.not_before_s,
        expires_s=claims.expires_s,
        curfew_exempt=claims.curfew_exempt,
    )
