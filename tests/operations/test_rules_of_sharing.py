"""`apply` changes what collections ask of what is added; the plan tells what that means for what is stored."""

from __future__ import annotations

import asyncio
import json
from io import BytesIO
from textwrap import dedent
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from sqlalchemy import select

from taxii_server.domain.access import Attribution, Grant, Policy, Right, Validation, Whole, Writable
from taxii_server.domain.stix_versions import Version, standings
from taxii_server.domain.tlp import Level
from taxii_server.operations import alliance, alliance_file, transfer
from taxii_server.operations.validation import Validators
from taxii_server.storage import bounds, clocks, object_writes
from taxii_server.storage.engine import Database
from taxii_server.storage.tables import collection_clocks, object_versions
from tests.factories import TLP2, identity, indicator, stix_id, tlp2
from tests.storage.feeds import body_of, columns
from tests.storage.waiting import waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls
    from tests.factories import Stix

pytestmark = pytest.mark.anyio

FEED = "fraud-intel/one"
FILE = dedent("""\
    trust_groups:
      fraud-intel:
        title: Fraud intelligence
        collections:
          - alias: one
            title: First
            validation: structural
            grants: {north-bank: [read, write], harbour-bank: [read, write]}
    members:
      north-bank: {name: North Bank, kind: bank}
      harbour-bank: {name: Harbour Bank, kind: bank}
    """)
LATER = "2024-06-01T00:00:00.000Z"


def ruled(*rules: str) -> str:
    """The file, with rules for the collection."""
    return FILE.replace("validation: structural", "\n        ".join(["validation: structural", *rules]))


FEW = f"note {FEED} is anonymous, but only 2 members may add to it: each of the two knows what the other brought"


@pytest.fixture
async def db(fresh_database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A database for one test alone, the file applied."""
    database = Database(fresh_database_urls.server)
    await apply(database)
    yield database
    await database.close()


@pytest.fixture(scope="module")
async def judges() -> AsyncIterator[Validators]:
    validators = Validators(1, max_object_length=100_000)
    yield validators
    validators.close()


async def apply(db: Database, *rules: str, dry_run: bool = False) -> list[str]:
    plan = await alliance.apply(db, alliance_file.parse(ruled(*rules)), dry_run=dry_run)
    return [step.line for step in plan.steps]


async def add(db: Database, judges: Validators, *objects: Stix, member: str = "north-bank") -> list[str | None]:
    """Add objects in a member's name; give what their refusals say."""
    body = json.dumps({"objects": objects}).encode()
    done = await transfer.import_objects(db, judges, collection=FEED, member=member, file=BytesIO(body))
    return [one.message for one in done.refused]


async def rows(db: Database) -> list[Any]:
    where = Whole((await alliance.collections(db))[0].id)
    async with db.read(where) as connection:
        return list((await connection.execute(select(object_versions).order_by(object_versions.c.date_added))).all())


async def changes(db: Database) -> int:
    async with db.read() as connection:
        return int((await connection.execute(select(collection_clocks.c.changes))).scalar_one())


def kept_levels_are_right(found: list[Any]) -> bool:
    """Whether the kept levels of one object's rows are what the reference works out."""
    places = [Version(row.stix_id, row.form, row.version_at, row.date_added, row.level) for row in found]
    kept = {row.date_added: (row.superseded_level, row.newer_form_level) for row in found}
    right = standings(places)
    return kept == {date: (one.superseded_level, one.newer_form_level) for date, one in right.items()}


async def test_rules_are_stored_told_and_listed(db: Database) -> None:
    """The plan says from what to what; a second apply changes nothing; taken out of the file they are the defaults."""
    rules = ["ceiling: AMBER", "unmarked: GREEN", "owner_only: true", "attribution: anonymous"]
    lines = await apply(db, *rules)

    [line, warning] = lines
    assert warning == FEW
    assert line.startswith(f"change collection {FEED}: ceiling 'RED' → 'AMBER', unmarked 'CLEAR' → 'GREEN', ")
    assert line.endswith("owner_only 'false' → 'true', attribution 'named' → 'anonymous'")
    assert await apply(db, *rules) == [FEW]
    [listed] = await alliance.collections(db)
    assert (listed.name, listed.grants["north-bank"]) == (FEED, Grant(frozenset(Right), Level.RED))
    assert listed.policy == Policy(
        Validation.STRUCTURAL, Level.AMBER, Level.GREEN, owner_only=True, attribution=Attribution.ANONYMOUS
    )
    await apply(db)
    assert (await alliance.collections(db))[0].policy == Policy(Validation.STRUCTURAL)


async def test_a_clearance_changes_by_itself(db: Database) -> None:
    """The rights may stay; a grant without one is for RED."""
    cleared = FILE.replace("harbour-bank: [read, write]", "harbour-bank: {rights: [read, write], clearance: GREEN}")
    plans = [await alliance.apply(db, alliance_file.parse(each)) for each in (cleared, cleared, FILE)]

    assert [[step.line for step in plan.steps] for plan in plans] == [
        [f"change grant of harbour-bank on {FEED}: read, write → read, write up to GREEN"],
        [],
        [f"change grant of harbour-bank on {FEED}: read, write up to GREEN → read, write"],
    ]


async def test_another_rule_for_unmarked_moves_what_is_stored(db: Database, judges: Validators) -> None:
    """Unmarked versions move, the kept levels with them; what is marked and TLP's own markings stay; the plan counts.

    A dry run tells the same and does nothing.
    """
    one = indicator()
    newer = {**one, "modified": LATER, "object_marking_refs": [TLP2["green"]]}
    await add(db, judges, one, newer, indicator(id=stix_id("indicator", 2)), tlp2("red"))
    before, counted = await rows(db), await changes(db)

    planned = await apply(db, "unmarked: AMBER", dry_run=True)
    assert (await rows(db), await changes(db)) == (before, counted)
    done = await apply(db, "unmarked: AMBER")

    assert planned == done
    assert done == [
        f"change collection {FEED}: unmarked 'CLEAR' → 'AMBER'",
        f"change 2 stored versions of {FEED} without a TLP marking: AMBER instead of CLEAR",
    ]
    after = await rows(db)
    assert [row.level for row in after] == [Level.AMBER, Level.GREEN, Level.AMBER, Level.CLEAR]
    assert kept_levels_are_right([row for row in after if row.stix_id == one["id"]])
    assert [(row.date_added, row.body, row.marked) for row in after] == [
        (row.date_added, row.body, row.marked) for row in before
    ]
    assert await changes(db) > counted
    assert await apply(db, "unmarked: AMBER") == []


async def test_refusing_what_is_unmarked_leaves_what_is_stored(db: Database, judges: Validators) -> None:
    """It stays with the level it had; a later rule moves it from there."""
    await apply(db, "unmarked: GREEN")
    await add(db, judges, indicator())
    lines = await apply(db, "unmarked: refuse")

    assert lines == [
        f"change collection {FEED}: unmarked 'GREEN' → 'refuse'",
        f"note 1 stored version of {FEED} without a TLP marking: they stay, as GREEN",
    ]
    [row] = await rows(db)
    assert row.level == Level.GREEN
    [said] = await add(db, judges, indicator(id=stix_id("indicator", 2)))
    assert "takes none such" in str(said)
    assert await apply(db, "unmarked: GREEN") == [f"change collection {FEED}: unmarked 'refuse' → 'GREEN'"]
    assert (await apply(db, "unmarked: RED"))[1] == (
        f"change 1 stored version of {FEED} without a TLP marking: RED instead of GREEN"
    )


async def test_a_lower_ceiling_is_told_and_not_retroactive(db: Database, judges: Validators) -> None:
    """What lies above it stays; what comes next is held to it."""
    red = indicator(object_marking_refs=[TLP2["red"]])
    await add(db, judges, red, indicator(id=stix_id("indicator", 2)))
    lines = await apply(db, "ceiling: GREEN")

    assert lines == [
        f"change collection {FEED}: ceiling 'RED' → 'GREEN'",
        f"note 1 stored version of {FEED} above the ceiling GREEN: they stay",
    ]
    assert [row.level for row in await rows(db)] == [Level.RED, Level.CLEAR]
    [said] = await add(db, judges, {**red, "modified": LATER})
    assert "takes nothing above TLP:GREEN" in str(said)


@pytest.mark.parametrize(
    ("writers", "said"),
    [
        (0, None),
        (1, "only 1 member may add to it: everything there is that member's"),
        (2, "only 2 members may add to it: each of the two knows what the other brought"),
        (3, None),
    ],
)
async def test_too_few_writers_for_anonymity_are_told(db: Database, writers: int, said: str | None) -> None:
    """With one or two writers, who brought what can be counted out: `apply` says so, each time and in a new collection."""
    grants = "".join(f"          bank-{n}: {[*('read', 'write')[: 1 + (n < writers)]]}\n" for n in range(4)).replace(
        "'", ""
    )
    members = "".join(f"  bank-{n}: {{name: Bank {n}}}\n" for n in range(4))
    text = (
        "trust_groups:\n  quiet:\n    title: Quiet\n    collections:\n      - alias: one\n        title: One\n"
        f"        attribution: anonymous\n        grants:\n{grants}members:\n{members}"
    )
    told = [[step.line for step in (await alliance.apply(db, alliance_file.parse(text))).steps] for _ in range(2)]

    for lines in told:
        notes = [line for line in lines if line.startswith("note ")]
        assert notes == ([] if said is None else [f"note quiet/one is anonymous, but {said}"])


async def test_an_import_obeys_the_rules_too(db: Database, judges: Validators) -> None:
    """In a member's name, by the rules for that member: ceiling, unmarked, whose objects, and who may be named."""
    await add(db, judges, indicator())
    lines = await apply(db, "owner_only: true", "attribution: anonymous")
    theirs = await add(db, judges, indicator(modified=LATER), member="harbour-bank")
    named = await add(db, judges, indicator(id=stix_id("indicator", 2), created_by_ref=identity()["id"]))

    assert lines[1:] == [
        f"note 1 stored version of {FEED} from before it was anonymous: they stay as they are, created_by_ref included",
        FEW,
    ]
    assert "only that member may add versions" in str(theirs[0])
    assert "north-bank" not in str(theirs[0])
    assert "leave created_by_ref out" in str(named[0])
    assert await add(db, judges, indicator(modified=LATER)) == []


async def test_who_adds_while_the_rule_changes_adds_by_the_new_one(db: Database, judges: Validators) -> None:
    """A push that was judged before waits for the lock and reads the rule again: no level of the old rule is left."""
    feed = (await alliance.collections(db))[0].id
    async with db.write() as connection:
        await clocks.lock_clock(connection, feed)
        ruling = asyncio.create_task(apply(db, "unmarked: AMBER"))
        adding = asyncio.create_task(add(db, judges, *(indicator(id=stix_id("indicator", n)) for n in range(20))))
        await waiting(db, 2)
    await ruling
    await adding

    assert {row.level for row in await rows(db)} == {Level.AMBER}


async def test_a_rule_and_a_title_change_while_somebody_adds(db: Database) -> None:
    """`apply` takes the clock before the collection's row, as writers do: neither waits for the other in a circle."""
    feed = (await alliance.collections(db))[0].id
    target = Writable(feed, 1, None, Level.RED, Policy(Validation.STRUCTURAL))
    wanted = alliance_file.parse(ruled("unmarked: AMBER").replace("title: First", "title: Prime"))
    async with db.write() as connection:
        await bounds.hold_to(connection, target)
        clock = await clocks.lock_clock(connection, feed)
        changing = asyncio.create_task(alliance.apply(db, wanted))
        await waiting(db, 1)
        one = columns(stix_id("indicator"), 1)
        await object_writes.add(connection, target, clock, uuid4(), [(one, body_of(one))])
    plan = await changing

    assert [step.line for step in plan.steps][1:] == [
        f"change 1 stored version of {FEED} without a TLP marking: AMBER instead of CLEAR"
    ]
    assert [row.level for row in await rows(db)] == [Level.AMBER]
