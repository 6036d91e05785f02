"""Upkeep removes what is past its time, one run at a time; checks find what is off; clocks only go forward."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest

from taxii_server.auth.signing_keys import SigningKeys
from taxii_server.domain.errors import OperatorError
from taxii_server.domain.tlp import MARKING_LEVELS
from taxii_server.operations import alliance, alliance_file, maintenance
from taxii_server.storage import maintenance as storage
from taxii_server.storage import migrations
from taxii_server.storage.embedded import DatabaseUrls
from taxii_server.storage.engine import Database

KEEPS = UUID("91a7b528-80eb-42ed-a74d-c6fbd5a26116")
FORGETS = UUID("0ad4b1f5-0c2b-4f43-bf70-2a5d3f8f4b01")
FILE = f"""
trust_groups:
  g:
    title: G
    collections:
      - {{alias: keeps, title: Keeps, id: {KEEPS}}}
      - {{alias: forgets, title: Forgets, id: {FORGETS}, retention: 30d}}
members:
  bank: {{name: Bank, kind: bank}}
"""
KEEP = timedelta(days=7)
NOW = datetime.now(UTC)
OLD = NOW - timedelta(days=31)
NEW = NOW - timedelta(days=29)
SOONER, LATER = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)


@pytest.fixture
async def db(fresh_database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A database with two empty collections, for one test alone."""
    database = Database(fresh_database_urls.server)
    await alliance.apply(database, alliance_file.parse(FILE))
    yield database
    await database.close()


@pytest.fixture
async def owner(fresh_database_urls: DatabaseUrls) -> AsyncIterator[psycopg.AsyncConnection]:
    """The same database as its owner, who may put in what never could have been."""
    async with await psycopg.AsyncConnection.connect(
        fresh_database_urls.owner.replace("+psycopg", ""), autocommit=True
    ) as connection:
        yield connection


def keys(db: Database) -> SigningKeys:
    return SigningKeys(db, "k" * 32, key_lifetime=timedelta(days=90), token_lifetime=timedelta(minutes=15))


async def maintain(db: Database) -> maintenance.Maintained:
    return await maintenance.maintain(db, status_keep=KEEP, keys=keys(db))


async def put(
    owner: psycopg.AsyncConnection,
    collection: UUID,
    stix_id: str,
    version_at: datetime,
    date_added: datetime,
    superseded_level: int = 5,
) -> None:
    await owner.execute(
        "INSERT INTO object_versions (collection_id, date_added, stix_id, form, version_at, version, stix_type,"
        " digest, body_bytes, level, marked, superseded_level, newer_form_level, member, status_id, body)"
        " VALUES (%s, %s, %s, 21, %s, 'v', 'indicator', '', 2, 0, false, %s, 5, 1, %s, '{}')",
        (collection, date_added, stix_id, version_at, superseded_level, collection),
    )
    await owner.execute(
        "UPDATE collection_clocks SET last_added = greatest(last_added, %s) WHERE collection_id = %s",
        (date_added, collection),
    )


async def put_status(owner: psycopg.AsyncConnection, completed_at: datetime) -> None:
    await owner.execute(
        "INSERT INTO statuses VALUES (gen_random_uuid(), %s, %s, 1, 1, now(), %s, 0, 0, 0, '[]', '[]')",
        (KEEPS, KEEPS, completed_at),
    )


async def values(owner: psycopg.AsyncConnection, query: str) -> list[object]:
    return [value for (value,) in await (await owner.execute(query)).fetchall()]


async def test_statuses_are_kept_for_their_time(db: Database, owner: psycopg.AsyncConnection) -> None:
    """Those completed longer ago than the keep go, the others stay."""
    await put_status(owner, NOW - KEEP - timedelta(minutes=1))
    await put_status(owner, NOW - KEEP + timedelta(hours=1))

    done = await maintain(db)

    assert (done.ran, done.statuses) == (True, 1)
    assert await values(owner, "SELECT count(*) FROM statuses") == [1]


async def test_versions_past_the_retention_are_removed(db: Database, owner: psycopg.AsyncConnection) -> None:
    """Only where a collection sets one; what went is noted without its body, and `changes` says that something did."""
    for collection in (KEEPS, FORGETS):
        await put(owner, collection, "indicator--old", SOONER, OLD)
        await put(owner, collection, "indicator--new", SOONER, NEW)
    changes = "SELECT changes FROM collection_clocks ORDER BY collection_id"
    before = await values(owner, changes)

    done = await maintain(db)

    assert done.expired == {"g/forgets": 1}
    assert await values(owner, "SELECT stix_id FROM object_versions ORDER BY collection_id, date_added") == [
        "indicator--new",
        "indicator--old",
        "indicator--new",
    ]
    assert await values(owner, "SELECT stix_id || ' ' || reason FROM deleted_versions") == ["indicator--old retention"]
    after = await values(owner, changes)
    assert [now != then for then, now in zip(before, after, strict=True)] == [True, False]


async def test_a_removed_version_no_longer_supersedes(db: Database, owner: psycopg.AsyncConnection) -> None:
    """An older version that arrived late outlives the newer one and is the latest from then on."""
    await put(owner, FORGETS, "indicator--1", LATER, OLD)
    await put(owner, FORGETS, "indicator--1", SOONER, NEW, superseded_level=0)

    await maintain(db)

    assert await values(owner, "SELECT superseded_level FROM object_versions") == [5]
    assert (await maintenance.check(db)).sound


async def test_more_than_a_batch_is_removed(
    db: Database, owner: psycopg.AsyncConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches follow one another until nothing is left to do; a second run finds nothing."""
    monkeypatch.setattr(maintenance, "BATCH", 2)
    for number in range(5):
        await put(owner, FORGETS, f"indicator--{number}", SOONER, OLD + timedelta(seconds=number))
        await put_status(owner, OLD)

    first = await maintain(db)
    second = await maintain(db)

    assert (first.statuses, first.expired) == (5, {"g/forgets": 5})
    assert (second.statuses, second.expired) == (0, {"g/forgets": 0})


async def test_only_one_run_at_a_time(db: Database) -> None:
    """A run that meets another does nothing and says so; once the other has ended, it may."""
    async with db.statement() as other:
        assert await storage.take_sole_turn(other)
        assert not (await maintain(db)).ran
        await storage.end_turn(other)

    assert (await maintain(db)).ran


async def test_runs_meet_without_harm(db: Database, owner: psycopg.AsyncConnection) -> None:
    """Started at once, what is due is done once."""
    for number in range(20):
        await put(owner, FORGETS, f"indicator--{number}", SOONER, OLD + timedelta(seconds=number))

    runs = await asyncio.gather(*(maintain(db) for _ in range(3)))

    assert sum(run.expired.get("g/forgets", 0) for run in runs) == 20


async def test_a_signing_key_past_its_time_is_replaced(db: Database, owner: psycopg.AsyncConnection) -> None:
    """Upkeep makes the next key, so that no request has to."""
    first = await maintain(db)
    again = await maintain(db)
    await owner.execute("UPDATE signing_keys SET signs_until = now()")

    replaced = await maintain(db)

    assert first.signing_key == again.signing_key
    assert replaced.signing_key != first.signing_key


async def test_revoked_tokens_are_forgotten_after_their_end(db: Database, owner: psycopg.AsyncConnection) -> None:
    await owner.execute(
        "INSERT INTO revoked_tokens (issuer, jti, expires_at) VALUES ('us', 'a', now() - interval '2 hours'), "
        "('us', 'b', now())"
    )

    done = await maintain(db)

    assert done.revoked_tokens == 1
    assert await values(owner, "SELECT jti FROM revoked_tokens") == ["b"]


async def test_old_signing_keys_are_purged(db: Database, owner: psycopg.AsyncConnection) -> None:
    """Thirty days after a key verified its last token it goes; until then it stays, and the one that signs always."""
    await owner.execute(
        "INSERT INTO signing_keys (kid, public_jwk, sealed_private_key, signs_until, verifies_until)"
        " SELECT kid, '{}', '', until - interval '1 hour', until FROM (VALUES"
        " ('long past', now() - interval '30 days 1 minute'), ('past', now() - interval '29 days'),"
        " ('present', now() + interval '1 minute')) AS keys (kid, until)"
    )

    done = await maintain(db)
    again = await maintain(db)

    assert (done.old_signing_keys, again.old_signing_keys) == (1, 0)
    assert await values(owner, "SELECT kid FROM signing_keys ORDER BY verifies_until") == [
        "past",
        "present",
        done.signing_key,
    ]


async def test_a_sound_database_is_found_sound(db: Database, owner: psycopg.AsyncConnection) -> None:
    """The check says how much it looked at."""
    await put(owner, KEEPS, "indicator--1", SOONER, OLD, superseded_level=0)
    await put(owner, KEEPS, "indicator--1", LATER, NEW)

    checked = await maintenance.check(db)

    assert checked.sound
    assert (checked.revision, checked.collections, checked.versions) == (migrations.newest(), 2, 2)


async def test_wrong_levels_are_named(db: Database, owner: psycopg.AsyncConnection) -> None:
    """Each version whose kept levels are off is named with what it keeps and should keep."""
    await put(owner, KEEPS, "indicator--1", SOONER, OLD)
    await put(owner, KEEPS, "indicator--1", LATER, NEW)
    await put(owner, KEEPS, "indicator--2", SOONER, NOW)

    checked = await maintenance.check(db)

    assert len(checked.findings) == 1
    assert checked.findings[0].what.startswith("g/keeps: indicator--1 added ")
    assert checked.findings[0].what.endswith("keeps levels 5/5 and should keep 0/5")


async def test_unmarked_versions_at_another_level_than_the_rule_s_are_named(
    db: Database, owner: psycopg.AsyncConnection
) -> None:
    """What carries no TLP marking has its collection's level; marked versions and TLP's own markings have theirs."""
    exempt = next(iter(MARKING_LEVELS))
    for number, stix_id in enumerate(("indicator--1", "indicator--2", "indicator--3", exempt.upper())):
        await put(owner, KEEPS, stix_id, SOONER, OLD + timedelta(seconds=number))
    await owner.execute("UPDATE object_versions SET level = 2 WHERE stix_id <> 'indicator--1'")
    await owner.execute("UPDATE object_versions SET marked = true WHERE stix_id = 'indicator--3'")

    checked = await maintenance.check(db)

    [found] = checked.findings
    assert found.what.startswith("g/keeps: indicator--2 added ")
    assert found.what.endswith("carries no TLP marking and counts as AMBER, where the collection's rule says CLEAR")


@pytest.mark.parametrize(
    ("clock", "said"),
    [
        ("clock_timestamp() + interval '2 minutes'", "objects added to it are refused"),
        ("now() - interval '40 days'", "behind a date it gave out"),
    ],
)
async def test_clocks_that_are_off_are_named(
    db: Database, owner: psycopg.AsyncConnection, clock: str, said: str
) -> None:
    """A clock far ahead stops writes, one behind its own dates would give them out again: both are found."""
    await put(owner, KEEPS, "indicator--1", SOONER, OLD)
    await owner.execute(f"UPDATE collection_clocks SET last_added = {clock} WHERE collection_id = '{KEEPS}'")  # noqa: S608 - ours

    (finding,) = (await maintenance.check(db)).findings

    assert said in finding.what


async def test_a_clock_behind_what_was_deleted_is_named(db: Database, owner: psycopg.AsyncConnection) -> None:
    """A date that was given out stays given out when its version goes."""
    await put(owner, FORGETS, "indicator--1", SOONER, OLD)
    await maintain(db)
    await owner.execute("UPDATE collection_clocks SET last_added = 'epoch'")

    (finding,) = (await maintenance.check(db)).findings

    assert "behind a date it gave out" in finding.what


async def test_a_missing_clock_is_named(db: Database, owner: psycopg.AsyncConnection) -> None:
    """Nothing can be added to a collection without a clock."""
    await owner.execute("DELETE FROM collection_clocks WHERE collection_id = %s", (KEEPS,))

    (finding,) = (await maintenance.check(db)).findings

    assert finding.what == "g/keeps has no clock"


async def test_a_role_that_owns_is_named(fresh_database_urls: DatabaseUrls) -> None:
    """A server that connects as the owner is told so: nothing would hold it back."""
    async with _closing(Database(fresh_database_urls.owner)) as database:
        found = [finding.what for finding in (await maintenance.check(database)).findings]

    assert any("owns the database" in what for what in found)
    assert any("tables or indexes" in what for what in found)


async def test_another_schema_is_named(db: Database, owner: psycopg.AsyncConnection) -> None:
    """A database that was not upgraded is told so, and nothing else is looked at."""
    await owner.execute("UPDATE alembic_version SET version_num = '0000'")

    checked = await maintenance.check(db)

    assert [finding.what for finding in checked.findings] == [
        f"the schema is at 0000, this taxii-server knows {migrations.newest()}"
    ]


async def test_clocks_advance_and_never_go_back(db: Database, owner: psycopg.AsyncConnection) -> None:
    """Each goes to some time past the database's, or stays where it is if that is further; `changes` grows."""
    await owner.execute(
        "UPDATE collection_clocks SET last_added = clock_timestamp() + interval '1 hour' WHERE collection_id = %s",
        (KEEPS,),
    )
    ahead = (
        "SELECT round(extract(epoch FROM last_added - clock_timestamp())) FROM collection_clocks ORDER BY last_added"
    )

    changes = "SELECT changes FROM collection_clocks ORDER BY collection_id"
    before = await values(owner, changes)

    assert await maintenance.advance_clocks(db, by=timedelta(seconds=30)) == 2

    assert await values(owner, ahead) == [30, 3600]
    assert all(now != then for then, now in zip(before, await values(owner, changes), strict=True))


async def test_clocks_dont_advance_so_far_that_writes_stop(db: Database) -> None:
    """More than a minute ahead, a clock refuses writes."""
    with pytest.raises(OperatorError, match="refuses writes"):
        await maintenance.advance_clocks(db, by=timedelta(seconds=61))


@asynccontextmanager
async def _closing(database: Database) -> AsyncIterator[Database]:
    try:
        yield database
    finally:
        await database.close()
