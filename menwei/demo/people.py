"""The demo's people: a signing key made for this run, and passes good and bad, as the codes a reader will see."""

import base64
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.wire.token import PassClaims, sign

KEY_ID = b"demo"
DAY_S = 86_400
CODE_MAX_BYTES = 10_240


@dataclass(frozen=True, slots=True)
class Issuer:
    """A property company that signs passes; its key lives as long as the demo."""

    private: Ed25519PrivateKey

    @classmethod
    def fresh(cls) -> "Issuer":
        """Make a new key."""
        return cls(Ed25519PrivateKey.generate())

    @property
    def public(self) -> str:
        """Base64 of the public key, as the gate's configuration wants it."""
        return base64.b64encode(self.private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()


def passes(issuer: Issuer, site: str, now_s: int) -> dict[str, str]:
    """Codes by the name under which the simulated people carry them."""
    residents = {
        f"resident-{number}": _pass(issuer, site, number, now_s - DAY_S, now_s + 14 * DAY_S) for number in range(1, 13)
    }
    stranger = Issuer.fresh()
    return residents | {
        "expired": _pass(issuer, site, 50, now_s - 20 * DAY_S, now_s - DAY_S),
        "not_yet": _pass(issuer, site, 51, now_s + DAY_S, now_s + 14 * DAY_S),
        "wrong_site": _pass(issuer, "another-compound", 52, now_s - DAY_S, now_s + 14 * DAY_S),
        "forged": _pass(stranger, site, 53, now_s - DAY_S, now_s + 14 * DAY_S),
        "foreign": "https://example.org/not-a-pass",
        "oversize": "MW1:" + "A" * CODE_MAX_BYTES,
    }


def _pass(issuer: Issuer, site: str, number: int, not_before_s: int, expires_s: int) -> str:
    claims = PassClaims(
        issuer="demo-property",
        serial=f"{number:016x}",
        site=site,
        category="resident",
        person=f"{site}-p{number:03d}",
        directions="both",
        issued_s=not_before_s,
        not_before_s=not_before_s,
        expires_s=expires_s,
        vehicle=None,
        curfew_exempt=False,
    )
    return sign(claims, issuer.private, KEY_ID)
