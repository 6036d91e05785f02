"""The bar of the audit: as the owner of the database, change any byte, remove, swap or rewrite anything; it is found.

Each attack is committed on a real PostgreSQL, verified as the server's role, and taken back.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise

import psycopg
import pytest
from sqlalchemy.engine import make_url

from taxii_server.auth import audit_heads as signing
from taxii_server.auth.signing_keys import SigningKeys
from taxii_server.domain import audit as domain
from taxii_server.domain.audit import HEADS, START, Written
from taxii_server.domain.audit_chain import Flaw, encode
from taxii_server.domain.errors import OperatorError
from taxii_server.operations import (
    alliance,
    alliance_file,
    audit,
    audit_heads,
    audit_listing,
    clients,
    members,
    signing_keys,
)
from taxii_server.operations.audit import Verified
from taxii_server.storage.embedded import DatabaseUrls
from taxii_server.storage.engine import Database
from tests.auth.alliance import statements

pytestmark = pytest.mark.anyio

FILE = """
trust_groups:
  fraud-intel:
    title: Fraud intelligence
    collections:
      - {alias: one, title: First, grants: {north-bank: [read, write]}}
members:
  north-bank: {name: North Bank}
  harbour-bank: {name: Harbour Bank}
"""
ISSUER = "https://taxii.example.org"
COLUMNS = ("stream", "seq", "at", "act", "who", "details", "digest")
NORTH = "member:north-bank"
OTHER_CHARACTER = (
    "SET signed = overlay(signed placing CASE substr(signed, {0}, 1) WHEN 'x' THEN 'y' ELSE 'x' END from {0} for 1)"
)


@dataclass
class Scene:
    """An audit with three checkpoints, the head of each, and a connection as the owner of it all."""

    db: Database
    keys: SigningKeys
    owner: psycopg.Connection
    heads: list[str]

    def rows(self, stream: str | None = None) -> list[Written]:
        """What is stored."""
        found = self.owner.execute(f"SELECT {', '.join(COLUMNS)} FROM audit_events ORDER BY stream, seq")  # noqa: S608 - our own names
        return [Written(*row) for row in found if stream in {None, row[0]}]

    def change(self, row: Written, column: str, change: str) -> None:
        """Change one column of what stands at a row's place."""
        place = " WHERE stream = %s AND seq = %s"
        self.owner.execute(f"UPDATE audit_events SET {column} = {change}" + place, (row.stream, row.seq))  # noqa: S608 - our own names

    def put(self, row: Written) -> None:
        """Write over what stands at a row's place."""
        self.owner.execute(
            "UPDATE audit_events SET at = %s, act = %s, who = %s, details = %s, digest = %s WHERE stream = %s AND seq = %s",
            (row.at, row.act, row.who, row.details, row.digest, row.stream, row.seq),
        )

    def delete(self, row: Written) -> None:
        """Take a row out."""
        self.owner.execute("DELETE FROM audit_events WHERE stream = %s AND seq = %s", (row.stream, row.seq))

    def rewrite(self, stream: str, change: Callable[[Written], Written]) -> dict[int, bytes]:
        """Change a stream's rows and work out its chain anew; the new digests."""
        previous, digests = START, {}
        for row in self.rows(stream):
            changed = change(row)
            previous = digests[row.seq] = changed.link(previous)
            self.put(replace(changed, digest=previous))
        return digests

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Take back what is done inside."""
        try:
            yield
        finally:
            for table in ("audit_events", "audit_heads"):
                self.owner.execute(f"TRUNCATE {table}")
                self.owner.execute(f"INSERT INTO {table} SELECT * FROM saved_{table}")  # noqa: S608 - our own names

    async def verify(self, *heads: str) -> Verified:
        """Verify, by default with the newest head."""
        return await audit.verify(self.db, audit.heads_in(" ".join(heads or self.heads[-1:])))

    async def flaws(self, *heads: str) -> list[Flaw]:
        """What verifying finds."""
        return (await self.verify(*heads)).flaws


@pytest.fixture(scope="module")
async def scene(module_database_urls: DatabaseUrls) -> AsyncIterator[Scene]:
    """Acts of every kind of stream between three checkpoints."""
    db = Database(module_database_urls.server)
    keys = SigningKeys(db, "k" * 32, key_lifetime=timedelta(days=90), token_lifetime=timedelta(minutes=15))
    heads = []

    async def head() -> None:
        made = await audit_heads.make(db, keys, ISSUER, wait=True)
        assert made is not None
        heads.append(made.text)

    await alliance.apply(db, alliance_file.parse(FILE))
    issued = await clients.issue(db, "north-bank", name="siem")
    await head()
    await members.suspend(db, "harbour-bank")
    await members.resume(db, "harbour-bank")
    await clients.rotate(db, issued.client_id)
    await head()
    await clients.revoke(db, issued.client_id)
    await signing_keys.rotate(keys)
    await head()
    owner_url = make_url(module_database_urls.owner).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(owner_url, autocommit=True) as owner:
        for table in ("audit_events", "audit_heads"):
            owner.execute(f"CREATE TABLE saved_{table} AS TABLE {table}")
        yield Scene(db, keys, owner, heads)
    await db.close()


async def test_what_nobody_touched_is_sound(scene: Scene) -> None:
    """With any head that was exported, with all of them, and without one; the keys that signed them may have changed."""
    for heads in ([], [scene.heads[0]], scene.heads):
        found = await audit.verify(scene.db, audit.heads_in(" ".join(heads)) if heads else [])

        assert found.flaws == []
        assert (found.checkpoints, found.uncovered) == (3, 0)
        assert found.acts == len(scene.rows())


@pytest.mark.parametrize("column", ["at", "act", "who", "details", "digest"])
async def test_a_changed_byte_in_any_row_is_named(scene: Scene, column: str) -> None:
    """Every act of every stream, checkpoints included: the place is told, and no other act is blamed."""
    change = {
        "at": "at + interval '1 microsecond'",
        "act": "overlay(act placing 'x' from 3 for 1)",
        "who": "overlay(who placing 'x' from 3 for 1)",
        "details": "overlay(details placing ' ' from length(details) for 1)",
        "digest": "set_byte(digest, 9, get_byte(digest, 9) # 1)",
    }[column]
    for row in scene.rows():
        with scene.restored():
            scene.change(row, column, change)
            found = await scene.flaws()

        assert (row.stream, row.seq) in {(flaw.stream, flaw.seq) for flaw in found}
        assert {flaw.stream for flaw in found} == {row.stream}
        assert {flaw.seq for flaw in found} == {row.seq}


NO_DIGEST = "A" * 43
UNREADABLE = {
    "an instant without end": ("at", "'infinity'"),
    "an instant before all": ("at", "'-infinity'"),
    "an instant after all years": ("at", "'20000-01-01Z'"),
    "an instant before Christ": ("at", "'0044-03-15Z BC'"),
    "nested too deeply": ("details", "repeat('[', 100000)"),
    "a number too long": ("details", "repeat('9', 100000)"),
    "no object": ("details", "'[]'"),
    "no key": ("details", """'{"key":{"kty":1}}'"""),
    "a number without end": (
        "details",
        f"""'{{"heads":[["x",1e999,"{NO_DIGEST}"]],"part":1,"parts":1,"whole":true}}'""",
    ),
    "a part without end": ("details", """'{"heads":[],"part":1e999,"parts":1,"whole":true}'"""),
    "no number of ours": (
        "details",
        f"""'{{"heads":[["x",{"9" * 20},"{NO_DIGEST}"]],"part":1,"parts":1,"whole":true}}'""",
    ),
    "no text of ours": (
        "details",
        f"""'{{"heads":[["a\\u0000\\ud800",1,"{NO_DIGEST}"]],"part":1,"parts":1,"whole":true}}'""",
    ),
}


@pytest.mark.parametrize("how", UNREADABLE)
async def test_what_cannot_even_be_read_is_named_like_any_other_change(scene: Scene, how: str) -> None:
    """One byte of a stored instant can make it one that Python doesn't have. It is named, exported, and stops no head."""
    column, change = UNREADABLE[how]
    for row in (scene.rows(HEADS)[0], scene.rows("keys")[0]):
        with scene.restored():
            scene.change(row, column, change)
            found = await scene.flaws()
            exported = [act async for act in audit_listing.export(scene.db)]
            await audit_heads.make(scene.db, scene.keys, ISSUER)

        assert {(flaw.stream, flaw.seq) for flaw in found} == {(row.stream, row.seq)}
        assert len(exported) == len(scene.rows())


@pytest.mark.parametrize("column", ["stream", "seq"])
async def test_a_row_that_is_moved_away_is_missed(scene: Scene, column: str) -> None:
    """A byte of the stream's name or of the number: it is missing where it was."""
    change = {"stream": "overlay(stream placing 'x' from length(stream) for 1)", "seq": "seq + 256"}[column]
    for row in scene.rows():
        with scene.restored():
            scene.change(row, column, change)
            found = await scene.flaws()

        alone = len(scene.rows(row.stream)) == 1
        assert any(
            flaw.stream == row.stream and (flaw.seq == row.seq or (alone and flaw.seq is None)) for flaw in found
        ), (row, found)


async def test_a_removed_row_is_missed_the_last_one_too(scene: Scene) -> None:
    """Every row there is, one after the other."""
    for row in scene.rows():
        with scene.restored():
            scene.delete(row)
            found = await scene.flaws()

        alone = len(scene.rows(row.stream)) == 1
        missed = [flaw for flaw in found if flaw.stream == row.stream]
        assert {flaw.seq for flaw in missed} == {None if alone else row.seq}, (row, found)


async def test_two_that_were_swapped_are_named(scene: Scene) -> None:
    """Neighbours in a stream, and two of different streams."""
    rows = scene.rows(NORTH)
    other = scene.rows("member:harbour-bank")[0]
    for one, two in [*pairwise(rows), (rows[0], other)]:
        with scene.restored():
            scene.put(replace(two, stream=one.stream, seq=one.seq))
            scene.put(replace(one, stream=two.stream, seq=two.seq))
            found = await scene.flaws()

        assert {(one.stream, one.seq), (two.stream, two.seq)} <= {(flaw.stream, flaw.seq) for flaw in found}


async def test_a_dropped_stream_is_missed(scene: Scene) -> None:
    """Any of them, the checkpoints' own included."""
    for stream in {row.stream for row in scene.rows()}:
        with scene.restored():
            scene.owner.execute("DELETE FROM audit_events WHERE stream = %s", (stream,))
            found = await scene.flaws()

        assert {flaw.stream for flaw in found} == {stream}
        if stream != HEADS:
            assert [flaw.seq for flaw in found] == [None]


@pytest.mark.parametrize("cut", [1, 2])
async def test_cut_off_checkpoints_are_missed(scene: Scene, cut: int) -> None:
    """With their signatures and the acts that only they saw: the head that was exported knows better."""
    left = len(scene.rows(HEADS)) - cut
    with scene.restored():
        scene.owner.execute("DELETE FROM audit_events WHERE stream = %s AND seq > %s", (HEADS, left))
        [first, *_] = await scene.flaws()
        scene.owner.execute("DELETE FROM audit_heads WHERE seq > %s", (left,))
        scene.owner.execute("DELETE FROM audit_events WHERE stream = %s AND seq > 2", (NORTH,))
        found = await scene.flaws()
        kept = await scene.flaws(scene.heads[0])

    assert (first.stream, first.seq) == (HEADS, left + 1)
    assert (HEADS, left + 1) in {(flaw.stream, flaw.seq) for flaw in found}
    # an old head says nothing of what came after it
    assert {flaw.stream for flaw in kept} <= {NORTH, HEADS}


async def test_a_rewritten_stream_is_found_by_its_checkpoints(scene: Scene) -> None:
    """Its chain is sound; the first checkpoint that saw another end says where it begins, no earlier."""
    with scene.restored():
        scene.rewrite(NORTH, lambda row: replace(row, who="nobody") if row.seq == 2 else row)
        [flaw] = await scene.flaws()

    assert (flaw.stream, flaw.seq) == (NORTH, 2)
    assert flaw.what.endswith("rewritten here or before, after 1")


async def test_a_wholly_rewritten_audit_is_found_by_a_head_from_outside(scene: Scene) -> None:
    """Streams and checkpoints fit together, signed anew with the server's own key: only what is outside tells."""

    def forged(row: Written) -> Written:
        details = json.loads(row.details)
        for told in details["heads"]:
            if told[0] == NORTH:
                told[2] = encode(digests[told[1]])
        return replace(row, details=domain.canonical(details))

    key = await scene.keys.current()
    with scene.restored():
        digests = scene.rewrite(NORTH, lambda row: replace(row, who="nobody") if row.seq == 3 else row)
        made = scene.rewrite(HEADS, forged)
        without_key = await scene.flaws()
        for seq, digest in made.items():
            signed = signing.sign(
                key.private_key, kid=key.kid, issuer=ISSUER, seq=seq, digest=digest, at=scene.rows(HEADS)[0].at
            )
            scene.owner.execute("UPDATE audit_heads SET signed = %s WHERE seq = %s", (signed, seq))
        inside = await audit.verify(scene.db)
        found = await scene.flaws(*scene.heads)

    assert {(flaw.stream, flaw.seq) for flaw in without_key} == {(HEADS, 3)}
    assert inside.sound  # said so in docs/security.md: without a copy outside, nothing is left that could tell
    [flaw] = found
    assert (flaw.stream, flaw.seq) == (HEADS, 3)
    assert flaw.what.endswith("rewritten here or before, after 2")


@pytest.mark.parametrize("attack", [OTHER_CHARACTER, None])
async def test_signed_heads_are_held_to_their_checkpoints(scene: Scene, attack: str | None) -> None:
    """A changed character anywhere in one, and one that is gone."""
    for seq in (1, 2, 3):
        for place in (5, 60, 150, 290) if attack else (0,):
            with scene.restored():
                verb = f"UPDATE audit_heads {attack.format(place)}" if attack else "DELETE FROM audit_heads"
                scene.owner.execute(verb + " WHERE seq = %s", (seq,))
                found = await scene.flaws()

            assert {(flaw.stream, flaw.seq) for flaw in found} == {(HEADS, seq)}


async def test_a_forged_or_foreign_head_is_refused(scene: Scene) -> None:
    """One that was tampered with, one of a key that isn't trusted, and what is none at all."""
    head, payload, signature = scene.heads[-1].split(".")
    other = scene.heads[0].split(".")[1]
    with pytest.raises(OperatorError, match="not what was signed"):
        await scene.verify(f"{head}.{other}.{signature}")
    with pytest.raises(OperatorError, match="no key that is trusted"):
        await audit.verify(scene.db, audit.heads_in(scene.heads[-1]), audit.keys_in('{"keys": []}'))
    with pytest.raises(OperatorError, match="no signed head"):
        audit.heads_in(f"{head}.{payload}")


async def test_heads_are_found_in_a_log(scene: Scene) -> None:
    """Whole lines of a log will do, in any order."""
    log = "\n".join(json.dumps({"event": "audit_head", "head": head}) for head in reversed(scene.heads)) + "\nnoise"

    assert [one.seq for one in audit.heads_in(log)] == [1, 2, 3]


async def test_nothing_is_written_where_nothing_moved(scene: Scene) -> None:
    """No checkpoint without news; and a stream that got shorter is never written over."""
    before = scene.rows()

    assert await audit_heads.make(scene.db, scene.keys, ISSUER) is None
    with scene.restored():
        scene.delete(scene.rows(NORTH)[-1])
        assert await audit_heads.make(scene.db, scene.keys, ISSUER) is None
    assert scene.rows() == before


async def test_keys_that_are_gone_from_the_database_are_still_known(scene: Scene) -> None:
    """Heads of keys that ended stay checkable: the audit itself tells of each key that was made."""
    scene.owner.execute("CREATE TABLE saved_keys AS TABLE signing_keys")
    scene.owner.execute("DELETE FROM signing_keys")
    try:
        assert (await scene.verify(*scene.heads)).sound
    finally:
        scene.owner.execute("INSERT INTO signing_keys SELECT * FROM saved_keys")
        scene.owner.execute("DROP TABLE saved_keys")


async def test_no_checkpoint_takes_the_place_of_one_that_was_cut_off(scene: Scene) -> None:
    """Where only the signed head is left, the server makes no more of them, and says why."""
    with scene.restored():
        scene.owner.execute("DELETE FROM audit_events WHERE stream = %s AND seq > 2", (HEADS,))
        await members.suspend(scene.db, "harbour-bank")
        await members.resume(scene.db, "harbour-bank")
        left = scene.rows()
        with pytest.raises(OperatorError, match="cut checkpoints off"):
            await audit_heads.make(scene.db, scene.keys, ISSUER, wait=True)

        assert scene.rows() == left


@pytest.mark.parametrize("heads", [1, 3, 1_000])
async def test_many_checkpoints_are_looked_up_together(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, heads: int
) -> None:
    """However many a statement takes, each is held against its streams; and by itself one statement takes thousands."""
    monkeypatch.setattr(audit, "_HEADS", heads)
    row = next(row for row in scene.rows(NORTH) if row.seq == 1)
    with statements(scene.db) as sent:
        sound = await scene.verify()
    with scene.restored():
        scene.rewrite(NORTH, lambda one: replace(one, who="nobody") if one.seq == row.seq else one)
        named = {flaw.stream for flaw in await scene.flaws()}
    lookups = sum("unnest" in one for one in sent)

    assert sound.sound
    assert named == {NORTH}
    # once for heads left over, once for the one from outside
    assert lookups - 2 == {1: sound.checkpoints, 1_000: 1}.get(heads, lookups - 2)
