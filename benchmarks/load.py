"""An HTTP client that costs little, so that what it measures is the server: keep-alive connections, nothing else.

It runs on the machine of the server and takes its share of the cores: some 30 µs a request, which is the same for every
server that is measured, floors and peers included.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

import httptools

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

TAXII = "application/taxii+json;version=2.1"


@dataclass(slots=True)
class Answer:
    """What came back."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Target:
    """A server: `http://host:port` and what every request carries."""

    url: str
    headers: tuple[tuple[str, str], ...] = ()

    def as_(self, authorization: str) -> Target:
        """The same server for somebody else."""
        return Target(self.url, (*self.headers, ("Authorization", authorization)))

    def get(self, path: str) -> bytes:
        """Write a GET."""
        return self._request("GET", path)

    def post(self, path: str, body: bytes, media_type: str = TAXII) -> bytes:
        """Write a POST."""
        return self._request("POST", path, (("Content-Type", media_type), ("Content-Length", str(len(body))))) + body

    def request(self, method: str, path: str) -> bytes:
        """Write any request without a body."""
        return self._request(method, path)

    def _request(self, method: str, path: str, more: tuple[tuple[str, str], ...] = ()) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {urlsplit(self.url).netloc}", f"Accept: {TAXII}"]
        lines += [f"{name}: {value}" for name, value in (*self.headers, *more)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Connection:
    """One connection, one request at a time; a server that closes after an answer, as it says, is connected to again."""

    def __init__(self, url: str) -> None:
        """Connect when the first request comes."""
        place = urlsplit(url)
        self._host, self._port = place.hostname or "", place.port or 80
        self._line: _Line | None = None

    async def ask(self, request: bytes) -> Answer:
        """Send a request and wait for its answer.

        Raises:
            ConnectionError: if the server closed instead of answering.
        """
        if self._line is None or self._line.over:
            loop = asyncio.get_running_loop()
            _, self._line = await loop.create_connection(_Line, self._host, self._port)
        return await self._line.ask(request)

    def close(self) -> None:
        """Let go of it."""
        if self._line is not None:
            self._line.close()


class _Line(asyncio.Protocol):
    def __init__(self) -> None:
        self.over = False
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Answer] | None = None
        self._answer = Answer()
        self._parts: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    async def ask(self, request: bytes) -> Answer:
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionResetError("closed by the server"))

    def on_message_begin(self) -> None:
        self._answer, self._parts = Answer(), []

    def on_header(self, name: bytes, value: bytes) -> None:
        self._answer.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        answer, waiting = self._answer, self._waiting
        self.over = self.over or not self._parser.should_keep_alive()
        answer.status = self._parser.get_status_code()
        answer.body = b"".join(self._parts)
        self._parts = []
        # the server may have answered before it read everything, and close
        if waiting is not None and not waiting.done():
            waiting.set_result(answer)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """Lend a connection."""
    connection = Connection(url)
    try:
        yield connection
    finally:
        connection.close()


@dataclass(slots=True)
class Times:
    """How long requests took, in seconds, and how long all took together."""

    each: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.each) / self.seconds

    def add(self, more: Times) -> None:
        """Have those of another turn as well."""
        self.each += more.each
        self.seconds += more.seconds

    def percentile(self, share: float) -> float:
        """Give the time that this share of the requests stayed below, in seconds."""
        return sorted(self.each)[min(len(self.each) - 1, int(share * len(self.each)))]


async def repeat(
    targets: list[tuple[str, bytes]], seconds: float, good: Callable[[Answer], bool], warm: float = 0.5
) -> Times:
    """Let each of `targets`, a server's URL and a request, be asked over a connection of its own, again and again.

    Raises:
        AssertionError: if an answer isn't good.
    """
    times = Times()
    loop = asyncio.get_running_loop()
    begin = loop.time() + warm

    async def one(url: str, request: bytes) -> None:
        async with connected(url) as connection:
            while (begun := time.perf_counter()) and loop.time() < begin + seconds:
                answer = await connection.ask(request)
                assert good(answer), (answer.status, answer.headers, answer.body[:500])
                if loop.time() >= begin:
                    times.each.append(time.perf_counter() - begun)

    await asyncio.gather(*(one(url, request) for url, request in targets))
    times.seconds = loop.time() - begin
    return times


async def timed(work: Callable[[], Awaitable[None]]) -> float:
    """Give the seconds that `work` takes."""
    begun = time.perf_counter()
    await work()
    return time.perf_counter() - begun
