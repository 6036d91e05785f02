"""What waits for a reader is what its next pages would bring, and finding it costs the same however much there is."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.dialects import postgresql

from taxii_server.domain.filters import Filter
from taxii_server.domain.stix_versions import selected
from taxii_server.domain.tlp import Level
from taxii_server.storage import consumers
from taxii_server.storage.consumers import MOST_WAITING, Waiting
from taxii_server.storage.engine import Database
from tests.auth.alliance import alliance_in
from tests.storage.feeds import BEGINNING, Feed
from tests.storage.test_object_pages import histories

if TYPE_CHECKING:
    from taxii_server.domain.stix_objects import Columns
    from taxii_server.storage.embedded import DatabaseUrls


of_readers = given(history=histories, ranks=st.lists(st.none() | st.integers(0, 12), min_size=1, max_size=4))
unhurried = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=4, suppress_health_check=unhurried)
@of_readers
def test_what_waits_is_what_the_rule_selects_after_a_position(
    database_urls: DatabaseUrls, history: list[list[Columns] | tuple[int, ...]], ranks: list[int | None]
) -> None:
    """For every clearance; what lies above it is neither counted nor dated, and removed versions don't wait."""
    hold(database_urls, history, ranks)


@pytest.mark.slow
@settings(max_examples=40, suppress_health_check=unhurried)
@of_readers
def test_what_waits_is_what_the_rule_selects_in_many_histories(
    database_urls: DatabaseUrls, history: list[list[Columns] | tuple[int, ...]], ranks: list[int | None]
) -> None:
    """The same, at length."""
    hold(database_urls, history, ranks)


def hold(urls: DatabaseUrls, history: list[list[Columns] | tuple[int, ...]], ranks: list[int | None]) -> None:
    async def play() -> None:
        database = Database(urls.server, connections=2)
        try:
            feed = await Feed(database).create()
            for step in history:
                if isinstance(step, list):
                    await feed.add(step)
                elif feed.live:
                    live = sorted(feed.live)
                    await feed.remove({live[rank % len(live)] for rank in step})
            dates = [BEGINNING, *sorted(feed.live)]
            positions = [None if rank is None else dates[rank % len(dates)] for rank in ranks]
            for clearance in Level:
                where = feed.readable(clearance)
                async with database.read(where) as connection:
                    found = await consumers.waiting(connection, where, positions)
                seen = sorted(one.date_added for one in selected(feed.live.values(), clearance, Filter()))
                rest = [[date for date in seen if position is not None and date > position] for position in positions]
                assert found == [Waiting(len(one), min(one, default=None), max(seen, default=None)) for one in rest]
        finally:
            await database.close()

    asyncio.run(play())


def test_finding_what_waits_is_short_walks_of_an_index(fresh_database_urls: DatabaseUrls) -> None:
    """Of 20,000 versions the statement touches what it counts: one reader of each kind, in one go."""
    dialect = postgresql.dialect(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
    compiled = consumers.WAITING.compile(dialect=dialect)
    with alliance_in(fresh_database_urls) as alliance:
        feed = alliance.collections["fraud/indicators"]
        alliance.execute(
            "INSERT INTO object_versions (collection_id, date_added, stix_id, form, version_at, version, stix_type,"
            "       digest, body_bytes, level, marked, superseded_level, newer_form_level, member, status_id, body)"
            " SELECT %s, timestamptz '2026-01-01 00:00Z' - (20000 - n) * interval '1 second', 'indicator--' || n, 1, now(), 'v', 'indicator',"
            "        '', 2, n %% 5, true, 5, 5, 1, gen_random_uuid(), '{}'"
            "   FROM generate_series(1, 20000) AS numbers (n)",
            feed,
        )
        alliance.execute("ANALYZE object_versions")
        given = {
            "collection": f"'{feed}'",
            "clearance": "3",
            "rows": str(MOST_WAITING + 1),
            "positions": "ARRAY['-infinity', timestamptz '2026-01-01 00:00Z' - interval '100 seconds', 'infinity']::timestamptz[]",
        }
        alliance.execute("SET plan_cache_mode = force_generic_plan")
        alliance.execute(f"PREPARE hot AS {compiled}")
        values = ", ".join(given[name] for name in compiled.positiontup or ())
        rows = alliance.execute(f"EXECUTE hot({values})")
        plan = "\n".join(line for (line,) in alliance.execute(f"EXPLAIN (ANALYZE, TIMING OFF) EXECUTE hot({values})"))

    touched = [
        float(rows) * int(loops) for rows, loops in re.findall(r"object_versions.*rows=([\d.]+) loops=(\d+)", plan)
    ]

    assert [row[2] for row in rows] == [4 * (MOST_WAITING + 1), 80, 0], plan
    assert "Seq Scan on object_versions" not in plan
    assert plan.count("ix_object_versions_latest ") == 2
    assert 0 < sum(touched) <= 4 * (MOST_WAITING + 1) + 80 + 3 * 4 + 4 * 2
