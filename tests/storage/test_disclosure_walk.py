"""The walk from a version to the pages that told of it reads little of the ledger, however much there is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

import psycopg
import pytest

from taxii_server.domain.permissions import operator_traceable
from taxii_server.storage import disclosures
from taxii_server.storage.engine import Database
from tests.storage.plans import scans, sent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

FEED: Final = UUID("00000000-0000-4000-8000-00000000000d")
BEGUN: Final = datetime(2026, 1, 1, tzinfo=UTC)
ROWS: Final = 50
# One page in three spans everything, as filters do; the others lie an hour apart and span a minute. The fork is that of
# `domain.disclosures.fork`.
_FILL: Final = """
    INSERT INTO disclosures (collection_id, fork, first_added, last_added, member, client, way, number, dates)
    SELECT %s, (l >> shift) << shift, to_timestamp(f / 1e6), to_timestamp(l / 1e6), 1, n, 1, 2, '\\x'
      FROM (SELECT *, length(ltrim((f # l)::bit(64)::text, '0')) - 1 AS shift
              FROM (SELECT n, b + CASE WHEN n %% 3 = 0 THEN n ELSE n * 3600000000 END AS f,
                           b + CASE WHEN n %% 3 = 0 THEN 90000000000000 + n ELSE n * 3600000000 + 60000000 END AS l
                      FROM generate_series(1, 20000) AS n, (SELECT extract(epoch FROM %s)::bigint * 1000000 AS b) AS base
                   ) AS spans) AS forked
"""


@pytest.fixture(scope="module")
async def database(module_database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A ledger of 20,000 pages."""
    with psycopg.connect(module_database_urls.owner.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(_FILL, (FEED, BEGUN))
        connection.execute("VACUUM (ANALYZE) disclosures")
    made = Database(module_database_urls.server, connections=4)
    yield made
    await made.close()


@pytest.mark.parametrize("generic", [False, True], ids=["values", "any"])
@pytest.mark.parametrize("versions", [1, 100])
async def test_one_statement_reads_about_what_it_gives(database: Database, versions: int, generic: bool) -> None:
    """By the primary key and nothing else; with a hundred versions asked for at once, and from any place on."""
    where = operator_traceable(FEED)
    dates = [BEGUN + timedelta(hours=1 + 200 * number, seconds=30) for number in range(versions)]
    place = None
    for _ in range(3):
        async with database.read(where) as connection:
            with sent(database) as collected:
                found = await disclosures.spanning(connection, where, dates, place, rows=ROWS, versions=10**6)
            [(statement, values)] = collected
            looked = await scans(connection, statement, values, generic=generic, table="disclosures")
        place = found.entries[-1].place

        assert len(found.entries) == ROWS
        assert {one.index for one in looked} == {"pk_disclosures"}
        # the rows of the fork at which there were enough are read up to the bound
        assert sum(one.rows for one in looked) <= 2 * ROWS + 2


async def test_part_by_part_every_page_is_found_once(database: Database) -> None:
    """Those that span everything, and the one of this hour."""
    where = operator_traceable(FEED)
    clients: list[int] = []
    place = None
    while True:
        async with database.read(where) as connection:
            date = BEGUN + timedelta(hours=5, seconds=30)
            found = await disclosures.spanning(connection, where, [date], place, rows=1_000, versions=10**6)
        clients += [one.recipient.client for one in found.entries]
        if not found.more:
            break
        place = found.entries[-1].place

    assert sorted(clients) == sorted([5, *range(3, 20_001, 3)])
