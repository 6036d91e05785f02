"""Statements of a write that wait for the next one: in order, in its transaction, and nobody else's."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.errors import DivisionByZero
from sqlalchemy import text

from taxii_server.domain.access import Erasable
from taxii_server.domain.errors import DatabaseGone
from taxii_server.domain.tlp import Level
from taxii_server.storage.engine import Database
from taxii_server.storage.hot import Statement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls
    from taxii_server.storage.engine import Connection

pytestmark = pytest.mark.anyio

NOTE: Final = Statement("INSERT INTO held_notes (place, said) VALUES (CAST(:place AS integer), CAST(:said AS text))")
QUOTIENT: Final = Statement("SELECT 1 / CAST(:number AS integer)", "quotient")
NOTED: Final = text("SELECT place FROM held_notes ORDER BY number")
WHERE: Final = Erasable(uuid4(), 7, 8, Level.GREEN)


@pytest.fixture(scope="module")
def notes(module_database_urls: DatabaseUrls) -> str:
    """A table that remembers in what order it was written to."""
    url = module_database_urls.owner.replace("+psycopg", "")
    with psycopg.connect(url, autocommit=True) as owner:
        owner.execute("CREATE TABLE held_notes (number serial, place integer, said text)")
        owner.execute("GRANT ALL ON held_notes, held_notes_number_seq TO PUBLIC")
    return url


@pytest.fixture
async def single(notes: str, module_database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A database that lends one connection: what is left on it is the next one's."""
    with psycopg.connect(notes, autocommit=True) as owner:
        owner.execute("TRUNCATE held_notes")
    made = Database(module_database_urls.server, connections=3)
    yield made
    await made.close()


def note(connection: Connection, place: int, said: str = "") -> None:
    NOTE.later(connection, {"place": place, "said": said})


async def noted(database: Database) -> list[int]:
    async with database.read() as connection:
        return list((await connection.execute(NOTED)).scalars())


async def test_what_waits_goes_first_whoever_is_next(single: Database) -> None:
    """A statement of SQLAlchemy, one past it, and COMMIT."""
    async with single.write(WHERE) as connection:
        note(connection, 1)
        assert list((await connection.execute(NOTED)).scalars()) == [1]
        note(connection, 2)
        note(connection, 3)
        await QUOTIENT.on(connection, {"number": 1})
        assert list((await connection.execute(NOTED)).scalars()) == [1, 2, 3]
        note(connection, 4)
    assert await noted(single) == [1, 2, 3, 4]


@pytest.mark.parametrize("begun", [True, False])
async def test_the_first_statement_is_in_the_transaction_and_held(single: Database, begun: bool) -> None:
    """BEGIN and what holds the transaction wait as well."""
    asked = text("SELECT pg_current_xact_id(), current_setting('taxii.collection'), current_setting('taxii.member')")
    async with single.write(WHERE) as connection:
        if begun:
            note(connection, 1)
        first = (await connection.execute(asked)).one()
        second = (await connection.execute(asked)).one()
    # statements that are their own transactions have a number each
    assert first == second
    assert (UUID(first[1]), first[2]) == (WHERE.collection_id, "7")


async def test_a_transaction_without_a_statement_is_none_that_fails(single: Database) -> None:
    async with single.write(WHERE):
        pass
    assert await noted(single) == []


@pytest.mark.parametrize("said", ["a\0b", "\ud800"])
async def test_what_can_t_be_sent_is_not_left_for_the_next(single: Database, said: str) -> None:
    async def write() -> None:
        async with single.write(WHERE) as connection:
            note(connection, 1)
            note(connection, 2, said)

    with pytest.raises((psycopg.DataError, UnicodeError)):
        await write()
    assert await noted(single) == []


async def test_what_waits_and_can_t_be_sent_is_not_passed_over(single: Database) -> None:
    """Nothing is stored without what was to be stored before it, and nothing outside of the transaction."""

    async def write() -> None:
        async with single.write(WHERE) as connection:
            note(connection, 1)
            note(connection, 2, "a\0b")
            with suppress(psycopg.DataError):
                await QUOTIENT.on(connection, {"number": 1})
            note(connection, 3)

    with pytest.raises(psycopg.DataError):
        await write()
    assert await noted(single) == []


async def test_who_passes_over_what_can_t_be_sent_is_still_in_the_transaction(single: Database) -> None:
    """It was the first statement, with which BEGIN was to go."""
    async with single.write(WHERE) as connection:
        with suppress(psycopg.DataError):
            await NOTE.on(connection, {"place": 1, "said": "a\0b"})
        first, second = [(await connection.execute(text("SELECT pg_current_xact_id()"))).scalar_one() for _ in range(2)]
    assert first == second


async def test_a_failure_of_what_waits_takes_all_of_it_back(single: Database) -> None:
    async def write() -> None:
        async with single.write(WHERE) as connection:
            note(connection, 1)
            QUOTIENT.later(connection, {"number": 0})
            note(connection, 2)

    with pytest.raises(DivisionByZero):
        await write()
    assert await noted(single) == []


async def test_who_leaves_takes_along_what_waits(single: Database) -> None:
    class _LeaveError(Exception):
        pass

    async def write() -> None:
        async with single.write(WHERE) as connection:
            note(connection, 1)
            raise _LeaveError

    with pytest.raises(_LeaveError):
        await write()
    async with single.write(WHERE) as connection:
        note(connection, 2)
    assert await noted(single) == [2]


@pytest.mark.parametrize("sqlalchemy", [True, False])
async def test_a_connection_that_is_lost_with_what_waits_is_lent_no_more(
    single: Database, module_database_urls: DatabaseUrls, caplog: pytest.LogCaptureFixture, sqlalchemy: bool
) -> None:
    """It is told as the trouble that it is, no rollback is tried on it, and the next one has a connection that works."""

    async def write() -> None:
        async with single.write(WHERE) as connection:
            backend = (await connection.exec_driver_sql("SELECT pg_backend_pid()")).scalar_one()
            with psycopg.connect(module_database_urls.server.replace("+psycopg", ""), autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 10000)", [backend])
            note(connection, 1)
            if sqlalchemy:
                await connection.execute(NOTED)

    with pytest.raises(DatabaseGone):
        await write()
    async with single.write(WHERE) as connection:
        note(connection, 2)
    assert await noted(single) == [2]
    assert not [record for record in caplog.records if record.name.startswith("sqlalchemy")]
