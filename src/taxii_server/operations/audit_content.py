"""Holding what is stored against the audit: each version against the act that added it, its text against its digest, what
is kept beside a text against the text, and what is noted as removed against the acts that removed it.

One push is in memory at a time, and of each removal a digest. What was stored before there was an audit is counted; nothing
says what that was.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from taxii_server.domain import audit, permissions
from taxii_server.domain.audit import COLLECTION, Act
from taxii_server.domain.audit_chain import Flaw
from taxii_server.domain.stix_objects import NotJson, Refused, columns, parse
from taxii_server.domain.timestamps import MICROSECOND, BadTimestamp, from_parameter, to_taxii
from taxii_server.storage import alliance
from taxii_server.storage import audit_content as storage
from taxii_server.storage import audit_reading as reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from taxii_server.domain.access import Whole
    from taxii_server.domain.audit import Written
    from taxii_server.storage.audit_content import Removal, StoredContent
    from taxii_server.storage.engine import Database

_ROWS: Final = 500
_MOST_NAMED: Final = 1_000
_REMOVING: Final = frozenset({Act.OBJECTS_DELETED, Act.OBJECTS_EXPIRED, Act.OBJECTS_PRUNED})


@dataclass(slots=True)
class Compared:
    """How many versions were held against the audit, and how many are from before it."""

    versions: int = 0
    from_before: int = 0


@dataclass(frozen=True, slots=True)
class _Addition:
    """What an act says that it added; `status` is the request's, None for a recall that published."""

    seq: int
    first: datetime
    last: datetime
    digest: str
    status: str | None


async def compare(
    db: Database, streams: Sequence[str], created: set[str], compared: Compared, progress: Callable[[int], None]
) -> AsyncIterator[Flaw]:
    """Go through the content of collections, by their streams; of those `created` in the audit it knows everything."""
    async with db.read() as connection:
        there = await alliance.collection_names(connection)
    # what was put into a collection that nobody added to has no stream
    silent = {f"collection:{one}" for one in [*there, *created]}
    for stream in sorted(filter(COLLECTION.fullmatch, {*streams, *silent})):
        collection = stream.partition(":")[2]
        whole = permissions.operator_whole(UUID(collection))
        async for flaw in _collection(db, stream, whole, collection in created, compared, progress):
            yield flaw


async def _collection(
    db: Database, stream: str, whole: Whole, known_whole: bool, compared: Compared, progress: Callable[[int], None]
) -> AsyncIterator[Flaw]:
    # what is there before the acts are read has its act among them
    there = await _outline(db, stream, whole)
    before: datetime | None = None
    removed = _Removed()
    async for row in _acts(db, stream, 0):
        details = _details(row)
        removed.learn(row, details)
        if not _adds(row, details):
            continue
        addition = _addition(row, details)
        if addition is None:
            yield Flaw(stream, row.seq, "doesn't say what it added")
            continue
        async with db.read(whole) as connection:
            found = await storage.between(connection, whole, before or addition.first - MICROSECOND, addition.last)
        for flaw in await asyncio.to_thread(_held, stream, addition, found):
            yield flaw
        before = addition.last
        compared.versions += len(found)
        progress(compared.versions)
    compared.from_before += 0 if known_whole else there.earlier
    if before is not None and there.newest is not None and there.newest > before:
        yield Flaw(stream, None, f"tells of nothing that added what is stored after {to_taxii(before)}")
    if known_whole and there.earlier:
        yield Flaw(stream, None, f"tells of nothing that added {there.earlier} versions before all others")
    async for flaw in _removals(db, stream, whole, removed, known_whole=known_whole):
        yield flaw


async def _outline(db: Database, stream: str, whole: Whole) -> storage.Outline:
    """Give the outline of a collection around the first act that added."""
    while True:
        async with db.read(whole) as connection:
            begun = await reading.first_of(connection, stream, Act.OBJECTS_ADDED.value)
            start = None if begun is None else _addition(begun, _details(begun))
            there = await storage.outline(connection, whole, None if start is None else start.first)
            # the first push of all may come in between
            if begun is not None or await reading.first_of(connection, stream, Act.OBJECTS_ADDED.value) is None:
                return there


@dataclass(slots=True)
class _Removed:
    """The removals that acts tell of: the numbers of these by the digest of what went; and when the first act was."""

    acts: dict[str, int] = field(default_factory=dict)
    began: datetime | None = None
    last: int = 0

    def learn(self, row: Written, details: dict[str, Any]) -> None:
        """Take in the next act."""
        self.began, self.last = self.began or row.at, row.seq
        recalled = row.act == Act.OBJECT_RECALLED and details.get("outcome") == "deleted"
        if (recalled or row.act in _REMOVING) and details.get("versions") != 0:
            self.acts[str(details.get("digest"))] = row.seq

    def pop(self, removal: Removal) -> bool:
        """Tell whether an act did it, and take that one off."""
        return self.acts.pop(removal.contents.digest, None) is not None

    def had_begun(self, removal: Removal) -> bool:
        """Tell whether it was done when there was an audit."""
        return self.began is not None and removal.at >= self.began


async def _removals(
    db: Database, stream: str, whole: Whole, told: _Removed, *, known_whole: bool
) -> AsyncIterator[Flaw]:
    """Hold what is noted as removed against the acts: each has one removal of just these versions, and each removal one."""
    nobodys: list[Removal] = []
    more = 0
    async with db.read(whole) as connection:
        async for removal in storage.removals(connection, whole):
            if told.pop(removal) or not (known_whole or told.had_begun(removal)):
                continue
            if len(nobodys) < _MOST_NAMED:
                nobodys.append(removal)
            else:
                more += 1
    for seq in sorted(told.acts.values()):
        yield Flaw(stream, seq, "removed other versions than are noted as removed")
    if nobodys:
        # acts that were written since the others were read
        async for row in _acts(db, stream, told.last):
            told.learn(row, _details(row))
    for removal in nobodys:
        if not told.pop(removal):
            yield Flaw(stream, None, _foreign(removal))
    if more:
        yield Flaw(stream, None, f"tells of nothing that did {more} more removals")


def _foreign(removal: Removal) -> str:
    count = removal.contents.versions
    what = removal.example if count == 1 else f"{count} versions, {removal.example} among them"
    return f"tells of nothing that removed {what}, which is noted as {removal.reason!r} at {to_taxii(removal.at)}"


async def _acts(db: Database, stream: str, after: int) -> AsyncIterator[Written]:
    while True:
        async with db.read() as connection:
            rows = await reading.of_stream(connection, stream, after, _ROWS)
        for row in rows:
            yield row
        if len(rows) < _ROWS:
            return
        after = rows[-1].seq


def _details(row: Written) -> dict[str, Any]:
    try:
        details = json.loads(row.details)
    except ValueError:
        return {}
    return details if isinstance(details, dict) else {}


def _adds(row: Written, details: dict[str, Any]) -> bool:
    """Tell whether an act added versions: a recall does where it published any."""
    recalled = row.act == Act.OBJECT_RECALLED and details.get("outcome") == "revoked" and details.get("versions") != 0
    return recalled or row.act == Act.OBJECTS_ADDED


def _addition(row: Written, details: dict[str, Any]) -> _Addition | None:
    try:
        first, last = from_parameter(details["first"]), from_parameter(details["last"])
        return _Addition(row.seq, first, last, str(details["digest"]), details.get("status"))
    except (KeyError, TypeError, BadTimestamp):
        return None


def _held(stream: str, addition: _Addition, found: Sequence[StoredContent]) -> list[Flaw]:
    """Hold what is stored after the addition before it and up to its own end against what it says."""
    whats = []
    ours = [one for one in found if one.content.date_added >= addition.first]
    if len(ours) < len(found):
        stray = to_taxii(found[0].content.date_added)
        whats.append(f"comes after a version that nothing tells of, added {stray}")
    if audit.digest_of(one.content for one in ours) != addition.digest:
        whats.append("added other versions than are stored now")
    if addition.status is not None and any(one.status != addition.status for one in ours):
        whats.append("added versions that now belong to another request")
    for one in ours:
        beside = None if one.body is None else _beside(one, one.body)
        if beside is not None:
            whats.append(f"added {one.content.stix_id} ({to_taxii(one.content.date_added)}), {beside}")
            break
    return [Flaw(stream, addition.seq, what) for what in whats]


def _beside(one: StoredContent, body: str) -> str | None:
    """Say what a version's text has to say against it."""
    octets = body.encode()
    try:
        parsed = parse(octets)
        if parsed.digest != one.content.digest:
            return "whose text was another one"
        text = columns(parsed)
    except NotJson:
        return "whose text was another one"
    except Refused:
        return None  # it was taken by rules that were others
    content, date = one.content, one.content.date_added
    kept = (content.stix_id, one.stix_type, content.form, content.version, one.version_at, one.octets, one.marked)
    said = (
        *(text.stix_id, text.stix_type, text.form, text.version or to_taxii(date), text.version_at or date),
        *(len(octets), text.level is not None),
    )
    if kept != said or text.level not in {None, one.level}:
        return "beside which something else is kept than its text says"
    return None
