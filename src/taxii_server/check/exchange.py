"""Asking a server that may be broken or hostile: every answer is bounded in time and in octets, and no redirect is followed."""

from __future__ import annotations

import asyncio
import json
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import version
from time import monotonic, time
from typing import Any, Final, Self

import httpx

from taxii_server.check.results import Finding, fault, skipped
from taxii_server.check.words import counted

TAXII: Final = "application/taxii+json;version=2.1"
TAXII_20: Final = "application/vnd.oasis.taxii+json"

MOST_OCTETS: Final = 8 * 1024 * 1024
"""Of a body, as it travels and unpacked: what a check asks for is far smaller."""

_MOST_TIMEOUTS: Final = 3
_GZIP_OR_ZLIB: Final = 47


class NoAnswer(Exception):
    """There was no answer that could be used: what happened, and what to do about it."""

    def __init__(self, seen: str, remedy: str, *, asked: bool = True) -> None:
        super().__init__(seen)
        self.seen = seen
        self.remedy = remedy
        self.asked = asked

    def finding(self, about: str | None = None) -> Finding:
        """As the outcome of a check."""
        return fault(self.seen, self.remedy, about) if self.asked else skipped(self.seen, about)


@dataclass(frozen=True)
class Answer:
    """What came back, whole and unpacked."""

    url: httpx.URL
    status: int
    headers: httpx.Headers
    body: bytes
    sent: float
    """When the request left, in seconds since 1970 by this machine's clock."""
    took: float
    """Seconds until the headers had come."""

    @cached_property
    def json(self) -> Any:
        """The body as JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None

    @property
    def resource(self) -> dict[str, Any] | None:
        """The body as a TAXII resource: a JSON object."""
        return self.json if isinstance(self.json, dict) else None

    @property
    def media_type(self) -> str:
        """The Content-Type as it was sent."""
        return str(self.headers.get("content-type", ""))

    @property
    def ok(self) -> bool:
        """Whether the request was granted."""
        return self.status == httpx.codes.OK

    @property
    def redirect(self) -> httpx.URL | None:
        """Where it sends the client, if it does."""
        if self.status not in {301, 302, 303, 307, 308}:
            return None
        try:
            return self.url.join(self.headers.get("location", ""))
        except (httpx.InvalidURL, ValueError):
            return None


@dataclass(frozen=True, slots=True)
class Trace:
    """What is remembered of an answer; its body may be large, and there may be many."""

    path: str
    status: int
    media_type: str
    date: str
    sent: float
    took: float
    is_resource: bool
    has_title: bool

    @classmethod
    def of(cls, answer: Answer) -> Self:
        """Remember."""
        resource = answer.resource
        return cls(
            path=answer.url.path,
            status=answer.status,
            media_type=answer.media_type,
            date=str(answer.headers.get("date", "")),
            sent=answer.sent,
            took=answer.took,
            is_resource=resource is not None,
            has_title=isinstance((resource or {}).get("title"), str),
        )


@dataclass
class Exchange:
    """The requests of one run, on one connection where the server allows that."""

    timeout: float
    proxy: str | None
    tls: ssl.SSLContext
    answers: list[Trace] = field(default_factory=list)
    _timeouts: int = 0
    _enough: str | None = None

    async def __aenter__(self) -> Self:
        self._http = httpx.AsyncClient(
            verify=self.tls,
            proxy=self.proxy,
            follow_redirects=False,
            trust_env=False,
            timeout=self.timeout,
            headers={"User-Agent": f"taxii-server-check/{version('taxii-server')}"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def get(
        self,
        url: httpx.URL,
        *,
        authorization: str | None = None,
        accept: str = TAXII,
        coding: str = "identity",
        taxii: bool = True,
        query: Mapping[str, str | int] | None = None,
    ) -> Answer:
        """Ask for a resource; `taxii` tells those of TAXII, whose form is judged later, from others.

        Raises:
            NoAnswer: if none came that could be used.
        """
        headers = {"Accept": accept, "Accept-Encoding": coding}
        answer = await self._ask("GET", url.copy_merge_params(query or {}), headers, authorization, None)
        if taxii:
            self.answers.append(Trace.of(answer))
        return answer

    async def post_form(self, url: httpx.URL, *, authorization: str, form: Mapping[str, str]) -> Answer:
        """Send a form, as OAuth wants it.

        Raises:
            NoAnswer: if no answer came that could be used.
        """
        headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
        return await self._ask("POST", url, headers, authorization, form)

    async def _ask(
        self,
        method: str,
        url: httpx.URL,
        headers: dict[str, str],
        authorization: str | None,
        form: Mapping[str, str] | None,
    ) -> Answer:
        if self._enough is not None:
            raise NoAnswer(f"not asked, because {self._enough}", "", asked=False)
        if authorization is not None:
            headers |= {"Authorization": authorization}
        # a session's cookie would be a way in that nobody gave
        self._http.cookies.clear()
        try:
            async with asyncio.timeout(self.timeout):
                answer = await self._send(method, url, headers, form)
        except (TimeoutError, httpx.TimeoutException) as error:
            self._timeouts += 1
            if self._timeouts == _MOST_TIMEOUTS:
                self._enough = f"{_MOST_TIMEOUTS} answers before had not come in time"
            raise NoAnswer(
                f"no whole answer within {self.timeout:g} s from {url.path}",
                "Try again, give it longer with --timeout, or ask the operator why the server is so slow.",
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, UnicodeError) as error:
            raise _broken(error, first=not self.answers and url.scheme == "https") from error
        if answer.status == httpx.codes.TOO_MANY_REQUESTS:
            self._enough = "the server wants to be asked less often"
            raise NoAnswer(
                f"HTTP 429 from {url.path}: the server wants to be asked less often, and the rest was not asked",
                "Wait some minutes and check again; ask the operator how often a client may ask. A check asks some forty times.",
            )
        return answer

    async def _send(
        self, method: str, url: httpx.URL, headers: Mapping[str, str], form: Mapping[str, str] | None
    ) -> Answer:
        sent, started = time(), monotonic()
        async with self._http.stream(method, url, headers=headers, data=form) as response:
            took = monotonic() - started
            raw = bytearray()
            async for part in response.aiter_raw():
                raw += part
                if len(raw) > MOST_OCTETS:
                    raise _too_large("more than")
        return Answer(
            url=url,
            status=response.status_code,
            headers=response.headers,
            body=_unpacked(bytes(raw), response.headers.get("content-encoding", "")),
            sent=sent,
            took=took,
        )


def _unpacked(raw: bytes, coding: str) -> bytes:
    match coding.strip().lower():
        case "" | "identity":
            return raw
        case "gzip" | "x-gzip" | "deflate" if raw:
            unpacking = zlib.decompressobj(_GZIP_OR_ZLIB)
            try:
                body = unpacking.decompress(raw, MOST_OCTETS + 1)
            except zlib.error as error:
                raise NoAnswer(
                    f"the body is said to be {coding} and can't be unpacked",
                    "Tell the operator: a proxy between you may have packed it twice, or cut it.",
                ) from error
            if len(body) > MOST_OCTETS:
                raise _too_large(f"{counted(len(raw), 'octet')} that unpack to more than")
            return body
        case "gzip" | "x-gzip" | "deflate":
            return b""
        case _:
            raise NoAnswer(
                f"the body came in the coding {coding}, which was not asked for",
                "Tell the operator: clients can't read what they didn't ask for.",
            )


def _too_large(how: str) -> NoAnswer:
    return NoAnswer(
        f"{how} {MOST_OCTETS // 1024**2} MiB in one answer, and it was not read further",
        "Tell the operator: no answer to these questions is that large. Does the server ignore limit?",
    )


def _said(error: BaseException) -> str:
    """What was said farthest down, where the system's own words are."""
    said = type(error).__name__
    below: BaseException | None = error
    while below is not None:
        said = str(below) or said
        below = below.__cause__ or below.__context__
    return said


def _broken(error: Exception, *, first: bool) -> NoAnswer:
    """What a failed exchange means; the server's certificate was judged before."""
    said = _said(error)
    # a server that misses the client's certificate may hang up before its reason has arrived
    perhaps = " If the server wants a certificate from its clients, give yours with --client-cert." if first else ""
    lower = said.lower()
    if "certificate required" in lower or "certificate_required" in lower:
        return NoAnswer(
            "the server wants a certificate from the client, and got none",
            "Give the one you were issued: --client-cert FILE --client-key FILE.",
        )
    if isinstance(error, httpx.ProxyError):
        return NoAnswer(
            f"the proxy refuses: {said}",
            "Ask your network's people to let this host through, or mend the proxy's name and password in the environment.",
        )
    if isinstance(error, httpx.RemoteProtocolError):
        return NoAnswer(
            f"what came back is not HTTP, or was cut off: {said}",
            f"Look whether host and port are right, and whether a firewall between you ends connections.{perhaps}",
        )
    return NoAnswer(
        f"the connection failed: {said}",
        f"Try again; if it stays so, ask your network's people and the operator whether something cuts connections.{perhaps}",
    )
