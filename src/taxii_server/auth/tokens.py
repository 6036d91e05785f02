"""ES256 access tokens of our own (RFC 9068): written, and read in two steps.

The key to verify with comes out of the database together with the caller, so a token is first *peeked* at: everything
that can be wrong with it before its signature is, without a look-up and without cryptography. Only then is it
*verified*, with the one key its `kid` names and the one algorithm there is.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from taxii_server.auth import certificates, jws
from taxii_server.auth.jws import Parsed
from taxii_server.domain.access import Presented, Right
from taxii_server.domain.errors import NotAuthenticated

SCOPES = {Right.READ: "taxii:read", Right.WRITE: "taxii:write"}
"""What a right is called in a scope."""

LONGEST_LIFETIME = timedelta(hours=24)
"""No token of ours lives longer, whatever TAXII_TOKEN_LIFETIME says."""

NAME = re.compile(r"[\x21-\x7e]{1,256}")
"""What a client id and a jti look like."""

_ALGORITHM = "ES256"
_TYPE = "at+jwt"
_SIGNATURE_BYTES = 64
# RFC 7638 thumbprints, which is what our kids are
_KID = re.compile(r"[A-Za-z0-9_-]{43}")
# RFC 6749 §3.3; empty where the client was issued with no right at all
_SCOPE = re.compile(r"(?:[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*)?")
_REQUIRED = ("aud", "iat", "exp", "iss", "sub", "jti")
_CACHED_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Unverified:
    """What an acceptable-looking token says of itself and its client; proves nothing."""

    presented: Presented
    client_id: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token with a good signature says; `certificate` is the thumbprint of the one that it is bound to."""

    client_id: str
    rights: frozenset[Right]
    expires_at: int
    jti: str
    certificate: bytes | None = None


def scope_of(rights: Iterable[Right]) -> str:
    """Write rights as an OAuth scope."""
    held = frozenset(rights)
    return " ".join(name for right, name in SCOPES.items() if right in held)


def rights_in(scope: str) -> frozenset[Right]:
    """Give the rights a scope names; other words in it mean nothing to us."""
    words = scope.split(" ")
    return frozenset(right for right, name in SCOPES.items() if name in words)


def issue(
    private_key: EllipticCurvePrivateKey,
    *,
    kid: str,
    issuer: str,
    client_id: str,
    rights: Iterable[Right],
    lifetime: timedelta,
    jti: str | None = None,
    certificate: bytes | None = None,
) -> str:
    """Write and sign an access token for this server, which is both its issuer and its audience.

    With the thumbprint of a certificate it is good with that alone (RFC 8705 §3).
    """
    now = int(time.time())
    claims: dict[str, Any] = {
        "iss": issuer,
        "sub": client_id,
        "client_id": client_id,
        "aud": issuer,
        "iat": now,
        "exp": now + int(lifetime.total_seconds()),
        "jti": jti or str(uuid4()),
        "scope": scope_of(rights),
    }
    if certificate is not None:
        claims["cnf"] = certificates.confirmation(certificate)
    pem = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return jws.sign(claims, pem, _ALGORITHM, {"typ": _TYPE, "kid": kid})


@dataclass(frozen=True, slots=True)
class Known:
    """A token whose signature was found good with this key, and what it says."""

    unverified: Unverified
    claims: Claims
    public_jwk: str

    @property
    def expires_at(self) -> int:
        """When it ends, in seconds since 1970."""
        return self.claims.expires_at


class Tokens:
    """Reads the tokens of one issuer, and remembers whose signature it has found good.

    Only that is remembered: what the client may do, whether it still exists and whether the key still counts are asked
    of the database each time, and the remembered answer is bound to the very key it was found with.
    """

    def __init__(self, issuer: str, *, cached: int = _CACHED_TOKENS) -> None:
        """Take the public URL, and how many good signatures to remember."""
        self._issuer = issuer
        self._good: jws.Remembered[Known] = jws.Remembered(cached)

    def known(self, token: str) -> Known | None:
        """Recall a token that was found good before; None if it was not, or has expired since."""
        return self._good.get(jws.digest(token), int(time.time()))

    def peek(self, token: str) -> Unverified:
        """Look at a token without a key.

        Raises:
            NotAuthenticated: for everything that its signature couldn't mend.
        """
        return self.peek_at(jws.parse(token))

    def peek_at(self, parsed: Parsed) -> Unverified:
        """Look at a token that was taken apart already.

        Raises:
            NotAuthenticated: for everything that its signature couldn't mend.
        """
        _hold_form(parsed)
        self._check(parsed.claims, int(time.time()))
        claims = parsed.claims
        presented = Presented(issuer=claims["iss"], kid=parsed.header["kid"], jti=claims["jti"])
        return Unverified(presented=presented, client_id=claims["sub"], expires_at=claims["exp"])

    def verify(self, token: str, public_jwk: str) -> Claims:
        """Check a token, whole, with the public key (a JWK's JSON) that its `kid` names.

        Raises:
            NotAuthenticated: if it doesn't hold.
        """
        known = self.known(token)
        if known is not None and known.public_jwk == public_jwk:
            return known.claims
        parsed = jws.parse(token)
        unverified = self.peek_at(parsed)
        good = Known(unverified, _verified(token, parsed, public_jwk), public_jwk)
        return self._good.keep(jws.digest(token), good).claims

    def _check(self, claims: dict[str, Any], now: int) -> None:
        for name in ("iss", "sub", "client_id", "aud", "jti", "scope"):
            if not isinstance(claims.get(name), str):
                raise NotAuthenticated(f"token's {name} is missing or not a string")
        if claims["iss"] != self._issuer:
            raise NotAuthenticated("token is of another issuer")
        if claims["aud"] != self._issuer:
            raise NotAuthenticated("token is for another audience")
        if claims["sub"] != claims["client_id"] or not NAME.fullmatch(claims["sub"]):
            raise NotAuthenticated("token's sub names no client")
        if not NAME.fullmatch(claims["jti"]) or not _SCOPE.fullmatch(claims["scope"]):
            raise NotAuthenticated("token's jti or scope is malformed")
        certificates.confirmed(claims)
        jws.check_times(claims, now)


def _hold_form(parsed: Parsed) -> Parsed:
    """Hold a token's header to the one form we write."""
    if len(parsed.signature) != _SIGNATURE_BYTES:
        raise NotAuthenticated("token's signature has not the length of ES256")
    # An allow-list: jku, x5u, x5c, jwk, crit, zip, b64 and whatever comes next have no place in a token of ours.
    if parsed.header.keys() != {"alg", "kid", "typ"}:
        raise NotAuthenticated("token's header has not exactly alg, kid and typ")
    if parsed.header["alg"] != _ALGORITHM:
        raise NotAuthenticated("token's alg is not ES256")
    if parsed.header["typ"] != _TYPE:
        raise NotAuthenticated("token's typ is not at+jwt")
    kid = parsed.header["kid"]
    if not isinstance(kid, str) or not _KID.fullmatch(kid):
        raise NotAuthenticated("token's kid is malformed")
    return parsed


def _verified(token: str, parsed: Parsed, public_jwk: str) -> Claims:
    key = json.loads(public_jwk)
    if key.get("kid") != parsed.header["kid"] or (key.get("kty"), key.get("crv")) != ("EC", "P-256"):
        raise NotAuthenticated("token's kid is not that of a key of ours")
    claims = parsed.claims
    jws.verify(token, parsed, key, _ALGORITHM, audience=claims["aud"], required=_REQUIRED)
    return Claims(
        client_id=claims["sub"],
        rights=rights_in(claims["scope"]),
        expires_at=claims["exp"],
        jti=claims["jti"],
        certificate=certificates.confirmed(claims),
    )
