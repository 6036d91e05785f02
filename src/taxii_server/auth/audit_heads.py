"""Signed heads of the audit: how far it had got and when, as a compact JWS (ES256) of a type of its own.

An access token is never taken for one, nor one for an access token: `typ` differs, and each is read by its own rules.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from taxii_server.auth import jws
from taxii_server.domain.audit_chain import decode, encode
from taxii_server.domain.errors import NotAuthenticated

TYPE: Final = "taxii-audit-head+jwt"

FORM: Final = re.compile(r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
"""What a head looks like in the middle of other text."""

_ALGORITHM: Final = "ES256"
_CLAIMS: Final = frozenset({"iss", "iat", "seq", "digest"})


@dataclass(frozen=True, slots=True)
class SignedHead:
    """What a head says: the number and digest of the last checkpoint at that time. `text` is the JWS."""

    seq: int
    digest: bytes
    issued_at: datetime
    issuer: str
    kid: str
    text: str


def sign(private_key: EllipticCurvePrivateKey, *, kid: str, issuer: str, seq: int, digest: bytes, at: datetime) -> str:
    """Sign the head of the stream of checkpoints."""
    claims = {"iss": issuer, "iat": int(at.timestamp()), "seq": seq, "digest": encode(digest)}
    pem = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return jws.sign(claims, pem, _ALGORITHM, {"typ": TYPE, "kid": kid})


def read(text: str) -> SignedHead:
    """Take a head apart; its signature is not looked at.

    Raises:
        NotAuthenticated: if it is none.
    """
    parsed = jws.parse(text)
    if parsed.header.keys() != {"alg", "kid", "typ"}:
        raise NotAuthenticated("its header has not exactly alg, kid and typ")
    if parsed.header["typ"] != TYPE or parsed.header["alg"] != _ALGORITHM:
        raise NotAuthenticated(f"it is no {TYPE} signed with {_ALGORITHM}")
    claims, kid = parsed.claims, parsed.header["kid"]
    if claims.keys() != _CLAIMS or not isinstance(kid, str) or not isinstance(claims["iss"], str):
        raise NotAuthenticated("its claims are not those of a head")
    seq, issued_at = claims["seq"], jws.instant(claims, "iat")
    if type(seq) is not int or seq < 1:
        raise NotAuthenticated("its seq is no number of a checkpoint")
    try:
        digest = decode(claims["digest"])
    except ValueError as error:
        raise NotAuthenticated("its digest is none") from error
    return SignedHead(seq, digest, datetime.fromtimestamp(issued_at, UTC), claims["iss"], kid, text)


def verify(head: SignedHead, public_jwk: dict[str, Any]) -> None:
    """Check a head's signature with the key that its `kid` names.

    Raises:
        NotAuthenticated: if it is wrong, or the key is another one.
    """
    if (public_jwk.get("kty"), public_jwk.get("crv")) != ("EC", "P-256") or thumbprint(public_jwk) != head.kid:
        raise NotAuthenticated("the key is not the one that its kid names")
    jws.verify_signature(head.text, public_jwk, _ALGORITHM)


def thumbprint(public_jwk: dict[str, Any]) -> str:
    """Give a P-256 key's RFC 7638 thumbprint, which is its kid: a key can't be passed off as another one."""
    members = {name: public_jwk.get(name) for name in ("crv", "kty", "x", "y")}
    return encode(sha256(json.dumps(members, separators=(",", ":")).encode()).digest())
