"""Row-level policies hold a transaction to what it was opened for, whatever its statements forget."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from sqlalchemy import func, insert, select, text, update
from sqlalchemy.exc import DataError, IntegrityError, ProgrammingError

from taxii_server.domain.access import Submissions
from taxii_server.domain.filters import Filter
from taxii_server.domain.tlp import Level
from taxii_server.storage import bounds, object_pages, tables
from taxii_server.storage.engine import Database
from taxii_server.storage.object_pages import Bounds
from taxii_server.storage.tables import deleted_versions, object_versions, statuses
from tests.storage.feeds import Feed, columns, stix_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy import Table

    from taxii_server.domain.access import Proof
    from taxii_server.storage.embedded import DatabaseUrls
    from taxii_server.storage.engine import Connection

pytestmark = pytest.mark.anyio

OTHER_MEMBER = 2
REFUSED = "violates row-level security policy"


@pytest.fixture
async def one_connection(database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A pool of a single connection: what one transaction left on it, the next would find."""
    opened = Database(database_urls.server, connections=1)
    yield opened
    await opened.close()


@pytest.fixture
async def feeds(one_connection: Database) -> list[Feed]:
    """Two collections, each with a version of each level, one more that was removed, and a status of each member."""
    made = [await Feed(one_connection).create() for _ in range(2)]
    for feed in made:
        await feed.add([columns(stix_id(level), 1, level=Level(level)) for level in range(5)])
        await feed.add([columns(stix_id(9), 1, level=Level.RED)])
        await feed.remove({max(feed.live)})
        for member in (1, OTHER_MEMBER):
            async with one_connection.write(Submissions(member)) as connection:
                await connection.execute(insert(statuses).values(**a_status(feed, member)))
    return made


def a_status(feed: Feed, member: int) -> dict[str, object]:
    counts = dict.fromkeys(("total_count", "success_count", "failure_count"), 0)
    lists = {"successes": "[]", "failures": "[]"}
    at = datetime(2026, 1, 1, tzinfo=UTC)
    place = {"trust_group_id": uuid4(), "collection_id": feed.collection_id}
    return {"id": uuid4(), "member": member, "client": 1, "requested_at": at, **place, **counts, **lists}


def a_version(collection_id: UUID, level: int = 0) -> dict[str, object]:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    names = {"stix_id": stix_id(50), "version": "v", "stix_type": "indicator", "digest": b"", "body": "{}"}
    numbers = {"form": 21, "body_bytes": 2, "superseded_level": 5, "newer_form_level": 5, "member": 1}
    place = {"collection_id": collection_id, "date_added": at, "version_at": at, "status_id": uuid4()}
    return {**place, **names, **numbers, "level": level, "marked": True}


async def seen(connection: Connection, table: Table) -> set[tuple[UUID, int]]:
    """Ask for everything, without any condition; give the collection and level of what comes."""
    return {(row.collection_id, row.level) for row in await connection.execute(select(table))}


async def test_a_page_s_transaction_sees_one_collection_up_to_a_clearance(
    one_connection: Database, feeds: list[Feed]
) -> None:
    """Without a condition in the statement: nothing of another collection, nothing above the clearance."""
    for feed in feeds:
        for clearance in Level:
            async with one_connection.read(feed.readable(clearance)) as connection:
                assert await seen(connection, object_versions) == {
                    (feed.collection_id, level) for level in range(clearance + 1)
                }
                removed = {(feed.collection_id, 4)} if clearance is Level.RED else set()
                assert await seen(connection, deleted_versions) == removed


async def test_writers_and_upkeep_see_one_collection_whole(one_connection: Database, feeds: list[Feed]) -> None:
    """For them the clearance is no bound: kept levels are worked out from every version."""
    feed = feeds[0]
    for where in (feed.writable(), feed.whole()):
        async with one_connection.write(where) as connection:
            assert await seen(connection, object_versions) == {(feed.collection_id, level) for level in range(5)}


@asynccontextmanager
async def unheld(database: Database, way: str) -> AsyncIterator[Connection]:
    if way == "statement":
        async with database.statement() as connection:
            yield connection
    elif way == "read":
        async with database.read() as connection:
            yield connection
    else:
        async with database.write() as connection:
            yield connection


@pytest.mark.parametrize("way", ["statement", "read", "write"])
@pytest.mark.parametrize("table", [object_versions, deleted_versions, statuses], ids=lambda table: str(table.name))
async def test_held_to_nothing_a_statement_fails(
    one_connection: Database, feeds: list[Feed], way: str, table: Table
) -> None:
    """Who forgets to say what it is about gets an error and no rows, also right after another's transaction."""
    for where in (feeds[0].whole(), Submissions(1)):
        async with one_connection.read(where) as connection:
            await connection.execute(text("SELECT 1"))
        with pytest.raises((DataError, ProgrammingError)):
            async with unheld(one_connection, way) as connection:
                await connection.execute(select(func.count()).select_from(table))


async def test_held_to_nothing_on_a_new_connection_a_statement_fails(
    database_urls: DatabaseUrls, feeds: list[Feed]
) -> None:
    """Nor is there a default that a connection begins with."""
    database = Database(database_urls.server, connections=1)
    with pytest.raises(ProgrammingError, match="taxii"):
        async with database.read() as connection:
            await connection.execute(select(func.count()).select_from(object_versions))
    await database.close()


async def test_a_transaction_that_failed_leaves_nothing_behind(one_connection: Database, feeds: list[Feed]) -> None:
    """Rolled back or broken off, its connection is as bare as any."""
    for fault in (LookupError, GeneratorExit):
        with pytest.raises(fault):  # noqa: PT012 - the whole transaction is what fails
            async with one_connection.write(feeds[0].whole()) as connection:
                await connection.execute(text("SELECT 1"))
                raise fault
        with pytest.raises((DataError, ProgrammingError)):
            async with one_connection.statement() as connection:
                await connection.execute(select(object_versions))


@pytest.mark.parametrize("mode", ["read", "write"])
async def test_a_transaction_that_is_cancelled_leaves_nothing_behind(
    one_connection: Database, feeds: list[Feed], mode: str
) -> None:
    """Wherever it was: at its beginning, in a statement, at its commit. The next one finds a connection that is bare."""

    async def work() -> None:
        async with getattr(one_connection, mode)(feeds[0].whole()) as connection:
            await connection.execute(select(func.count()).select_from(object_versions))
            await connection.execute(text("SELECT pg_sleep(0.002)"))

    for turn in range(10):
        task = asyncio.create_task(work())
        await asyncio.sleep(turn * 0.001)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        async with one_connection.statement() as connection:
            bare = (
                await connection.execute(
                    text(
                        "SELECT coalesce(current_setting('taxii.collection', true), ''),"
                        " coalesce(current_setting('taxii.clearance', true), ''),"
                        " current_setting('transaction_read_only')"
                    )
                )
            ).one()
            with pytest.raises((DataError, ProgrammingError)):
                await connection.execute(select(object_versions))
        assert tuple(bare) == ("", "", "off")


async def test_nothing_is_stored_or_changed_outside(one_connection: Database, feeds: list[Feed]) -> None:
    """Rows of another collection can be neither added nor reached; nor can a version move to another level unseen."""
    mine, other = feeds
    with pytest.raises(ProgrammingError, match=REFUSED):
        async with one_connection.write(mine.writable()) as connection:
            await connection.execute(insert(object_versions).values(a_version(other.collection_id)))
    async with one_connection.write(mine.writable()) as connection:
        moved = await connection.execute(update(object_versions).values(superseded_level=0))
        assert moved.rowcount == 5
        gone = await connection.execute(object_versions.delete().where(object_versions.c.level >= 0))
        assert gone.rowcount == 5
    async with one_connection.read(other.whole()) as connection:
        kept = (await connection.execute(select(object_versions.c.superseded_level))).scalars().all()
        assert kept == [5] * 5


async def test_a_status_is_its_member_s(one_connection: Database, feeds: list[Feed]) -> None:
    """Whatever the statement asks for, statuses of another member don't show, and can't be written or removed."""
    async with one_connection.read(Submissions(1)) as connection:
        assert set((await connection.execute(select(statuses.c.member))).scalars()) == {1}
    async with one_connection.write(Submissions(OTHER_MEMBER)) as connection:
        assert (await connection.execute(statuses.delete().where(statuses.c.member == 1))).rowcount == 0
    with pytest.raises(ProgrammingError, match=REFUSED):
        async with one_connection.write(feeds[0].writable()) as connection:
            await connection.execute(insert(statuses).values(a_status(feeds[0], OTHER_MEMBER)))


async def test_statements_stay_prepared(one_connection: Database, feeds: list[Feed]) -> None:
    """Planning a page takes longer than running it, and longer with a policy: it is planned a few times and no more."""
    feed = feeds[0]
    for _ in range(12):
        async with one_connection.read(feed.readable()) as connection:
            await object_pages.page(connection, feed.readable(), Filter(), None, Bounds(10, 10_000))
    async with one_connection.read() as connection:
        asked = "SELECT sum(generic_plans + custom_plans) FROM pg_prepared_statements WHERE statement LIKE '%walked%'"
        planned = (await connection.execute(text(asked))).scalar_one()

    assert planned is not None
    assert planned >= 6


@pytest.mark.parametrize("where", ["readable", "whole"])
async def test_who_reads_versions_sees_no_status(one_connection: Database, feeds: list[Feed], where: str) -> None:
    """A page's transaction, and upkeep of a collection, have no business with them."""
    held: Proof = getattr(feeds[0], where)()
    with pytest.raises(DataError):
        async with one_connection.read(held) as connection:
            await connection.execute(select(statuses))


async def test_the_operator_s_work_moves_on_deliberately(one_connection: Database, feeds: list[Feed]) -> None:
    """`apply` goes from one collection to the next within one transaction, and is held to each in turn."""
    async with one_connection.write() as connection:
        for feed in feeds:
            await bounds.hold_to(connection, feed.whole())
            assert {collection for collection, _ in await seen(connection, object_versions)} == {feed.collection_id}


async def test_a_collection_is_not_deleted_while_it_holds_something(
    one_connection: Database, feeds: list[Feed]
) -> None:
    """The foreign key looks past the policies: out of sight is not out of the way."""
    mine, other = feeds
    clocks, collections = tables.collection_clocks, tables.collections
    async with one_connection.write(mine.whole()) as connection:
        await connection.execute(clocks.delete().where(clocks.c.collection_id == other.collection_id))
        with pytest.raises(IntegrityError, match="violates foreign key constraint"):
            await connection.execute(collections.delete().where(collections.c.id == other.collection_id))
        await connection.rollback()
