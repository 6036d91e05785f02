"""Hot statements walk their indexes whatever Postgres believes a table to hold: nothing, a hundred rows, or what was there."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text

from taxii_server.domain.access import Erasable, Policy, Readable, Validation, Writable
from taxii_server.domain.tlp import Level
from taxii_server.storage import clocks, object_pages, object_writes, removals, stored_versions
from taxii_server.storage.engine import Database
from taxii_server.storage.object_pages import Bounds
from tests.storage.feeds import body_of, columns
from tests.storage.plans import BIG, fill, prepare, prepared_plan, scans_of, sent
from tests.storage.test_plans import ID, KEY, LATE, PAGES, UNIQUE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from taxii_server.domain.access import Proof
    from taxii_server.domain.filters import Filter
    from taxii_server.storage.embedded import DatabaseUrls
    from taxii_server.storage.engine import Connection
    from tests.storage.plans import Scan

    Act = Callable[[Connection], Awaitable[object]]
    Asked = dict[str, tuple[Proof, Act, set[str]]]

pytestmark = pytest.mark.anyio

VERSIONS: Final = 8_000
LIMIT: Final = 10
MIDDLE: Final = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(seconds=VERSIONS // 2)


class _Undo(Exception):
    pass


def reading(want: Filter) -> Act:
    """Read a page, from the middle on if from somewhere."""
    want = want if want.added_after is None else replace(want, added_after=MIDDLE)

    async def act(connection: Connection) -> None:
        await object_pages.page(connection, Readable(BIG, Level.AMBER), want, None, Bounds(LIMIT, 10_000_000))

    return act


async def add(connection: Connection) -> None:
    """Add a version of an object that is there, and another object."""
    target = Writable(BIG, 1, 1, Level.RED, Policy(Validation.STRUCTURAL))
    clock = await clocks.lock_clock(connection, BIG)
    incoming = [(one, body_of(one)) for one in (columns(ID, 86_400 * 900), columns("tool--1", 1))]
    await object_writes.add(connection, target, clock, uuid4(), incoming)


async def remove(connection: Connection) -> None:
    """Remove what there is of an object, but for its first version."""
    stored = await stored_versions.of_objects(connection, BIG, [ID])
    await removals.remove(connection, BIG, stored[:1], reason="delete", member=1, client=1)


ACTS: Final[Asked] = {
    **{
        f"page of {name}": (Readable(BIG, Level.AMBER), reading(want), walked) for name, (want, walked) in PAGES.items()
    },
    "addition": (Writable(BIG, 1, 1, Level.RED, Policy(Validation.STRUCTURAL)), add, {UNIQUE, KEY}),
    "removal": (Erasable(BIG, 1, 1, Level.RED), remove, {UNIQUE, KEY}),
}


class Kept:
    """One connection, with the statements that it prepared."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.prepared: set[str] = set()
        # the driver forgets now and then what a connection has prepared, after many transactions that were taken back
        self.forgotten = 0

    async def scans(self, where: Proof, act: Act) -> list[Scan]:
        """Tell how something goes through the versions."""
        return [one for plan in await self.plans(where, act) for one in scans_of(plan, "object_versions")]

    async def plans(self, where: Proof | None, act: Act) -> list[list[Mapping[str, Any]]]:
        """Do something, and do its statements again as prepared when they were met first; take all of it back."""
        found: list[list[Mapping[str, Any]]] = []
        opened = self.database.read if isinstance(where, Readable) else self.database.write
        with suppress(_Undo):
            async with opened(where) as connection:
                with sent(self.database) as collected:
                    await act(connection)
                raise _Undo
        for statement, values in collected:
            with suppress(_Undo):
                async with opened(where) as connection:
                    name = f"seen {hash(statement)}"
                    query = text("SELECT FROM pg_prepared_statements WHERE name = :name")
                    if not (await connection.execute(query, {"name": name})).all():
                        self.forgotten += name in self.prepared
                        await prepare(connection, name, statement)
                        self.prepared.add(name)
                    found.append(await prepared_plan(connection, name, statement, values))
                    raise _Undo
        return found


@pytest.fixture(params=[0, 100])
async def kept(fresh_database_urls: DatabaseUrls, request: pytest.FixtureRequest) -> AsyncIterator[Kept]:
    """A connection whose plans are of a table that held nothing, or a hundred rows that were counted; it holds thousands now."""
    known = request.param
    fill(fresh_database_urls.owner, known, analyze=False)
    database = Database(fresh_database_urls.server, connections=1)
    try:
        with psycopg.connect(fresh_database_urls.owner.replace("+psycopg", ""), autocommit=True) as owner:
            if known:
                owner.execute("ANALYZE")
            one = Kept(database)
            for where, act, _ in ACTS.values():
                await one.scans(where, act)
            fill(fresh_database_urls.owner, VERSIONS, analyze=False)
            yield one
    finally:
        await database.close()


async def test_plans_do_not_depend_on_statistics(kept: Kept, fresh_database_urls: DatabaseUrls) -> None:
    """What is loaded is served at once as it is once Postgres has counted it; nor does a deletion spoil a plan.

    A connection keeps its plans, and a feed may be loaded long before anybody counts it.
    """
    for beforehand in (None, "DELETE FROM object_versions WHERE date_added < '2024-01-01 02:00Z'", "ANALYZE"):
        if beforehand is not None:
            with psycopg.connect(fresh_database_urls.owner.replace("+psycopg", ""), autocommit=True) as owner:
                owner.execute(beforehand.encode())
        for name, (where, act, indexes) in ACTS.items():
            found = await kept.scans(where, act)

            assert {one.index for one in found} <= indexes | {LATE}, (name, beforehand)
            assert sum(one.rows for one in found) <= 20 * LIMIT, (name, beforehand, found)
    assert kept.forgotten == 0
