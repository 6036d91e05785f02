"""What poller.py and pusher.py share: credentials from the environment, and requests that outlast a bad moment.

TAXII_CLIENT_ID       the client's id, given by whoever runs the server
TAXII_CLIENT_SECRET   its secret
TAXII_TOKEN_URL       if set, the secret goes to this OAuth 2.0 token endpoint alone and requests carry its tokens;
                      if not, requests carry id and secret (HTTP Basic)
"""

from __future__ import annotations

import os
import random
import sys
import time
from base64 import b64encode
from collections.abc import Generator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx

Body = dict[str, Any]

MEDIA_TYPE = "application/taxii+json;version=2.1"

_PASSING = {429, 500, 502, 503, 504}  # another try may succeed; every other refusal will stay one
_LONGEST_PAUSE = 60.0
_LONGEST_RETRY_AFTER = 3600.0


class TaxiiError(Exception):
    """A failure that trying again would not mend; `status` is None if there was no answer to blame."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class TokenAuth(httpx.Auth):
    """OAuth 2.0 client credentials (RFC 6749 §4.4): a token is fetched when needed, and once more if it is refused."""

    requires_response_body = True

    def __init__(self, token_url: str, client_id: str, secret: str) -> None:
        self._url = token_url
        self._basic = "Basic " + b64encode(f"{client_id}:{secret}".encode()).decode()
        self._bearer: str | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request with a token, and after a 401 with a new one."""
        if self._bearer is not None:
            request.headers["Authorization"] = self._bearer
            answer = yield request
            if answer.status_code != httpx.codes.UNAUTHORIZED:
                return
        form = {"grant_type": "client_credentials"}
        answer = yield httpx.Request("POST", self._url, data=form, headers={"Authorization": self._basic})
        answer.raise_for_status()
        self._bearer = request.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        yield request


class Taxii:
    """A connection to a TAXII server that tries again after what may pass.

    A request is tried again for `patience` seconds, None means for ever. The first pause lasts `backoff` seconds, each
    further one twice as long, up to a minute; part of it is left to chance, so that many clients don't come back at
    the same moment. Where the server says when to come back (Retry-After), it is not asked earlier.
    """

    def __init__(self, *, patience: float | None, backoff: float = 1.0) -> None:
        self._patience = patience
        self._backoff = backoff
        # httpx asks for gzip by itself, follows no redirects (they could lead credentials astray) and verifies TLS
        timeout = httpx.Timeout(10, read=120)
        # plain http:// is for this machine alone, so it goes through no proxy, which would read the credentials
        mounts = {"http://": None}
        self._http = httpx.Client(auth=_auth(), headers={"Accept": MEDIA_TYPE}, timeout=timeout, mounts=mounts)

    def get(self, url: str, params: Mapping[str, str | int | None] | None = None) -> tuple[Body, Mapping[str, str]]:
        """GET a resource and its headers; parameters that are None are left out."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        return self._send("GET", url, params=given)

    def post(self, url: str, body: bytes) -> Body:
        """POST an envelope and give the status resource."""
        return self._send("POST", url, content=body, headers={"Content-Type": MEDIA_TYPE})[0]

    def _send(self, method: str, url: str, **options: Any) -> tuple[Body, Mapping[str, str]]:
        until = None if self._patience is None else time.monotonic() + self._patience
        pause = self._backoff
        while True:
            wait = 0.0
            try:
                answer = self._http.request(method, url, **options)
                if answer.status_code not in _PASSING:
                    return _read(answer), answer.headers
                trouble, wait = f"{method} was answered {answer.status_code}", _retry_after(answer)
            except httpx.HTTPStatusError as error:  # of the token endpoint
                if error.response.status_code not in _PASSING:
                    raise _refusal(error.response) from error
                trouble, wait = "no token for now", _retry_after(error.response)
            except (httpx.TransportError, httpx.DecodingError) as error:
                trouble = f"{type(error).__name__}: {error}"
            wait = max(wait, pause * random.uniform(0.5, 1))  # noqa: S311 # no secret hangs on it
            if until is not None and time.monotonic() + wait > until:
                raise TaxiiError(f"gave up: {trouble}")
            print(f"{trouble}; trying again in {wait:.1f} s", file=sys.stderr, flush=True)
            sleep(wait)
            pause = min(pause * 2, _LONGEST_PAUSE)


def sleep(seconds: float) -> None:
    """Sleep in pieces of a second: a signal that comes just before a piece begins is heeded only when that ends."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 1))


def _auth() -> httpx.Auth:
    try:
        client_id, secret = os.environ["TAXII_CLIENT_ID"], os.environ["TAXII_CLIENT_SECRET"]
    except KeyError as missing:
        raise TaxiiError(f"{missing.args[0]} is not set in the environment") from None
    token_url = os.environ.get("TAXII_TOKEN_URL")
    return httpx.BasicAuth(client_id, secret) if token_url is None else TokenAuth(checked(token_url), client_id, secret)


def checked(url: str) -> str:
    """Give a URL back if it is safe to send credentials to.

    Raises:
        TaxiiError: if it is no URL, or one that would send them in clear to another machine.
    """
    try:
        parts = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise TaxiiError(f"{url!r} is not a URL: {error}") from error
    if parts.scheme != "https" and (parts.scheme != "http" or parts.host not in {"127.0.0.1", "::1", "localhost"}):
        raise TaxiiError(f"{url!r} is not an https:// URL, and credentials never travel in clear")
    return url


def collection_url(url: str) -> str:
    """Give the URL of a collection with its last slash; the URL of its objects will do as well.

    Raises:
        TaxiiError: if it is none, or not safe to send credentials to.
    """
    found = checked(url).rstrip("/").removesuffix("/objects") + "/"
    api_root, _, name = found.rpartition("/collections/")
    if not api_root or not name.strip("/"):
        raise TaxiiError(f"{url!r} is not the URL of a collection: that ends in /collections/<id>/")
    return found


def _read(answer: httpx.Response) -> Body:
    if not answer.is_success:
        raise _refusal(answer)
    if not answer.headers.get("content-type", "").startswith("application/taxii+json"):
        raise TaxiiError(f"{answer.url} answers, but not as a TAXII server")
    try:
        body: Body = answer.json()
    except ValueError as error:
        raise TaxiiError(f"{answer.url} answers with something that isn't JSON: {error}") from error
    return body


def _refusal(answer: httpx.Response) -> TaxiiError:
    """Say what a TAXII error resource (§3.6.1) or a token endpoint's error says, or what can be said without one."""
    try:
        body = answer.json()
        names = ("title", "description", "error", "error_description")
        said = ": ".join(str(body[name]) for name in names if name in body)
        said += f" (error_id {body['error_id']})" if "error_id" in body else ""
    except (ValueError, TypeError):
        said = answer.reason_phrase
    return TaxiiError(f"{answer.status_code} {said}", answer.status_code)


def _retry_after(answer: httpx.Response) -> float:
    """Read Retry-After (RFC 9110 §10.2.3), in seconds or as a date; 0 if there is none to understand."""
    given = answer.headers.get("retry-after", "")
    try:
        seconds = float(given) if given.isdigit() else (_date(given) - datetime.now(UTC)).total_seconds()
    except ValueError:
        return 0.0
    return min(max(seconds, 0.0), _LONGEST_RETRY_AFTER)


def _date(text: str) -> datetime:
    date = parsedate_to_datetime(text)
    return date if date.tzinfo else date.replace(tzinfo=UTC)
