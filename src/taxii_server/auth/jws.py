"""Compact JWS (RFC 7515), read strictly. The only module that imports python-jose.

What jose would decide by the token itself (algorithm, which key, whether `exp` is needed) is never left to the token:
it is handed one key and one algorithm, after everything else about the token was checked.
"""

from __future__ import annotations

import binascii
import json
import math
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Generic, Protocol, TypeVar

from jose import jws, jwt
from jose.exceptions import JOSEError

from taxii_server.domain.errors import NotAuthenticated

LEEWAY = 30
"""Seconds by which clocks may differ: a fresh token must not be "not yet valid" on the next machine. A late refusal of an
expired one would help nobody."""

LONGEST = 8 * 1024
"""Characters."""

_PARTS = 3
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")
_LATEST_INSTANT = 2**53


class _Expiring(Protocol):
    @property
    def expires_at(self) -> float: ...


Held = TypeVar("Held", bound=_Expiring)


@dataclass(frozen=True, slots=True)
class Parsed:
    """A token taken apart; nothing about it is verified."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signature: bytes


class Remembered(Generic[Held]):
    """What tokens with a good signature said, each bound to the very key that it was found good with."""

    def __init__(self, most: int) -> None:
        """Take how many to remember."""
        self._most = most
        self._held: OrderedDict[bytes, Held] = OrderedDict()

    def __len__(self) -> int:
        """Count what is remembered."""
        return len(self._held)

    def get(self, name: bytes, now: float) -> Held | None:
        """Recall what the token said, if it has not expired."""
        known = self._held.get(name)
        if known is None or now >= known.expires_at:
            return None
        self._held.move_to_end(name)
        return known

    def keep(self, name: bytes, said: Held) -> Held:
        """Remember it, and forget what was not asked for the longest."""
        self._held[name] = said
        while len(self._held) > self._most:
            self._held.popitem(last=False)
        return said


def digest(token: str) -> bytes:
    """Give what a token is remembered by, so that none is kept."""
    return sha256(token.encode("utf-8", "surrogatepass")).digest()


class Parser:
    """Takes tokens apart, and remembers those it took apart last: a client sends the same one for an hour."""

    def __init__(self, most: int = 1024) -> None:
        """Take how many to remember."""
        self._most = most
        self._parsed: OrderedDict[bytes, Parsed] = OrderedDict()

    def parse(self, token: str) -> Parsed:
        """Take a token apart. What is given is shared, and not to be changed.

        Raises:
            NotAuthenticated: as `parse` does.
        """
        name = digest(token)
        known = self._parsed.get(name)
        if known is None:
            known = self._parsed[name] = parse(token)
            if len(self._parsed) > self._most:
                self._parsed.popitem(last=False)
        else:
            self._parsed.move_to_end(name)
        return known


def parse(token: str) -> Parsed:
    """Take a token apart.

    Raises:
        NotAuthenticated: unless it is one canonical base64url JWS of two JSON objects with no name twice.
    """
    if len(token) > LONGEST:
        raise NotAuthenticated("token is too large")
    # a JWE has five parts
    parts = token.split(".")
    if len(parts) != _PARTS:
        raise NotAuthenticated("token has not three parts")
    header, claims, signature = (_octets(part) for part in parts)
    return Parsed(_json_object(header), _json_object(claims), signature)


def verify(
    token: str, parsed: Parsed, key: Mapping[str, Any], algorithm: str, *, audience: str, required: tuple[str, ...]
) -> None:
    """Check the signature with this one key and algorithm.

    Raises:
        NotAuthenticated: if it is wrong.
    """
    try:
        # The claims stand checked already; jose is told to insist all the same.
        claims = jwt.decode(
            token,
            dict(key),
            algorithms=[algorithm],
            audience=audience,
            issuer=parsed.claims["iss"],
            options={f"require_{name}": True for name in required} | {"leeway": LEEWAY, "verify_at_hash": False},
        )
        same = claims == parsed.claims
    except JOSEError as error:
        raise NotAuthenticated("token's signature is wrong") from error
    except RecursionError as error:
        # it was parsed before, but jose parses it again and has less of the stack left
        raise NotAuthenticated("token is nested too deeply") from error
    if not same:
        raise NotAuthenticated("token reads in two ways")


def verify_signature(token: str, key: Mapping[str, Any], algorithm: str) -> None:
    """Check the signature of what isn't a token to log in with, with this one key and algorithm.

    Raises:
        NotAuthenticated: if it is wrong.
    """
    try:
        jws.verify(token, dict(key), algorithms=[algorithm])
    # a key with no point of its curve is nobody's, and jose doesn't say so with an error of its own
    except (JOSEError, ValueError, TypeError) as error:
        raise NotAuthenticated("the signature is wrong") from error


def sign(claims: dict[str, Any], pem: bytes, algorithm: str, header: dict[str, Any]) -> str:
    """Write a token."""
    return jwt.encode(claims, pem, algorithm=algorithm, headers=header)


def check_times(claims: Mapping[str, Any], now: float, *, fractions: bool = False) -> None:
    """Hold `exp`, `iat` and, if it is there, `nbf` against the present.

    Raises:
        NotAuthenticated: if the token has expired, isn't valid yet, or doesn't say; `fractions` of seconds are allowed in
            a NumericDate (RFC 7519 §2), and ours have none.
    """
    if now >= instant(claims, "exp", fractions=fractions):
        raise NotAuthenticated("token has expired")
    if now + LEEWAY < instant(claims, "iat", fractions=fractions):
        raise NotAuthenticated("token was issued in the future")
    if "nbf" in claims and now + LEEWAY < instant(claims, "nbf", fractions=fractions):
        raise NotAuthenticated("token is not yet valid")


def instant(claims: Mapping[str, Any], name: str, *, fractions: bool = False) -> float:
    """Read a NumericDate.

    Raises:
        NotAuthenticated: if it is missing or none.
    """
    value = claims.get(name)
    number = type(value) is int or (fractions and type(value) is float and math.isfinite(value))
    if not number or not 0 <= value <= _LATEST_INSTANT:  # type: ignore[operator] # it is one
        raise NotAuthenticated(f"token's {name} is missing or not an instant")
    return value  # type: ignore[return-value] # as above


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
        value = json.loads(octets.decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise NotAuthenticated("token is not JSON") from error
    if not isinstance(value, dict):
        raise NotAuthenticated("token holds no JSON object")
    return value


def _no_number(name: str) -> float:
    """Refuse NaN and the infinities, which Python reads and JSON doesn't have (RFC 8259 §6)."""
    raise NotAuthenticated("token is not JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse duplicate names, which two readers could read in two ways (RFC 7515 §4)."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise NotAuthenticated("token has a name twice")
    return found
