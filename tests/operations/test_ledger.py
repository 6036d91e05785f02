"""The ledger of a worker: rows that wait share a commit, and nobody's trouble is another's."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
import structlog

from taxii_server.domain.cursor import Endpoint
from taxii_server.domain.disclosures import Disclosure, Recipient
from taxii_server.domain.errors import DatabaseGone, LedgerUnavailable, Unavailable
from taxii_server.operations import ledger as module
from taxii_server.operations.company import Company
from taxii_server.operations.ledger import Ledger
from taxii_server.storage import disclosures as storage
from taxii_server.storage.engine import Database
from tests.auth.alliance import statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

FULL = """
    CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
    CREATE TRIGGER no_room BEFORE INSERT ON disclosures EXECUTE FUNCTION no_room();
"""


@pytest.fixture
async def database(module_database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """The server's role."""
    made = Database(module_database_urls.server, connections=3)
    yield made
    await made.close()


@pytest.fixture
async def ledger(database: Database) -> AsyncIterator[Ledger]:
    """One worker's."""
    made = Ledger(database)
    yield made
    await made.close()


@pytest.fixture
async def owner(module_database_urls: DatabaseUrls) -> AsyncIterator[psycopg.AsyncConnection]:
    """The owner of the tables, who may empty them."""
    url = module_database_urls.owner.replace("+psycopg", "")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        await connection.execute("DELETE FROM disclosures")
        yield connection


def page(client: int, versions: int = 1) -> Disclosure:
    """A page for a client, which tells the rows of a test apart."""
    dates = [1_000_000 * (86_400 + client) + one for one in range(versions)]
    return Disclosure.of(uuid4(), Recipient(1, client), Endpoint.OBJECTS, dates)


async def entered(owner: psycopg.AsyncConnection) -> list[int]:
    """The clients whose pages are in the ledger."""
    return [client for (client,) in await (await owner.execute("SELECT client FROM disclosures ORDER BY 1")).fetchall()]


@asynccontextmanager
async def held(owner: psycopg.AsyncConnection) -> AsyncIterator[None]:
    """Keep everybody from the ledger, as a disk that doesn't answer would."""
    async with owner.transaction():
        await owner.execute("LOCK TABLE disclosures IN ACCESS EXCLUSIVE MODE")
        yield


async def until_it_hangs(owner: psycopg.AsyncConnection) -> None:
    """Wait until somebody's row waits for the table."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'disclosures'::regclass"
    async with asyncio.timeout(20):
        while (await (await owner.execute(waiting)).fetchone()) == (0,):  # noqa: ASYNC110 - it is Postgres that is asked
            await asyncio.sleep(0.01)


async def test_alone_it_pays_one_commit_and_many_share_theirs(
    database: Database, ledger: Ledger, owner: psycopg.AsyncConnection
) -> None:
    """What waits while one commit is under way goes with the next, whatever the number; each row by its own statement
    would be a commit each.
    """
    with statements(database) as sent:
        await ledger.enter(page(0))
    assert len(sent) == 1
    with statements(database) as sent:
        async with held(owner):
            first = asyncio.create_task(ledger.enter(page(1)))
            await until_it_hangs(owner)
            others = [asyncio.create_task(ledger.enter(page(client, client))) for client in range(2, 17)]
        await asyncio.gather(first, *others)

    assert len(sent) == 2
    assert await entered(owner) == list(range(17))


async def test_after_a_shared_commit_the_next_waits_for_who_reads(
    database: Database, owner: psycopg.AsyncConnection
) -> None:
    """And no more once it waited in vain."""
    reading = Company(moment=3600)
    ledger = Ledger(database, reading)
    await asyncio.gather(*(ledger.enter(page(client)) for client in range(3)))
    with statements(database) as sent:
        number = reading.set_out()
        first = asyncio.create_task(ledger.enter(page(3)))
        for _ in range(10):
            await asyncio.sleep(0)
        second = asyncio.create_task(ledger.enter(page(4)))
        reading.arrive(number)
        await asyncio.gather(first, second)
    assert len(sent) == 1

    await ledger.enter(page(5))
    reading.set_out()
    await ledger.enter(page(6))
    assert await entered(owner) == list(range(7))
    await ledger.close()


async def test_what_is_entered_is_durable_when_it_returns(ledger: Ledger, owner: psycopg.AsyncConnection) -> None:
    """Somebody else sees it at once, with exactly the versions that were handed over."""
    made = page(7, 1000)
    await ledger.enter(made)
    row = await (
        await owner.execute(
            "SELECT collection_id, fork, first_added, last_added, member, client, way, number, dates, "
            "sent_at > now() - interval '1 minute' FROM disclosures"
        )
    ).fetchone()

    assert row == (
        *(made.collection_id, made.fork, made.first_added, made.last_added, 1, 7, 1, 1000, made.dates),
        True,
    )


async def test_who_gives_up_takes_nobody_along(ledger: Ledger, owner: psycopg.AsyncConnection) -> None:
    """A request that is cancelled was sent nothing: the one whose row is being written may be in the ledger, those that still
    wait are not, and all others are.
    """
    async with held(owner):
        writing = asyncio.create_task(ledger.enter(page(1)))
        await until_it_hangs(owner)
        waiting = [asyncio.create_task(ledger.enter(page(client))) for client in range(2, 8)]
        await asyncio.sleep(0)
        for task in (writing, *waiting[::2]):
            task.cancel()
        ended = await asyncio.gather(writing, *waiting[::2], return_exceptions=True)
    await asyncio.gather(*waiting[1::2])

    assert all(isinstance(one, asyncio.CancelledError) for one in ended)
    assert await entered(owner) == [1, 3, 5, 7]


async def test_a_full_disk_refuses_and_the_next_page_is_entered_once_there_is_room(
    ledger: Ledger, owner: psycopg.AsyncConnection
) -> None:
    """Each that waited is told, the ledger goes on."""
    await owner.execute(FULL)
    try:
        refused = await asyncio.gather(*(ledger.enter(page(one)) for one in range(5)), return_exceptions=True)
    finally:
        await owner.execute("DROP FUNCTION no_room CASCADE")
    await ledger.enter(page(9))

    assert [type(one) for one in refused] == [DatabaseGone] * 5
    assert len({id(one) for one in refused}) == 5
    assert await entered(owner) == [9]


async def test_a_fault_of_ours_is_told_and_logged(
    ledger: Ledger, owner: psycopg.AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is raised: nobody is left waiting, nothing counts as entered, and the log has it without its words."""

    async def broken(*_: Any) -> None:
        raise RuntimeError("with a secret in it")

    with structlog.testing.capture_logs() as logged, monkeypatch.context() as patched:
        patched.setattr(storage, "insert", broken)
        refused = await asyncio.gather(*(ledger.enter(page(one)) for one in range(3)), return_exceptions=True)
    await ledger.enter(page(9))

    assert [type(one) for one in refused] == [LedgerUnavailable] * 3
    assert [(one["event"], one["log_level"]) for one in logged] == [("ledger_fault", "critical")]
    assert "secret" not in str(logged)
    assert await entered(owner) == [9]


async def test_a_writer_that_is_ended_leaves_nobody_waiting(ledger: Ledger, owner: psycopg.AsyncConnection) -> None:
    """It is never silent, and the next page starts another one."""
    with structlog.testing.capture_logs() as logged:
        async with held(owner):
            tasks = [asyncio.create_task(ledger.enter(page(1)))]
            await until_it_hangs(owner)
            tasks += [asyncio.create_task(ledger.enter(page(client))) for client in (2, 3)]
            await asyncio.sleep(0)
            assert ledger._writer is not None
            ledger._writer.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
    await ledger.enter(page(9))

    assert all(isinstance(one, LedgerUnavailable) for one in ended), ended
    assert [(one["event"], one["waiting"]) for one in logged] == [("ledger_writer_ended", 2)]
    assert 9 in await entered(owner)


async def test_whoever_comes_as_the_writer_ends_is_written_too(
    ledger: Ledger, owner: psycopg.AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next page of a poller is handed over the moment it is told of the one before."""
    written: list[int] = []

    async def quick(connection: Any, disclosures: list[Disclosure]) -> None:
        written.extend(one.recipient.client for one in disclosures)

    monkeypatch.setattr(storage, "insert", quick)

    async def poll(client: int) -> None:
        for _ in range(20):
            await ledger.enter(page(client))

    with structlog.testing.capture_logs() as logged:
        await asyncio.gather(*map(poll, range(5)))

    assert logged == []
    assert sorted(written) == sorted(list(range(5)) * 20)


async def test_the_queue_has_an_end(
    ledger: Ledger, owner: psycopg.AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages wait in memory: too many are refused at once instead."""
    monkeypatch.setattr(module, "_MOST_WAITING", 3)
    async with held(owner):
        first = asyncio.create_task(ledger.enter(page(1)))
        await until_it_hangs(owner)
        others = [asyncio.create_task(ledger.enter(page(client))) for client in range(2, 7)]
        done, _ = await asyncio.wait(others, return_when=asyncio.FIRST_EXCEPTION, timeout=5)
        assert {type(one.exception()) for one in done} == {LedgerUnavailable}
    ended = await asyncio.gather(first, *others, return_exceptions=True)

    assert [isinstance(one, LedgerUnavailable) for one in ended] == [False] * 4 + [True] * 2


async def test_a_wait_has_an_end(
    ledger: Ledger, owner: psycopg.AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that never answers costs a page its patience, not for ever."""
    monkeypatch.setattr(module, "_PATIENCE", 0.05)
    async with held(owner):
        with pytest.raises(LedgerUnavailable):
            await ledger.enter(page(1))


async def test_closing_waits_for_what_is_being_written_and_takes_no_more(
    ledger: Ledger, owner: psycopg.AsyncConnection
) -> None:
    """A worker that stops loses no row of a page it sends."""
    async with held(owner):
        tasks = [asyncio.create_task(ledger.enter(page(1)))]
        await until_it_hangs(owner)
        tasks.append(asyncio.create_task(ledger.enter(page(2))))
        await asyncio.sleep(0)
        closing = asyncio.create_task(ledger.close())
        await asyncio.sleep(0)
        with pytest.raises(LedgerUnavailable):
            await ledger.enter(page(3))
    await asyncio.gather(closing, *tasks)

    assert await entered(owner) == [1, 2]


async def test_in_any_order_of_events_whoever_may_send_is_in_the_ledger(
    ledger: Ledger, owner: psycopg.AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hundreds of pages, some given up at any moment, some commits failing: those that may be sent are there, once each;
    those that were refused before anything was tried are not.
    """
    random = Random(11)
    real = storage.insert

    async def moody(connection: Any, disclosures: Any) -> None:
        if random.random() < 0.2:
            raise DatabaseGone("now and then")
        await real(connection, disclosures)
        if random.random() < 0.1:
            raise DatabaseGone("after it was done")

    monkeypatch.setattr(storage, "insert", moody)

    async def send(client: int) -> int | None:
        await asyncio.sleep(random.random() * 0.5)
        try:
            async with asyncio.timeout(random.choice([0.0005, 0.003, 30])):
                await ledger.enter(page(client, random.randint(1, 50)))
        except (TimeoutError, Unavailable):
            return None
        return client

    sent = {one for one in await asyncio.gather(*map(send, range(400))) if one is not None}
    there = await entered(owner)

    assert len(there) == len(set(there))
    assert sent <= set(there)
    assert 50 < len(sent) < 400


async def test_the_server_can_add_to_the_ledger_and_not_change_it(
    database: Database, ledger: Ledger, owner: psycopg.AsyncConnection, module_database_urls: DatabaseUrls
) -> None:
    """INSERT and SELECT, and nothing else, is what its role was granted."""
    await ledger.enter(page(1))
    url = module_database_urls.server.replace("+psycopg", "")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as server:
        for statement in (
            "UPDATE disclosures SET member = 2",
            "DELETE FROM disclosures",
            "TRUNCATE disclosures",
            "SELECT * FROM disclosures FOR UPDATE",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await server.execute(statement.encode())

    assert await entered(owner) == [1]
