"""`apply` makes what is stored match the file: all or nothing, once, and never deletes unless asked."""

import asyncio
from collections.abc import AsyncIterator
from textwrap import dedent
from uuid import UUID

import psycopg
import pytest

from taxii_server.domain.access import Grant, Right
from taxii_server.domain.errors import AllianceInvalid
from taxii_server.domain.tlp import Level
from taxii_server.operations import alliance, alliance_file, clients
from taxii_server.operations.alliance_plan import Plan
from taxii_server.storage import alliance as stored
from taxii_server.storage.alliance import StoredAlliance
from taxii_server.storage.embedded import DatabaseUrls
from taxii_server.storage.engine import Database

FIRST = "91a7b528-80eb-42ed-a74d-c6fbd5a26116"
SECOND = "0ad4b1f5-0c2b-4f43-bf70-2a5d3f8f4b01"
FILE = dedent(f"""\
    trust_groups:
      fraud-intel:
        title: Fraud intelligence
        collections:
          - alias: one
            id: {FIRST}
            title: First
            retention: 90d
            grants:
              north-bank: [read, write]
              harbour-bank: [read]
          - alias: two
            id: {SECOND}
            title: Second
            grants: {{north-bank: [read]}}
          - {{alias: three, title: Third}}
    members:
      north-bank: {{name: North Bank, kind: bank}}
      harbour-bank: {{name: Harbour Bank, kind: bank}}
    """)
EMPTY = "trust_groups: {}\nmembers: {}\n"


@pytest.fixture
async def db(fresh_database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A database for one test alone."""
    database = Database(fresh_database_urls.server)
    yield database
    await database.close()


async def apply(db: Database, text: str, *, prune: bool = False, dry_run: bool = False) -> list[str]:
    plan: Plan = await alliance.apply(db, alliance_file.parse(text), prune=prune, dry_run=dry_run)
    return [step.line for step in plan.steps]


async def now(db: Database) -> StoredAlliance:
    async with db.read() as connection:
        return await stored.read(connection)


async def test_everything_is_made_and_a_second_apply_changes_nothing(db: Database) -> None:
    """Trust groups, members, collections with their clocks, and grants come into being; then all is as it should be."""
    lines = await apply(db, FILE)

    assert "create collection fraud-intel/one (First), id " + FIRST in lines
    assert "create grant of north-bank on fraud-intel/one: read, write" in lines
    assert len(lines) == 2 + 1 + 3 + 3
    assert await apply(db, FILE) == []


async def test_a_collection_without_id_gets_one_and_keeps_it(db: Database) -> None:
    """The made id stays on later applies, also when the file comes to name it."""
    await apply(db, FILE)
    made = next(one.id for one in (await now(db)).collections if one.alias == "three")

    assert made.version == 4
    assert await apply(db, FILE) == []
    assert await apply(db, FILE.replace("alias: three", f"id: {made}, alias: three")) == []


async def test_changes_are_told_from_what_to_what(db: Database) -> None:
    """A plan's lines say what was and what will be."""
    await apply(db, FILE)

    lines = await apply(
        db,
        FILE.replace("title: First", "title: Prime")
        .replace("retention: 90d", "validation: structural")
        .replace("north-bank: [read, write]", "north-bank: [read]")
        .replace("          harbour-bank: [read]\n", "")
        .replace("kind: bank", "kind: vendor", 1),
    )

    assert lines == [
        "change member north-bank: kind 'bank' → 'vendor'",
        "change collection fraud-intel/one: title 'First' → 'Prime', validation 'strict' → 'structural', retention '90d' → none",
        "delete grant of harbour-bank on fraud-intel/one: read",
        "change grant of north-bank on fraud-intel/one: read, write → read",
    ]
    assert (await now(db)).collections[0].grants == {"north-bank": Grant(frozenset({Right.READ}), Level.RED)}


async def test_a_quota_is_set_changed_and_lifted(db: Database) -> None:
    """As the file says; less than what is stored is told, and takes nothing away."""
    limited = FILE.replace("{name: North Bank, kind: bank}", "{name: North Bank, kind: bank, quota: 1536MiB}")
    await apply(db, FILE)

    assert await apply(db, limited) == ["change member north-bank: quota none → '1536MiB'"]
    assert await apply(db, limited) == []
    assert {one.slug: one.quota for one in (await now(db)).members}["north-bank"] == 1536 * 1024**2
    assert await apply(db, FILE) == ["change member north-bank: quota '1536MiB' → none"]


async def test_a_dry_run_changes_nothing(db: Database) -> None:
    """The plan is the same, and nothing happens."""
    planned = await apply(db, FILE, dry_run=True)

    assert (await now(db)).members == ()
    assert len(await apply(db, FILE)) == len(planned)


async def test_a_dry_run_tells_no_id_that_another_run_would_not_use(db: Database) -> None:
    """An id that the file names is told; one that is yet to be made is not, or somebody would hand it out."""
    planned = await apply(db, FILE, dry_run=True)
    done = await apply(db, FILE)

    made = {one.alias: one.id for one in (await now(db)).collections}["three"]
    assert "create collection fraud-intel/one (First), id " + str(FIRST) in planned
    assert "create collection fraud-intel/three (Third), with a new id" in planned
    assert f"create collection fraud-intel/three (Third), id {made}" in done


async def test_names_can_be_swapped(db: Database) -> None:
    """Collections are known by their ids: aliases and titles go from one to the other, with grants and content."""
    await apply(db, FILE)
    swapped = (
        FILE.replace("alias: one", "alias: x").replace("alias: two", "alias: one").replace("alias: x", "alias: two")
    )
    swapped = swapped.replace("title: First", "title: X").replace("title: Second", "title: First")

    await apply(db, swapped.replace("title: X", "title: Second"))

    found = {one.id: (one.alias, one.title) for one in (await now(db)).collections}
    assert found[UUID(FIRST)] == ("two", "Second")
    assert found[UUID(SECOND)] == ("one", "First")


async def test_what_is_absent_is_told_and_stays(db: Database) -> None:
    """Trust groups, collections and members that the file doesn't name are never deleted unasked; nor their grants."""
    await apply(db, FILE)
    before = await now(db)

    lines = await apply(db, EMPTY)

    assert lines == [
        "absent collection fraud-intel/one (First) is not in the file and stays",
        "absent collection fraud-intel/three (Third) is not in the file and stays",
        "absent collection fraud-intel/two (Second) is not in the file and stays",
        "absent trust group fraud-intel (Fraud intelligence) is not in the file and stays",
        "absent member harbour-bank (Harbour Bank) is not in the file and stays",
        "absent member north-bank (North Bank) is not in the file and stays",
    ]
    assert await now(db) == before


async def test_prune_deletes_and_notes_what_there_was(db: Database, fresh_database_urls: DatabaseUrls) -> None:
    """A pruned collection's versions leave a row without body; a pruned member's row stays, its access doesn't."""
    await apply(db, FILE)
    issued = await clients.issue(db, "north-bank", name="siem")
    await put_version(fresh_database_urls)

    await apply(db, EMPTY, prune=True)

    after = await now(db)
    assert (after.trust_groups, after.collections) == ((), ())
    assert all(member.removed for member in after.members)
    (client,) = await clients.clients(db)
    assert (client.client_id, client.state) == (issued.client_id, "revoked")
    async with await _owner(fresh_database_urls) as owner:
        rows = await owner.execute("SELECT stix_id, reason FROM deleted_versions")
        assert await rows.fetchall() == [("indicator--1", "prune")]
    assert await apply(db, EMPTY, prune=True) == []


async def test_a_collection_that_comes_back_gives_out_no_date_twice(
    db: Database, fresh_database_urls: DatabaseUrls
) -> None:
    """Under its old id it goes on past the last date of before, wherever the clock stands: ledger and cursors name versions so.

    Nor does it give out a number of changes twice, by which a replica would take the one for the other.
    """
    await apply(db, FILE)
    await put_version(fresh_database_urls)
    async with await _owner(fresh_database_urls) as owner:
        await owner.execute("UPDATE object_versions SET date_added = date_added + interval '50 seconds'")
        rows = await owner.execute("SELECT changes FROM collection_clocks WHERE collection_id = %s", (FIRST,))
        [(before,)] = await rows.fetchall()
    await apply(db, EMPTY, prune=True)

    await apply(db, FILE)

    async with await _owner(fresh_database_urls) as owner:
        rows = await owner.execute(
            "SELECT last_added = (SELECT max(date_added) FROM deleted_versions), changes > %s FROM collection_clocks"
            " WHERE collection_id = %s",
            (before, FIRST),
        )
        assert await rows.fetchall() == [(True, True)]


async def test_a_pruned_member_can_come_back(db: Database) -> None:
    """Its row is taken up again with what it brought; its old clients stay revoked."""
    await apply(db, FILE)
    await clients.issue(db, "north-bank", name="siem")
    await apply(db, EMPTY, prune=True)

    lines = await apply(db, FILE)

    assert "create member north-bank again; it needs new clients" in lines
    assert not any(member.removed for member in (await now(db)).members)
    assert [client.state for client in await clients.clients(db)] == ["revoked"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ((f"id: {FIRST}", "id: 2b5c8ad4-15a1-4b7e-8d6b-0f7a4c0d9e11"), "ids never change"),
        (("fraud-intel:", "other-group:"), "can't move to another trust group"),
        (("          - {alias: three, title: Third}\n", ""), None),
        (("alias: three, title: Third", "alias: four, title: Third"), "the title 'Third' is that of fraud-intel/three"),
    ],
)
async def test_what_the_database_makes_impossible_is_refused_whole(
    db: Database, changed: tuple[str, str], said: str | None
) -> None:
    """Names that other collections keep, changed ids and moves are refused with their line, and nothing is done."""
    await apply(db, FILE)
    before = await now(db)
    text = FILE.replace(*changed).replace("kind: bank", "kind: vendor")
    if said is None:
        await apply(db, text)
        return

    with pytest.raises(AllianceInvalid, match=said) as refused:
        await apply(db, text)

    assert all(problem.startswith("alliance.yaml:") for problem in refused.value.problems)
    assert await now(db) == before


async def test_two_applies_take_turns(db: Database) -> None:
    """Applied several times at once, everything is made exactly once."""
    done = await asyncio.gather(*(apply(db, FILE) for _ in range(4)))

    assert sorted(map(len, done)) == [0, 0, 0, 9]


async def _owner(urls: DatabaseUrls) -> psycopg.AsyncConnection:
    return await psycopg.AsyncConnection.connect(urls.owner.replace("+psycopg", ""))


async def put_version(urls: DatabaseUrls) -> None:
    async with await _owner(urls) as owner:
        await owner.execute(
            "INSERT INTO object_versions (collection_id, date_added, stix_id, form, version_at, version, stix_type,"
            " digest, body_bytes, level, marked, superseded_level, newer_form_level, member, status_id, body)"
            " VALUES (%s, now(), 'indicator--1', 21, now(), 'v', 'indicator', '', 2, 0, false, 5, 5, 1, %s, '{}')",
            (FIRST, FIRST),
        )
