"""What a statement reads is bounded by what it answers, however many versions there are and however they are spread."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import psycopg
import pytest

from taxii_server.domain.access import Erasable, Policy, Presented, Principal, Readable, Validation, Writable
from taxii_server.domain.cursor import Endpoint
from taxii_server.domain.disclosures import Disclosure, Recipient
from taxii_server.domain.filters import ALL_VERSIONS, LAST_ONLY, Filter
from taxii_server.domain.statuses import Status
from taxii_server.domain.tlp import Level
from taxii_server.storage import (
    callers,
    clocks,
    consumers,
    disclosures,
    long_histories,
    object_pages,
    object_writes,
    recalls,
    removals,
    standing,
    statuses,
    stored_versions,
)
from taxii_server.storage.engine import Database
from taxii_server.storage.object_pages import Bounds
from tests.storage import skew
from tests.storage.feeds import body_of, columns
from tests.storage.plans import BIG, scans_of, sorts_of
from tests.storage.test_plans import LATE, LATEST, LATEST_OF_TYPE, NEWEST_FORM, NEWEST_FORM_OF_TYPE, OLDER, UNIQUE
from tests.storage.test_plans_without_statistics import Kept

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.domain.access import Proof
    from taxii_server.domain.filters import VersionSpec
    from taxii_server.storage.embedded import DatabaseUrls
    from taxii_server.storage.engine import Connection
    from tests.storage.test_plans_without_statistics import Act

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(300)]

LIMIT: Final = 100
WALKS: Final = 9
"""Of the levels up to a clearance, and those above it: three of each for AMBER."""
WRITER: Final = Writable(BIG, 1, 1, Level.RED, Policy(Validation.STRUCTURAL))
PLAIN: Final = "indicator--00000000-0000-4000-8000-000000200998"


@pytest.fixture(scope="module")
async def skewed(module_database_urls: DatabaseUrls) -> AsyncIterator[tuple[Kept, dict[str, datetime]]]:
    """A million versions, of which Postgres was told nothing."""
    begun = skew.fill(module_database_urls.owner)
    database = Database(module_database_urls.server, connections=1)
    yield Kept(database), begun
    await database.close()


VIEWS: Final = {
    "default": (Filter(), {LATEST}, 0),
    "of a common type": (Filter(types=("indicator",)), {LATEST_OF_TYPE}, 1),
    "of a rare type": (Filter(types=(skew.RARE,)), {LATEST_OF_TYPE}, 1),
    "of both, and one that there is none of": (Filter(types=("indicator", skew.RARE, "note")), {LATEST_OF_TYPE}, 3),
    "every version": (Filter(versions=ALL_VERSIONS), {NEWEST_FORM}, 0),
    "every version of a common type": (Filter(types=("indicator",), versions=ALL_VERSIONS), {NEWEST_FORM_OF_TYPE}, 1),
    "every version of a rare type": (Filter(types=(skew.RARE,), versions=ALL_VERSIONS), {NEWEST_FORM_OF_TYPE}, 1),
}
"""What is asked for, the index that serves it, and how many types it names."""


async def read(connection: Connection, where: Readable, want: Filter, position: datetime | None) -> None:
    await object_pages.page(connection, where, want, position, Bounds(LIMIT, 10_000_000))


@pytest.mark.parametrize("name", VIEWS)
async def test_pages(skewed: tuple[Kept, dict[str, datetime]], name: str) -> None:
    """Every view, for every clearance, from the beginning and from where each kind of history begins."""
    kept, begun = skewed
    want, indexes, types = VIEWS[name]
    for clearance in Level:
        where = Readable(BIG, clearance)
        for part, since in {"": None, **begun}.items():
            for after in (None, since):
                [plan] = await kept.plans(where, partial(_read, where, replace(want, added_after=after), since))
                found, asked = scans_of(plan), (clearance, part, after)

                assert {one.index for one in found} <= indexes | {LATE}, asked
                # each walk to the page's end at most; what arrived late is late with regard to none of these instants
                assert sum(one.rows for one in found) <= WALKS * max(types, 1) * (LIMIT + 1), asked
                # of types, all walks; else what is superseded above the clearance
                assert max(sorts_of(plan), default=0) <= WALKS * max(types, 1) * (LIMIT + 1), asked


def _read(where: Readable, want: Filter, position: datetime | None, connection: Connection) -> Any:
    return read(connection, where, want, position)


@pytest.mark.parametrize("versions", [LAST_ONLY, ALL_VERSIONS])
async def test_pages_of_the_older_form(
    skewed: tuple[Kept, dict[str, datetime]], versions: tuple[VersionSpec, ...]
) -> None:
    """There is little of it: what is in the newest form isn't passed over."""
    kept, begun = skewed
    for clearance in Level:
        where = Readable(BIG, clearance)
        for since in (None, *begun.values()):
            [plan] = await kept.plans(where, partial(_read, where, Filter(forms=(20,), versions=versions), since))
            found = scans_of(plan)

            assert {one.index for one in found} <= {OLDER, UNIQUE}, (clearance, since)
            # each with a look at what supersedes it
            assert sum(one.rows for one in found) <= 2 * (LIMIT + 1), (clearance, since)


async def add(connection: Connection) -> None:
    clock = await clocks.lock_clock(connection, BIG)
    incoming = [(one, body_of(one)) for one in (columns(PLAIN, 86_400 * 9000), columns("tool--1", 1))]
    await object_writes.add(connection, WRITER, clock, uuid4(), incoming)


async def add_to_many(connection: Connection) -> None:
    clock = await clocks.lock_clock(connection, BIG)
    await object_writes.add(
        connection, WRITER, clock, uuid4(), [(one, body_of(one)) for one in (columns(skew.LONG, 86_400 * 9000),)]
    )


async def remove(connection: Connection) -> None:
    stored = await stored_versions.of_objects(connection, BIG, [PLAIN])
    assert len(stored) == 1
    await removals.remove(connection, BIG, stored, reason="delete", member=1, client=1)


async def recalled(connection: Connection) -> None:
    await recalls.of_object(connection, BIG, PLAIN)


async def status(connection: Connection) -> None:
    made = Status(uuid4(), datetime.now(UTC), (), (), 0)
    statuses.write(connection, made, trust_group_id=BIG, collection_id=BIG, member=1, client=1)
    found = await statuses.find(
        connection, made.id, trust_group_id=BIG, principal=Principal(1, "c", 1, "m", frozenset(), None)
    )
    assert found is not None


async def enter(connection: Connection) -> None:
    dates = [10**15 + one for one in range(3)]
    await disclosures.insert(connection, [Disclosure.of(BIG, Recipient(1, 1), Endpoint.OBJECTS, dates)])


ACTS: Final[dict[str, tuple[Proof | None, Act, int]]] = {
    "an addition": (WRITER, add, 12),
    "an addition to 60,000 versions": (WRITER, add_to_many, long_histories.LONG + 20),
    "a removal": (Erasable(BIG, 1, 1, Level.RED), remove, 12),
    "the look-up of recalls": (WRITER, recalled, 0),
    "a status": (WRITER, status, 2),
    "the ledger": (None, enter, 0),
}


@pytest.mark.parametrize("name", ACTS)
async def test_acts(skewed: tuple[Kept, dict[str, datetime]], name: str) -> None:
    """Additions, removals and what goes with them read a handful of rows, by an index."""
    where, act, most = ACTS[name]
    plans = await skewed[0].plans(where, act)
    assert plans
    found = [one for plan in plans for one in scans_of(plan)]

    assert None not in {one.index for one in found}
    assert sum(one.rows for one in found) <= most, found
    assert all(max(sorts_of(plan), default=0) <= most for plan in plans)


async def test_what_waits(skewed: tuple[Kept, dict[str, datetime]]) -> None:
    """How far behind readers are is found by short walks, whatever was superseded at which level."""
    kept, begun = skewed
    positions = [None, *begun.values(), datetime(2030, 1, 1, tzinfo=UTC)]
    for clearance in Level:
        where = Readable(BIG, clearance)

        async def act(connection: Connection, where: Readable = where) -> None:
            await consumers.waiting(connection, where, positions)

        [plan] = await kept.plans(where, act)
        found = scans_of(plan, "object_versions")

        assert {one.index for one in found} == {LATEST}
        assert sum(one.rows for one in found) <= WALKS * len(positions) * (consumers.MOST_WAITING + 1) + WALKS


_ALLIANCE = """
    INSERT INTO trust_groups (id, slug, title) SELECT md5('g' || n)::uuid, 'group-' || n, 't' FROM generate_series(1, 200) AS n;
    INSERT INTO collections (id, trust_group_id, alias, title, validation)
         SELECT md5('c' || n)::uuid, md5('g' || 1 + n % 200)::uuid, 'feed-' || n, 't' || n, 'strict' FROM generate_series(1, 5000) AS n;
    INSERT INTO members (slug, name, kind) SELECT 'bank-' || n, 'n', 'bank' FROM generate_series(1, 300) AS n;
    INSERT INTO grants (member_id, collection_id, rights, clearance)
         SELECT members.id, md5('c' || 1 + (n * 7 + members.id * 13) % 5000)::uuid, '{read}', 4
           FROM members, generate_series(1, 100) AS n ON CONFLICT DO NOTHING;
    INSERT INTO clients (client_id, member_id, name, rights)
         SELECT 'client-' || n, (SELECT min(id) FROM members) + n % 300, 'n' || n, '{read}' FROM generate_series(1, 3000) AS n;
    INSERT INTO client_secrets (client, digest) SELECT id, sha256(client_id::bytea) FROM clients;
    INSERT INTO signing_keys (kid, public_jwk, sealed_private_key, signs_until, verifies_until)
         VALUES ('kid', '{}', '', now() + interval '1 day', now() + interval '2 days')
"""


async def test_callers(skewed: tuple[Kept, dict[str, datetime]], module_database_urls: DatabaseUrls) -> None:
    """Who asks is found in an alliance of 300 members, 5,000 collections and 30,000 grants, which nobody has counted, by keys alone."""
    kept, _ = skewed
    with psycopg.connect(module_database_urls.owner.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute(_ALLIANCE.encode())
        found = owner.execute(
            "SELECT client_id, slug, alias, member_id, trust_groups.id, collections.id FROM clients"
            " JOIN grants USING (member_id) JOIN collections ON collections.id = collection_id"
            " JOIN trust_groups ON trust_groups.id = trust_group_id ORDER BY client_id LIMIT 1"
        ).fetchone()
    assert found is not None
    client, group, alias, member, group_id, collection_id = found
    principal = Principal(1, client, member, "m", frozenset(), None)

    async def by_alias(connection: Connection) -> None:
        looked = await callers.look_up(connection, client_id=client, trust_group=group, collection=alias)
        assert looked.place.collection is not None

    async def by_id(connection: Connection) -> None:
        looked = await callers.look_up(connection, client_id=client, trust_group=group, collection=str(collection_id))
        assert looked.place.collection is not None

    async def by_token(connection: Connection) -> None:
        token = Presented("https://alliance.example", "kid", "jti")
        looked = await standing.of_token(connection, client, token, group, str(collection_id))
        assert looked is not None
        assert looked[0].place.collection is not None

    async def by_secret(connection: Connection) -> None:
        looked = await standing.of_secret(connection, client, group, str(collection_id))
        assert looked is not None
        assert len(looked[1]) == 1

    async def listed(connection: Connection) -> None:
        assert await callers.listing(connection, principal, UUID(str(group_id)))
        assert await callers.trust_groups(connection, principal)

    # at most the member's 100 grants, and what belongs to each; of the short form one row of each table
    for act, most in ((by_alias, 260), (by_id, 260), (listed, 3 * 250), (by_token, 8), (by_secret, 7)):
        plans = await kept.plans(None, act)
        scans = [one for plan in plans for one in scans_of(plan)]

        assert None not in {one.index for one in scans}
        assert 0 < sum(one.rows for one in scans) <= most, scans
        assert all(max(sorts_of(plan), default=0) <= 100 for plan in plans)
