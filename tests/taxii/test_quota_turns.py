"""A quota is exact without its member holding up others; and no order of additions locks itself up.

Two applications on one database, and everything commits: what holds between them is the database's doing.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from prometheus_client import REGISTRY
from sqlalchemy.engine import make_url

from taxii_server.app import create_app
from taxii_server.storage import object_writes, stored_octets
from tests.auth.alliance import BOTH
from tests.factories import indicator
from tests.taxii.alliance import PUBLIC_URL, TAXII, Exchange, exchange_on, settings_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractContextManager
    from types import ModuleType

    from taxii_server.storage.embedded import DatabaseUrls
    from taxii_server.storage.engine import Connection

pytestmark = pytest.mark.anyio

COLLECTIONS = ("fraud-intel/scratch", "fraud-intel/second", "fraud-intel/third")
TURNS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
CLOCK = "SELECT FROM collection_clocks WHERE collection_id = %s FOR NO KEY UPDATE"
DEADLOCKS = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
SIZE = len(httpx.Request("POST", PUBLIC_URL, json=indicator(id=f"indicator--{uuid4()}")).content)


@pytest.fixture(scope="module")
async def exchange(module_database_urls: DatabaseUrls) -> AsyncIterator[Exchange]:
    """The alliance with three collections that everybody here adds to."""
    async with exchange_on(module_database_urls) as running:
        for name in COLLECTIONS[1:]:
            group, alias = name.split("/")
            running.alliance.collection(group, alias, validation="structural")
            running.alliance.grant("north", name, BOTH)
        yield running


@pytest.fixture(scope="module")
async def workers(exchange: Exchange, module_database_urls: DatabaseUrls) -> AsyncIterator[list[httpx.AsyncClient]]:
    """The application, and another one beside it."""
    app = create_app(settings_for(module_database_urls))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as other:
        yield [exchange.http, other]


@pytest.fixture
def owner(module_database_urls: DatabaseUrls) -> Iterator[psycopg.Connection]:
    """A connection that can hold locks as another worker would."""
    url = make_url(module_database_urls.owner).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


def bank(exchange: Exchange, quota: int | None) -> str:
    """A member that may add everywhere."""
    slug = f"bank-{uuid4().hex[:8]}"
    exchange.alliance.member(slug)
    for name in COLLECTIONS:
        exchange.alliance.grant(slug, name, BOTH)
    exchange.clients[slug] = exchange.alliance.client(slug)
    exchange.alliance.execute("UPDATE members SET quota = %s WHERE slug = %s", quota, slug)
    return slug


def stored(exchange: Exchange, slug: str) -> tuple[int, int]:
    """How many versions of a member there are, and of how many octets."""
    [found] = exchange.alliance.execute(
        "SELECT count(*)::int, coalesce(sum(octet_length(body)), 0)::int FROM object_versions WHERE member = %s",
        exchange.alliance.members[slug],
    )
    return found[0], found[1]


@dataclass
class Pause:
    """Where something waits: that it came there, and that it may go on."""

    there: asyncio.Event = field(default_factory=asyncio.Event)
    on: asyncio.Event = field(default_factory=asyncio.Event)


@contextmanager
def paused(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, when: Callable[..., bool], *, before: bool
) -> Iterator[Pause]:
    """Stop the first call of a function that is meant, before or after it is done."""
    pause, call = Pause(), getattr(module, name)

    async def stopping(*given: Any, **named: Any) -> Any:
        meant = not pause.there.is_set() and when(*given, **named)
        answer = None if meant and before else await call(*given, **named)
        if meant:
            pause.there.set()
            await pause.on.wait()
        return await call(*given, **named) if meant and before else answer

    with monkeypatch.context() as patch:
        patch.setattr(module, name, stopping)
        try:
            yield pause
        finally:
            pause.on.set()


def storing(monkeypatch: pytest.MonkeyPatch, exchange: Exchange, collection: str) -> AbstractContextManager[Pause]:
    """Stop the next addition to a collection once its versions are in."""
    collection_id = exchange.collection_id(collection)
    add = object_writes.add

    async def adding(connection: Connection, *given: Any) -> Any:
        outcomes = await add(connection, *given)
        # they go with whatever comes next
        await connection.exec_driver_sql("SELECT")
        return outcomes

    monkeypatch.setattr(object_writes, "add", adding)
    return paused(
        monkeypatch,
        object_writes,
        "add",
        lambda _, target, *__: target.collection_id == collection_id,
        before=False,
    )


async def push(exchange: Exchange, worker: httpx.AsyncClient, slug: str, name: str, objects: int = 1) -> dict[str, Any]:
    """Add objects that nobody has; give the status."""
    headers = exchange.as_(slug) | {"Accept": TAXII, "Content-Type": TAXII}
    body = {"objects": [indicator(id=f"indicator--{uuid4()}") for _ in range(objects)]}
    answer = await worker.post(exchange.path(name=name), json=body, headers=headers)
    assert answer.status_code == 202, answer.text
    status: dict[str, Any] = answer.json()
    return status


async def test_a_members_large_push_holds_up_nobody_elsewhere(
    exchange: Exchange, workers: list[httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one push of a bank is stored, it and others add to all other collections, through each worker."""
    busy = bank(exchange, 1 << 30)
    [first, *elsewhere] = COLLECTIONS
    with storing(monkeypatch, exchange, first) as pause:
        slow = asyncio.create_task(push(exchange, workers[0], busy, first))
        async with asyncio.timeout(10):
            await pause.there.wait()
            others = await asyncio.gather(
                *(
                    push(exchange, worker, slug, name)
                    for name in elsewhere
                    for worker in workers
                    for slug in (busy, busy, "north")
                )
            )
        assert not slow.done()
        pause.on.set()
        status = await slow

    assert [one["success_count"] for one in (*others, status)] == [1] * 13


async def test_room_that_was_taken_meanwhile_is_taken_once(
    exchange: Exchange, workers: list[httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An addition that found room, and finds it gone when it is about to commit, is judged anew: in whole, and once."""
    tight = bank(exchange, SIZE * 3)
    [first, second, _] = COLLECTIONS
    refused = REGISTRY.get_sample_value("taxii_quota_refusals_total") or 0
    with storing(monkeypatch, exchange, first) as pause:
        slow = asyncio.create_task(push(exchange, workers[0], tight, first, 3))
        async with asyncio.timeout(10):
            await pause.there.wait()
            other = await push(exchange, workers[1], tight, second, 2)
        pause.on.set()
        status = await slow
    acts = exchange.alliance.execute(
        "SELECT details::json ->> 'versions' FROM audit_events WHERE details LIKE %s", f"%{status['id']}%"
    )

    assert [other["success_count"], status["success_count"], status["failure_count"]] == [2, 1, 2]
    assert f"of these 0 are left; this version takes {SIZE}" in status["failures"][1]["message"]
    assert stored(exchange, tight) == (3, 3 * SIZE)
    assert acts == [("1",)]
    assert REGISTRY.get_sample_value("taxii_quota_refusals_total") == refused + 2


async def test_no_two_commit_with_the_same_room(
    exchange: Exchange, workers: list[httpx.AsyncClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever looked at the sum for the last time commits before another one may look."""
    tight = bank(exchange, SIZE * 3)
    asked: list[int] = []

    def last_look(_: object, member: int) -> bool:
        asked.append(member)
        return asked.count(exchange.alliance.members[tight]) == 2

    with paused(monkeypatch, stored_octets, "of_member", last_look, before=False) as pause:
        first = asyncio.create_task(push(exchange, workers[0], tight, COLLECTIONS[0], 2))
        async with asyncio.timeout(10):
            await pause.there.wait()
            second = asyncio.create_task(push(exchange, workers[1], tight, COLLECTIONS[1], 2))
            while exchange.alliance.execute(TURNS) == [(0,)] and not second.done():  # noqa: ASYNC110 - only it knows
                await asyncio.sleep(0.01)
        pause.on.set()
        done = await asyncio.gather(first, second)

    assert [one["success_count"] for one in done] == [2, 1]
    assert stored(exchange, tight) == (3, 3 * SIZE)


async def test_a_quota_that_is_given_meanwhile_counts(
    exchange: Exchange, workers: list[httpx.AsyncClient], owner: psycopg.Connection
) -> None:
    """A push that began without one, and waited for the collection, finds what room there is by then."""
    given = bank(exchange, None)
    [name, *_] = COLLECTIONS
    with owner.transaction():
        owner.execute(CLOCK, (exchange.collection_id(name),))
        pushed = asyncio.create_task(push(exchange, workers[0], given, name))
        async with asyncio.timeout(20):
            while exchange.alliance.execute("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(0,)]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        exchange.alliance.execute("UPDATE members SET quota = 1 WHERE slug = %s", given)
    status = await pushed

    assert [status["success_count"], status["failure_count"]] == [0, 1]
    assert "quota of 1 octets" in status["failures"][0]["message"]


@pytest.mark.parametrize("rounds", [1, pytest.param(15, marks=pytest.mark.slow)])
async def test_no_order_of_additions_locks_itself_up_or_passes_a_quota(
    exchange: Exchange, workers: list[httpx.AsyncClient], owner: psycopg.Connection, rounds: int
) -> None:
    """Two banks with quotas and one without, three collections, two workers, and somebody who locks all clocks as apply does."""
    pushes = 10 * rounds
    room = pushes * 3 // 2
    banks = [bank(exchange, room * SIZE + SIZE // 2) for _ in range(2)]
    clocks = sorted(exchange.collection_id(name) for name in COLLECTIONS)
    [(deadlocks,)] = exchange.alliance.execute(DEADLOCKS)
    done = asyncio.Event()

    def lock_all() -> None:
        with owner.transaction():
            for one in clocks:
                owner.execute(CLOCK, (one,))

    async def applying() -> None:
        while not done.is_set():
            await asyncio.to_thread(lock_all)
            await asyncio.sleep(0.005)

    answers: dict[str, list[dict[str, Any]]] = {slug: [] for slug in (*banks, "north")}

    async def pushing(slug: str, step: int, lane: int) -> None:
        for number in range(lane, pushes, 5):
            name = COLLECTIONS[(number * step) % 3]
            answers[slug].append(await push(exchange, workers[number % 2], slug, name, 2))

    apply = asyncio.create_task(applying())
    async with asyncio.timeout(120):
        await asyncio.gather(
            *(pushing(slug, step, lane) for slug, step in zip(answers, (1, 2, 1), strict=True) for lane in range(5))
        )
    done.set()
    await apply

    for slug in banks:
        assert stored(exchange, slug) == (room, room * SIZE)
        assert sum(one["success_count"] for one in answers[slug]) == room
    assert sum(one["success_count"] for one in answers["north"]) == 2 * pushes
    assert exchange.alliance.execute(DEADLOCKS) == [(deadlocks,)]
