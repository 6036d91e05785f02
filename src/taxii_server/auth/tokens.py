"""ES256 access tokens (RFC 9068): written, and read in two steps. The only module that imports python-jose.

The key to verify with comes out of the database together with the caller, so a token is first *peeked* at: everything
that can be wrong with it before its signature is, without a look-up and without cryptography. Only then is it
*verified*, with the one key its `kid` names and the one algorithm there is. What jose would decide by the token itself
(algorithm, which key, whether `exp` is needed) is never left to the token.
"""

from __future__ import annotations

import binascii
import json
import re
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jose import jwt
from jose.constants import ALGORITHMS
from jose.exceptions import JOSEError

from taxii_server.domain.access import Presented, Right
from taxii_server.domain.errors import NotAuthenticated

SCOPES = {Right.READ: "taxii:read", Right.WRITE: "taxii:write"}
"""What a right is called in a scope."""

LONGEST_LIFETIME = timedelta(hours=24)
"""No token of ours lives longer, whatever TAXII_TOKEN_LIFETIME says."""

NAME = re.compile(r"[\x21-\x7e]{1,256}")
"""What a client id and a jti look like."""

_LONGEST_TOKEN = 8 * 1024
_PARTS = 3
_TYPE = "at+jwt"
_SIGNATURE_BYTES = 64
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")
# RFC 7638 thumbprints, which is what our kids are
_KID = re.compile(r"[A-Za-z0-9_-]{43}")
# RFC 6749 §3.3; empty where the client was issued with no right at all
_SCOPE = re.compile(r"(?:[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*)?")
# Nodes' clocks may differ a little: a fresh token must not be "not yet valid" on the next node. A late refusal of an
# expired one would help nobody.
_LEEWAY = 30
_LATEST_INSTANT = 2**53
_CACHED_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Unverified:
    """What an acceptable-looking token says of itself and its client; proves nothing."""

    token: Presented
    client_id: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token with a good signature says."""

    client_id: str
    rights: frozenset[Right]
    expires_at: int
    jti: str


@dataclass(frozen=True, slots=True)
class _Parsed:
    header: dict[str, Any]
    claims: dict[str, Any]


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
) -> str:
    """Write and sign an access token for this server, which is both its issuer and its audience."""
    now = int(time.time())
    claims = {
        "iss": issuer,
        "sub": client_id,
        "client_id": client_id,
        "aud": issuer,
        "iat": now,
        "exp": now + int(lifetime.total_seconds()),
        "jti": jti or str(uuid4()),
        "scope": scope_of(rights),
    }
    pem = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return jwt.encode(claims, pem, algorithm=ALGORITHMS.ES256, headers={"typ": _TYPE, "kid": kid})


class Tokens:
    """Reads the tokens of one issuer, and remembers whose signature it has found good.

    Only that is remembered: what the client may do, whether it still exists and whether the key still counts are asked
    of the database each time, and the remembered answer is bound to the very key it was found with.
    """

    def __init__(self, issuer: str, *, cached: int = _CACHED_TOKENS) -> None:
        """Take the public URL, and how many good signatures to remember."""
        self._issuer = issuer
        self._most = cached
        self._good: OrderedDict[bytes, Claims] = OrderedDict()

    def peek(self, token: str) -> Unverified:
        """Look at a token without a key.

        Raises:
            NotAuthenticated: for everything that its signature couldn't mend.
        """
        parsed = _parse(token)
        self._check(parsed.claims, int(time.time()))
        claims = parsed.claims
        token_id = Presented(issuer=claims["iss"], kid=parsed.header["kid"], jti=claims["jti"])
        return Unverified(token=token_id, client_id=claims["sub"], expires_at=claims["exp"])

    def verify(self, token: str, public_jwk: str) -> Claims:
        """Check a token, whole, with the public key (a JWK's JSON) that its `kid` names.

        Raises:
            NotAuthenticated: if it doesn't hold.
        """
        now = int(time.time())
        remembered = sha256(public_jwk.encode() + b"\x00" + token.encode("utf-8", "surrogatepass")).digest()
        known = self._good.get(remembered)
        if known is not None and now < known.expires_at:
            self._good.move_to_end(remembered)
            return known

        parsed = _parse(token)
        self._check(parsed.claims, now)
        claims = _verified(token, parsed, public_jwk)
        self._good[remembered] = claims
        while len(self._good) > self._most:
            self._good.popitem(last=False)
        return claims

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
        _check_times(claims, now)


def _parse(token: str) -> _Parsed:
    """Take the token apart and hold its header to the one form we write."""
    if len(token) > _LONGEST_TOKEN:
        raise NotAuthenticated("token is too large")
    # a JWE has five parts
    parts = token.split(".")
    if len(parts) != _PARTS:
        raise NotAuthenticated("token has not three parts")
    header, claims, signature = (_octets(part) for part in parts)
    if len(signature) != _SIGNATURE_BYTES:
        raise NotAuthenticated("token's signature has not the length of ES256")
    parsed = _Parsed(_json_object(header), _json_object(claims))
    # An allow-list: jku, x5u, x5c, jwk, crit, zip, b64 and whatever comes next have no place in a token of ours.
    if parsed.header.keys() != {"alg", "kid", "typ"}:
        raise NotAuthenticated("token's header has not exactly alg, kid and typ")
    if parsed.header["alg"] != ALGORITHMS.ES256:
        raise NotAuthenticated("token's alg is not ES256")
    if parsed.header["typ"] != _TYPE:
        raise NotAuthenticated("token's typ is not at+jwt")
    kid = parsed.header["kid"]
    if not isinstance(kid, str) or not _KID.fullmatch(kid):
        raise NotAuthenticated("token's kid is malformed")
    return parsed


def _check_times(claims: dict[str, Any], now: int) -> None:
    if now >= _instant(claims, "exp"):
        raise NotAuthenticated("token has expired")
    if now + _LEEWAY < _instant(claims, "iat"):
        raise NotAuthenticated("token was issued in the future")
    if "nbf" in claims and now + _LEEWAY < _instant(claims, "nbf"):
        raise NotAuthenticated("token is not yet valid")


def _verified(token: str, parsed: _Parsed, public_jwk: str) -> Claims:
    key = json.loads(public_jwk)
    if key.get("kid") != parsed.header["kid"] or (key.get("kty"), key.get("crv")) != ("EC", "P-256"):
        raise NotAuthenticated("token's kid is not that of a key of ours")
    try:
        # The claims stand checked already; jose is told to insist all the same.
        claims = jwt.decode(
            token,
            key,
            algorithms=[ALGORITHMS.ES256],
            audience=parsed.claims["aud"],
            issuer=parsed.claims["iss"],
            options={f"require_{name}": True for name in ("aud", "iat", "exp", "iss", "sub", "jti")}
            | {"leeway": _LEEWAY},
        )
    except JOSEError as error:
        raise NotAuthenticated("token's signature is wrong") from error
    if claims != parsed.claims:
        raise NotAuthenticated("token reads in two ways")
    return Claims(
        client_id=claims["sub"],
        rights=rights_in(claims["scope"]),
        expires_at=claims["exp"],
        jti=claims["jti"],
    )


def _octets(segment: str) -> bytes:
    """Decode base64url in its one canonical spelling (RFC 7515 §2): no padding, no stray bits, nothing in between."""
    if not _SEGMENT.fullmatch(segment):
        raise NotAuthenticated("token is not base64url")
    try:
        octets = urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error as error:
        raise NotAuthenticated("token is not base64url") from error
    if urlsafe_b64encode(octets).rstrip(b"=") != segment.encode("ascii"):
        raise NotAuthenticated("token is not canonical base64url")
    return octets


def _json_object(octets: bytes) -> dict[str, Any]:
    try:
        value = json.loads(octets.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise NotAuthenticated("token is not JSON") from error
    if not isinstance(value, dict):
        raise NotAuthenticated("token holds no JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse duplicate names, which two readers could read in two ways (RFC 7515 §4)."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotAuthenticated("token has a name twice")
    return found


def _instant(claims: dict[str, Any], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int or not 0 <= value <= _LATEST_INSTANT:
        raise NotAuthenticated(f"token's {name} is missing or not an instant")
    return value
