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
from sqlalchemy import text

from taxii_server.storage import clocks
from tests.taxii.alliance import Exchange, exchange_on
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
    async with exchange_on(fresh_database_urls, database_connections=16) as running:
        yield running


def storm(exchange: Exchange, http: httpx.AsyncClient | None = None, **how: int) -> Storm:
    """Prepare four writers of two members and four pollers at one collection."""
    return Storm(
        http or exchange.http,
        exchange.path(name="fraud-intel/scratch"),
        lambda number: exchange.as_(WRITERS[number % 2]),
        **how,
    )


async def test_pollers_get_every_version_once_under_concurrent_writers(fresh_exchange: Exchange) -> None:
    """§3.5: by `next` and by `added_after` alone, none missed, none twice, with match[version]=all."""
    outcome = await storm(fresh_exchange, envelopes=45).blow()

    assert outcome.failed == []
    assert len(outcome.acknowledged) > 2000
    assert (outcome.missed, outcome.repeated) == (0, 0)


async def test_without_the_clocks_lock_pollers_would_miss_versions(
    fresh_exchange: Exchange,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The lock is what holds the promise: the same storm without it loses versions or breaks writers."""
    unlocked = text(re.sub(r"FOR NO KEY UPDATE", "", clocks.LOCK.text))
    assert unlocked.text != clocks.LOCK.text
    monkeypatch.setattr(clocks, "LOCK", unlocked)

    for seed in range(5):
        outcome = await storm(fresh_exchange, seed=seed).blow()
        if outcome.missed or outcome.failed:
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
            outcome = await storm(fresh_exchange, http, envelopes=60).blow()
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
