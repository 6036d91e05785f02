"""Pages of versions obey the rule of `domain.stix_versions`, whatever was added, removed and asked."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taxii_server.domain.filters import ALL_VERSIONS, LAST_ONLY, Exactly, Filter, Keyword
from taxii_server.domain.stix_objects import Form
from taxii_server.domain.stix_versions import selected, standings
from taxii_server.domain.tlp import Level
from taxii_server.storage import object_pages, stored_versions
from taxii_server.storage.engine import Database
from taxii_server.storage.object_pages import Bounds
from tests.storage.feeds import BEGINNING, Feed, columns, served, stix_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taxii_server.domain.stix_objects import Columns
    from taxii_server.storage.embedded import DatabaseUrls

    History = list[list[Columns] | tuple[int, ...]]
    Question = tuple[Filter, int | None, Level, int, int]

IDS = [stix_id(1), stix_id(2), stix_id(3, "malware"), stix_id(4, "ipv4-addr")]
SECONDS = range(3)

incoming = st.builds(
    lambda of, version, form, level, content: columns(
        of,
        None if of.startswith("ipv4") else version,
        Form.STIX_2_1 if of.startswith("ipv4") else form,
        level,
        content,
    ),
    # mostly one object, so that histories are long enough to matter
    st.sampled_from([*IDS[:1] * 4, *IDS]),
    st.sampled_from(SECONDS),
    st.sampled_from(Form),
    st.sampled_from([None, None, *Level]),
    st.sampled_from("ab"),
)
additions = st.lists(incoming, min_size=1, max_size=5)
# A removal names versions by their rank among those that are live when it comes.
removals = st.lists(st.integers(0, 30), min_size=1, max_size=3)
histories = st.lists(st.one_of(additions, additions, additions, removals.map(tuple)), min_size=3, max_size=8)

exact = st.sampled_from(SECONDS).map(lambda second: Exactly(BEGINNING.replace(second=second)))
specs = st.one_of(
    st.just(LAST_ONLY),
    st.just(ALL_VERSIONS),
    st.lists(
        st.one_of(st.sampled_from([Keyword.FIRST, Keyword.LAST]), exact),
        min_size=1,
        max_size=3,
        unique=True,
    ).map(tuple),
)


def some(values: Sequence[object]) -> st.SearchStrategy[tuple[object, ...] | None]:
    """Leave a filter out, or name some values, perhaps one twice."""
    return st.one_of(st.none(), st.lists(st.sampled_from(values), min_size=1, max_size=3).map(tuple))


questions = st.tuples(
    st.builds(
        Filter,
        ids=some(IDS),
        types=some(["indicator", "malware", "ipv4-addr", "tool"]),
        versions=specs,
        forms=some([int(form) for form in Form]),
    ),
    # where added_after lies: None, or a rank among the dates that were ever given
    st.one_of(st.none(), st.integers(0, 12)),
    st.sampled_from([Level.RED, *Level]),
    st.integers(1, 5),
    st.sampled_from([1, 300, 10_000]),
)


@settings(max_examples=15)
@given(history=histories, asked=st.lists(questions, min_size=20, max_size=40))
def test_pages_hold_what_the_rule_selects(
    module_database_urls: DatabaseUrls, history: History, asked: list[Question]
) -> None:
    """§3.3, §3.4: every page walk gives what the rule selects, each version once, oldest addition first.

    For every combination of versions, forms, levels, filters, page sizes, late arrivals and deletions, and for every
    clearance, by `next`.
    """
    asyncio.run(_compare(module_database_urls, history, asked))


@pytest.mark.slow
@pytest.mark.timeout(600)
@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories, asked=st.lists(questions, min_size=20, max_size=40))
def test_pages_hold_what_the_rule_selects_at_length(
    module_database_urls: DatabaseUrls, history: History, asked: list[Question]
) -> None:
    """The same, many more of them."""
    asyncio.run(_compare(module_database_urls, history, asked))


async def _compare(urls: DatabaseUrls, history: History, asked: list[Question]) -> None:
    database = Database(urls.server, connections=2)
    try:
        feed = await Feed(database).create()
        dates = await _play(feed, history)
        await _kept_levels_are_right(feed)
        for want, rank, clearance, limit, page_bytes in asked:
            after = None if rank is None else ([BEGINNING, *dates])[rank % (len(dates) + 1)]
            question = Filter(after, want.ids, want.types, want.versions, want.forms)
            await _same_as_the_rule(feed, question, clearance, Bounds(limit, page_bytes))
    finally:
        await database.close()


async def _play(feed: Feed, history: History) -> list[datetime]:
    """Carry a history out; give every date that was handed out, those of removed versions too."""
    dates: set[datetime] = set()
    for step in history:
        if isinstance(step, list):
            await feed.add(step)
            dates |= set(feed.live)
        elif feed.live:
            live = sorted(feed.live)
            await feed.remove({live[rank % len(live)] for rank in step})
    return sorted(dates)


async def _kept_levels_are_right(feed: Feed) -> None:
    """Compare every kept level with what follows from the versions that are there."""
    async with feed.database.read(feed.whole()) as connection:
        stored = await stored_versions.of_objects(connection, feed.collection_id, IDS)
    assert {one.date_added: one.place for one in stored} == feed.live
    for of in IDS:
        right = standings(one.place for one in stored if one.stix_id == of)
        assert right == {one.date_added: one.standing for one in stored if one.stix_id == of}


async def _same_as_the_rule(feed: Feed, question: Filter, clearance: Level, bounds: Bounds) -> None:
    expected = [version.date_added for version in selected(feed.live.values(), clearance, question)]
    served = await _walk(feed, question, clearance, bounds)

    assert [date for date, _ in served] == expected
    assert [body for _, body in served] == [feed.bodies[date] for date in expected]


async def _walk(feed: Feed, question: Filter, clearance: Level, bounds: Bounds) -> list[tuple[datetime, str]]:
    found: list[tuple[datetime, str]] = []
    position = None
    while True:
        async with feed.database.read(feed.readable(clearance)) as connection:
            page = await object_pages.page(connection, feed.readable(clearance), question, position, bounds)
        assert len(page.dates) <= bounds.limit
        assert len(page.dates) <= 1 or sum(len(body) for _, body in served(page)) <= bounds.page_bytes
        found += served(page)
        if not page.more:
            return found
        assert page.dates, "a page that says more must get on"
        position = page.last


@pytest.mark.anyio
async def test_a_page_says_whether_the_caller_sees_the_object_at_all(database: Database) -> None:
    """§5.6: an object above the clearance is as unknown as one that was never added."""
    feed = await Feed(database).create()
    await feed.add([columns(IDS[0], 1, level=Level.RED)])

    async def known(of: str, clearance: Level) -> bool:
        async with database.read(feed.readable(clearance)) as connection:
            page = await object_pages.page(
                connection,
                feed.readable(clearance),
                Filter(ids=(of,), forms=(int(Form.STIX_2_0),)),
                None,
                Bounds(10, 1000),
            )
        assert page.dates == []
        return page.known

    assert await known(IDS[0], Level.RED)
    assert not await known(IDS[0], Level.AMBER_STRICT)
    assert not await known(IDS[1], Level.RED)


@pytest.mark.anyio
async def test_the_default_view_with_added_after_shows_late_arrivals(database: Database) -> None:
    """§3.4.1, D-06: add a3, note T, add a2; with added_after=T the answer is a2, without it a3."""
    feed = await Feed(database).create()
    await feed.add([columns(IDS[0], 3)])
    (noted,) = feed.live
    await feed.add([columns(IDS[0], 2)])
    late = max(feed.live)

    assert [date for date, _ in await _walk(feed, Filter(), Level.RED, Bounds(10, 1000))] == [noted]
    assert [date for date, _ in await _walk(feed, Filter(noted), Level.RED, Bounds(10, 1000))] == [late]
