"""The levels of what is stored stay right whatever is added, removed and ruled about unmarked objects."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select

from taxii_server.domain.additions import Store
from taxii_server.domain.stix_objects import Form
from taxii_server.domain.stix_versions import standings
from taxii_server.domain.tlp import MARKING_LEVELS, Level
from taxii_server.storage import clocks, levels, stored_versions
from taxii_server.storage.engine import Database
from taxii_server.storage.tables import collection_clocks, object_versions
from tests.storage.feeds import Feed, columns, stix_id

if TYPE_CHECKING:
    from datetime import datetime

    from taxii_server.domain.stix_objects import Columns
    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

IDS = [stix_id(1), stix_id(2), stix_id(3, "malware"), stix_id(4, "ipv4-addr")]
TLP_RED = next(of for of, level in MARKING_LEVELS.items() if level is Level.RED)

incoming = st.builds(
    lambda of, second, form, level: columns(of, None if of.startswith("ipv4") else second, form, level),
    st.sampled_from([*IDS[:1] * 4, *IDS]),
    st.integers(0, 4),
    st.sampled_from(Form),
    st.sampled_from([None, None, None, *Level]),
)
additions = st.lists(incoming, min_size=1, max_size=5)
removals = st.lists(st.integers(0, 30), min_size=1, max_size=3).map(tuple)
histories = st.lists(
    st.one_of(additions, additions, additions, removals, st.sampled_from(Level)), min_size=4, max_size=12
)


async def rule(feed: Feed, level: Level) -> int:
    """Let what is unmarked count as `level` from now on, as `apply` does."""
    async with feed.database.write() as connection:
        await clocks.lock_clock(connection, feed.collection_id)
        moved = await levels.relevel(connection, feed.whole(), level)
    feed.policy = replace(feed.policy, unmarked_level=level)
    return moved.contents.versions


async def changes(feed: Feed) -> int:
    asked = select(collection_clocks.c.changes).where(collection_clocks.c.collection_id == feed.collection_id)
    async with feed.database.read() as connection:
        return int((await connection.execute(asked)).scalar_one())


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(history=histories, rows=st.sampled_from([1, 2, 3, levels.ROWS]))
def test_kept_levels_follow_every_change_of_the_rule(
    database_urls: DatabaseUrls, history: list[list[Columns] | tuple[int, ...] | Level], rows: int
) -> None:
    """After any sequence of writes, deletes and rules, levels and kept levels are what the reference works out.

    In stretches of any length, so that an object's versions lie in several.
    """

    async def play() -> None:
        database = Database(database_urls.server, connections=2)
        try:
            feed = await Feed(database).create()
            unmarked: set[datetime] = set()
            for step in history:
                if isinstance(step, Level):
                    moving = {date for date in unmarked & set(feed.live) if feed.live[date].level != step}
                    before = await changes(feed)
                    assert await rule(feed, step) == len(moving)
                    assert (await changes(feed) > before) is bool(moving)
                    assert moving or await changes(feed) == before
                    for date in unmarked & set(feed.live):
                        feed.live[date] = replace(feed.live[date], level=step)
                elif isinstance(step, list):
                    outcomes = await feed.add(step)
                    unmarked |= {
                        outcome.place.date_added
                        for outcome, one in zip(outcomes, step, strict=True)
                        if isinstance(outcome, Store) and one.level is None
                    }
                elif feed.live:
                    live = sorted(feed.live)
                    await feed.remove({live[rank % len(live)] for rank in step})
                await _all_is_right(feed)
        finally:
            await database.close()

    original = levels.ROWS
    levels.ROWS = rows  # type: ignore[misc]
    try:
        asyncio.run(play())
    finally:
        levels.ROWS = original  # type: ignore[misc]


async def _all_is_right(feed: Feed) -> None:
    async with feed.database.read(feed.whole()) as connection:
        stored = await stored_versions.of_objects(connection, feed.collection_id, IDS)
        counted = await levels.census(connection, feed.whole())
    assert {one.date_added: one.place for one in stored} == feed.live
    for of in IDS:
        right = standings(one.place for one in stored if one.stix_id == of)
        assert right == {one.date_added: one.standing for one in stored if one.stix_id == of}
    assert counted.marked + counted.unmarked == Counter(Level(one.level) for one in feed.live.values())


async def test_tlp_markings_from_before_stay_clear(database: Database) -> None:
    """TLP's own marking-definitions are no unmarked objects, in whatever spelling and whenever they were stored."""
    feed = await Feed(database).create()
    capitals = TLP_RED.replace("marking-definition--", "").upper()
    await feed.add([columns(TLP_RED, 1), columns(f"marking-definition--{capitals}", 1), columns(IDS[0], 1)])
    async with database.read() as connection:
        counted = await levels.census(connection, feed.whole())

    assert (counted.marked, counted.unmarked) == (Counter({Level.CLEAR: 2}), Counter({Level.CLEAR: 1}))
    assert await rule(feed, Level.RED) == 1
    async with database.read(feed.whole()) as connection:
        of = object_versions.c
        asked = select(of.stix_id, of.level).where(of.collection_id == feed.collection_id, of.level > 0)
        assert [tuple(row) for row in await connection.execute(asked)] == [(IDS[0], Level.RED)]


def test_a_census_says_what_a_rule_would_mean() -> None:
    """How many move, and how many then lie above a ceiling."""
    counted = levels.Census(Counter({Level.CLEAR: 1, Level.RED: 2}), Counter({Level.GREEN: 4, Level.AMBER: 8}))

    assert counted.total == 15
    assert counted.moving_to(Level.GREEN) == 8
    assert counted.above(Level.AMBER, unmarked=None) == 2
    assert counted.above(Level.CLEAR, unmarked=None) == 14
    assert counted.above(Level.AMBER, unmarked=Level.RED) == 14
