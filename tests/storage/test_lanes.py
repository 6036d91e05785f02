"""Lanes: requests that follow each other on one connection, each with its own rows, its own transaction and its own failure."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.errors import DivisionByZero, InvalidTextRepresentation, ReadOnlySqlTransaction, UniqueViolation

from taxii_server.domain.access import Readable
from taxii_server.domain.errors import DatabaseGone
from taxii_server.domain.tlp import Level
from taxii_server.storage import lanes
from taxii_server.storage.bounds import held_to
from taxii_server.storage.engine import DATABASE_FAILURES, Database
from taxii_server.storage.hot import Statement
from tests.taxii.cut_off import Wire, wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

ECHO = Statement("SELECT CAST(:number AS bigint) AS number, CAST(:text AS text) AS text", "number text")
QUOTIENT = Statement("SELECT 1 / CAST(:number AS integer) AS quotient", "quotient")
SLEEP = Statement("SELECT 1 AS one FROM pg_sleep(CAST(:seconds AS double precision))", "one")
BACKEND = Statement("SELECT pg_backend_pid() AS pid", "pid")
SETTING = Statement("SELECT current_setting('taxii.clearance', true) AS clearance", "clearance")
FAR = Statement("SELECT timestamptz '200000-01-01Z' AS far", "far")
SHARED = Statement("SELECT count(*) AS versions FROM object_versions", "versions")
# what a lane reads is read in a READ ONLY transaction, and it writes where it commits
NOTE = Statement("INSERT INTO lane_notes (place) VALUES (CAST(:place AS integer))")

_MUCH_LATER = 20


@pytest.fixture
async def single(database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """One lane for all."""
    opened = Database(database_urls.server, connections=3)
    yield opened
    await opened.close()


async def echo(database: Database, number: int, text: str | None = None) -> object:
    [row] = await database.ask(ECHO.step({"number": number, "text": text}))
    return tuple(row)


async def backend(database: Database) -> int:
    [(pid,)] = await database.ask(BACKEND.step({}))
    assert isinstance(pid, int)
    return pid


async def test_many_at_once_each_get_their_own_rows(single: Database) -> None:
    """They are sent before the first is answered, and on one connection."""
    asked = [single.ask(ECHO.step({"number": number, "text": f"{number}"})) for number in range(300)]
    given = await asyncio.gather(*asked, *(backend(single) for _ in range(10)))

    assert [tuple(rows[0]) for rows in given[:300]] == [(number, f"{number}") for number in range(300)]  # type: ignore[index]
    assert len(set(given[300:])) == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")), st.integers(-(2**63), 2**63 - 1))
async def test_values_arrive_as_they_are(database: Database, text: str, number: int) -> None:
    assert await echo(database, number, text) == (number, text)
    assert await echo(database, number) == (number, None)


async def test_what_is_longer_than_a_socket_takes_at_once_arrives(single: Database) -> None:
    long = "x" * 5_000_000
    rows = await asyncio.gather(*(echo(single, number, long) for number in range(4)))

    assert rows == [(number, long) for number in range(4)]


async def test_a_failure_is_one_request_s_own(single: Database) -> None:
    """Those before and after it on the same connection are answered, and it is not used again."""
    before = await backend(single)
    answers = await asyncio.gather(
        echo(single, 1),
        single.ask(QUOTIENT.step({"number": 0})),
        echo(single, 2),
        single.ask(QUOTIENT.step({"number": "none"})),
        backend(single),
        return_exceptions=True,
    )

    assert (answers[0], answers[2], answers[4]) == ((1, None), (2, None), before)
    assert isinstance(answers[1], DivisionByZero)
    assert isinstance(answers[3], InvalidTextRepresentation)
    assert await backend(single) != before


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
async def test_what_can_t_be_sent_is_its_request_s_trouble(single: Database, text: str) -> None:
    """Nothing of it goes out: not the steps before it either, which the next request would find done for it."""
    before = await backend(single)
    where = Readable(uuid4(), Level.RED)
    answers = await asyncio.gather(
        echo(single, 1),
        single.ask(held_to(where), ECHO.step({"number": 2, "text": text})),
        single.ask(SETTING.step({})),
        backend(single),
        return_exceptions=True,
    )

    assert isinstance(answers[1], psycopg.DataError | UnicodeError)
    assert (answers[0], answers[3]) == ((1, None), before)
    assert next(iter(answers[2][0])) in {"", None}  # type: ignore[index]


async def test_what_can_t_be_read_is_its_request_s_trouble(single: Database) -> None:
    """Python has no instant that far away; who waits is told, and the others have theirs."""
    before = await backend(single)
    async with asyncio.timeout(_MUCH_LATER):
        answers = await asyncio.gather(
            single.ask(FAR.step({})), echo(single, 1), backend(single), return_exceptions=True
        )

    assert isinstance(answers[0], psycopg.DataError)
    assert list(answers[1:]) == [(1, None), before]


async def test_a_statement_after_one_that_failed_is_not_run(single: Database) -> None:
    with pytest.raises(DivisionByZero):
        await single.ask(QUOTIENT.step({"number": 0}), ECHO.step({"number": 1, "text": ""}))


async def test_what_a_request_is_held_to_ends_with_it(single: Database) -> None:
    """Row-level security reads settings of the transaction: none is left to the next request on the connection."""
    where = Readable(uuid4(), Level.GREEN)
    held = await asyncio.gather(
        single.ask(held_to(where), SETTING.step({})),
        single.ask(SETTING.step({})),
        single.ask(held_to(where), SHARED.step({})),
        single.ask(SHARED.step({})),
        return_exceptions=True,
    )

    assert [tuple(rows[0]) for rows in held[:3]] == [(f"{int(Level.GREEN)}",), ("",), (0,)]  # type: ignore[index]
    # not held to anything it fails, and shows nothing
    assert isinstance(held[3], psycopg.Error)


async def test_nothing_is_written_where_is_read(single: Database, database_urls: DatabaseUrls) -> None:
    async with noted(database_urls):
        with pytest.raises(ReadOnlySqlTransaction):
            await single._reading.ask([NOTE.step({"place": 1})])


async def test_who_gives_up_leaves_the_others_theirs(single: Database) -> None:
    before = await backend(single)
    given_up = asyncio.ensure_future(single.ask(SLEEP.step({"seconds": 0.2})))
    others = [asyncio.ensure_future(echo(single, number)) for number in range(3)]
    await asyncio.sleep(0)
    given_up.cancel()

    assert await asyncio.gather(*others) == [(number, None) for number in range(3)]
    assert given_up.cancelled()
    assert await backend(single) == before


async def test_another_lane_is_opened_while_one_is_busy(database_urls: DatabaseUrls) -> None:
    """So that what takes long holds up nobody as long as there is another connection to be had."""
    database = Database(database_urls.server, connections=5)
    try:
        slow = asyncio.ensure_future(database.ask(SLEEP.step({"seconds": 60})))
        await asyncio.sleep(0)
        async with asyncio.timeout(_MUCH_LATER):
            while True:
                with pytest.MonkeyPatch.context() as patched:
                    patched.setattr(lanes, "WAIT", 0.01)
                    try:
                        await backend(database)
                    except DatabaseGone:
                        # it was behind the slow one, because the other wasn't open yet
                        continue
                break
        assert not slow.done()
        slow.cancel()
    finally:
        await database.close()


async def test_nobody_waits_for_ever_behind_others(single: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a connection of the pool: after a while it is busy, and says so."""
    monkeypatch.setattr(lanes, "WAIT", 0.1)
    monkeypatch.setattr(lanes, "_LOOK", 0.05)
    busy = DATABASE_FAILURES.labels("pool")._value.get()
    before = await backend(single)
    slow = asyncio.ensure_future(single.ask(SLEEP.step({"seconds": 1})))
    await asyncio.sleep(0)
    with pytest.raises(DatabaseGone):
        await echo(single, 1)

    assert not slow.done()
    assert DATABASE_FAILURES.labels("pool")._value.get() == busy + 1
    assert [tuple(row) for row in await slow] == [(1,)]
    assert await backend(single) == before


class TestLostConnections:
    async def test_one_that_was_lost_while_idle_is_nobody_s_failure(
        self, single: Database, database_urls: DatabaseUrls
    ) -> None:
        before = await backend(single)
        end(database_urls, before)

        assert await backend(single) != before

    async def test_what_only_reads_is_asked_again(self, single: Database, database_urls: DatabaseUrls) -> None:
        """Postgres was started anew, say: nobody who polls needs to know."""
        before = await backend(single)
        asked = [asyncio.ensure_future(single.ask(SLEEP.step({"seconds": 0.5})))]
        asked += [asyncio.ensure_future(single.ask(ECHO.step({"number": one, "text": ""}))) for one in range(5)]
        await asyncio.sleep(0.05)
        end(database_urls, before)

        answers = await asyncio.gather(*asked)
        assert [rows[0][0] for rows in answers] == [1, *range(5)]

    async def test_what_writes_is_not(self, single: Database, database_urls: DatabaseUrls) -> None:
        """It may have been done."""
        async with noted(database_urls):
            await single.persist(NOTE.step({"place": 1}))
            [lane] = single._committing._lanes
            writing = asyncio.ensure_future(single.persist(SLEEP.step({"seconds": 30}), NOTE.step({"place": 2})))
            await asyncio.sleep(0)
            assert len(lane) == 1
            end(database_urls, lane._connection.info.backend_pid)
            with pytest.raises(DatabaseGone):
                await writing
            await single.persist(NOTE.step({"place": 3}))
            assert notes(database_urls) == [1, 3]

    async def test_a_silent_one_fails_all_and_is_replaced(self, database_urls: DatabaseUrls) -> None:
        with tempfile.TemporaryDirectory(prefix="taxii-wire-") as folder:
            async with wire(database_urls, Path(folder)) as laid:
                await self._silent(laid)

    async def _silent(self, laid: Wire) -> None:
        database = Database(laid.urls.server, connections=3, patience=0.3)
        counted = DATABASE_FAILURES.labels("silent")._value.get()
        try:
            await echo(database, 1)
            laid.freeze()
            async with asyncio.timeout(_MUCH_LATER):
                answers = await asyncio.gather(*(echo(database, one) for one in range(5)), return_exceptions=True)
            assert {type(answer) for answer in answers} == {DatabaseGone}
            assert DATABASE_FAILURES.labels("silent")._value.get() > counted
            laid.thaw()
            assert await echo(database, 2) == (2, None)
        finally:
            await database.close()


class TestCommitting:
    async def test_what_was_answered_is_there(self, single: Database, database_urls: DatabaseUrls) -> None:
        async with noted(database_urls):
            await single.persist(NOTE.step({"place": 1}))
            assert notes(database_urls) == [1]

    async def test_what_fails_in_the_commit_itself_is_a_failure(
        self, single: Database, database_urls: DatabaseUrls
    ) -> None:
        """A deferred constraint: the statement succeeded, and what it did is not there."""
        async with noted(database_urls):
            with pytest.raises(UniqueViolation):
                await single.persist(NOTE.step({"place": 1}), NOTE.step({"place": 1}))
            assert notes(database_urls) == []
            await single.persist(NOTE.step({"place": 2}))
            assert notes(database_urls) == [2]


@asynccontextmanager
async def noted(urls: DatabaseUrls) -> AsyncIterator[None]:
    """Have a table that the server's role may write to, and whose rule is checked at the end of a transaction."""
    with psycopg.connect(urls.owner.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute("CREATE TABLE lane_notes (place integer UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        try:
            owner.execute("GRANT INSERT, SELECT ON lane_notes TO PUBLIC")
            yield
        finally:
            owner.execute("DROP TABLE lane_notes")


def notes(urls: DatabaseUrls) -> list[int]:
    with psycopg.connect(urls.owner.replace("+psycopg", "")) as owner:
        return [place for (place,) in owner.execute("SELECT place FROM lane_notes ORDER BY place")]


def end(urls: DatabaseUrls, backend_pid: int) -> None:
    """End a backend of the server's role, as itself may."""
    with psycopg.connect(urls.server.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute("SELECT pg_terminate_backend(%s, 5000)", [backend_pid])
