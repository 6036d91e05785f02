"""Hot statements walk the indexes that they were written for, with the row-level policies on, at a size where it shows."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import psycopg
import pytest
from sqlalchemy import text

from taxii_server.domain.access import Erasable, Policy, Readable, Validation, Whole, Writable
from taxii_server.domain.filters import ALL_VERSIONS, Exactly, Filter, Keyword
from taxii_server.domain.tlp import Level
from taxii_server.storage import clocks, levels, maintenance, object_pages, object_writes, removals, stored_versions
from taxii_server.storage.engine import Database
from taxii_server.storage.object_pages import Bounds
from tests.storage.feeds import body_of, columns
from tests.storage.plans import BIG, fill, scans, sent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from taxii_server.domain.access import Proof
    from taxii_server.storage.embedded import DatabaseUrls
    from taxii_server.storage.engine import Connection

    Act = Callable[[Connection], Awaitable[object]]
    Sent = tuple[str, Mapping[str, Any]]

pytestmark = pytest.mark.anyio

VERSIONS: Final = 200_000
LIMIT: Final = 100
ID: Final = f"malware--{UUID('aab32389-22bc-c25a-6f60-6eb525ffdc56')}"
MIDDLE: Final = datetime(2024, 1, 2, tzinfo=UTC)
EXACT: Final = Exactly(datetime(2020, 1, 2, tzinfo=UTC))

KEY: Final = "pk_object_versions"
UNIQUE: Final = "uq_object_versions_collection_id_stix_id_form_version_at"
LATE: Final = "ix_object_versions_lateness"
OLDER: Final = "ix_object_versions_older"
LATEST: Final = "ix_object_versions_latest"
LATEST_OF_TYPE: Final = "ix_object_versions_latest_of_type"
NEWEST_FORM: Final = "ix_object_versions_newest_form"
NEWEST_FORM_OF_TYPE: Final = "ix_object_versions_newest_form_of_type"

TYPES: Final = ("malware", "identity")
PAGES: Final = {
    "the default view": (Filter(MIDDLE), {LATEST, LATE}),
    "the default view from the beginning": (Filter(), {LATEST}),
    "some types": (Filter(MIDDLE, types=TYPES), {LATEST_OF_TYPE, LATE}),
    "every version": (Filter(MIDDLE, versions=ALL_VERSIONS), {NEWEST_FORM, LATE}),
    "every version of some types": (
        Filter(MIDDLE, types=TYPES, versions=ALL_VERSIONS),
        {NEWEST_FORM_OF_TYPE, LATE},
    ),
    "both forms": (Filter(MIDDLE, versions=ALL_VERSIONS, forms=(20, 21)), {KEY, OLDER}),
    "the older form": (Filter(MIDDLE, forms=(20,)), {OLDER, UNIQUE}),
    "first and exact versions": (Filter(MIDDLE, versions=(Keyword.FIRST, EXACT)), {KEY, OLDER, UNIQUE}),
    "one object": (Filter(ids=(ID,)), {UNIQUE, KEY}),
    "some objects": (Filter(ids=(ID, "tool--1", "tool--2"), versions=ALL_VERSIONS), {UNIQUE, KEY}),
}
"""What is asked for, and the indexes that serve it."""


class _Undo(Exception):
    pass


@pytest.fixture(scope="module")
async def big(module_database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A collection of a few hundred thousand versions, and a smaller one beside it."""
    fill(module_database_urls.owner, VERSIONS)
    database = Database(module_database_urls.server, connections=4)
    yield database
    await database.close()


async def statements_of(database: Database, where: Proof, act: Act) -> list[Sent]:
    """Do something, keep what was sent, and take it back."""
    with suppress(_Undo):
        async with database.write(where) as connection:
            with sent(database) as collected:
                await act(connection)
            raise _Undo
    return collected


async def hold(database: Database, where: Proof, act: Act, indexes: set[str | None], most: int) -> None:
    """Hold each statement of an act to these indexes and so many rows, planned for its values and for any."""
    collected = await statements_of(database, where, act)
    assert collected
    for generic in (False, True):
        walked: set[str | None] = set()
        for statement, values in collected:
            with suppress(_Undo):
                async with database.write(where) as connection:
                    found = await scans(connection, statement, values, generic=generic)
                    assert sum(one.rows for one in found) <= most, (statement, found)
                    walked |= {one.index for one in found}
                    raise _Undo

        # planned for its values, what they rule out is left out
        assert walked == indexes if generic else walked <= indexes


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("asked", PAGES)
async def test_a_page_walks_its_indexes(big: Database, asked: str) -> None:
    """At 200,000 versions it reads some multiple of what a page holds, under a policy as without one."""
    want, indexes = PAGES[asked]
    where = Readable(BIG, Level.AMBER)

    async def act(connection: Connection) -> None:
        page = await object_pages.page(connection, where, want, None, Bounds(LIMIT, 10_000_000))
        assert page.dates

    await hold(big, where, act, set(indexes), 20 * LIMIT)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_an_addition_walks_its_indexes(big: Database) -> None:
    """What is stored of the objects by the unique key; kept levels by the primary key."""
    target = Writable(BIG, 1, 1, Level.RED, Policy(Validation.STRUCTURAL))
    incoming = [(one, body_of(one)) for one in (columns(ID, 86_400 * 900), columns("tool--1", 1))]

    async def act(connection: Connection) -> None:
        clock = await clocks.lock_clock(connection, BIG)
        await object_writes.add(connection, target, clock, uuid4(), incoming)

    await hold(big, target, act, {UNIQUE, KEY}, 10)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_removal_walks_its_indexes(big: Database) -> None:
    """Found by the unique key, removed by the primary key."""

    async def act(connection: Connection) -> None:
        stored = await stored_versions.of_objects(connection, BIG, [ID])
        await removals.remove(connection, BIG, stored[:1], reason="delete", member=1, client=1)

    await hold(big, Erasable(BIG, 1, 1, Level.RED), act, {UNIQUE, KEY}, 10)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_upkeep_walks_its_indexes(big: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retention and the clock's check read one end of the primary key; levels go along it stretch by stretch."""
    where = Whole(BIG)

    async def expire(connection: Connection) -> None:
        await stored_versions.added_before(connection, BIG, MIDDLE, LIMIT)

    async def look(connection: Connection) -> None:
        await maintenance.clock(connection, BIG)

    async def stretch(connection: Connection) -> None:
        monkeypatch.setattr(levels, "ROWS", LIMIT)
        # one stretch: the first
        async for after, until in levels._stretches(connection, BIG):
            asked: dict[str, object] = {"collection": BIG, "after": after, "until": until, "exempt": []}
            await connection.execute(levels.COUNT, asked)
            await connection.execute(levels.RELEVEL, asked | {"level": 3})
            break

    for act in (expire, look, stretch):
        await hold(big, where, act, {KEY}, 2 * LIMIT)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_a_statement_that_forgets_still_walks_its_collection_only(big: Database) -> None:
    """The policy's own condition is one an index serves: even then nothing of the other collection is read."""

    async def act(connection: Connection) -> None:
        await connection.execute(text("SELECT date_added FROM object_versions ORDER BY date_added LIMIT 10"))

    await hold(big, Readable(BIG, Level.RED), act, {KEY}, 10)


def test_operators_of_policies_and_hot_statements_are_leakproof(database_urls: DatabaseUrls) -> None:
    """Postgres may use a condition for an index under a policy only if its operator tells nothing of rows held back."""
    operators = [
        *(("uuid", "=", "uuid"), ("text", "=", "text")),
        *(("timestamptz", one, "timestamptz") for one in ("=", "<", "<=", ">", ">=")),
        *(("int2", one, kind) for one in ("=", "<=", ">", "<", "<>") for kind in ("int2", "int4")),
    ]
    with psycopg.connect(database_urls.server.replace("+psycopg", "")) as connection:
        leaky = [
            operator
            for operator in operators
            if connection.execute(
                "SELECT proleakproof FROM pg_operator JOIN pg_proc ON pg_proc.oid = oprcode"
                " WHERE oprleft = %s::regtype AND oprname = %s AND oprright = %s::regtype",
                operator,
            ).fetchone()
            != (True,)
        ]

    assert leaky == []
