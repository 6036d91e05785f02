"""Access tokens of outside issuers: what can be wrong with one before its issuer is known, and after.

An issuer vouches for a subject; which client that is, and what it may do, is the operator's and the grants' to say.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from taxii_server.auth import certificates, jws
from taxii_server.auth.tokens import LONGEST_LIFETIME, NAME, SCOPES, rights_in
from taxii_server.domain.access import BOTH, Presented, Right
from taxii_server.domain.errors import NotAuthenticated
from taxii_server.domain.issuers import ALGORITHMS, OutsideIssuer, url_problem

if TYPE_CHECKING:
    from taxii_server.auth.issuer_keys import Key
    from taxii_server.auth.jws import Parsed

# Where a key or what to do is to be found would be for the token to say: these are refused, whatever they hold. Others
# are ignored (RFC 7515 §4).
_NEVER = frozenset({"jku", "jwk", "x5u", "x5c", "crit", "b64", "zip", "enc"})
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})
_UNSPEAKABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_LONGEST_NAME = 256
_CACHED = 4096
_REQUIRED = ("aud", "iat", "exp", "iss")


@dataclass(frozen=True, slots=True)
class OutsideToken:
    """A token as it reads; proves nothing.

    `named` are the claims that can name a client; `certificate` is the thumbprint of the one that it is bound to.
    """

    text: str
    parsed: Parsed
    presented: Presented
    named: dict[str, str]
    certificate: bytes | None = None


@dataclass(frozen=True, slots=True)
class _Good:
    rights: frozenset[Right]
    expires_at: float


class OutsideTokens:
    """Verifies outside tokens, and remembers whose signature it has found good with which key."""

    def __init__(self, *, cached: int = _CACHED) -> None:
        """Take how many good signatures to remember."""
        self._good: jws.Remembered[_Good] = jws.Remembered(cached)

    def verify(self, token: OutsideToken, key: Key) -> frozenset[Right]:
        """Check the signature with the one key that the token's issuer publishes under its `kid`; what it leaves allowed.

        Raises:
            NotAuthenticated: if it is wrong, or the key is for another algorithm.
        """
        now = time.time()
        algorithm = token.parsed.header["alg"]
        # together with the key: JSON has no NUL, so nothing else reads the same
        signed_with = json.dumps([token.presented.issuer, algorithm, key.jwk], sort_keys=True)
        name = jws.digest(f"{signed_with}\0{token.text}")
        known = self._good.get(name, now)
        if known is not None:
            return known.rights
        if algorithm not in key.algorithms:
            raise NotAuthenticated("token's alg is not one of its key")
        audience = _audiences(token.parsed.claims)[0]
        jws.verify(token.text, token.parsed, key.jwk, algorithm, audience=audience, required=_REQUIRED)
        good = _Good(_rights(token.parsed.claims), jws.instant(token.parsed.claims, "exp", fractions=True))
        return self._good.keep(name, good).rights


def read(text: str, parsed: Parsed) -> OutsideToken:
    """Look at a token before anything is known of its issuer.

    Raises:
        NotAuthenticated: for everything that neither key nor configuration could mend.
    """
    header, claims = parsed.header, parsed.claims
    if _NEVER & header.keys():
        raise NotAuthenticated("token's header says where keys are or what must be understood")
    if header.get("alg") not in ALGORITHMS:
        raise NotAuthenticated("token's alg is none that outside issuers may use")
    kind = header.get("typ", "JWT")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise NotAuthenticated("token's typ is not that of an access token")
    kid = header.get("kid")
    if not _nameable(kid):
        raise NotAuthenticated("token's kid is missing or malformed")
    issuer = claims.get("iss")
    if not isinstance(issuer, str) or url_problem(issuer):
        raise NotAuthenticated("token is of another issuer")
    _audiences(claims)
    certificate = certificates.confirmed(claims)
    jti = claims.get("jti")
    if jti is not None and (not isinstance(jti, str) or not NAME.fullmatch(jti)):
        raise NotAuthenticated("token's jti is malformed")
    jws.check_times(claims, time.time(), fractions=True)
    lifetime = jws.instant(claims, "exp", fractions=True) - jws.instant(claims, "iat", fractions=True)
    if lifetime > LONGEST_LIFETIME.total_seconds():
        raise NotAuthenticated("token lives longer than a day")
    named = {name: value for name, value in claims.items() if _nameable(name) and _nameable(value)}
    return OutsideToken(text, parsed, Presented(issuer=issuer, kid=str(kid), jti=jti), named, certificate)


def check(token: OutsideToken, issuer: OutsideIssuer) -> None:
    """Hold a token against what the operator configured of its issuer.

    Raises:
        NotAuthenticated: if it is for somebody else, or signed as this issuer doesn't.
    """
    if token.presented.issuer != issuer.issuer:
        raise NotAuthenticated("token is of another issuer")
    if issuer.audience not in _audiences(token.parsed.claims):
        raise NotAuthenticated("token is for another audience")
    if token.parsed.header["alg"] not in issuer.algorithms:
        raise NotAuthenticated("token's alg is not one of its issuer's")


def _audiences(claims: dict[str, Any]) -> list[str]:
    audience = claims.get("aud")
    listed = [audience] if isinstance(audience, str) else audience
    if not isinstance(listed, list) or not listed or not all(isinstance(one, str) for one in listed):
        raise NotAuthenticated("token's aud is missing or malformed")
    return listed


def _rights(claims: dict[str, Any]) -> frozenset[Right]:
    """Narrow by the scope where it speaks of us at all; words of others, like `openid`, say nothing about TAXII."""
    words: list[str] = []
    for name in ("scope", "scp"):
        said = claims.get(name, "")
        listed = said.split(" ") if isinstance(said, str) else said
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise NotAuthenticated(f"token's {name} is malformed")
        words += listed
    ours = [word for word in words if word.startswith(f"{SCOPES[Right.READ].partition(':')[0]}:")]
    return rights_in(" ".join(ours)) if ours else BOTH


def _nameable(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and not _UNSPEAKABLE.search(value)
