"""A database that says nothing: whoever asks it is told so in bounded time, and nothing of it stays behind."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from taxii_server.domain.errors import DatabaseGone
from taxii_server.storage import engine, silence
from taxii_server.storage.engine import DATABASE_FAILURES, Database, take_all_the_time
from tests.taxii.cut_off import Wire, wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

PATIENCE = 0.3
# a machine that does much else at once may need it
_MUCH_LATER = 10


@pytest.fixture
async def laid(database_urls: DatabaseUrls) -> AsyncIterator[Wire]:
    with tempfile.TemporaryDirectory(prefix="taxii-wire-") as folder:
        async with wire(database_urls, Path(folder)) as made:
            yield made


@pytest.fixture
async def database(laid: Wire) -> AsyncIterator[Database]:
    """A pool of one connection, which is open, over a wire that can be frozen."""
    opened = Database(laid.urls.server, connections=1, patience=PATIENCE)
    await ask(opened)
    yield opened
    await opened.close()


async def ask(database: Database, statement: str = "SELECT 1") -> object:
    async with database.statement() as connection:
        return (await connection.execute(text(statement))).scalar()


async def by_statement(database: Database, _: Wire) -> None:
    await ask(database)


async def by_reading(database: Database, _: Wire) -> None:
    async with database.read() as connection:
        await connection.execute(text("SELECT 1"))


async def by_writing(database: Database, _: Wire) -> None:
    async with database.write() as connection:
        await connection.execute(text("SELECT 1"))


async def by_committing(database: Database, wire: Wire) -> None:
    wire.thaw()
    async with database.write() as connection:
        await connection.execute(text("SELECT 1"))
        wire.freeze()


async def by_rolling_back(database: Database, wire: Wire) -> None:
    """What went wrong was no trouble of the database, but now it can't be told to forget what was done."""
    wire.thaw()
    async with database.write() as connection:
        await connection.execute(text("SELECT 1"))
        wire.freeze()
        raise ArithmeticError


@pytest.mark.parametrize("way", [by_statement, by_reading, by_writing, by_committing, by_rolling_back])
async def test_every_way_to_it_has_an_end(
    database: Database, laid: Wire, way: object, caplog: pytest.LogCaptureFixture
) -> None:
    """In the time it was given, counted, without a word from any library; and the next one is served."""
    counted = DATABASE_FAILURES.labels("silent")._value.get()
    laid.freeze()
    begun = time.monotonic()
    with pytest.raises(DatabaseGone):
        await way(database, laid)  # type: ignore[operator]
    assert PATIENCE <= time.monotonic() - begun < _MUCH_LATER
    assert DATABASE_FAILURES.labels("silent")._value.get() == counted + 1
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []

    laid.thaw()
    assert await ask(database) == 1


async def test_who_is_cancelled_while_it_is_silent_waits_for_nothing(laid: Wire) -> None:
    """A request to cancel would take a connection of its own, to a database that doesn't answer."""
    database = Database(laid.urls.server, connections=1, patience=60)
    try:
        laid.freeze_at = b"SELECT 2"
        asking = asyncio.create_task(ask(database, "SELECT 2"))
        async with asyncio.timeout(_MUCH_LATER):
            await laid.frozen.wait()
        begun = time.monotonic()
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()
        # the driver by itself takes five for its request, and five more for the answer
        assert time.monotonic() - begun < 4

        laid.thaw()
        assert await ask(database) == 1
    finally:
        await database.close()


async def test_a_shorter_patience_is_for_that_statement_alone(laid: Wire) -> None:
    """Whoever lends a connection for a quick look waits no longer for it; the next one on it does."""
    database = Database(laid.urls.server, connections=1, patience=20)
    try:
        async with database.statement(patience=PATIENCE) as connection:
            assert (await connection.execute(text("SELECT 1"))).scalar() == 1
        assert await ask(database, f"SELECT 1 FROM pg_sleep({2 * PATIENCE})") == 1  # noqa: S608 - no text from outside
        laid.freeze()
        with pytest.raises(DatabaseGone):
            async with asyncio.timeout(5), database.statement(patience=PATIENCE) as connection:
                await connection.execute(text("SELECT 1"))
    finally:
        await database.close()


async def test_what_may_take_its_time_does(database: Database) -> None:
    """An operator's work on millions of rows is held to no time of ours, nor of Postgres; the next transaction is."""
    async with database.write() as connection:
        await take_all_the_time(connection)
        assert (await connection.execute(text("SHOW statement_timeout"))).scalar() == "0"
        await connection.execute(text(f"SELECT pg_sleep({2 * PATIENCE})"))
    async with database.write() as connection:
        assert (await connection.execute(text("SHOW statement_timeout"))).scalar() == "30s"
    with pytest.raises(DatabaseGone):
        await ask(database, f"SELECT pg_sleep({2 * PATIENCE})")


async def test_postgres_has_the_first_word() -> None:
    """Its own timeout comes before ours, so a statement that takes too long is told from a silent database."""
    assert "statement_timeout=30s" in engine._SESSION
    assert silence.PATIENCE == 35
