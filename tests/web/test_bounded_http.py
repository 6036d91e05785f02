"""What one connection may cost, whoever is at its other side: over real sockets, without credentials."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
import uvicorn

from taxii_server.web.bodies import LEAST_RATE
from taxii_server.web.bounded_http import MOST_OCTETS_BETWEEN_BODIES, BoundedHttp
from taxii_server.web.media_types import TAXII

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.types import Receive, Scope, Send

pytestmark = pytest.mark.anyio

LARGE = 32 * 1024 * 1024
ENOUGH = 4 * MOST_OCTETS_BETWEEN_BODIES


class Impatient(BoundedHttp):
    """The same with short times."""

    head_timeout = 0.4
    stall_timeout = 0.4
    rest_timeout = 0.4


class _Quiet(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the test runner."""
        yield


async def _application(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer at once, with as many octets as the path says; read nothing."""
    body = b"x" * int(scope["path"].strip("/") or 0)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def _serving(protocol: type[BoundedHttp]) -> AsyncIterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        config = uvicorn.Config(
            _application,
            http=protocol,
            lifespan="off",
            log_config=None,
            timeout_graceful_shutdown=1,
            timeout_keep_alive=1,
        )
        server = _Quiet(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield int(listener.getsockname()[1])
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def _connection(
    port: int, limit: int = 65536
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=limit)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _taken(writer: asyncio.StreamWriter) -> int:
    """Send octets until the other side has had enough; give how many it took."""
    sent = 0
    try:
        while sent < LARGE:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536
    except ConnectionError:
        pass
    return sent


@pytest.mark.parametrize(
    "beginning",
    [
        b"GET /",
        b"GET / HTTP/1.1\r\nX-Endless",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Endless: ",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Trailer: ",
    ],
)
async def test_what_the_parser_keeps_is_bounded(beginning: bytes) -> None:
    """A line, a header or a trailer without end is cut off long before it fills the memory."""
    async with _serving(BoundedHttp) as port, _connection(port) as (_, writer):
        writer.write(beginning)

        # what lies in the sockets' buffers counts as taken
        assert await _taken(writer) < ENOUGH + 8 * 1024 * 1024


async def test_a_connection_whose_head_never_comes_is_closed() -> None:
    """Neither silence nor a drip holds a connection."""
    async with _serving(Impatient) as port, asyncio.timeout(10):
        async with _connection(port) as (reader, _):
            assert await reader.read() == b""
        async with _connection(port) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTT")
            answer = await reader.read()
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("drips", [1, 8])
async def test_a_refused_body_that_never_comes_whole_is_cut_off(drips: int) -> None:
    """The answer is there and nobody reads the rest: neither silence nor a drip holds the connection."""
    async with _serving(Impatient) as port, asyncio.timeout(20), _connection(port) as (reader, writer):
        writer.write(b"POST /0 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        dripped = 0
        with suppress(ConnectionError):
            while dripped < drips:
                writer.write(b"x")
                await writer.drain()
                dripped += 1
                await asyncio.sleep(0.1)
            assert await reader.read() == b""


@pytest.mark.slow
async def test_a_refused_body_that_comes_has_its_time() -> None:
    """A client that sends its body to the end before it reads the answer gets it, and the next one on the connection."""
    octets = 12 * LEAST_RATE
    async with _serving(Impatient) as port, asyncio.timeout(20), _connection(port) as (reader, writer):
        writer.write(f"POST /0 HTTP/1.1\r\nHost: x\r\nContent-Length: {octets}\r\n\r\n".encode())
        for _ in range(12):
            writer.write(b"x" * (octets // 12))
            await writer.drain()
            await asyncio.sleep(0.1)
        writer.write(b"GET /0 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).count(b"HTTP/1.1 200") == 2


async def test_a_reader_that_takes_nothing_is_cut_off() -> None:
    """A response that nobody takes doesn't wait in memory for ever."""
    lost = asyncio.Event()

    class Telling(Impatient):
        def connection_lost(self, exc: Exception | None) -> None:
            super().connection_lost(exc)
            lost.set()

    # a small window, so that the response has to wait at the server
    async with (
        _serving(Telling) as port,
        asyncio.timeout(20),
        _connection(port, limit=1) as (reader, writer),
    ):
        writer.write(f"GET /{LARGE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await lost.wait()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(LARGE)


@pytest.mark.slow
async def test_a_slow_reader_that_goes_on_taking_gets_everything() -> None:
    """Slow is not stalled."""
    async with (
        _serving(Impatient) as port,
        asyncio.timeout(60),
        _connection(port, limit=1024 * 1024) as (reader, writer),
    ):
        writer.write(f"GET /{LARGE} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        got = 0
        while got < LARGE:
            got += len(await reader.readexactly(min(4 * 1024 * 1024, LARGE - got)))
            await asyncio.sleep(0.15)


async def test_what_is_no_http_gets_a_taxii_error() -> None:
    """§3.6.1: also what the parser refuses is told in an error resource."""
    async with _serving(BoundedHttp) as port, _connection(port) as (reader, writer):
        writer.write(b"NONSENSE\r\n\r\n")
        answer = await reader.read()

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert TAXII.encode() in answer
    assert b'"http_status": "400"' in answer
