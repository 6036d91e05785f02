"""What clients did is merged right from any number of workers, in any order, and lost for one interval at most."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from taxii_server.domain.access import Whole
from taxii_server.domain.cursor import Endpoint
from taxii_server.domain.errors import DatabaseGone, NotAuthenticated
from taxii_server.operations import activity as operations
from taxii_server.operations.activity import Activity, Read
from taxii_server.storage import activity as storage
from taxii_server.storage.activity import MOST_FAILURES, LastPoll
from taxii_server.storage.alliance import remove_collection
from taxii_server.storage.engine import Database
from tests.auth.alliance import Alliance, alliance_in, statements

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Iterator

    from taxii_server.domain.access import Proof
    from taxii_server.storage.embedded import DatabaseUrls
    from taxii_server.storage.engine import Connection

pytestmark = pytest.mark.anyio

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
WORKERS = 3


def at(number: int) -> datetime:
    return BEGINNING + timedelta(microseconds=number)


class Shaky(Database):
    """A database that can be out of reach, or lose its answer to a commit, when told to."""

    fault: str | None = None

    @asynccontextmanager
    async def write(self, where: Proof | None = None, *, turn: Hashable = None) -> AsyncIterator[Connection]:
        if self.fault == "gone":
            raise DatabaseGone
        if self.fault == "refuses":
            raise IntegrityError("a statement", {}, Exception("refused"))
        async with super().write(where, turn=turn) as connection:
            yield connection
        if self.fault == "answer lost":
            raise DatabaseGone


@dataclass
class Expected:
    """What one client is known to have done, worked out from what it did."""

    requests: int = 0
    errors: int = 0
    successes: list[datetime] = field(default_factory=list)
    failures: dict[datetime, int] = field(default_factory=dict)
    refusals: dict[datetime, str] = field(default_factory=dict)

    @property
    def row(self) -> tuple[Any, ...]:
        """Its row of client_activity."""
        success = max(self.successes, default=None)
        last = max(self.failures, default=None)
        refused = max(self.refusals, default=None)
        in_row = [one for one in sorted(self.failures, reverse=True) if success is None or one > success]
        return (
            self.requests,
            self.errors,
            success,
            last,
            None if last is None else self.failures[last],
            in_row[:MOST_FAILURES],
            refused,
            None if refused is None else self.refusals[refused],
        )


Did = tuple[Any, ...]


@pytest.fixture(scope="module")
def alliance(module_database_urls: DatabaseUrls) -> Iterator[Alliance]:
    with alliance_in(module_database_urls) as made:
        yield made


@pytest.fixture
async def database(module_database_urls: DatabaseUrls, alliance: Alliance) -> AsyncIterator[Shaky]:
    opened = Shaky(module_database_urls.server, connections=4)
    yield opened
    await opened.close()
    forget(alliance)


def forget(alliance: Alliance) -> None:
    for table in ("client_readings", "client_activity", "activity_batches"):
        alliance.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names


def known(alliance: Alliance) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Both tables, by their keys."""
    readings = alliance.execute(
        "SELECT collection_id, client, endpoint, polls, versions, polled_at, received_at, reached, ended_at, filtered_at"
        "  FROM client_readings"
    )
    conducts = alliance.execute(
        "SELECT client, requests, errors, succeeded_at, failed_at, failed_status, failures, refused_at, refused_for"
        "  FROM client_activity"
    )
    return {row[:3]: row[3:] for row in readings}, {row[0]: row[1:] for row in conducts}


def latest(instants: list[datetime | None]) -> datetime | None:
    return max((one for one in instants if one is not None), default=None)


def expected(done: list[Did]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """The same, from all that was done and not lost."""
    conducts: dict[int, Expected] = {}
    pages: dict[Any, list[tuple[Read, datetime]]] = {}
    for what, client, when, detail in done:
        if what == "read":
            pages.setdefault((detail.collection_id, client, str(detail.endpoint)), []).append((detail, when))
            continue
        conduct = conducts.setdefault(client, Expected())
        if what == "refused":
            conduct.refusals[when] = detail
            continue
        conduct.requests += 1
        if detail < 400:
            conduct.successes.append(when)
        else:
            conduct.errors += 1
            conduct.failures[when] = detail
    readings = {
        key: (
            len(read),
            sum(page.versions for page, _ in read),
            latest([when for _, when in read]),
            latest([when for page, when in read if page.versions]),
            latest([page.reached for page, _ in read]),
            latest([when for page, when in read if page.ended]),
            latest([when for page, when in read if page.filtered]),
        )
        for key, read in pages.items()
    }
    return readings, {client: conduct.row for client, conduct in conducts.items()}


def do(activity: Activity, did: Did) -> None:
    what, client, when, detail = did
    if what == "read":
        activity.read(detail, client, when)
    elif what == "answered":
        activity.answered(client, when, detail)
    else:
        activity.refused(NotAuthenticated(detail, client=client, at=when))


acts = st.one_of(
    st.tuples(
        st.just("read"),
        st.tuples(
            st.integers(0, 1),
            st.sampled_from(Endpoint),
            st.integers(0, 3),
            st.none() | st.integers(0, 50),
            st.booleans(),
            st.booleans(),
        ),
    ),
    st.tuples(st.just("answered"), st.sampled_from([200, 202, 400, 403, 499, 503])),
    st.tuples(st.just("refused"), st.sampled_from(["wrong secret", "client has expired"])),
)
steps = st.one_of(
    st.tuples(st.just("act"), st.integers(0, WORKERS - 1), st.integers(0, 1), acts),
    st.tuples(st.just("save"), st.integers(0, WORKERS - 1), st.sampled_from([None, "gone", "answer lost"])),
    st.tuples(st.just("killed"), st.integers(0, WORKERS - 1)),
)


of_workers = given(history=st.lists(steps, max_size=40), moments=st.permutations(range(40)))


@settings(max_examples=8)
@of_workers
def test_any_number_of_workers_in_any_order(
    module_database_urls: DatabaseUrls, alliance: Alliance, history: list[Any], moments: list[int]
) -> None:
    """What is known is what was done, less what killed workers hadn't saved: nothing twice, nothing undone.

    Workers save when they like, in the order of no clock; the database is gone at times, or loses its answer to a
    commit, after which the same batch comes again.
    """
    hold(module_database_urls, alliance, history, moments)


@pytest.mark.slow
@settings(max_examples=100)
@of_workers
def test_any_number_of_workers_in_any_order_in_many_histories(
    module_database_urls: DatabaseUrls, alliance: Alliance, history: list[Any], moments: list[int]
) -> None:
    """The same, at length."""
    hold(module_database_urls, alliance, history, moments)


def hold(urls: DatabaseUrls, alliance: Alliance, history: list[Any], moments: list[int]) -> None:
    clients = [alliance.client("north").row, alliance.client("harbour").row]
    feeds = list(alliance.collections.values())

    def made(step: Any, moment: int) -> Did:
        _, _, client, (what, detail) = step
        if what == "read":
            feed, endpoint, versions, reached, ended, filtered = detail
            detail = Read(feeds[feed], endpoint, versions, None if reached is None else at(reached), ended, filtered)
        return what, clients[client], at(moment), detail

    async def play() -> list[Did]:
        database = Shaky(urls.server, connections=2)
        saved: list[Did] = []
        models = [Model(saved) for _ in range(WORKERS)]
        workers = [Activity(database, HOUR) for _ in range(WORKERS)]
        try:
            for step, moment in zip(history, moments, strict=False):
                worker, model = workers[step[1]], models[step[1]]
                if step[0] == "act":
                    model.noted.append(made(step, moment))
                    do(worker, model.noted[-1])
                elif step[0] == "killed":
                    workers[step[1]], models[step[1]] = Activity(database, HOUR), Model(saved)
                else:
                    database.fault = step[2]
                    await worker.save()
                    model.save(step[2])
            database.fault = None
            for worker, model in zip(workers, models, strict=True):
                await worker.save()
                model.save(None)
        finally:
            await database.close()
        return saved

    saved = asyncio.run(play())
    try:
        assert known(alliance) == expected(saved)
    finally:
        forget(alliance)


@dataclass
class Model:
    """A worker: what it noted, and the batch that it sends until it hears an answer."""

    saved: list[Did]
    noted: list[Did] = field(default_factory=list)
    batch: list[Did] = field(default_factory=list)
    arrived: bool = False

    def save(self, fault: str | None) -> None:
        if not self.batch:
            self.batch, self.noted = self.noted, []
        if fault == "gone":
            return
        if not self.arrived:
            self.saved += self.batch
        self.arrived = bool(self.batch)
        if fault is None:
            self.saved += self.noted
            self.batch, self.noted, self.arrived = [], [], False


async def test_failures_in_a_row_are_bounded_and_end_with_a_success(database: Shaky, alliance: Alliance) -> None:
    """Each worker and the table hold the newest few; a success anywhere ends those before it, wherever they were."""
    client = alliance.client("north").row
    one, other = Activity(database, HOUR), Activity(database, HOUR)
    for number in range(MOST_FAILURES + 5):
        (one if number % 2 else other).answered(client, at(number), 503)
    await one.save()
    await other.save()
    _, conducts = known(alliance)

    assert conducts[client][:2] == (MOST_FAILURES + 5, MOST_FAILURES + 5)
    assert conducts[client][5] == [at(number) for number in range(MOST_FAILURES + 4, 4, -1)]

    one.answered(client, at(MOST_FAILURES + 2), 200)
    await one.save()
    _, conducts = known(alliance)

    assert conducts[client][5] == [at(MOST_FAILURES + 4), at(MOST_FAILURES + 3)]


async def test_what_was_not_saved_is_kept_and_saved_later(database: Shaky, alliance: Alliance) -> None:
    """Trouble with the database is sat out, however long it takes."""
    client = alliance.client("north").row
    activity = Activity(database, HOUR)
    for number in range(10):
        activity.answered(client, at(number), 200)
        database.fault = "gone"
        await activity.save()
    database.fault = None
    await activity.save()

    assert known(alliance)[1][client][0] == 10


async def test_a_batch_that_is_refused_is_given_up_in_the_end(database: Shaky, alliance: Alliance) -> None:
    """What can never be saved must not keep from being saved what comes after it."""
    client = alliance.client("north").row
    activity = Activity(database, HOUR)
    activity.answered(client, at(1), 200)
    database.fault = "refuses"
    for _ in range(3):
        await activity.save()
    database.fault = None
    activity.answered(client, at(2), 200)
    await activity.save()

    assert known(alliance)[1][client][:3] == (1, 0, at(2))


async def test_large_batches_are_cut(database: Shaky, alliance: Alliance) -> None:
    """However much there is to save, no statement takes long."""
    clients = [alliance.client("north").row for _ in range(30)]
    feeds = [alliance.collection("fraud", f"feed-{number}") for number in range(40)]
    activity = Activity(database, HOUR)
    for client in clients:
        for feed in feeds:
            activity.read(Read(feed, Endpoint.OBJECTS, 1, at(1), ended=True, filtered=False), client, at(2))
    await activity.save()

    assert len(known(alliance)[0]) == 1_200
    assert alliance.execute("SELECT batch FROM activity_batches") == [(2,)]


async def test_nothing_to_save_costs_no_statement(database: Shaky) -> None:
    """An idle worker is quiet."""
    with statements(database) as sent:
        await Activity(database, HOUR).save()

    assert sent == []


async def test_what_is_gone_is_left_out(database: Shaky, alliance: Alliance) -> None:
    """A collection pruned and a client unknown by the time of saving take nothing else with them."""
    client = alliance.client("north").row
    feed = alliance.collection("fraud", "short-lived")
    kept = alliance.collections["fraud/indicators"]
    activity = Activity(database, HOUR)
    for collection in (feed, kept):
        activity.read(Read(collection, Endpoint.OBJECTS, 1, at(1), ended=True, filtered=False), client, at(2))
    activity.answered(client, at(2), 200)
    activity.answered(2**31 - 1, at(2), 200)
    alliance.execute("DELETE FROM collection_clocks WHERE collection_id = %s", feed)
    alliance.execute("DELETE FROM collections WHERE id = %s", feed)
    await activity.save()
    readings, conducts = known(alliance)

    assert list(readings) == [(kept, client, "objects")]
    assert list(conducts) == [client]


async def test_readings_go_with_their_collection(database: Shaky, alliance: Alliance) -> None:
    """One that is made anew under the same id begins anew."""
    client = alliance.client("north").row
    feed = alliance.collection("fraud", "pruned")
    activity = Activity(database, HOUR)
    activity.read(Read(feed, Endpoint.OBJECTS, 1, at(1), ended=True, filtered=False), client, at(2))
    await activity.save()
    async with database.write() as connection:
        await remove_collection(connection, Whole(feed))

    assert known(alliance)[0] == {}


async def test_last_polls_are_told_by_collection_and_client(database: Shaky, alliance: Alliance) -> None:
    """Whoever wants to know who has polled since something happened."""
    north, harbour, silent = (alliance.client("north").row for _ in range(3))
    feed, other = alliance.collections["fraud/indicators"], alliance.collections["fraud/reports"]
    activity = Activity(database, HOUR)
    for endpoint, reached in ((Endpoint.OBJECTS, 5), (Endpoint.MANIFEST, 9)):
        activity.read(Read(feed, endpoint, 1, at(reached), ended=True, filtered=False), north, at(reached + 1))
    activity.read(Read(feed, Endpoint.OBJECT, 1, None, ended=False, filtered=False), harbour, at(3))
    activity.read(Read(other, Endpoint.OBJECTS, 1, at(20), ended=True, filtered=False), north, at(21))
    await activity.save()
    async with database.read() as connection:
        polls = await storage.last_polls(connection, feed, [north, harbour, silent])

    assert polls == {north: LastPoll(at(10), at(5)), harbour: LastPoll(at(3), None)}


async def test_a_running_worker_saves_now_and_then_and_when_it_ends(database: Shaky, alliance: Alliance) -> None:
    """Without being asked; and what is left when it ends is not lost."""
    client = alliance.client("north").row
    activity = Activity(database, timedelta(milliseconds=10))
    async with activity.running():
        activity.answered(client, at(1), 200)
        async with asyncio.timeout(20):
            while client not in known(alliance)[1]:  # noqa: ASYNC110 - only the table tells
                await asyncio.sleep(0.01)
    patient = Activity(database, HOUR)
    async with patient.running():
        patient.answered(client, at(2), 200)

    assert known(alliance)[1][client][:3] == (2, 0, at(2))


async def test_a_batch_whose_answer_was_lost_counts_once(database: Shaky, alliance: Alliance) -> None:
    """It comes again as it was, with what happened since in a batch of its own."""
    client = alliance.client("north").row
    activity = Activity(database, HOUR)
    activity.answered(client, at(1), 200)
    database.fault = "answer lost"
    await activity.save()
    activity.answered(client, at(2), 200)
    database.fault = None
    await activity.save()

    assert known(alliance)[1][client][:3] == (2, 0, at(2))


async def test_a_worker_ends_though_its_database_hangs(
    database: Shaky, alliance: Alliance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who stops it doesn't wait for long, and nothing of it goes on afterwards."""
    before = asyncio.all_tasks()
    begun = asyncio.Event()

    @asynccontextmanager
    async def hangs(*_: object, **__: object) -> AsyncIterator[Connection]:
        begun.set()
        await asyncio.sleep(3600)
        async with Database.write(database) as connection:
            yield connection

    monkeypatch.setattr(database, "write", hangs)
    monkeypatch.setattr(operations, "_LAST_WORD", 0.01)
    activity = Activity(database, timedelta(milliseconds=1))
    async with asyncio.timeout(20):
        async with activity.running():
            activity.answered(alliance.client("north").row, at(1), 200)
            await begun.wait()
        assert asyncio.all_tasks() == before


async def test_saving_waits_for_nobody_s_disk_and_not_for_long(database: Shaky) -> None:
    """What may be lost with the last moments is not worth a client's time."""
    async with database.write() as connection:
        await storage.save(connection, uuid4(), 1, [], [])
        kept = await connection.execute(
            text(
                "SELECT current_setting('synchronous_commit'), current_setting('lock_timeout'),"
                " current_setting('statement_timeout')"
            )
        )
        assert tuple(kept.one()) == ("off", "2s", "5s")
    async with database.statement() as connection:
        assert (await connection.execute(text("SHOW synchronous_commit"))).scalar_one() == "on"


async def test_what_is_long_gone_is_forgotten(database: Shaky, alliance: Alliance) -> None:
    """The numbers of batches of workers that ended, and what clients did that were revoked long ago."""
    live, lately, long_ago = (alliance.client("north").row for _ in range(3))
    activity = Activity(database, HOUR)
    for client, days in ((live, None), (lately, 1), (long_ago, 3)):
        page = Read(alliance.collections["fraud/indicators"], Endpoint.OBJECTS, 1, at(1), ended=True, filtered=False)
        activity.read(page, client, at(2))
        activity.answered(client, at(2), 200)
        since = None if days is None else timedelta(days=days)
        alliance.execute("UPDATE clients SET revoked_at = now() - %s::interval WHERE id = %s", since, client)
    await activity.save()
    alliance.execute("INSERT INTO activity_batches VALUES (%s, 1, now() - interval '3 days')", uuid4())
    async with database.write() as connection:
        await storage.purge(connection, workers=timedelta(days=2), revoked=timedelta(days=2))
    readings, conducts = known(alliance)

    assert {client for _, client, _ in readings} == set(conducts) == {live, lately}
    assert alliance.execute("SELECT count(*) FROM activity_batches") == [(1,)]
