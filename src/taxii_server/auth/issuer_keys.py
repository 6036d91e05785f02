"""The keys that outside issuers publish: fetched, judged, and kept for a while by each worker.

Only URLs that the operator configured, or the issuer's own metadata names, are ever fetched: nothing that a token says.
Whatever strangers send, an issuer is asked at most once in `AGAIN`, one fetch at a time, by each worker.
"""

from __future__ import annotations

import asyncio
import binascii
import json
import re
import ssl
import time
from base64 import urlsafe_b64decode
from collections import Counter as Tally
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx
import structlog
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, EllipticCurve, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from prometheus_client import Counter

from taxii_server.domain.errors import IssuerUnavailable, NotAuthenticated
from taxii_server.domain.issuers import EC_ALGORITHMS, RSA_ALGORITHMS, is_loopback, url_problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from taxii_server.domain.issuers import OutsideIssuer

log = structlog.get_logger(__name__)

FETCHES = Counter("taxii_issuer_fetches", "Fetches of outside issuers' keys.", ["outcome"])

MAX_AGE: Final = 300.0
"""Seconds for which keys are used before they are fetched again."""

STALE: Final = 3600.0
"""Seconds for which keys are used while their issuer can't be reached."""

AGAIN: Final = 30.0
"""Seconds between two fetches from one issuer, for whatever reason: an unknown `kid`, age, or a failure."""

TIMEOUT: Final = 5.0
"""Seconds that a fetch may take, metadata and keys together."""

LARGEST: Final = 256 * 1024
"""Octets of an answer."""

_MOST_KEYS: Final = 64
_MOST_ISSUERS: Final = 256
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_CURVES: Final[dict[str, EllipticCurve]] = {"P-256": SECP256R1(), "P-384": SECP384R1()}
_BITS: Final = range(2048, 8192 + 1)
_EXPONENTS: Final = range(65537, 2**32)
_LONGEST_NAME: Final = 256
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Key:
    """A public key that was found fit: exactly the members that make it, and the algorithms it is for."""

    kid: str
    jwk: dict[str, str]
    algorithms: frozenset[str]


class _FetchFailed(Exception):
    """Keys can't be had; the words are ours, never the issuer's."""


class _Unfit(ValueError):
    """A key that must not be used; the words are ours."""


@dataclass(slots=True)
class _Kept:
    keys: dict[str, Key] = field(default_factory=dict)
    fetched: float | None = None
    tried: float | None = None
    fetching: asyncio.Task[None] | None = None


class IssuerKeys:
    """The keys of outside issuers. Make one per process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take what tells seconds."""
        self._clock = clock
        self._kept: OrderedDict[tuple[str, str, str | None], _Kept] = OrderedDict()

    async def key(self, issuer: OutsideIssuer, kid: str) -> Key:
        """Give the one key that an issuer publishes under a `kid`.

        Raises:
            NotAuthenticated: if it publishes none of that name that is fit.
            IssuerUnavailable: if that can't be told, because the issuer can't be reached.
        """
        kept = self._of(issuer)
        if kept.fetched is None or self._clock() - kept.fetched >= MAX_AGE:
            await self._refresh(issuer, kept)
        if kid not in kept.keys:
            await self._refresh(issuer, kept)
        failing = kept.fetched is None or (kept.tried is not None and kept.tried > kept.fetched)
        if kept.fetched is None or self._clock() - kept.fetched >= STALE:
            raise IssuerUnavailable
        found = kept.keys.get(kid)
        if found is None:
            if failing:
                raise IssuerUnavailable
            raise NotAuthenticated("token's key is none that its issuer publishes")
        return found

    def _of(self, issuer: OutsideIssuer) -> _Kept:
        # another address is another set: what one place published is never taken for what the next one would
        name = (issuer.slug, issuer.issuer, issuer.jwks_uri)
        kept = self._kept.setdefault(name, _Kept())
        self._kept.move_to_end(name)
        while len(self._kept) > _MOST_ISSUERS:
            self._kept.popitem(last=False)
        return kept

    async def _refresh(self, issuer: OutsideIssuer, kept: _Kept) -> None:
        """Fetch anew unless that was tried a moment ago; whoever comes while a fetch is under way waits for that one."""
        if kept.fetching is None:
            if kept.tried is not None and self._clock() - kept.tried < AGAIN:
                return
            kept.tried = self._clock()
            kept.fetching = asyncio.create_task(self._fetch(issuer, kept))
        # shielded: a request that is given up doesn't end the fetch for the others
        await asyncio.shield(kept.fetching)

    async def _fetch(self, issuer: OutsideIssuer, kept: _Kept) -> None:
        try:
            async with asyncio.timeout(TIMEOUT):
                document = await _published(issuer)
            keys, unfit = fit_keys(document)
        except Exception as error:  # noqa: BLE001 - whatever it is (a proxy's setting, say): keys in hand go on
            FETCHES.labels("failed").inc()
            log.warning("issuer_unavailable", issuer=issuer.slug, reason=_why(error))
        else:
            FETCHES.labels("fetched").inc()
            kept.keys = keys
            # since when it is known, so that a slow answer is not kept for longer
            kept.fetched = kept.tried
            if unfit:
                log.warning("issuer_keys_unfit", issuer=issuer.slug, reasons=dict(unfit))
        finally:
            kept.fetching = None


def _why(error: Exception) -> str:
    if isinstance(error, _FetchFailed):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"no whole answer within {TIMEOUT:g} s"
    return f"can't be asked ({type(error).__name__}: {error})"


def fit_keys(document: Any) -> tuple[dict[str, Key], Tally[str]]:
    """Take the keys of a JWK Set that may be used, by `kid`, and count why others may not.

    Raises:
        _FetchFailed: if it is no JWK Set, or an unreasonable one.
    """
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list):
        raise _FetchFailed("the answer is no JWK Set")
    if len(listed) > _MOST_KEYS:
        raise _FetchFailed(f"more than {_MOST_KEYS} keys")
    found: list[Key] = []
    unfit: Tally[str] = Tally()
    for one in listed:
        try:
            key = _fit(one)
        except _Unfit as error:
            unfit[str(error)] += 1
        else:
            if key is not None:
                found.append(key)
    times = Tally(key.kid for key in found)
    unfit.update("its kid names two keys" for key in found if times[key.kid] > 1)
    return {key.kid: key for key in found if times[key.kid] == 1}, unfit


def _fit(jwk: Any) -> Key | None:
    """Judge one key; None if it is for something else than signatures."""
    if not isinstance(jwk, dict):
        raise _Unfit("it is no JSON object")
    uses = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(uses, list) or "verify" not in uses:
        return None
    if _PRIVATE & jwk.keys() or jwk.get("kty") == "oct":
        raise _Unfit("it is secret, and was published")
    kid = jwk.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= _LONGEST_NAME:
        raise _Unfit("it has no kid")
    match jwk.get("kty"):
        case "RSA":
            members, algorithms = _rsa(jwk), frozenset(RSA_ALGORITHMS)
        case "EC":
            members = _ec(jwk)
            algorithms = frozenset(name for name, curve in EC_ALGORITHMS.items() if curve == members["crv"])
        case _:
            raise _Unfit("it is of a kind that isn't understood here")
    if "alg" in jwk:
        algorithms &= {str(jwk["alg"])}
    return Key(kid, members, algorithms)


def _rsa(jwk: dict[str, Any]) -> dict[str, str]:
    modulus, exponent = (int.from_bytes(_octets(jwk.get(name)), "big") for name in ("n", "e"))
    if modulus.bit_length() not in _BITS or exponent not in _EXPONENTS or exponent % 2 == 0:
        raise _Unfit("its modulus or exponent is too small or too large")
    try:
        RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError as error:
        raise _Unfit("it is no RSA key") from error
    return {"kty": "RSA", "n": jwk["n"], "e": jwk["e"]}


def _ec(jwk: dict[str, Any]) -> dict[str, str]:
    curve = _CURVES.get(str(jwk.get("crv")))
    if curve is None:
        raise _Unfit("its curve isn't understood here")
    x, y = (_octets(jwk.get(name)) for name in ("x", "y"))
    if {len(x), len(y)} != {(curve.key_size + 7) // 8}:
        raise _Unfit("its coordinates have not the length of its curve")
    try:
        EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), curve).public_key()
    except ValueError as error:
        raise _Unfit("it is no point of its curve") from error
    return {"kty": "EC", "crv": jwk["crv"], "x": jwk["x"], "y": jwk["y"]}


def _octets(value: Any) -> bytes:
    if not isinstance(value, str) or not _BASE64URL.fullmatch(value):
        raise _Unfit("a number in it is missing or not base64url")
    try:
        return urlsafe_b64decode(value + "=" * (-len(value) % 4))
    except binascii.Error as error:
        raise _Unfit("a number in it is missing or not base64url") from error


async def _published(issuer: OutsideIssuer) -> Any:
    """Fetch an issuer's JWK Set, asking its metadata where that is if the operator didn't say."""
    # reading the system's authorities takes a while
    trusting = await asyncio.to_thread(ssl.create_default_context)
    async with httpx.AsyncClient(
        verify=trusting,
        follow_redirects=False,
        timeout=TIMEOUT,
        # a name and password that ~/.netrc has for the host are none of its business
        auth=httpx.Auth(),
        headers={"Accept": "application/json", "Accept-Encoding": "identity"},
    ) as http:
        uri = issuer.jwks_uri or await _discovered(http, issuer)
        found = await _json(http, uri)
        if found is None:
            raise _FetchFailed("there is nothing at jwks_uri")
        return found


async def _discovered(http: httpx.AsyncClient, issuer: OutsideIssuer) -> str:
    """Ask the issuer's metadata, OpenID Connect Discovery §4 or RFC 8414 §3, for its `jwks_uri`."""
    parts = urlsplit(issuer.issuer)
    origin, path = f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/")
    for place in (
        f"{origin}{path}/.well-known/openid-configuration",
        f"{origin}/.well-known/oauth-authorization-server{path}",
    ):
        found = await _json(http, place)
        if found is None:
            continue
        if not isinstance(found, dict) or found.get("issuer") != issuer.issuer:
            raise _FetchFailed("the metadata is another issuer's")
        uri = found.get("jwks_uri")
        if not isinstance(uri, str) or url_problem(uri.partition("?")[0]) or "#" in uri:
            raise _FetchFailed("the metadata names no jwks_uri with https")
        if is_loopback(uri) and not is_loopback(issuer.issuer):
            raise _FetchFailed("the metadata names a jwks_uri of this machine")
        return uri
    raise _FetchFailed("there is no metadata: name its jwks_uri in alliance.yaml")


async def _json(http: httpx.AsyncClient, url: str) -> Any:
    """Get a JSON document; None where there is none."""
    body = bytearray()
    try:
        async with http.stream("GET", url) as answer:
            if answer.status_code in {404, 410}:
                return None
            if answer.status_code != httpx.codes.OK:
                raise _FetchFailed(f"answered with status {answer.status_code}")
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > LARGEST:
                    raise _FetchFailed(f"the answer is larger than {LARGEST} octets")
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise _FetchFailed(f"can't be reached ({type(error).__name__})") from error
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _FetchFailed("the answer is not JSON") from error
