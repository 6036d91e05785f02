"""The first answer, the clock, and who is let in: without credentials, with id and secret, with a token."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final

import httpx

from taxii_server.check.address import Kind, is_loopback, same_origin
from taxii_server.check.exchange import TAXII_20, Answer, NoAnswer, Trace
from taxii_server.check.look import Look
from taxii_server.check.results import Finding, fault, good, skipped, warning
from taxii_server.check.words import counted

_WRONG_CLOCK: Final = 60.0
_LOOSE_CLOCK: Final = 5.0
_METADATA: Final = "/.well-known/oauth-authorization-server"
_MOST_ROOTS: Final = 3
_LOOK_AT_THE_URL: Final = (
    "Look at the URL: discovery is at https://HOST/taxii2/, an API Root often a path below it. Ask the operator for it."
)
_COMPARE: Final = "Compare id and secret with what the operator issued; were they revoked, or have they expired?"


async def answer(look: Look) -> Finding:
    """The first request, without credentials: is this a web server, and at this place?"""
    where = look.address
    first = await look.http.get(where.start)
    if (to := first.redirect) is not None:
        if not same_origin(to, where.base):
            return fault(
                f"HTTP {first.status}: sent on to {look.quote(str(to.copy_with(query=None, fragment=None)))}, another server; "
                "not followed, and no credentials go there",
                "If the operator says that this is the right place, check that URL, and give it to your SIEM too.",
            )
        followed = await look.http.get(to)
        if followed.redirect is not None:
            return fault(
                f"HTTP {first.status}: sent on to {look.quote(to.path)} and from there on again; not followed",
                "Ask the operator for the URL that answers itself: many SIEMs follow no redirects.",
            )
        look.first = followed
        return await _judged(look, followed) or warning(
            f"HTTP {first.status}: sent on to {look.quote(to.path)}, which answers {_status(followed)}",
            "Give your SIEM the URL it is sent on to: some clients follow no redirect, others lose their credentials.",
        )
    look.first = first
    asks = "" if first.ok else f": it answers {first.status} without credentials"
    return await _judged(look, first) or good(f"a first answer in {first.took * 1000:.0f} ms{asks}")


async def _judged(look: Look, first: Answer) -> Finding | None:
    """What is wrong with the first answer; None if TAXII may be behind it."""
    said = f"{_status(first)}{error_words(look, first)}"
    if first.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN} or (first.ok and first.resource is not None):
        return None
    remedy = _LOOK_AT_THE_URL
    if first.ok:
        said += f", but what comes is {look.quote(first.media_type) or 'of no named type'}, not TAXII"
    elif first.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        remedy = "The fault is the server's, or of a proxy in front of it: tell the operator the time and this answer."
    elif await _speaks_taxii_20(look, first):
        said += "; it is a TAXII 2.0 server"
        remedy = "Clients for TAXII 2.1 can't use it: ask the operator for a TAXII 2.1 URL, or set your SIEM to 2.0."
    elif first.status == HTTPStatus.NOT_ACCEPTABLE:
        said += "; it doesn't speak TAXII 2.1"
    return fault(said, remedy)


async def _speaks_taxii_20(look: Look, first: Answer) -> bool:
    if TAXII_20 in first.media_type:
        return True
    older = await look.http.get(look.address.base.copy_with(path="/taxii/"), accept=TAXII_20, taxii=False)
    return TAXII_20 in older.media_type


def _status(given: Answer) -> str:
    try:
        return f"HTTP {given.status} {HTTPStatus(given.status).phrase}"
    except ValueError:
        return f"HTTP {given.status}"


def error_words(look: Look, given: Answer) -> str:
    """What a TAXII error says of itself (§3.6)."""
    said = given.resource or {}
    words = [look.quote(said[key]) for key in ("title", "description") if isinstance(said.get(key), str)]
    number = f" (error_id {look.quote(said['error_id'])})" if isinstance(said.get("error_id"), str) else ""
    return f": {'; '.join(words)}{number}" if words else number


async def clock(look: Look) -> Finding:
    """The server's clock beside this machine's, by the Date of the answer that came fastest."""
    dated = [(each.took, each.sent, date) for each in look.http.answers if (date := _date(each)) is not None]
    if not dated:
        return warning(
            "the answers bear no Date, so the clocks can't be compared",
            "Ask the operator to let the server send a Date (RFC 9110 §6.6.1).",
        )
    took, sent, date = min(dated)
    # a Date has whole seconds, cut off
    skew = date.timestamp() + 0.5 - (sent + took / 2)
    unsure = 0.5 + took / 2
    if abs(skew) <= _LOOSE_CLOCK + unsure:
        return good(f"agrees with this machine's within {max(1.0, abs(skew)):.0f} s")
    seen = f"the server's clock is {_length(abs(skew))} {'ahead of' if skew > 0 else 'behind'} this machine's"
    if abs(skew) <= _WRONG_CLOCK + unsure:
        return warning(seen, "Look which of the two has lost its time server.")
    return fault(
        seen,
        "Compare both with a time server (NTP). With a wrong clock tokens seem expired or not yet valid, and polls that "
        "start from a time of yours miss objects or get them again.",
    )


def _date(given: Trace) -> datetime | None:
    try:
        date = parsedate_to_datetime(given.date)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def _length(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else str(timedelta(seconds=round(seconds)))  # noqa: PLR2004 - two minutes


async def without_credentials(look: Look) -> Finding:
    """Whether the server asks who is there, and where it does."""
    first = look.first
    if first.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return _asked_at(look, first, "asked for at once")
    look.asks_at = first.url
    for inner in _inner(look, first):
        within = await look.http.get(inner)
        if within.status == HTTPStatus.UNAUTHORIZED:
            return _asked_at(
                look, within, f"{look.quote(first.url.path)} is open, {look.quote(inner.path)} asks for them"
            )
    look.is_open = True
    if look.options.client_cert is not None:
        return good("the certificate of --client-cert is enough")
    return warning(
        "the server is open: it answers without credentials",
        "Is that meant? Whoever reaches it reads the same. If not, tell the operator.",
    )


def _inner(look: Look, first: Answer) -> Iterator[httpx.URL]:
    """Where credentials would be asked for behind an open first page."""
    if look.address.root is not None and look.address.kind is not Kind.PATH:
        yield look.address.root.join("collections/")
        return
    resource = first.resource or {}
    if isinstance(resource.get("api_roots"), list):
        for one in resource["api_roots"][:_MOST_ROOTS]:
            root = joined(first.url, one)
            if root is not None and same_origin(root, look.address.base):
                yield root
                yield root.join("collections/")
    elif "versions" in resource:
        yield first.url.join("collections/")


def joined(base: httpx.URL, text: object) -> httpx.URL | None:
    """Read a URL that a server names, absolute or not; with its last slash."""
    if not isinstance(text, str):
        return None
    try:
        url = base.join(text)
        path = url.path if url.path.endswith("/") else f"{url.path}/"
        return url.copy_with(path=path, query=None, fragment=None, userinfo=b"")
    except (httpx.InvalidURL, ValueError, TypeError):
        return None


def _asked_at(look: Look, given: Answer, seen: str) -> Finding:
    look.asks_at = given.url
    headers = given.headers.get_list("www-authenticate")
    look.challenges = tuple(sorted({word.lower() for one in headers for word in _schemes(one)}))
    if given.status == HTTPStatus.FORBIDDEN:
        return warning(
            f"{seen}, with 403",
            "It should be 401 with WWW-Authenticate; or a gateway lets in known addresses alone: ask the operator.",
        )
    if not headers:
        return warning(
            f"{seen}, without the WWW-Authenticate that belongs to a 401 (RFC 9110 §11.6.1)",
            "Clients that wait to be told how will not send their credentials: tell the operator.",
        )
    return good(
        f"{seen}: 401, {', '.join(look.quote(one.capitalize()) for one in look.challenges) or 'no known scheme'}"
    )


def _schemes(challenge: str) -> list[str]:
    """Name the schemes of a WWW-Authenticate, of which one header may hold several."""
    words = challenge.replace(",", " ").split()
    first = words[:1]
    return first + [one for one in words[1:] if one.lower() in {"basic", "bearer", "digest", "negotiate"}]


async def basic(look: Look) -> Finding:
    """The client's id and secret, as HTTP Basic."""
    header = look.options.basic
    if header is None:
        return skipped("no --client was given")
    if look.challenges and "basic" not in look.challenges:
        return skipped(f"the server doesn't offer Basic, but {look.quote(', '.join(look.challenges))}")
    given = await look.http.get(look.asks_at, authorization=header)
    look.basic_works = _let_in(given)
    look.basic_refused = given.status == HTTPStatus.UNAUTHORIZED
    return _verdict(look, given, "this id and secret", look.options.doubt or _COMPARE)


async def token(look: Look) -> Finding:
    """An access token: the one that was given, or one fetched for id and secret."""
    given_token = look.options.token
    how = "the token that was given"
    if given_token is None:
        if look.options.basic is None:
            return skipped("neither --token nor --client was given")
        found = await _token_url(look)
        if isinstance(found, Finding):
            return found
        fetched = await _fetch(look, found, look.options.basic)
        if isinstance(fetched, Finding):
            return fetched
        given_token, how = fetched
    look.token = given_token
    answered = await look.http.get(look.asks_at, authorization=f"Bearer {given_token}")
    look.token_works = _let_in(answered)
    remedy = "Tokens live for minutes: fetch a new one. Does it come from this server's token endpoint?"
    return _verdict(look, answered, how, remedy)


def _let_in(given: Answer) -> bool:
    # 404 after 401: known, but without a grant for what the URL names; that has a check of its own
    return given.status in {HTTPStatus.OK, HTTPStatus.NOT_FOUND}


def _verdict(look: Look, given: Answer, what: str, remedy: str) -> Finding:
    if _let_in(given):
        open_too = ", though it would answer without" if look.is_open else ""
        return good(f"the server takes {what}{open_too}")
    if given.status == HTTPStatus.UNAUTHORIZED:
        return fault(f"401: the server refuses {what}", remedy)
    if given.status == HTTPStatus.FORBIDDEN:
        return fault(
            f"403: the server knows {what} but gives it no access{error_words(look, given)}",
            "Ask the operator what this client was granted, and whether your address is let in.",
        )
    return fault(
        f"{_status(given)} to {what}{error_words(look, given)}",
        "That is neither a yes nor a no: tell the operator the time and this answer.",
    )


async def _token_url(look: Look) -> httpx.URL | Finding:
    if look.options.token_url is not None:
        given = _as_url(look.options.token_url)
        if given is None or not _safe(given):
            return fault("--token-url is no https:// URL", "Write it whole; a secret may not travel in clear.")
        return given
    described = await look.http.get(look.address.base.copy_with(path=_METADATA), accept="application/json", taxii=False)
    named = (described.resource or {}).get("token_endpoint") if described.ok else None
    if named is None:
        return skipped("the server describes no token endpoint (RFC 8414); give one with --token-url")
    url = _as_url(named)
    if url is None or not _safe(url):
        return fault(
            f"the server names a token endpoint that is no https:// URL: {look.quote(named)}",
            "Tell the operator: the server's own idea of its public URL is wrong.",
        )
    if not same_origin(url, look.address.base):
        return warning(
            f"the token endpoint is at {look.quote(str(url))}, another server; the secret was not sent there",
            "If the operator says that this is right, give it with --token-url.",
        )
    return url


def _as_url(text: Any) -> httpx.URL | None:
    try:
        return httpx.URL(text).copy_with(userinfo=b"", fragment=None)
    except (httpx.InvalidURL, ValueError, TypeError):
        return None


def _safe(url: httpx.URL) -> bool:
    return url.scheme == "https" or (url.scheme == "http" and is_loopback(url.host))


async def _fetch(look: Look, url: httpx.URL, header: str) -> tuple[str, str] | Finding:
    try:
        given = await look.http.post_form(url, authorization=header, form={"grant_type": "client_credentials"})
    except NoAnswer as none:
        return none.finding(look.quote(url.path))
    resource = given.resource or {}
    fetched = resource.get("access_token")
    if given.ok and isinstance(fetched, str) and fetched.isascii() and fetched.isprintable() and fetched:
        look.hide(fetched)
        life = resource.get("expires_in")
        lives = f" for {counted(life, 'second')}" if isinstance(life, int) and life > 0 else ""
        return fetched, f"a token{lives} from {look.quote(url.path)}"
    if given.status == HTTPStatus.UNAUTHORIZED or resource.get("error") == "invalid_client":
        if look.basic_works:
            return warning(
                f"{given.status}: the token endpoint refuses this id and secret, which work with Basic",
                "Tokens may not be meant for this client: ask the operator if you need them.",
            )
        if look.basic_refused:
            return skipped("no token: the token endpoint refuses this id and secret too")
        return fault(
            f"{given.status}: the token endpoint refuses this id and secret",
            _COMPARE,
        )
    said = look.quote(resource["error"]) if isinstance(resource.get("error"), str) else "no access_token"
    return fault(
        f"the token endpoint answers {_status(given)} with {said}",
        "Is it the token endpoint (RFC 6749 §4.4)? If it is, tell the operator this answer.",
    )


async def way_in(look: Look) -> Finding:
    """What the rest is asked with."""
    basic_header, works = look.options.basic, []
    if look.basic_works:
        works.append("Basic")
    if look.token_works:
        works.append("a token")
    if not works and look.is_open:
        return good("no credentials: the server is open")
    if not works:
        given = look.options.basic or look.options.token
        return skipped(
            "no credentials that work" if given else "no credentials were given: what is behind them was not looked at"
        )
    look.way_in = basic_header if look.basic_works else f"Bearer {look.token}"
    if len(works) > 1:
        return good("Basic and a token both work; Basic is used from here on")
    return good(works[0])
