"""A page from a streaming replica is the primary's, byte for byte, or it comes from the primary (two real PostgreSQL)."""

from __future__ import annotations

import asyncio
import tempfile
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from taxii_server.app import create_app
from taxii_server.domain.access import Whole
from taxii_server.domain.tlp import Level
from taxii_server.operations import replica_check
from taxii_server.storage import levels, replicas
from taxii_server.storage.clocks import lock_clock
from taxii_server.storage.engine import Database
from taxii_server.storage.replicas import FIRST_WORD, PAGES, PASSED_OVER, Replicas
from tests.auth.alliance import BOTH
from tests.factories import TLP2, indicator, stix_id
from tests.postgres import Postgres, some_postgres
from tests.taxii.alliance import PUBLIC_URL, TAXII, Exchange, basic, exchange_on, settings_for
from tests.taxii.cut_off import Wire, wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

NAME: Final = "replicas/feed"
MARKINGS: Final = [None, TLP2["green"], TLP2["amber"], TLP2["amber+strict"], TLP2["red"]]
OBJECTS: Final = [stix_id("indicator", number) for number in range(30)]
FILTERS: Final[list[dict[str, str]]] = [
    {},
    {"match[version]": "all"},
    {"match[version]": "first,last"},
    {"match[type]": "indicator"},
    {"match[id]": ",".join(OBJECTS[:5])},
    {"added_after": "2000-01-01T00:00:00Z", "match[version]": "all"},
    {"limit": "7"},
]
LISTS: Final[list[tuple[str, dict[str, str]]]] = [
    *product(("objects/", "manifest/"), FILTERS),
    *((f"objects/{of}/versions/", {}) for of in (OBJECTS[0], OBJECTS[1], stix_id("indicator", 999))),
]
_MUCH_LATER: Final = 10


@dataclass
class Pair:
    """A primary with its replica, and two applications: one reads from the primary alone, the other may use the replica."""

    primary: Postgres
    replica: Postgres
    exchange: Exchange
    http: httpx.AsyncClient
    replicas: Replicas
    callers: list[dict[str, str]]
    laid: Wire
    dice: Random

    async def compare(self, callers: int = len(Level)) -> int:
        """Ask everything of both in some callers' names, and hold the answers to be equal; how many the replica gave."""
        before = pages("replica")
        for headers, (rest, params) in product(self.callers[:callers], LISTS):
            path = self.exchange.path(rest, NAME)
            one, other = [
                await http.get(path, params=params, headers=headers | {"Accept": TAXII})
                for http in (self.exchange.http, self.http)
            ]
            assert all_of(one) == all_of(other), (rest, params)
        return int(pages("replica") - before)

    async def add(self, count: int) -> None:
        """Add versions of all levels, and unmarked ones."""
        objects = [
            indicator(
                id=self.dice.choice(OBJECTS),
                modified=f"2024-05-02T08:15:30.{self.dice.randint(1, 999_999):06}Z",
                object_marking_refs=None if marking is None else [marking],
            )
            for marking in self.dice.choices(MARKINGS, k=count)
        ]
        await self.exchange.post({"objects": objects}, "writer", NAME)

    async def relevel(self, level: Level) -> None:
        """Count what is unmarked as another level, as `apply` does."""
        where = Whole(self.exchange.collection_id(NAME))
        database = Database(self.primary.urls.server, connections=1)
        async with database.write(where) as connection:
            await lock_clock(connection, where.collection_id)
            assert (await levels.relevel(connection, where, level)).was
        await database.close()

    async def remove(self, of: str) -> None:
        """Remove an object."""
        answer = await self.exchange.delete(self.exchange.path(f"objects/{of}/", NAME), "writer")
        assert answer.status_code == 200, answer.text

    async def streamed(self) -> None:
        """Wait until the replica has everything."""
        await asyncio.to_thread(self.replica.received, self.primary)

    async def look(self) -> None:
        """Have the replica looked at."""
        await self.replicas.all[0].look()

    def rows(self, of: Postgres) -> list[tuple[object, ...]]:
        """The versions with their kept levels as one of the two holds them."""
        return of.execute(
            "SELECT date_added, level, superseded_level, newer_form_level FROM object_versions ORDER BY date_added"
        )


def all_of(answer: httpx.Response) -> tuple[int, dict[str, str], bytes]:
    """An answer but for what names its request."""
    headers = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
    return answer.status_code, headers, answer.content.replace(answer.headers["x-request-id"].encode(), b"")


def pages(source: str) -> float:
    return float(PAGES.labels(source)._value.get())


def passed_over(reason: str) -> float:
    return float(PASSED_OVER.labels("1", reason)._value.get())


@asynccontextmanager
async def pair_in(whose: str) -> AsyncIterator[Pair]:
    """Make a pair with some history; the replica is up to date, and reached by a wire."""
    with (
        some_postgres(whose) as make,
        tempfile.TemporaryDirectory(prefix="taxii-wire-") as folder,
        pytest.MonkeyPatch.context() as patch,
    ):
        # who looks after the replica is the test
        patch.setattr(replicas, "LOOK_EVERY", 3600)
        primary = make("primary")
        replica = make("replica", of=primary)
        async with wire(replica.urls, Path(folder)) as laid:
            over = {"database_replica_urls": laid.urls.server, "database_connections": 4}
            app = create_app(settings_for(primary.urls, **over))
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with (
                exchange_on(primary.urls, database_connections=4) as exchange,
                app.router.lifespan_context(app),
                httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as http,
            ):
                alliance = exchange.alliance
                alliance.group("replicas")
                alliance.collection("replicas", "feed", "structural")
                alliance.member("writer", replicas_feed=BOTH)
                exchange.clients["writer"] = alliance.client("writer")
                callers = []
                for clearance in reversed(Level):
                    alliance.member(f"level-{clearance:d}")
                    alliance.grant(f"level-{clearance:d}", NAME, ("read",), clearance)
                    client = alliance.client(f"level-{clearance:d}")
                    callers.append(basic(client.client_id, client.secret))
                made = Pair(primary, replica, exchange, http, app.state.replicas, callers, laid, Random(1))
                await made.add(60)
                await made.streamed()
                await made.look()
                yield made


@pytest.fixture(scope="module")
async def both(pytestconfig: pytest.Config) -> AsyncIterator[Pair]:
    async with pair_in(pytestconfig.option.postgres) as made:
        yield made


@pytest.fixture
async def pair(both: Pair) -> Pair:
    """The pair, the replica up to date and known to be well."""
    await both.streamed()
    await both.look()
    assert both.replicas.all[0].serves
    return both


async def test_what_the_replica_has_it_serves_and_all_is_in_the_primarys_ledger(pair: Pair) -> None:
    """Objects, manifests and versions, at every clearance; one object and what isn't there to read are the primary's."""
    assert await pair.compare() == len(LISTS) * len(pair.callers)

    [(entered,)] = pair.primary.execute("SELECT count(*) FROM disclosures")
    before = pages("replica")
    path = pair.exchange.path(f"objects/{OBJECTS[7]}/", NAME)
    assert (await pair.http.get(path, headers=pair.callers[0])).status_code == 200
    assert pages("replica") == before
    assert (await pair.http.get(pair.exchange.path("objects/", NAME), headers=pair.callers[0])).status_code == 200
    assert pages("replica") == before + 1
    assert pair.primary.execute("SELECT count(*) FROM disclosures") == [(entered + 2,)]  # type: ignore[operator]


async def adding(pair: Pair) -> None:
    await pair.add(20)


async def removing(pair: Pair) -> None:
    await pair.remove(OBJECTS[0])


async def releveling(pair: Pair) -> None:
    await pair.relevel(Level.AMBER)


@pytest.mark.parametrize("change", [adding, removing, releveling])
async def test_a_replica_that_lags_changes_no_answer(pair: Pair, change: Callable[[Pair], Awaitable[None]]) -> None:
    """Additions, removals and other levels that it has not replayed: until it has, the primary serves."""
    pair.replica.execute("SELECT pg_wal_replay_pause()")
    try:
        pair.replica.until("SELECT pg_get_wal_replay_pause_state() = 'paused'")
        await change(pair)
        assert pair.rows(pair.replica) != pair.rows(pair.primary)
        behind = passed_over("behind")

        assert await pair.compare() == 0

        assert passed_over("behind") == behind + len(LISTS) * len(pair.callers)
    finally:
        pair.replica.execute("SELECT pg_wal_replay_resume()")
    await pair.streamed()
    assert pair.rows(pair.replica) == pair.rows(pair.primary)
    assert await pair.compare() == len(LISTS) * len(pair.callers)


async def test_a_collection_that_others_write_to_stops_no_other(pair: Pair) -> None:
    """What is compared is the one collection's number: a lagging replica goes on with those where nothing changed."""
    pair.replica.execute("SELECT pg_wal_replay_pause()")
    try:
        await pair.exchange.add(indicator(), name="fraud-intel/scratch")

        assert await pair.compare() == len(LISTS) * len(pair.callers)
    finally:
        pair.replica.execute("SELECT pg_wal_replay_resume()")


async def test_what_the_primary_keeps_back_the_replica_does_not_tell(pair: Pair) -> None:
    """A commit that waits for a synchronous standby shows on a replica already, and would be gone if the primary were."""
    before = pair.rows(pair.primary)
    pair.primary.execute("ALTER SYSTEM SET synchronous_standby_names = 'never'")
    try:
        pair.primary.execute("SELECT pg_reload_conf()")
        pair.primary.until("SELECT current_setting('synchronous_standby_names') = 'never'")
        adding = asyncio.create_task(pair.add(1))
        await asyncio.to_thread(pair.replica.until, "SELECT count(*) > %s FROM object_versions", len(before))
        assert pair.rows(pair.primary) == before
        # a page without versions takes no ledger row, which would have to wait too
        answer = await pair.http.get(
            pair.exchange.path("objects/", NAME),
            params={"added_after": before[-1][0].isoformat()},  # type: ignore[attr-defined]
            headers=pair.callers[0],
        )

        assert answer.json() == {"more": False}
        assert not adding.done()
    finally:
        pair.primary.execute("ALTER SYSTEM RESET synchronous_standby_names")
        pair.primary.execute("SELECT pg_reload_conf()")
    await adding
    assert len(pair.rows(pair.primary)) == len(before) + 1


async def test_rights_are_the_primarys(pair: Pair) -> None:
    """Withdrawn and lowered rights count at once, though the replica knows nothing of them yet."""
    path, alliance = pair.exchange.path("manifest/", NAME), pair.exchange.alliance
    alliance.member("leaving", replicas_feed=("read",))
    client = alliance.client("leaving")
    headers = basic(client.client_id, client.secret)
    pair.replica.execute("SELECT pg_wal_replay_pause()")
    try:
        everything = len((await pair.http.get(path, headers=headers)).json()["objects"])
        alliance.execute("UPDATE grants SET clearance = 1 WHERE member_id = %s", alliance.members["leaving"])
        before = pages("replica")
        green = len((await pair.http.get(path, headers=headers)).json()["objects"])
        assert pages("replica") == before + 1
        assert 0 < green < everything
        alliance.execute("DELETE FROM grants WHERE member_id = %s", alliance.members["leaving"])

        assert (await pair.http.get(path, headers=headers)).status_code == 404
    finally:
        pair.replica.execute("SELECT pg_wal_replay_resume()")


async def test_a_replica_that_is_gone_costs_one_request_a_moment_at_most(pair: Pair) -> None:
    """Killed, it is left alone by the first who finds out; the server is as ready as ever; back again, it serves again."""
    pair.replica.kill()
    begun = time.monotonic()
    assert await pair.compare(1) == 0
    assert time.monotonic() - begun < _MUCH_LATER
    assert not pair.replicas.all[0].serves
    assert (await pair.http.get("/readyz")).status_code == 200

    await asyncio.to_thread(pair.replica.start)
    await pair.streamed()
    await pair.look()
    assert await pair.compare(1) == len(LISTS)


async def test_a_replica_that_says_nothing_is_waited_for_once(pair: Pair) -> None:
    """One who asks waits a second for it at most, then the primary answers; nobody waits after that."""
    path = pair.exchange.path("objects/", NAME)
    pair.laid.freeze()
    silent = passed_over("silent")
    begun = time.monotonic()
    answer = await pair.http.get(path, headers=pair.callers[0])
    assert FIRST_WORD <= time.monotonic() - begun < _MUCH_LATER
    assert answer.status_code == 200
    assert passed_over("silent") == silent + 1
    assert await pair.compare(1) == 0
    assert passed_over("silent") == silent + 1

    pair.laid.thaw()
    await pair.look()
    assert await pair.compare(1) == len(LISTS)


async def test_a_page_that_breaks_off_comes_from_the_primary(pair: Pair) -> None:
    """The replica is lost between its first word and its page: the client gets the whole page all the same."""
    failed = passed_over("failed")
    # a new connection, on which the page's statement travels as a text
    await pair.replicas.all[0].leave("test")
    await pair.look()
    pair.laid.cut_at = b"object_versions"
    assert await pair.compare(1) == 0
    assert passed_over("failed") == failed + 1

    await pair.laid.mend()
    await pair.look()
    assert await pair.compare(1) == len(LISTS)


async def test_what_the_settings_name_is_checked(pair: Pair, database_urls: DatabaseUrls) -> None:
    """A replica is of the same PostgreSQL as the primary; another one is found out, whatever is in it."""
    database = Database(pair.primary.urls.server, connections=1)
    found = await replica_check.check(database, [pair.replica.urls.server, database_urls.server])
    await database.close()

    [another] = found
    assert "replica 2 of TAXII_DATABASE_REPLICA_URLS is of another PostgreSQL" in another.what


async def test_a_promoted_replica_serves_no_more(pytestconfig: pytest.Config) -> None:
    """It has become another's primary, and what is done there is not what is done here."""
    async with pair_in(pytestconfig.option.postgres) as pair:
        await asyncio.to_thread(pair.replica.promote)
        pair.replica.execute("DELETE FROM object_versions")
        # had it stayed a standby, it would count as up to date
        numbers = "SELECT changes FROM collection_clocks ORDER BY changes"
        assert pair.replica.execute(numbers) == pair.primary.execute(numbers)

        assert await pair.compare(1) == 0

        assert not pair.replicas.all[0].serves
        await pair.look()
        assert not pair.replicas.all[0].serves
