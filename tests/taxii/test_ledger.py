"""The disclosure ledger over HTTP: what is entered, when, and what happens if it can't be."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import Engine

from tests.auth.alliance import statements
from tests.cli.processes import taxii_server
from tests.cli.test_serve import url_of
from tests.factories import envelope, indicator
from tests.taxii.alliance import Exchange, assert_error, exchange_on
from tests.taxii.live import Live, live_server, read_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

SCRATCH = "fraud-intel/scratch"
ROWS = "SELECT member, client, way, number FROM disclosures ORDER BY id"
FULL = """
    CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
    CREATE TRIGGER no_room BEFORE INSERT ON disclosures EXECUTE FUNCTION no_room();
"""


def another(**over: Any) -> dict[str, Any]:
    """An object nobody has seen."""
    return indicator(**{"id": f"indicator--{uuid4()}", **over})


@pytest.fixture
def entered(exchange: Exchange) -> Any:
    """What the ledger got since the test began."""
    exchange.alliance.execute("DELETE FROM disclosures")
    return lambda: exchange.alliance.execute(ROWS)


def who(exchange: Exchange, member: str) -> tuple[int, int]:
    """A member's number, and its client's."""
    return exchange.alliance.members[member], exchange.clients[member].row


@asynccontextmanager
async def hanging(urls: DatabaseUrls) -> AsyncIterator[psycopg.AsyncConnection]:
    """Keep everybody from the ledger, as a disk that doesn't answer would."""
    async with await psycopg.AsyncConnection.connect(urls.owner.replace("+psycopg", "")) as connection:
        await connection.execute("LOCK TABLE disclosures IN ACCESS EXCLUSIVE MODE")
        yield connection
        await connection.rollback()


async def until_it_waits(connection: psycopg.AsyncConnection) -> None:
    """Wait until somebody's row waits for the table."""
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'disclosures'::regclass"
    async with asyncio.timeout(20):
        while (await (await connection.execute(waiting)).fetchone()) == (0,):  # noqa: ASYNC110 - Postgres is asked
            await asyncio.sleep(0.01)


async def test_each_page_with_versions_is_entered_by_its_endpoint(exchange: Exchange, entered: Any) -> None:
    """Objects and one object leave with content; manifest and versions tell that there is something. Plain or packed."""
    one = another()
    await exchange.add(one, another())
    for rest in ("objects/", f"objects/{one['id']}/", "manifest/", f"objects/{one['id']}/versions/"):
        packed = {"Accept-Encoding": "gzip" if rest == "objects/" else "identity"}
        answer = await exchange.get(exchange.path(f"{rest}?limit=1", SCRATCH), "harbour", headers=packed)
        assert answer.status_code == 200

    assert entered() == [(*who(exchange, "harbour"), way, 1) for way in (1, 2, 3, 4)]


async def test_what_tells_of_no_version_is_not_entered(exchange: Exchange, entered: Any) -> None:
    """Empty pages, refusals, heads, what is told of collections: no row, and no statement that could write one."""
    one = another()
    await exchange.add(one)
    with statements(Engine) as sent:
        for rest in ("objects/?added_after=2099-01-01T00:00:00Z", "manifest/?match[type]=campaign", "objects/?limit=0"):
            await exchange.get(exchange.path(rest, SCRATCH))
        await exchange.get(exchange.path(f"objects/{another()['id']}/versions/", SCRATCH))
        await exchange.get(exchange.path("", SCRATCH))
        for rest in ("objects/", f"objects/{one['id']}/", "manifest/"):
            headers = exchange.as_("harbour")
            assert (await exchange.http.head(exchange.path(rest, SCRATCH), headers=headers)).status_code == 200

    assert entered() == []
    assert [one for one in sent if "INSERT" in one] == []


@pytest.mark.parametrize("statement", [FULL, "REVOKE INSERT ON disclosures FROM taxii_server"], ids=["full", "fault"])
async def test_what_cannot_be_entered_is_not_sent(exchange: Exchange, entered: Any, statement: str) -> None:
    """503 with Retry-After, by whatever it failed, and nothing of the page; empty polls go on; afterwards it is sent."""
    one = another(name="Tollkeeper's own words")
    await exchange.add(one)
    exchange.alliance.execute(statement)
    try:
        refused = [
            await exchange.get(exchange.path(rest, SCRATCH), headers={"Accept-Encoding": coding})
            for rest in ("objects/", "manifest/", f"objects/{one['id']}/", f"objects/{one['id']}/versions/")
            for coding in ("gzip", "identity")
        ]
        empty = await exchange.get(exchange.path("objects/?added_after=2099-01-01T00:00:00Z", SCRATCH))
    finally:
        exchange.alliance.execute("DROP FUNCTION IF EXISTS no_room CASCADE")
        exchange.alliance.execute("GRANT INSERT ON disclosures TO taxii_server")

    for answer in refused:
        assert_error(answer, 503)
        assert int(answer.headers["retry-after"]) > 0
        assert one["id"] not in answer.text
        assert "x-taxii-date-added-last" not in answer.headers
    assert empty.json() == {"more": False}
    assert entered() == []
    assert (await exchange.get(exchange.path(f"objects/{one['id']}/", SCRATCH))).json()["objects"] == [one]


async def test_no_octet_leaves_before_its_row_is_durable(fresh_database_urls: DatabaseUrls) -> None:
    """While the ledger hangs the socket stays silent, and polls that return nothing are answered; once it goes on, so does the
    page. Who leaves meanwhile is in the ledger: it never says too little.
    """
    async with live_server(fresh_database_urls) as live:
        await live.add(another())
        path = live.path("objects/", SCRATCH)
        async with live.connection() as (reader, writer), live.connection() as (_, leaving):
            async with hanging(fresh_database_urls) as ledger:
                writer.write(live.head("GET", path, "harbour"))
                await until_it_waits(ledger)
                leaving.write(live.head("GET", path, "north"))
                empty = await live.get(live.path("objects/?added_after=2099-01-01T00:00:00Z", SCRATCH))
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(reader.read(1), 0.3)
                leaving.transport.abort()
            answer = await read_answer(reader)
        entered = [client for _, client, *_ in live.alliance.execute(ROWS)]

    assert empty.json() == {"more": False}
    assert answer.status_code == 200
    assert live.clients["harbour"].row in entered
    assert set(entered) <= {live.clients[member].row for member in ("harbour", "north")}


async def test_a_page_whose_row_was_lost_with_its_connection_is_not_sent(
    exchange: Exchange, entered: Any, module_database_urls: DatabaseUrls
) -> None:
    """PostgreSQL ends the connection while the row waits to be written: 503, and the next poll is served."""
    await exchange.add(another())
    path = exchange.path("objects/?limit=1", SCRATCH)
    async with hanging(module_database_urls) as ledger:
        polls = [asyncio.create_task(exchange.get(path, member)) for member in ("harbour", "north")]
        await until_it_waits(ledger)
        async with await psycopg.AsyncConnection.connect(module_database_urls.server.replace("+psycopg", "")) as ending:
            await ending.execute(
                "SELECT pg_terminate_backend(pid, 20000) FROM pg_locks"
                " WHERE NOT granted AND relation = 'disclosures'::regclass"
            )
    answers = await asyncio.gather(*polls)

    assert 503 in {answer.status_code for answer in answers}
    sent = [answer for answer in answers if answer.status_code == 200]
    assert len(entered()) == len(sent)
    for answer in answers:
        if answer not in sent:
            assert "objects" not in assert_error(answer, 503)
    assert (await exchange.get(path)).status_code == 200


@pytest.mark.slow
async def test_a_killed_server_has_sent_nothing_that_is_not_in_the_ledger(
    fresh_database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    """Kill -9 while the ledger hangs: no octet came. kill -9 at any moment under load: whoever got one octet of a page is in
    the ledger for it.
    """
    settings = {
        "TAXII_DATABASE_URL": fresh_database_urls.server,
        "TAXII_SECRET_KEY": "k" * 32,
        "TAXII_METRICS_PORT": "0",
        "TAXII_VALIDATOR_PROCESSES": "1",
        "TAXII_LOG_FORMAT": "json",
    }
    async with exchange_on(fresh_database_urls) as exchange:
        await exchange.post(envelope(*(another() for _ in range(300))), name=SCRATCH)
        clients = {number: exchange.alliance.client("harbour") for number in range(6)}
        path = exchange.path("objects/?limit=100", SCRATCH)
        with taxii_server("serve", "--port", "0", cwd=tmp_path, settings=settings) as process:
            port = int((await asyncio.to_thread(url_of, process)).rpartition(":")[2])
            live = Live(
                exchange.app, exchange.http, exchange.alliance, {f"{n}": one for n, one in clients.items()}, port
            )
            async with hanging(fresh_database_urls) as ledger, live.connection() as (reader, writer):
                writer.write(live.head("GET", path, "0"))
                await until_it_waits(ledger)
                os.kill(process.running.pid, signal.SIGKILL)
                assert await reader.read() == b""
        with taxii_server("serve", "--port", "0", cwd=tmp_path, settings=settings) as process:
            live.port = int((await asyncio.to_thread(url_of, process)).rpartition(":")[2])
            begun: Counter[int] = Counter()

            async def pull(number: int) -> None:
                async with live.connection() as (reader, writer):
                    while True:
                        writer.write(live.head("GET", path, f"{number}"))
                        if not await reader.read(1):
                            return
                        begun[clients[number].row] += 1
                        await reader.readuntil(b"]}")
                        if begun.total() == 60:
                            os.kill(process.running.pid, signal.SIGKILL)

            await asyncio.gather(*map(pull, clients), return_exceptions=True)
        rows = Counter(client for _, client, *_ in exchange.alliance.execute(ROWS))

    assert begun.total() >= 60
    assert {client: count for client, count in begun.items() if rows[client] < count} == {}
    assert rows.total() <= begun.total() + 2 * len(clients)
