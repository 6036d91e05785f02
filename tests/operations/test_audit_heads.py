"""Checkpoints are made in the background, by one worker of all, and hold up no shutdown."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.engine import make_url

from taxii_server.auth import audit_heads as signing
from taxii_server.auth.signing_keys import SigningKeys
from taxii_server.domain.errors import OperatorError
from taxii_server.operations import alliance, alliance_file, audit, audit_heads, audit_listing, members, signing_keys
from taxii_server.operations.audit_heads import Heads
from taxii_server.storage.engine import Database

if TYPE_CHECKING:
    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

ISSUER = "https://taxii.example.org"
FILE = "trust_groups: {}\nmembers:\n  north-bank: {name: North Bank}\n"
SOON = timedelta(milliseconds=10)


def keys(db: Database) -> SigningKeys:
    return SigningKeys(db, "k" * 32, key_lifetime=timedelta(days=90), token_lifetime=timedelta(minutes=15))


@pytest.fixture
async def db(fresh_database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A database of one test alone, in which nothing was done yet."""
    database = Database(fresh_database_urls.server, connections=16)
    yield database
    await database.close()


async def until(so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(20):
        while not so():  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


def failures(where: str) -> float:
    return float(audit_heads.HEADS_FAILED.labels(where)._value.get())


async def test_the_first_head_of_a_new_database_tells_of_its_first_key(db: Database) -> None:
    """Signing needs a key, and making one is an act: so there is always something to sign."""
    made = await audit_heads.make(db, keys(db), ISSUER)

    assert made is not None
    assert made.seq == 1
    found = await audit.verify(db, [made])
    assert found.sound
    assert (found.acts, found.uncovered) == (2, 0)


async def test_many_workers_make_one_head(db: Database) -> None:
    """One makes it, and the others neither wait nor repeat it; what moves while they do is covered by the next."""
    await alliance.apply(db, alliance_file.parse(FILE))
    own = keys(db)
    await own.current()
    made = await asyncio.gather(*(audit_heads.make(db, own, ISSUER) for _ in range(6)))
    insisting = await asyncio.gather(*(audit_heads.make(db, own, ISSUER, wait=True) for _ in range(6)))

    assert [one.seq for one in made if one is not None] == [1]
    assert insisting == [None] * 6
    await members.suspend(db, "north-bank")
    fresh = await audit_heads.make(db, own, ISSUER, unless_younger=timedelta(hours=1))
    due = await audit_heads.make(db, own, ISSUER, unless_younger=timedelta())
    assert fresh is None
    assert due is not None
    assert (await audit.verify(db, [due])).sound


async def test_a_head_of_the_future_holds_up_none(db: Database, fresh_database_urls: DatabaseUrls) -> None:
    """After the database's clock was set back, heads go on."""
    own = keys(db)
    await audit_heads.make(db, own, ISSUER)
    async with await psycopg.AsyncConnection.connect(fresh_database_urls.owner.replace("+psycopg", "")) as owner:
        await owner.execute("UPDATE audit_events SET at = now() + interval '1 day' WHERE stream = 'heads'")
    await alliance.apply(db, alliance_file.parse(FILE))

    assert await audit_heads.make(db, own, ISSUER, unless_younger=timedelta(minutes=5)) is not None


async def test_stopping_makes_one_more_head_and_stops_without_a_database(db: Database, tmp_path: Path) -> None:
    """What was done last is covered; and a database that is gone is no reason to stay."""
    file = tmp_path / "heads"
    heads = Heads(db, keys(db), ISSUER, timedelta(hours=1), file)
    async with heads.running():
        await alliance.apply(db, alliance_file.parse(FILE))

    assert len(audit.heads_in(file.read_text())) == 1
    nowhere = Database("postgresql+psycopg://taxii_server@127.0.0.1:1/taxii")
    failed = failures("made")
    async with asyncio.timeout(30):
        async with Heads(nowhere, keys(nowhere), ISSUER, SOON, file).running():
            await until(lambda: failures("made") > failed)
    await nowhere.close()
    assert len(audit.heads_in(file.read_text())) == 1


async def test_a_file_that_takes_no_head_holds_nothing_up(db: Database, tmp_path: Path) -> None:
    """A pipe that nobody reads, a directory: counted, logged, and the server goes on."""
    os.mkfifo(tmp_path / "pipe")
    for number, file in enumerate((tmp_path / "pipe", tmp_path), 1):
        before = failures("file")
        async with asyncio.timeout(20), Heads(db, keys(db), ISSUER, timedelta(hours=1), file).running():
            await alliance.apply(db, alliance_file.parse(FILE.replace("North Bank", f"North Bank {number}")))

        assert failures("file") == before + 1


async def test_a_piece_of_a_head_is_not_left_in_the_file(
    db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk takes a part of a line: it is taken back, or the next head would stand in the same line."""
    file = tmp_path / "heads"
    real = os.write

    def short(descriptor: int, octets: bytes) -> int:
        return real(descriptor, octets[:40] if octets.startswith(b"eyJ") else octets)

    monkeypatch.setattr(os, "write", short)
    async with Heads(db, keys(db), ISSUER, timedelta(hours=1), file).running():
        await alliance.apply(db, alliance_file.parse(FILE))
    assert file.read_text() == ""
    monkeypatch.undo()
    async with Heads(db, keys(db), ISSUER, timedelta(hours=1), file).running():
        await members.suspend(db, "north-bank")

    assert [one.seq for one in audit.heads_in(file.read_text())] == [2]


async def test_a_whole_checkpoint_of_the_future_is_not_the_last_for_a_year(
    db: Database, fresh_database_urls: DatabaseUrls
) -> None:
    """After the database's clock was set back, the next one but one names all streams again: making it stays cheap."""
    await alliance.apply(db, alliance_file.parse(FILE))
    own = keys(db)
    told = []
    for suspended in (True, False, True):
        await (members.suspend if suspended else members.resume)(db, "north-bank")
        made = await audit_heads.make(db, own, ISSUER)
        assert made is not None
        [head] = [act async for act in audit_listing.export(db, stream="heads", after=made.seq - 1)]
        told.append(head["details"]["whole"])
        if made.seq == 1:
            url = make_url(fresh_database_urls.owner).set(drivername="postgresql")
            with psycopg.connect(url.render_as_string(hide_password=False)) as owner:
                owner.execute("UPDATE audit_events SET at = at + interval '1 year' WHERE stream = 'heads'")

    assert told == [True, False, True]


async def test_heads_of_keys_that_are_no_more_still_hold(db: Database) -> None:
    """Rotated, retired, and gone from the table: the audit has their public part. A key set from outside must have it, too."""
    own = keys(db)
    made = []
    for step in range(3):
        await alliance.apply(db, alliance_file.parse(FILE.replace("North Bank", f"North Bank {step}")))
        head = await audit_heads.make(db, own, ISSUER)
        assert head is not None
        made.append(head)
        await (signing_keys.rotate(own) if step == 0 else signing_keys.retire(db, None))
    async with db.write() as connection:
        await connection.execute(text("DELETE FROM signing_keys"))
    known = {
        act["details"]["kid"]: act["details"]["key"]
        async for act in audit_listing.export(db, stream="keys")
        if "key" in act["details"]
    }
    sound = await audit.verify(db, made)

    assert len({head.kid for head in made}) == 3
    assert (sound.flaws, sound.exported_until) == ([], made[-1].issued_at)
    assert (await audit.verify(db, made, known)).sound
    with pytest.raises(OperatorError, match=f"signed with {made[0].kid}, which is no key that is trusted"):
        await audit.verify(db, made, {kid: key for kid, key in known.items() if kid != made[0].kid})


async def test_a_head_of_another_deployment_is_told_apart(db: Database) -> None:
    """One that was signed with this one's key, by a copy: named with its issuer. An old one holds, and says how old it is."""
    own = keys(db)
    old = await audit_heads.make(db, own, ISSUER)
    await alliance.apply(db, alliance_file.parse(FILE))
    new = await audit_heads.make(db, own, ISSUER)
    assert old is not None
    assert new is not None
    key = await own.current()
    text_of_copy = signing.sign(
        key.private_key, kid=key.kid, issuer="https://copy.example", seq=2, digest=b"x" * 32, at=new.issued_at
    )
    [flaw] = (await audit.verify(db, [old, new, signing.read(text_of_copy)])).flaws
    replayed = await audit.verify(db, [old])

    assert (flaw.stream, flaw.seq) == ("heads", 2)
    assert "of https://copy.example says" in flaw.what
    assert (replayed.sound, replayed.exported_until, replayed.exported_heads) == (True, old.issued_at, 1)
