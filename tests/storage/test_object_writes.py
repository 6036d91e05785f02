"""Additions: dates in their order, one writer at a time for each collection, and kept levels that stay right."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from sqlalchemy import select, text, update

from taxii_server.domain.additions import Conflict, Repeat, Store
from taxii_server.domain.errors import ClockAhead, NotFound
from taxii_server.domain.stix_objects import Form
from taxii_server.domain.stix_versions import standings
from taxii_server.domain.timestamps import to_taxii
from taxii_server.domain.tlp import Level
from taxii_server.storage import clocks, object_writes, stored_versions
from taxii_server.storage.tables import collection_clocks, deleted_versions, object_versions
from tests.storage.feeds import CLIENT, MEMBER, Feed, body_of, columns, stix_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taxii_server.domain.additions import Outcome
    from taxii_server.storage.engine import Connection, Database

pytestmark = pytest.mark.anyio

ONE, SCO = stix_id(1), stix_id(4, "ipv4-addr")
MICROSECOND = timedelta(microseconds=1)


@pytest.fixture
async def feed(database: Database) -> Feed:
    return await Feed(database).create()


async def clock_of(feed: Feed) -> tuple[datetime, int]:
    """The last date given out, and the number of changes."""
    asked = select(collection_clocks.c.last_added, collection_clocks.c.changes).where(
        collection_clocks.c.collection_id == feed.collection_id,
    )
    async with feed.database.read(feed.whole()) as connection:
        row = (await connection.execute(asked)).one()
    return row.last_added, row.changes


async def set_clock(feed: Feed, ahead: timedelta) -> datetime:
    """Put the clock ahead of the database's time."""
    async with feed.database.write(feed.writable()) as connection:
        now: datetime = (await connection.execute(text("SELECT clock_timestamp()"))).scalar_one()
        await connection.execute(
            update(collection_clocks)
            .where(collection_clocks.c.collection_id == feed.collection_id)
            .values(last_added=now + ahead),
        )
    return now + ahead


async def stored(feed: Feed) -> list[stored_versions.StoredVersion]:
    async with feed.database.read(feed.whole()) as connection:
        asked = select(object_versions.c.stix_id).where(object_versions.c.collection_id == feed.collection_id)
        ids = set((await connection.execute(asked)).scalars())
        found = await stored_versions.of_objects(connection, feed.collection_id, ids)
    return sorted(found, key=lambda version: version.date_added)


def dates(outcomes: Sequence[Outcome]) -> list[datetime]:
    return [outcome.place.date_added for outcome in outcomes if isinstance(outcome, Store)]


# The clock


async def test_each_version_is_dated_a_microsecond_after_the_one_before(feed: Feed) -> None:
    """Dates are unique and rise in the order of the envelope, whatever the order of the versions."""
    first, *_, last = given = dates(await feed.add([columns(ONE, second) for second in (5, 1, 4, 2, 3)]))

    assert given == [first + MICROSECOND * step for step in range(5)]
    assert (await clock_of(feed))[0] == last
    assert abs(first - datetime.now(UTC)) < timedelta(seconds=30)


async def test_a_later_addition_is_dated_later(feed: Feed) -> None:
    """From one transaction to the next, dates go on rising."""
    given = [date for second in range(20) for date in dates(await feed.add([columns(ONE, second)]))]

    assert given == sorted(set(given))


async def test_dates_go_on_after_the_clock_when_it_is_ahead(feed: Feed) -> None:
    """The database's time may step back by up to a minute: dates never do."""
    last_added = await set_clock(feed, timedelta(seconds=50))

    assert dates(await feed.add([columns(ONE, 1), columns(ONE, 2)])) == [
        last_added + MICROSECOND,
        last_added + MICROSECOND * 2,
    ]


async def test_a_clock_more_than_a_minute_ahead_refuses(feed: Feed) -> None:
    """Whoever looks at the clock has to be an operator; nothing is stored, nothing moves."""
    before = await set_clock(feed, timedelta(seconds=70)), (await clock_of(feed))[1]
    with pytest.raises(ClockAhead, match="ahead of the database's time"):
        await feed.add([columns(ONE, 1)])

    assert await stored(feed) == []
    assert await clock_of(feed) == before


async def test_what_is_rolled_back_moves_nothing(feed: Feed) -> None:
    """A fault after the additions takes them back, and the clock with them."""
    before = await clock_of(feed)
    target = feed.writable()
    incoming = [(columns(ONE, 1), b"{}")]

    async def fail() -> None:
        async with feed.database.write(feed.writable()) as connection:
            clock = await clocks.lock_clock(connection, feed.collection_id)
            await object_writes.add(connection, target, clock, uuid4(), incoming)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await stored(feed) == []
    assert await clock_of(feed) == before


async def test_a_collection_that_is_gone_has_no_clock(database: Database) -> None:
    """It went while the body was read: as if it had never been."""
    with pytest.raises(NotFound):
        await Feed(database).add([columns(ONE, 1)])


async def test_changes_rise_with_a_write_and_not_with_repeats(feed: Feed) -> None:
    """What a replica shows is compared by this number: it rises with everything that changes what is seen."""
    numbers = [(await clock_of(feed))[1]]
    for incoming in ([columns(ONE, 1), columns(ONE, 2)], [columns(ONE, 1)], [columns(ONE, 1, content="other")], []):
        await feed.add(incoming)
        numbers.append((await clock_of(feed))[1])
    await feed.remove([next(iter(feed.live))])
    numbers.append((await clock_of(feed))[1])

    before, added, *repeated, removed = numbers
    assert before < added < removed
    assert repeated == [added] * 3


async def test_no_two_states_have_one_number_of_changes(feed: Feed) -> None:
    """Not even where a failover or a restore lost one of them: a number that was given out is behind the time."""
    await feed.add([columns(ONE, 1)])
    _, lost = await clock_of(feed)
    async with feed.database.write(feed.writable()) as connection:
        mine = collection_clocks.c.collection_id == feed.collection_id
        await connection.execute(update(collection_clocks).where(mine).values(changes=0))
    await feed.remove([next(iter(feed.live))])

    assert (await clock_of(feed))[1] > lost


# What is new, known, or in conflict


async def test_an_observable_is_repeated_as_often_as_you_like(feed: Feed) -> None:
    """D-17: equal to any live row is a success with that row's date; other content is another version."""
    first, second = columns(SCO, None), columns(SCO, None, content="other")
    [one] = await feed.add([first])
    [two] = await feed.add([second])
    assert isinstance(one, Store)
    assert isinstance(two, Store)
    assert one.version == to_taxii(one.place.date_added)

    assert await feed.add([first, second, first]) == [Repeat(one.version), Repeat(two.version), Repeat(one.version)]
    assert len(await stored(feed)) == 2


async def test_an_observable_twice_at_once_is_stored_once(feed: Feed) -> None:
    """Within one transaction too."""
    first, second = await feed.add([columns(SCO, None), columns(SCO, None)])

    assert isinstance(first, Store)
    assert second == Repeat(first.version)


async def test_a_removed_observable_is_stored_anew(feed: Feed) -> None:
    """Only live rows count as repeats."""
    [one] = await feed.add([columns(SCO, None)])
    assert isinstance(one, Store)
    await feed.remove([one.place.date_added])
    [again] = await feed.add([columns(SCO, None)])

    assert isinstance(again, Store)
    assert again.place.date_added > one.place.date_added


async def test_a_known_version_is_a_repeat_or_a_conflict(feed: Feed) -> None:
    """D-07: by its digest; the form is part of what a version is."""
    await feed.add([columns(ONE, 1)])
    repeat, conflict, other_form = await feed.add(
        [columns(ONE, 1), columns(ONE, 1, content="other"), columns(ONE, 1, Form.STIX_2_0)],
    )

    version = columns(ONE, 1).version
    assert repeat == Repeat(version or "")
    assert conflict == Conflict(version or "")
    assert isinstance(other_form, Store)


async def test_rows_say_who_brought_them_and_how_large_they_are(feed: Feed) -> None:
    """Member, client, status and octets stand beside the exact text."""
    await feed.add([columns(ONE, 1, level=Level.AMBER), columns(SCO, None)], size=10)
    async with feed.database.read(feed.whole()) as connection:
        rows = (
            await connection.execute(
                select(object_versions)
                .where(object_versions.c.collection_id == feed.collection_id)
                .order_by(object_versions.c.date_added),
            )
        ).all()

    assert [(row.member, row.client, row.stix_type, row.level, row.marked) for row in rows] == [
        (MEMBER, CLIENT, "indicator", Level.AMBER, True),
        (MEMBER, CLIENT, "ipv4-addr", Level.CLEAR, False),
    ]
    assert len({row.status_id for row in rows}) == 1
    for row, of in zip(rows, (columns(ONE, 1, level=Level.AMBER), columns(SCO, None)), strict=True):
        assert row.body == body_of(of, 10).decode()
        assert row.body_bytes == len(body_of(of, 10))


async def test_octets_are_counted_not_letters(feed: Feed) -> None:
    """Pages are bounded by octets (a letter may take four)."""
    body = '{"x":"é😀"}'.encode()
    target = feed.writable()
    async with feed.database.write(feed.writable()) as connection:
        clock = await clocks.lock_clock(connection, feed.collection_id)
        await object_writes.add(connection, target, clock, uuid4(), [(columns(ONE, 1), body)])
    async with feed.database.read(feed.whole()) as connection:
        size = await connection.execute(
            select(object_versions.c.body_bytes).where(object_versions.c.collection_id == feed.collection_id),
        )
    assert size.scalar_one() == len(body)


# Kept levels


async def test_the_versions_around_a_new_one_are_set_right(feed: Feed) -> None:
    """A version stored between others changes what those before it keep, and takes its own from those after it."""
    for level, second, form in (
        (Level.RED, 5, Form.STIX_2_1),
        (Level.GREEN, 1, Form.STIX_2_1),
        (Level.AMBER, 3, Form.STIX_2_1),
        (Level.CLEAR, 9, Form.STIX_2_0),
        (Level.CLEAR, 7, Form.STIX_2_1),
    ):
        await feed.add([columns(ONE, second, form, level)])
        found = await stored(feed)
        right = standings(version.place for version in found)
        assert {version.date_added: version.standing for version in found} == right


async def test_a_late_arrival_is_marked_with_the_date_it_came_after(feed: Feed) -> None:
    """`late_after` is the earliest date among the later versions that were there, and null for the newest."""
    [second, third] = dates(await feed.add([columns(ONE, 2), columns(ONE, 3)]))
    [first] = await feed.add([columns(ONE, 1)])
    [fourth] = await feed.add([columns(ONE, 4)])

    assert isinstance(first, Store)
    assert isinstance(fourth, Store)
    assert (first.late_after, fourth.late_after) == (second, None)
    async with feed.database.read(feed.whole()) as connection:
        kept = await connection.execute(
            select(object_versions.c.late_after)
            .where(object_versions.c.collection_id == feed.collection_id)
            .order_by(object_versions.c.date_added),
        )
    assert second < third
    assert list(kept.scalars()) == [None, None, second, None]


async def test_removed_rows_are_kept_without_bodies(feed: Feed) -> None:
    """And the rest of the object stands as if they had never been."""
    first, second = dates(await feed.add([columns(ONE, 1), columns(ONE, 2)]))
    await feed.remove([second])
    [left] = await stored(feed)

    assert left.date_added == first
    assert left.standing == standings([left.place])[first]
    async with feed.database.read(feed.whole()) as connection:
        gone = await connection.execute(
            select(deleted_versions.c.date_added).where(deleted_versions.c.collection_id == feed.collection_id),
        )
    assert list(gone.scalars()) == [second]
    assert "body" not in deleted_versions.c


# Writers at the same time


async def test_writers_of_one_object_take_turns(feed: Feed) -> None:
    """Eight at once, really committed: one newest version, dates unique, kept levels right."""
    await asyncio.gather(*(feed.add([columns(ONE, 8 * step + writer) for step in range(3)]) for writer in range(8)))
    found = await stored(feed)

    assert len(found) == 24
    assert len({version.date_added for version in found}) == 24
    assert {version.date_added: version.standing for version in found} == standings(one.place for one in found)
    assert max(version.date_added for version in found) == (await clock_of(feed))[0]


@pytest.mark.parametrize("second", [1, None])
async def test_of_equal_additions_at_once_one_is_stored(feed: Feed, second: int | None) -> None:
    """The others are repeats of it; no unique key is ever run into."""
    of = ONE if second else SCO
    outcomes = [one for [one] in await asyncio.gather(*(feed.add([columns(of, second)]) for _ in range(8)))]

    [version] = await stored(feed)
    assert sorted(type(one).__name__ for one in outcomes) == ["Repeat"] * 7 + ["Store"]
    assert {one.version for one in outcomes} == {version.version}


async def test_of_contradicting_additions_at_once_one_is_stored(feed: Feed) -> None:
    """D-07 holds between writers."""
    outcomes = await asyncio.gather(*(feed.add([columns(ONE, 1, content=str(writer))]) for writer in range(6)))

    assert sorted(type(one).__name__ for [one] in outcomes) == ["Conflict"] * 5 + ["Store"]


async def test_nothing_is_seen_past_a_writer_that_has_not_committed(feed: Feed) -> None:
    """Dates are given under the lock, which is held until commit: the second writer waits and is dated later."""
    target = feed.writable()
    async with feed.writing_out_of_turn() as connection:
        clock = await clocks.lock_clock(connection, feed.collection_id)
        slow = await object_writes.add(connection, target, clock, uuid4(), [(columns(ONE, 1), b"{}")])
        fast = asyncio.create_task(feed.add([columns(stix_id(2), 1)]))
        await waiting_for_lock(feed.database, fast)
        assert await stored(feed) == []

    [first], [second] = dates(slow), dates(await fast)
    assert first < second


async def test_a_removal_waits_for_the_writer_too(feed: Feed) -> None:
    """It is decided from what is there once the writer has committed."""
    [first] = dates(await feed.add([columns(ONE, 1)]))
    async with feed.writing_out_of_turn() as connection:
        await clocks.lock_clock(connection, feed.collection_id)
        removing = asyncio.create_task(feed.remove([first]))
        await waiting_for_lock(feed.database, removing)
        assert len(await stored(feed)) == 1
    await removing
    assert await stored(feed) == []


async def test_other_collections_dont_wait(database: Database, feed: Feed) -> None:
    """One clock for each collection."""
    other = await Feed(database).create()
    async with database.write() as connection:
        await clocks.lock_clock(connection, feed.collection_id)
        async with asyncio.timeout(5):
            await other.add([columns(ONE, 1)])


async def test_a_locked_clock_holds_up_no_reference_to_the_collection(database: Database, feed: Feed) -> None:
    """Grants can be given while somebody writes."""
    async with database.write() as connection:
        await clocks.lock_clock(connection, feed.collection_id)
        async with asyncio.timeout(5), database.write() as other:
            [member] = (
                await other.execute(
                    text("INSERT INTO members (slug, name, kind) VALUES (:slug, 'x', 'bank') RETURNING id"),
                    {"slug": str(uuid4())},
                )
            ).scalars()
            await other.execute(
                text("INSERT INTO grants (member_id, collection_id, rights) VALUES (:member, :collection, '{}')"),
                {"member": member, "collection": feed.collection_id},
            )
            await other.rollback()


async def waiting_for_lock(database: Database, task: asyncio.Task[object]) -> None:
    """Return once some other connection waits for a lock."""
    async with asyncio.timeout(10):
        while True:
            assert not task.done(), "it didn't wait"
            async with database.statement() as connection:
                if await _waits(connection):
                    return
            await asyncio.sleep(0.01)


async def _waits(connection: Connection) -> bool:
    asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    return bool((await connection.execute(text(asked))).scalar_one())
