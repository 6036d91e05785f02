"""What is stored, held against the audit: a version that was put in, taken out or changed in the database is found."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy.engine import make_url

from taxii_server.domain.audit import Content, digest_of
from taxii_server.operations import alliance, alliance_file, audit, audit_listing, operator_recalls, transfer
from taxii_server.operations.audit import Verified
from taxii_server.operations.validation import Validators
from taxii_server.storage.embedded import DatabaseUrls
from taxii_server.storage.engine import Database
from tests.factories import TLP2, as_json, envelope, indicator, ipv4, stix_id

pytestmark = pytest.mark.anyio

FILE = """
trust_groups:
  fraud-intel:
    title: Fraud intelligence
    collections:
      - {alias: one, title: First, id: 91a7b528-80eb-42ed-a74d-c6fbd5a26116, validation: structural}
      - {alias: two, title: Second, id: 3b2a8f7c-6f0e-4a55-8d25-0c9f2d3f6a11, validation: structural}
      - {alias: empty, title: Nothing yet, id: 5d0f7a52-7a4e-4d7a-9f0b-6f1f0a2c9b33, validation: structural}
members:
  north-bank: {name: North Bank}
"""
GONE = """
      - {alias: gone, title: Gone by now, id: 77c1e0aa-2f0c-4f5e-8a39-1f1de1f2b944, validation: structural, unmarked: UNMARKED}
members:"""
GONE_STREAM = "collection:77c1e0aa-2f0c-4f5e-8a39-1f1de1f2b944"
STREAM = "collection:91a7b528-80eb-42ed-a74d-c6fbd5a26116"
COLLECTION = "fraud-intel/one"


@dataclass
class Scene:
    """Two collections with a history, and a connection as their owner."""

    db: Database
    owner: psycopg.Connection
    urls: DatabaseUrls
    saved: list[str] = field(default_factory=lambda: ["object_versions", "deleted_versions", "audit_events"])

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Take back what is done inside."""
        try:
            yield
        finally:
            for table in self.saved:
                self.owner.execute(f"TRUNCATE {table}")
                self.owner.execute(f"INSERT INTO {table} SELECT * FROM saved_{table}")  # noqa: S608 - names of ours

    async def verify(self) -> Verified:
        """Verify, content included."""
        return await audit.verify(self.db, content=True)


def owner_of(urls: DatabaseUrls) -> str:
    return make_url(urls.owner).set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.fixture(scope="module")
async def scene(module_database_urls: DatabaseUrls) -> AsyncIterator[Scene]:
    """Pushes, repeats, versions, an observable, a recall that deletes and one that publishes."""
    db = Database(module_database_urls.server)
    judges = Validators(1, max_object_length=1 << 20)
    await alliance.apply(db, alliance_file.parse(FILE))

    async def add(*objects: dict[str, Any], to: str = COLLECTION) -> None:
        await transfer.import_objects(db, judges, collection=to, member="north-bank", file=BytesIO(envelope(*objects)))

    some = [indicator(id=stix_id("indicator", number)) for number in range(8)]
    later = {**some[0], "modified": "2025-01-01T00:00:00.000Z"}
    marked = indicator(id=stix_id("indicator", 20), object_marking_refs=[TLP2["red"]])
    for push in (some[:4], [later, some[5]], some[2:5], [ipv4()], [marked], some[6:]):
        await add(*push)
    await add(*some, to="fraud-intel/two")
    for unmarked in ("CLEAR", "AMBER"):
        await alliance.apply(db, alliance_file.parse(FILE.replace("\nmembers:", GONE.replace("UNMARKED", unmarked))))
        await add(*some[:3] if unmarked == "CLEAR" else some[:5], marked, to="fraud-intel/gone")
    await alliance.apply(db, alliance_file.parse(FILE), prune=True)
    for recalled in (ipv4()["id"], some[1]["id"]):
        await operator_recalls.recall(db, collection=COLLECTION, stix_id=recalled, reason="a test")
    with psycopg.connect(owner_of(module_database_urls), autocommit=True) as owner:
        made = Scene(db, owner, module_database_urls)
        for table in made.saved:
            owner.execute(f"CREATE TABLE saved_{table} AS TABLE {table}")
        yield made
    judges.close()
    await db.close()


async def test_what_nobody_touched_is_as_the_audit_says(scene: Scene) -> None:
    """Every version that was ever added is looked at, removed ones and revocations included."""
    found = await scene.verify()

    assert found.flaws == []
    assert found.content is not None
    stored = scene.owner.execute(
        "SELECT (SELECT count(*) FROM object_versions) + (SELECT count(*) FROM deleted_versions)"
    ).fetchone()
    assert (found.content.versions, found.content.from_before) == ((stored or [0])[0], 0)


@pytest.mark.parametrize(
    "attack",
    [
        "UPDATE object_versions SET body = replace(body, 'login', 'logon') WHERE {}",
        "UPDATE object_versions SET digest = set_byte(digest, 3, get_byte(digest, 3) # 1) WHERE {}",
        "UPDATE object_versions SET version = '2020-01-01T00:00:00.000Z' WHERE {}",
        "UPDATE object_versions SET stix_id = stix_id || '0' WHERE {}",
        "UPDATE object_versions SET member = member + 1 WHERE {}",
        "UPDATE object_versions SET form = 20 WHERE {}",
        "UPDATE object_versions SET status_id = gen_random_uuid() WHERE {}",
        "UPDATE object_versions SET stix_type = 'malware' WHERE {}",
        "UPDATE object_versions SET version_at = version_at + interval '1 microsecond' WHERE {}",
        "UPDATE object_versions SET body_bytes = body_bytes + 1 WHERE {}",
        "UPDATE object_versions SET marked = NOT marked WHERE {}",
        "UPDATE object_versions SET date_added = date_added - interval '1 microsecond' WHERE {}",
        "DELETE FROM object_versions WHERE {}",
    ],
)
@pytest.mark.parametrize("place", ["max", "min"])
async def test_a_version_that_was_changed_or_taken_out_is_named(scene: Scene, attack: str, place: str) -> None:
    """By the act that added it, whatever column it is that says what was stored."""
    newest = f"SELECT {place}(date_added) FROM object_versions WHERE collection_id = '{STREAM[11:]}'"  # noqa: S608 - ours
    where = f"collection_id = '{STREAM[11:]}' AND date_added = ({newest})"
    with scene.restored():
        changed = scene.owner.execute(attack.format(where)).rowcount
        found = await scene.verify()

    assert changed == 1
    assert {flaw.stream for flaw in found.flaws} == {STREAM}


@pytest.mark.parametrize("when", ["-infinity", "2 versions", "now"])
async def test_a_version_that_was_put_in_is_found(scene: Scene, when: str) -> None:
    """Before all others, between two pushes, and after the last."""
    date = {
        "-infinity": "timestamptz '2000-01-01 00:00:00+00'",
        "2 versions": "date_added - interval '1 microsecond'",
        "now": "now() + interval '1 minute'",
    }[when]
    statement = f"""
        INSERT INTO object_versions (collection_id, date_added, stix_id, form, version_at, version, stix_type, digest,
               body_bytes, level, marked, superseded_level, newer_form_level, member, client, status_id, body)
        SELECT collection_id, {date}, stix_id || '0', form, version_at, version, stix_type, digest,
               body_bytes, level, marked, superseded_level, newer_form_level, member, client, status_id, body
          FROM object_versions WHERE collection_id = '{STREAM[11:]}' ORDER BY date_added DESC LIMIT 1
    """  # noqa: S608 - ours
    with scene.restored():
        scene.owner.execute(statement)
        found = await scene.verify()

    assert {flaw.stream for flaw in found.flaws} == {STREAM}


async def test_a_removal_that_nobody_did_is_found(scene: Scene) -> None:
    """In SQL, with the note of it that the server leaves too: no act tells of it."""
    moved = """
        WITH gone AS (DELETE FROM object_versions WHERE ctid = (SELECT max(ctid) FROM object_versions) RETURNING *)
        INSERT INTO deleted_versions (collection_id, date_added, stix_id, form, version_at, version, stix_type, digest,
               body_bytes, level, marked, member, client, status_id, reason)
        SELECT collection_id, date_added, stix_id, form, version_at, version, stix_type, digest, body_bytes, level, marked,
               member, client, status_id, 'delete' FROM gone
    """
    with scene.restored():
        scene.owner.execute(moved)
        [flaw] = (await scene.verify()).flaws

    assert "tells of nothing that removed indicator--" in flaw.what
    assert "noted as 'delete'" in flaw.what


BACK = f"""
    WITH back AS (DELETE FROM deleted_versions WHERE collection_id = '{STREAM[11:]}' RETURNING *)
    INSERT INTO object_versions (collection_id, date_added, stix_id, form, version_at, version, stix_type, digest,
           body_bytes, level, marked, superseded_level, newer_form_level, member, client, status_id, body)
    SELECT collection_id, date_added, stix_id, form, version_at, version, stix_type, digest, body_bytes, level, marked,
           5, 5, member, client, status_id, %s FROM back
"""  # noqa: S608 - ours
TAKEN = f"""
    WITH gone AS (DELETE FROM object_versions WHERE collection_id = '{STREAM[11:]}' AND stix_id = %s RETURNING *)
    INSERT INTO deleted_versions (collection_id, date_added, stix_id, form, version_at, version, stix_type, digest,
           body_bytes, level, marked, member, client, status_id, reason)
    SELECT collection_id, date_added, stix_id, form, version_at, version, stix_type, digest, body_bytes, level, marked,
           member, client, status_id, 'recall' FROM gone
"""  # noqa: S608 - ours


@pytest.mark.parametrize("another", [False, True])
async def test_a_removal_that_was_undone_is_found(scene: Scene, *, another: bool) -> None:
    """What is put back, text and all, is missed among the removed; another one in its place is not taken for it."""
    with scene.restored():
        assert scene.owner.execute(BACK, (as_json(ipv4()).decode(),)).rowcount == 1
        if another:
            assert scene.owner.execute(TAKEN, (stix_id("indicator", 3),)).rowcount == 1
        flaws = (await scene.verify()).flaws

    whats = {"removed other versions than are noted as removed"}
    assert {flaw.what for flaw in flaws if flaw.seq is not None} == whats
    assert [stix_id("indicator", 3) in flaw.what for flaw in flaws if flaw.seq is None] == [True] * another


async def test_what_was_pruned_is_as_its_act_says(scene: Scene) -> None:
    """A note that is taken away or changed where a whole collection went, level changes before that included."""
    acts = [act async for act in audit_listing.export(scene.db, stream=GONE_STREAM)]
    with scene.restored():
        scene.owner.execute(
            "DELETE FROM deleted_versions WHERE collection_id = %s AND stix_id = %s",
            (GONE_STREAM[11:], stix_id("indicator", 4)),
        )
        flaws = (await scene.verify()).flaws

    added, releveled, more, pruned = (act["details"] for act in acts)
    assert [act["act"] for act in acts] == ["objects_added", "objects_releveled", "objects_added", "objects_pruned"]
    assert (added["versions"], more["versions"], pruned["versions"]) == (4, 2, 6)
    assert (pruned["first"], pruned["last"]) == (added["first"], more["last"])
    # of those of the first push what carries no marking of its own
    told = {name: releveled[name] for name in ("versions", "was", "level")}
    assert told == {"versions": 3, "was": {"CLEAR": 3}, "level": "AMBER"}
    assert releveled["digest"] == digest_of(await _contents(scene, releveled))
    assert (GONE_STREAM, acts[-1]["seq"]) in {(flaw.stream, flaw.seq) for flaw in flaws}


async def _contents(scene: Scene, act: dict[str, Any]) -> list[Content]:
    rows = scene.owner.execute(
        "SELECT date_added, stix_id, form, version, digest, member FROM deleted_versions "
        "WHERE collection_id = %s AND date_added BETWEEN %s AND %s AND NOT marked",
        (GONE_STREAM[11:], act["first"], act["last"]),
    )
    return [Content(*row) for row in rows]


async def test_another_level_than_an_object_is_marked_with_is_found(scene: Scene) -> None:
    """Whoever lowers it shows RED to everybody; the text says what it was."""
    with scene.restored():
        assert scene.owner.execute("UPDATE object_versions SET level = 0 WHERE level = 4").rowcount == 1
        [flaw] = (await scene.verify()).flaws

    assert flaw.stream == STREAM
    assert "something else is kept than its text says" in flaw.what


async def test_what_was_put_into_an_empty_collection_is_found(scene: Scene) -> None:
    """Nobody ever added to it, so it has no stream: its name and the number are told all the same."""
    statement = f"""
        INSERT INTO object_versions (collection_id, date_added, stix_id, form, version_at, version, stix_type, digest,
               body_bytes, level, marked, superseded_level, newer_form_level, member, client, status_id, body)
        SELECT '5d0f7a52-7a4e-4d7a-9f0b-6f1f0a2c9b33', date_added, stix_id, form, version_at, version, stix_type, digest,
               body_bytes, level, marked, superseded_level, newer_form_level, member, client, status_id, body
          FROM object_versions WHERE collection_id = '{STREAM[11:]}' ORDER BY date_added LIMIT 1
    """  # noqa: S608 - ours
    with scene.restored():
        scene.owner.execute(statement)
        [flaw] = (await scene.verify()).flaws

    assert flaw.stream == "collection:5d0f7a52-7a4e-4d7a-9f0b-6f1f0a2c9b33"
    assert flaw.what == "tells of nothing that added 1 versions before all others"


async def test_an_act_that_names_no_collection_any_more_is_named_itself(scene: Scene) -> None:
    """What somebody wrote into it is not asked of the database."""
    with scene.restored():
        scene.owner.execute("UPDATE audit_events SET details = '{}' WHERE act = 'collection_created'")
        flaws = (await scene.verify()).flaws

    assert {flaw.stream for flaw in flaws} == {"alliance"}


async def test_what_is_from_before_the_audit_is_counted(scene: Scene) -> None:
    """Of a collection that `apply` made before there was an audit nothing is said but how many versions."""
    with scene.restored():
        scene.owner.execute("DELETE FROM audit_events WHERE stream = 'alliance'")
        scene.owner.execute("DELETE FROM audit_events WHERE stream LIKE 'collection:3b%'")
        scene.owner.execute(
            "INSERT INTO audit_events SELECT stream, 1, at, act, who, details, digest FROM audit_events "
            "WHERE stream = %s AND seq = 1 AND false",
            (STREAM,),
        )
        found = await scene.verify()

    assert found.content is not None
    assert found.flaws == []


@pytest.mark.parametrize("rounds", [1, pytest.param(25, marks=pytest.mark.slow)])
async def test_a_server_at_work_is_no_flaw(fresh_database_urls: DatabaseUrls, rounds: int) -> None:
    """While everything is added and removed, first pushes of all included, nothing is said against anything."""
    db, other = Database(fresh_database_urls.server), Database(fresh_database_urls.server)
    judges = Validators(1, max_object_length=1 << 20)
    await alliance.apply(db, alliance_file.parse(FILE))
    done = asyncio.Event()
    # so much for each look, or what there is to look at would grow faster than it is looked at
    work = asyncio.Semaphore(6)
    recalled = 0

    async def working(name: str) -> None:
        nonlocal recalled
        while not done.is_set():
            await work.acquire()
            some = [ipv4(id=f"ipv4-addr--{uuid4()}") for _ in range(5)]
            await transfer.import_objects(
                db, judges, collection=name, member="north-bank", file=BytesIO(envelope(*some))
            )
            await operator_recalls.recall(db, collection=name, stix_id=some[0]["id"], reason=None)
            recalled += 1

    async with asyncio.TaskGroup() as group:
        for name in ("one", "two", "empty"):
            group.create_task(working(f"fraud-intel/{name}"))
        found: list[Verified] = []
        async with asyncio.timeout(120):
            while len(found) < rounds or recalled < 3 * rounds:
                found.append(await audit.verify(other, content=True))
                for _ in range(6):
                    work.release()
        done.set()
        for _ in range(3):
            work.release()
    found.append(await audit.verify(other, content=True))
    judges.close()
    for one in (db, other):
        await one.close()

    assert [one.flaws for one in found] == [[]] * len(found)
    assert [one.content.from_before for one in found if one.content] == [0] * len(found)


WRITER = """
import asyncio, sys
from io import BytesIO
from taxii_server.operations import clients, transfer
from taxii_server.operations.validation import Validators
from taxii_server.storage.engine import Database
from tests.factories import TLP2, as_json, envelope, indicator
from uuid import uuid4

async def main():
    db = Database(sys.argv[1])
    judges = Validators(1, max_object_length=1 << 20)

    async def pushing(collection):
        while True:
            some = [indicator(id=f"indicator--{uuid4()}") for _ in range(20)]
            await transfer.import_objects(db, judges, collection=collection, member="north-bank", file=BytesIO(envelope(*some)))
            print("done", flush=True)

    async def issuing():
        while True:
            issued = await clients.issue(db, "north-bank", name="c" + uuid4().hex[:20])
            await clients.revoke(db, issued.client_id)

    async with asyncio.TaskGroup() as group:
        for name in ("one", "two", "one"):
            group.create_task(pushing(f"fraud-intel/{name}"))
        group.create_task(issuing())
        group.create_task(issuing())

asyncio.run(main())
"""


@pytest.mark.parametrize("times", [1, pytest.param(12, marks=pytest.mark.slow)])
async def test_act_and_row_stand_or_fall_together(fresh_database_urls: DatabaseUrls, times: int) -> None:
    """A server that is killed (SIGKILL) in the middle of pushes and of issuing clients leaves no act alone, and no row."""
    db = Database(fresh_database_urls.server)
    await alliance.apply(db, alliance_file.parse(FILE))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[2])])}
    for number in range(times):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", WRITER, fresh_database_urls.server),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,  # semaphores that nobody was left to give back
            env=environment,
        )
        try:
            assert process.stdout is not None
            done = 0
            while done < 3 + number:
                line = await process.stdout.readline()
                assert line
                done += line == b"done\n"
        finally:
            process.send_signal(signal.SIGKILL)
            await process.communicate()
    with psycopg.connect(owner_of(fresh_database_urls), autocommit=True) as owner:
        # whatever was under way is over once nobody of the server is connected but us
        await _until_alone(owner)
        issued = owner.execute("SELECT client_id, revoked_at IS NOT NULL FROM clients").fetchall()
    found = await audit.verify(db, content=True)
    acts = [act async for act in audit_listing.export(db, stream="member:north-bank")]
    await db.close()

    assert found.flaws == []
    assert found.content is not None
    assert (found.content.versions > 0, found.content.from_before) == (True, 0)
    told = {act["details"]["client"]: False for act in acts if act["act"] == "client_issued"}
    told |= {act["details"]["client"]: True for act in acts if act["act"] == "client_revoked"}
    assert told == dict(issued)


async def _until_alone(owner: psycopg.Connection) -> None:
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' AND pid <> %s"
    )
    async with asyncio.timeout(20):
        while owner.execute(others, (owner.info.backend_pid,)).fetchone() != (0,):  # noqa: ASYNC110 - only it knows
            await asyncio.sleep(0.02)
