r"""The application behind a real uvicorn on a real port: for what can't be seen over ASGI.

async with live_server(urls) as live:
    await live.get("/taxii2/")                      # as with every Exchange, but over TCP
    answer = await live.raw(b"GET / HTTP/1.0\\r\\n\\r\\n")   # octets out, octets in
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import uvicorn

from taxii_server.web.bounded_http import BoundedHttp
from tests.taxii.alliance import Exchange, exchange_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from fastapi import FastAPI

    from taxii_server.storage.embedded import DatabaseUrls


@dataclass
class Live(Exchange):
    """An exchange that is reached over TCP."""

    port: int = 0

    @property
    def base_url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def head(
        self, method: str, path: str, member: str | None = "north", *, version: str = "1.1", **headers: str
    ) -> bytes:
        """The head of a request, to be sent raw."""
        given = {"Host": "127.0.0.1"} | ({} if member is None else self.as_(member))
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = [f"{method} {path} HTTP/{version}", *(f"{name}: {value}" for name, value in given.items()), "", ""]
        return "\r\n".join(lines).encode()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """A connection of one's own; it is cut, not closed in order, on leaving."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def raw(self, *octets: bytes) -> httpx.Response:
        """Send octets over a connection of their own; give the one answer."""
        async with self.connection() as (reader, writer):
            for some in octets:
                writer.write(some)
                await writer.drain()
            return await read_answer(reader)


async def read_answer(reader: asyncio.StreamReader) -> httpx.Response:
    """Read one answer off a connection."""
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.rstrip().split("\r\n")
        headers = [(name, value.strip()) for name, _, value in (line.partition(":") for line in lines)]
        length = int({name.lower(): value for name, value in headers}.get("content-length", 0))
        return httpx.Response(int(first.split()[1]), headers=headers, content=await reader.readexactly(length))


@asynccontextmanager
async def live_server(urls: DatabaseUrls, **over: Any) -> AsyncIterator[Live]:
    """Run the application on an empty database, with the alliance in it, behind uvicorn as `serve` sets it up.

    The URLs it advertises are those of the port it listens on: clients follow them.
    """
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        port: int = listener.getsockname()[1]
        async with exchange_on(urls, **{"public_url": f"http://127.0.0.1:{port}"} | over) as exchange:
            base_url = f"http://127.0.0.1:{port}"
            async with behind_uvicorn(exchange.app, listener), httpx.AsyncClient(base_url=base_url, timeout=60) as http:
                yield Live(exchange.app, http, exchange.alliance, exchange.clients, port)


@asynccontextmanager
async def behind_uvicorn(app: FastAPI, listener: socket.socket) -> AsyncIterator[None]:
    """Serve an application, whose lifespan runs already, on a socket that listens."""
    server = _Quiet(
        uvicorn.Config(
            app,
            http=BoundedHttp,
            lifespan="off",
            access_log=False,
            server_header=False,
            log_config=None,
            proxy_headers=False,
            # as `serve` has it, too: the default is as long as httpx keeps a connection, which on a busy machine then
            # sends on one that is just being closed
            timeout_keep_alive=75,
            timeout_graceful_shutdown=5,
        ),
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield
    finally:
        server.should_exit = True
        await serving


class _Quiet(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the test runner."""
        yield
