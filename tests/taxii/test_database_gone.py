"""The database goes away, or says nothing, and comes back: 503 meanwhile, nothing acknowledged that isn't stored, and nobody has to help."""

from __future__ import annotations

import asyncio
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from taxii_server.app import create_app
from taxii_server.storage import silence
from tests.auth.alliance import alliance_in
from tests.factories import malware, stix_id
from tests.taxii.alliance import GROUP, PUBLIC_URL, Exchange, assert_error, fill, settings_for
from tests.taxii.cut_off import Wire, wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

SCRATCH = "fraud-intel/scratch"
_numbers = count(7000)


class Wired(Exchange):
    """An exchange whose database can be cut off."""

    wire: Wire


@pytest.fixture
async def wired(fresh_database_urls: DatabaseUrls) -> AsyncIterator[Wired]:
    with (
        tempfile.TemporaryDirectory(prefix="taxii-wire-") as folder,
        alliance_in(fresh_database_urls, filled=False) as alliance,
    ):
        async with wire(fresh_database_urls, Path(folder)) as laid:
            app = create_app(settings_for(laid.urls))
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as http,
            ):
                exchange = Wired(app, http, alliance)
                exchange.wire = laid
                fill(exchange)
                yield exchange


def another() -> dict[str, Any]:
    return malware(id=stix_id("malware", next(_numbers)))


def assert_gone(answer: httpx.Response) -> dict[str, Any]:
    """503, with when to come again, as a TAXII error."""
    assert int(answer.headers["retry-after"]) > 0
    return assert_error(answer, 503)


async def everything(exchange: Exchange) -> list[httpx.Response]:
    """One request of every kind."""
    of = stix_id("malware")
    return [
        await exchange.get("/taxii2/"),
        await exchange.get(GROUP),
        await exchange.get(f"{GROUP}collections/"),
        await exchange.get(f"{GROUP}status/{of[9:]}/"),
        await exchange.get(exchange.path("objects/", SCRATCH)),
        await exchange.get(exchange.path("manifest/", SCRATCH)),
        await exchange.get(exchange.path(f"objects/{of}/versions/", SCRATCH)),
        await exchange.post({"objects": [another()]}, name=SCRATCH),
        await exchange.delete(exchange.path(f"objects/{of}/", SCRATCH)),
    ]


async def test_gone_it_is_503_and_back_it_is_served(wired: Wired) -> None:
    """Every endpoint: 503 with Retry-After while it is gone, and the very next request after it came back is served."""
    first = another()
    await wired.add(first)
    wired.wire.cut()
    for answer in await everything(wired):
        assert_gone(answer)
    await wired.wire.mend()

    assert (await wired.get(wired.path("objects/", SCRATCH))).json()["objects"] == [first]
    assert [answer.status_code for answer in await everything(wired)] == [200, 200, 200, 404, 200, 200, 404, 202, 404]


async def test_a_token_holder_is_told_the_same(wired: Wired) -> None:
    """A verified signature says nothing about rights: without the database there is no answer."""
    bearer = await wired.token("north")
    wired.wire.cut()
    assert_gone(await wired.get("/taxii2/", headers=bearer))
    await wired.wire.mend()

    assert (await wired.get("/taxii2/", headers=bearer)).status_code == 200


async def test_the_token_endpoint_answers_in_its_own_words(wired: Wired) -> None:
    """RFC 6749 §5.2 has the form; the status and Retry-After are as everywhere."""
    wired.wire.cut()
    answer = await wired.http.post(
        "/oauth2/token", data={"grant_type": "client_credentials"}, headers=wired.as_("north")
    )

    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["error"] == "temporarily_unavailable"
    await wired.wire.mend()
    assert "Authorization" in await wired.token("north")


async def test_health_tells_alive_and_ready_apart(wired: Wired) -> None:
    """/healthz asks nobody; /readyz says that the database is gone, so that no traffic is sent here."""
    assert (await wired.http.get("/readyz")).status_code == 200
    wired.wire.cut()
    alive, ready = await wired.http.get("/healthz"), await wired.http.get("/readyz")

    assert alive.status_code == 200
    assert ready.status_code == 503
    assert ready.json() == {
        "status": "unavailable",
        "database": False,
        "migrations": False,
        "synchronous_standby": False,
    }
    await wired.wire.mend()
    assert (await wired.http.get("/readyz")).json()["status"] == "ok"


async def test_a_server_started_without_its_database_serves_once_it_is_there(fresh_database_urls: DatabaseUrls) -> None:
    """The order in which machines start doesn't matter."""
    with (
        tempfile.TemporaryDirectory(prefix="taxii-wire-") as folder,
        alliance_in(fresh_database_urls, filled=False) as alliance,
    ):
        async with wire(fresh_database_urls, Path(folder)) as laid:
            laid.cut()
            app = create_app(settings_for(laid.urls))
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=PUBLIC_URL) as http,
            ):
                exchange = Exchange(app, http, alliance)
                fill(exchange)
                assert_gone(await exchange.get("/taxii2/"))
                await laid.mend()
                assert (await exchange.get("/taxii2/")).status_code == 200


@pytest.mark.parametrize(
    "statement",
    [b"FOR NO KEY UPDATE", b"INSERT INTO object_versions", b"INSERT INTO statuses", b"COMMIT\0"],
    ids=["lock", "insert", "status", "commit"],
)
async def test_a_write_that_breaks_off_is_not_acknowledged(wired: Wired, statement: bytes) -> None:
    """Wherever the connection breaks before the commit arrives: 503, and nothing of it is there."""
    one = another()
    wired.wire.cut_at = statement
    assert_gone(await wired.post({"objects": [one]}, name=SCRATCH))
    assert wired.wire.is_cut
    await wired.wire.mend()

    assert (await wired.get(wired.path("objects/", SCRATCH))).json() == {"more": False}
    assert wired.alliance.execute("SELECT count(*) FROM statuses") == [(0,)]
    assert (await wired.post({"objects": [one]}, name=SCRATCH)).json()["success_count"] == 1


async def test_a_commit_whose_answer_is_lost_is_not_acknowledged_and_can_be_repeated(wired: Wired) -> None:
    """The server can't know, so it doesn't claim either; sending it again is a success and stores nothing twice."""
    one = another()
    wired.wire.cut_after = b"COMMIT\0"
    error = assert_gone(await wired.post({"objects": [one]}, name=SCRATCH))
    assert wired.wire.is_cut
    assert "again" in error["description"]
    await wired.wire.mend()

    assert (await wired.get(wired.path("objects/", SCRATCH))).json()["objects"] == [one]
    assert (await wired.post({"objects": [one]}, name=SCRATCH)).json()["success_count"] == 1
    assert wired.alliance.execute("SELECT count(*) FROM object_versions") == [(1,)]


async def test_a_delete_that_breaks_off_removes_nothing(wired: Wired) -> None:
    """503, and the object is still there."""
    one = another()
    await wired.add(one)
    wired.wire.cut_at = b"COMMIT\0"
    assert_gone(await wired.delete(wired.path(f"objects/{one['id']}/", SCRATCH)))
    assert wired.wire.is_cut
    await wired.wire.mend()

    assert (await wired.get(wired.path("objects/", SCRATCH))).json()["objects"] == [one]
    assert wired.alliance.execute("SELECT count(*) FROM deleted_versions") == [(0,)]


async def test_many_at_once_are_all_refused_soon(wired: Wired) -> None:
    """Pollers don't pile up behind a database that is gone."""
    await wired.get("/taxii2/")
    wired.wire.cut()
    begun = time.monotonic()
    for answer in await asyncio.gather(*(wired.get("/taxii2/") for _ in range(40))):
        assert_gone(answer)
    assert time.monotonic() - begun < 5
    await wired.wire.mend()
    assert {answer.status_code for answer in await asyncio.gather(*(wired.get("/taxii2/") for _ in range(40)))} == {200}


async def test_backends_ended_while_idle_cost_at_most_one_answer(wired: Wired) -> None:
    """A restart between two polls: the connections in the pool are dead, and all of them are replaced at once."""
    await asyncio.gather(*(wired.get("/taxii2/") for _ in range(16)))
    wired.wire.cut()
    await wired.wire.mend()
    answers = [await wired.get("/taxii2/") for _ in range(10)]

    assert [answer.status_code for answer in answers[1:]] == [200] * 9
    assert answers[0].status_code in {200, 503}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for an answer of PostgreSQL for less than a second."""
    monkeypatch.setattr(silence, "PATIENCE", 0.5)


@pytest.mark.usefixtures("impatient")
class TestSilent:
    """PostgreSQL is stopped, its disk stalls or a firewall drops what it sees: nothing is closed, nothing answered."""

    @pytest.mark.slow
    async def test_it_is_503_in_bounded_time_and_back_it_is_served(self, wired: Wired) -> None:
        """Polls, pushes and readiness alike; nothing is left behind, so the next request after it came back is served."""
        first = another()
        await wired.add(first)
        await wired.get(wired.path("objects/", SCRATCH))
        wired.wire.freeze()
        async with asyncio.timeout(30):
            asked = [
                wired.get("/taxii2/"),
                wired.get(wired.path("objects/", SCRATCH)),
                wired.post({"objects": [another()]}, name=SCRATCH),
                wired.delete(wired.path(f"objects/{first['id']}/", SCRATCH)),
            ]
            for answer in await asyncio.gather(*asked):
                assert_gone(answer)
            assert (await wired.http.get("/healthz")).status_code == 200
            assert (await wired.http.get("/readyz")).status_code == 503
        wired.wire.thaw()

        assert (await wired.http.get("/readyz")).status_code == 200
        assert (await wired.get(wired.path("objects/", SCRATCH))).json()["objects"] == [first]
        assert [answer.status_code for answer in await everything(wired)] == [
            200,
            200,
            200,
            404,
            200,
            200,
            404,
            202,
            404,
        ]

    @pytest.mark.parametrize(
        "statement",
        [b"FOR NO KEY UPDATE", b"INSERT INTO object_versions", b"COMMIT\0"],
        ids=["lock", "insert", "commit"],
    )
    async def test_a_write_that_is_not_answered_is_not_acknowledged(self, wired: Wired, statement: bytes) -> None:
        """Sent again it is a success, and stored once, whether or not PostgreSQL finished it when it went on."""
        one = another()
        wired.wire.freeze_at = statement
        assert_gone(await wired.post({"objects": [one]}, name=SCRATCH))
        assert wired.wire.frozen.is_set()
        wired.wire.thaw()

        assert (await wired.post({"objects": [one]}, name=SCRATCH)).json()["success_count"] == 1
        assert wired.alliance.execute("SELECT count(*) FROM object_versions") == [(1,)]

    async def test_no_page_leaves_while_the_ledger_is_not_answered(self, wired: Wired) -> None:
        """What waited for the ledger's commit is refused, and the ledger goes on by itself."""
        one = another()
        await wired.add(one)
        wired.wire.freeze_at = b"INSERT INTO disclosures"
        for answer in await asyncio.gather(*(wired.get(wired.path("objects/", SCRATCH)) for _ in range(3))):
            assert_gone(answer)
        assert wired.wire.frozen.is_set()
        wired.wire.thaw()

        assert (await wired.get(wired.path("objects/", SCRATCH))).json()["objects"] == [one]


async def test_errors_tell_nothing_of_the_database(wired: Wired) -> None:
    """Neither host, nor user, nor what the driver said."""
    wired.wire.cut()
    error = str(assert_gone(await wired.get("/taxii2/"))).lower()

    for word in ("psycopg", "socket", "/tmp", "taxii_server", "password", "5432"):  # noqa: S108
        assert word not in error
