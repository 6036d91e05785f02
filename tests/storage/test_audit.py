"""Acts as rows: the database chains them as the domain says, can only add to them, and a chain never forks."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from psycopg.errors import UniqueViolation
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from taxii_server.domain import audit as domain
from taxii_server.domain.audit import Act, Entry, Written
from taxii_server.domain.audit_chain import Chains
from taxii_server.storage import audit

if TYPE_CHECKING:
    from taxii_server.storage.engine import Connection, Database

pytestmark = pytest.mark.anyio

DETAILS = {"id": "indicator--\N{SNOWMAN}\x00\ud800", "counts": [1, 2.5, None], "nested": {"b": 1, "a": 'say "no"'}}


def some_member() -> str:
    return domain.of_member(f"m{uuid4().hex}")


async def rows(connection: Connection, stream: str) -> list[Written]:
    found = await connection.execute(
        text("SELECT stream, seq, at, act, who, details, digest FROM audit_events WHERE stream = :s ORDER BY seq"),
        {"s": stream},
    )
    return [Written(**row._mapping) for row in found]


async def test_the_database_chains_as_the_domain_says(database: Database) -> None:
    """One rule in two languages, over the very instant that is stored, whatever stands in the details."""
    stream = some_member()
    async with database.write() as connection:
        await audit.lock(connection, stream)
        places = [
            await audit.append(connection, Entry(stream, Act.TOKEN_ISSUED, who, DETAILS | {"number": number}))
            for number, who in enumerate(["operator", "", "n\N{LATIN SMALL LETTER O WITH DIAERESIS}rd/x", "a" * 500])
        ]
    async with database.read() as connection:
        stored = await rows(connection, stream)

    chains = Chains()
    assert [flaw for row in stored for flaw in chains.follow(row)] == []
    assert [(row.seq, row.at, row.digest) for row in stored] == [(one.seq, one.at, one.digest) for one in places]
    assert [row.seq for row in stored] == [1, 2, 3, 4]


async def test_an_act_that_is_taken_back_leaves_nothing(database: Database) -> None:
    """No row without its act: numbers go on without a gap."""
    stream = some_member()

    async def failing() -> None:
        async with database.write() as connection:
            await audit.append_locking(connection, Entry(stream, Act.MEMBER_SUSPENDED, "operator"))
            raise LookupError

    with pytest.raises(LookupError):
        await failing()
    async with database.write() as connection:
        place = await audit.append_locking(connection, Entry(stream, Act.MEMBER_SUSPENDED, "operator"))

    assert place.seq == 1


async def test_whoever_comes_second_waits_and_is_chained_to_the_first(database: Database) -> None:
    """Many at once into one stream: no number twice, none left out, and the chain holds."""
    stream = some_member()

    async def one(number: int) -> None:
        async with database.write() as connection:
            await audit.append_locking(connection, Entry(stream, Act.TOKEN_ISSUED, "operator", {"number": number}))

    await asyncio.gather(*(one(number) for number in range(20)))
    async with database.read() as connection:
        stored = await rows(connection, stream)

    chains = Chains()
    assert [flaw for row in stored for flaw in chains.follow(row)] == []
    assert [row.seq for row in stored] == list(range(1, 21))


async def test_a_chain_never_forks_even_without_the_lock(database: Database) -> None:
    """Two that append to one place at once: one of them fails, with all that it did."""
    stream = some_member()
    entry = Entry(stream, Act.TOKEN_ISSUED, "operator")
    async with database.write() as first:
        await audit.append(first, entry)

        async def second() -> None:
            async with database.write() as connection:
                await audit.append(connection, entry)

        waiting = asyncio.create_task(second())
        while not await _somebody_waits(first):  # noqa: ASYNC110 - only the database knows
            await asyncio.sleep(0.01)
    with pytest.raises(UniqueViolation):
        await waiting


async def _somebody_waits(connection: Connection) -> bool:
    waits = text(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid)))"
    )
    return bool((await connection.execute(waits)).scalar_one())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_events SET who = 'nobody'",
        "DELETE FROM audit_events",
        "TRUNCATE audit_events",
        "UPDATE audit_heads SET signed = ''",
        "DELETE FROM audit_heads",
        "TRUNCATE audit_heads",
        "ALTER TABLE audit_events DISABLE TRIGGER ALL",
        "DROP TABLE audit_heads",
    ],
)
async def test_the_server_can_only_add(database: Database, statement: str) -> None:
    """Whoever takes over the server can write lies after the truth, but not in its place."""
    with pytest.raises(ProgrammingError, match=r"permission denied|must be owner"):
        async with database.write() as connection:
            await connection.execute(text(statement))
