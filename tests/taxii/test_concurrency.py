"""No poll misses a version and none gets it twice, whatever the number of writers (promise 1)."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from asyncio.subprocess import DEVNULL
from typing import TYPE_CHECKING

import httpx
import pytest

from taxii_server.app import create_app
from taxii_server.storage import clocks
from taxii_server.storage.hot import Statement
from tests.factories import indicator
from tests.taxii.alliance import PUBLIC_URL, Exchange, exchange_on, settings_for
from tests.taxii.storm import Storm

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

WRITERS = ("north", "harbour")


@pytest.fixture
async def fresh_exchange(fresh_database_urls: DatabaseUrls) -> AsyncIterator[Exchange]:
    """An alliance of its own: these tests really commit."""
    async with exchange_on(fresh_database_urls) as running:
        yield running


@pytest.fixture
async def nodes(fresh_exchange: Exchange, fresh_database_urls: DatabaseUrls) -> AsyncIterator[list[httpx.AsyncClient]]:
    """Two applications on one database: what holds between them can only be the database's doing."""
    app = create_app(settings_for(fresh_database_urls))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as other,
    ):
        yield [fresh_exchange.http, other]


def storm(exchange: Exchange, nodes: list[httpx.AsyncClient], **how: int) -> Storm:
    """Prepare four writers of two members and four pollers at one collection."""
    return Storm(
        nodes,
        exchange.path(name="fraud-intel/scratch"),
        lambda number: exchange.as_(WRITERS[number % 2]),
        **how,
    )


async def test_pollers_get_every_version_once_under_concurrent_writers(
    fresh_exchange: Exchange,
    nodes: list[httpx.AsyncClient],
) -> None:
    """§3.5: by `next` and by `added_after` alone, none missed, none twice, with match[version]=all."""
    outcome = await storm(fresh_exchange, nodes, envelopes=20).blow()

    assert outcome.failed == []
    assert len(outcome.acknowledged) > 1000
    assert (outcome.missed, outcome.repeated) == (0, 0)


@pytest.mark.slow
async def test_without_the_clocks_lock_pollers_would_miss_versions(
    fresh_exchange: Exchange,
    nodes: list[httpx.AsyncClient],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lock is what holds the promise: in the same storm without it, pollers miss versions for good."""
    unlocked = Statement(re.sub(r"FOR NO KEY UPDATE", "", clocks.LOCK.text), " ".join(clocks.LOCK.columns))
    assert unlocked.text != clocks.LOCK.text
    monkeypatch.setattr(clocks, "LOCK", unlocked)

    for seed in range(5):
        outcome = await storm(fresh_exchange, nodes, seed=seed).blow()
        if outcome.missed:
            return

    pytest.fail("five storms without the lock lost nothing: the test above would not notice a loss")


@pytest.mark.slow
async def test_the_same_holds_with_several_workers(
    fresh_exchange: Exchange,
    fresh_database_urls: DatabaseUrls,
    tmp_path: Path,
) -> None:
    """Two worker processes behind one port keep the promise, because the lock is the database's."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "PATH": "/usr/bin:/bin",
        "TAXII_DATABASE_URL": fresh_database_urls.server,
        "TAXII_SECRET_KEY": "k" * 32,
        "TAXII_METRICS_PORT": "0",
        "TAXII_DATA_DIR": str(tmp_path),
    }
    command = [sys.executable, "-m", "taxii_server.cli", "serve", "--port", str(port), "--workers", "2"]
    server = await asyncio.create_subprocess_exec(*command, env=environment, stderr=DEVNULL, stdout=DEVNULL)
    try:
        limits = httpx.Limits(max_keepalive_connections=0)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, limits=limits) as http:
            await _until_ready(http)
            outcome = await storm(fresh_exchange, [http], envelopes=60).blow()
    finally:
        server.terminate()
        await asyncio.wait_for(server.wait(), 30)

    assert outcome.failed == []
    assert len(outcome.acknowledged) > 2500
    assert (outcome.missed, outcome.repeated) == (0, 0)


async def _until_ready(http: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if (await http.get("/readyz")).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.2)


async def test_writers_that_wait_for_one_collection_leave_room_for_everybody_else(fresh_exchange: Exchange) -> None:
    """A collection whose clock is held stops neither polls of it, nor writes to others, nor the readiness probe."""
    holder = fresh_exchange.alliance.connection
    with holder.transaction():
        fresh_exchange.alliance.execute(
            "SELECT FROM collection_clocks WHERE collection_id = %s FOR NO KEY UPDATE",
            fresh_exchange.collection_id("fraud-intel/scratch"),
        )
        pushes = [
            asyncio.create_task(fresh_exchange.post({"objects": [indicator()]}, name="fraud-intel/scratch"))
            for _ in range(20)
        ]
        async with asyncio.timeout(10):
            await asyncio.wait(pushes, timeout=0.5)
            for path in ("/readyz", fresh_exchange.path(name="fraud-intel/scratch"), fresh_exchange.path()):
                assert (await fresh_exchange.get(path)).status_code == 200
            assert (await fresh_exchange.post({"objects": [indicator()]})).status_code == 202
        assert not any(push.done() for push in pushes)

    assert {answer.status_code for answer in await asyncio.gather(*pushes)} == {202}
