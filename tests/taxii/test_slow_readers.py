"""Whoever takes a page slowly holds the page, and nothing of the database: pages are read whole before their first octet leaves."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Final

import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.taxii.live import Live, live_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

CONNECTIONS: Final = 3
READERS: Final = 8
SCRATCH: Final = "fraud-intel/scratch"


@asynccontextmanager
async def slow_reader(live: Live) -> AsyncIterator[asyncio.StreamReader]:
    """Ask for a page, and take no more of it than is read."""
    line = socket.socket()
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    line.setblocking(False)
    await asyncio.get_running_loop().sock_connect(line, ("127.0.0.1", live.port))
    reader, writer = await asyncio.open_connection(sock=line, limit=4096)
    try:
        writer.write(live.head("GET", live.path(name=SCRATCH) + "?limit=200"))
        yield reader
    finally:
        writer.transport.abort()


def note(number: int) -> dict[str, str]:
    when = "2026-01-05T06:30:00.000Z"
    stix_id = f"x-note--00000000-0000-4000-8000-{number:012}"
    common = {"type": "x-note", "spec_version": "2.1", "id": stix_id, "created": when, "modified": when}
    return common | {"text": "x" * 200_000}


async def test_slow_readers_hold_no_connection_to_the_database(fresh_database_urls: DatabaseUrls) -> None:
    """More of them than there are connections, a kilobyte a second each: polls and pushes are answered as ever."""
    url = make_url(fresh_database_urls.server).set(drivername="postgresql").render_as_string(hide_password=False)
    async with (
        live_server(fresh_database_urls, database_connections=CONNECTIONS) as live,
        await psycopg.AsyncConnection.connect(url, autocommit=True) as own,
        AsyncExitStack() as readers,
    ):
        for number in range(5):
            await live.add(*(note(9 * number + part) for part in range(9)))
        reading = [await readers.enter_async_context(slow_reader(live)) for _ in range(READERS)]
        heads = await asyncio.gather(*(reader.readuntil(b"\r\n\r\n") for reader in reading))
        for _ in range(3):
            # a kilobyte of each: at one a second this takes two hours
            await asyncio.gather(*(reader.readexactly(1024) for reader in reading))
            found = await own.execute(
                "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
                " AND application_name = 'taxii-server'"
            )
            states = {state for (state,) in await found.fetchall()}
            polled = await asyncio.wait_for(
                live.get(live.path(name=SCRATCH), params={"added_after": "2999-01-01T00:00:00Z"}), 10
            )

            assert states == {"idle"}
            assert polled.status_code == 200
        await asyncio.wait_for(live.add(note(999)), 10)
        left = [await asyncio.wait_for(reader.read(1024), 10) for reader in reading]

    assert all(head.startswith(b"HTTP/1.1 200") for head in heads)
    assert all(left)
