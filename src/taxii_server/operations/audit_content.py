"""Holding what is stored against the audit: each version against the act that added it, and its text against its digest.

One push is in memory at a time. What was stored before there was an audit is counted; nothing says what that was.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from taxii_server.domain import audit, permissions
from taxii_server.domain.audit import Act
from taxii_server.domain.audit_chain import Flaw
from taxii_server.domain.stix_objects import NotJson, parse
from taxii_server.domain.timestamps import MICROSECOND, BadTimestamp, from_parameter, to_taxii
from taxii_server.storage import audit_content as storage
from taxii_server.storage import audit_reading as reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from taxii_server.domain.access import Whole
    from taxii_server.domain.audit import Written
    from taxii_server.storage.audit_content import StoredContent
    from taxii_server.storage.engine import Database

_ROWS: Final = 500
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
    for stream in streams:
        collection = stream.partition(":")[2]
        whole = permissions.operator_whole(UUID(collection))
        async for flaw in _collection(db, stream, whole, collection in created, compared, progress):
            yield flaw


async def _collection(
    db: Database, stream: str, whole: Whole, known_whole: bool, compared: Compared, progress: Callable[[int], None]
) -> AsyncIterator[Flaw]:
    async with db.read(whole) as connection:
        begun = await reading.first_of(connection, stream, Act.OBJECTS_ADDED.value)
        start = None if begun is None else _addition(begun, _details(begun))
        # what is there before the acts are read has its act among them
        there = await storage.outline(connection, whole, None if start is None else start.first)
    before: datetime | None = None
    removed = 0
    async for row in _acts(db, stream):
        details = _details(row)
        removed += _removed(row, details)
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
    for what in _outline_flaws(there, before, removed, known_whole=known_whole):
        yield Flaw(stream, None, what)


def _outline_flaws(there: storage.Outline, last: datetime | None, removed: int, *, known_whole: bool) -> list[str]:
    """Say what the acts of a whole stream leave open."""
    open_ends = []
    if last is not None and there.newest is not None and there.newest > last:
        open_ends.append(f"tells of nothing that added what is stored after {to_taxii(last)}")
    if known_whole and there.earlier:
        open_ends.append(f"tells of nothing that added {there.earlier} versions before all others")
    if there.removed > removed:
        open_ends.append(f"tells of {removed} versions that were removed, and there are {there.removed}")
    return open_ends


async def _acts(db: Database, stream: str) -> AsyncIterator[Written]:
    after = 0
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


def _removed(row: Written, details: dict[str, Any]) -> int:
    """Count what an act says that it removed."""
    recalled = row.act == Act.OBJECT_RECALLED and details.get("outcome") == "deleted"
    told = details.get("versions") if recalled or row.act in _REMOVING else 0
    return told if isinstance(told, int) else 0


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
        if one.body is not None and _digest(one.body) != one.content.digest:
            date = to_taxii(one.content.date_added)
            whats.append(f"added {one.content.stix_id} ({date}), whose text was another one")
            break
    return [Flaw(stream, addition.seq, what) for what in whats]


def _digest(body: str) -> bytes:
    try:
        return parse(body.encode()).digest
    except NotJson:
        return b""
