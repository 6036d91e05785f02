"""What a collection holds and held, as the audit tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from taxii_server.domain.audit import Content, Contents

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from sqlalchemy import Row

    from taxii_server.domain.access import Whole
    from taxii_server.storage.engine import Connection

# What was added between two dates, removed since or not. Walks the primary keys of both large tables.
BETWEEN = text("""
    SELECT date_added, stix_id, form, version, digest, member, status_id, version_at, stix_type, body_bytes, level, marked, body
      FROM object_versions
     WHERE collection_id = :collection AND date_added > :after AND date_added <= :last
     UNION ALL
    SELECT date_added, stix_id, form, version, digest, member, status_id, version_at, stix_type, body_bytes, level, marked, NULL
      FROM deleted_versions
     WHERE collection_id = :collection AND date_added > :after AND date_added <= :last
     ORDER BY date_added
""")

# The newest date given out, and what was added before a date. Walks the primary keys of both large tables: the newest from
# the far end, what is earlier from the near one.
OUTLINE = text("""
    SELECT greatest((SELECT max(date_added) FROM object_versions WHERE collection_id = :collection),
                    (SELECT max(date_added) FROM deleted_versions WHERE collection_id = :collection)) AS newest,
           (SELECT count(*) FROM object_versions WHERE collection_id = :collection AND date_added < :start)
           + (SELECT count(*) FROM deleted_versions WHERE collection_id = :collection AND date_added < :start) AS earlier
""")

# What was removed, removal by removal: those of one transaction have one instant. Two clients may delete at the very same
# microsecond, but not the same object. Walks the primary key and sorts, on disk if it must.
REMOVED = text("""
    SELECT deleted_at, reason, CASE WHEN reason IN ('delete', 'recall') THEN stix_id END AS object,
           date_added, stix_id, form, version, digest, member
      FROM deleted_versions
     WHERE collection_id = :collection
     ORDER BY deleted_at, reason, object, date_added
""")
UNHURRIED = text("SET LOCAL statement_timeout = 0")

# The next versions that a collection holds, without their bodies. Walks the primary key.
HELD = text("""
    SELECT date_added, stix_id, form, version, digest, member
      FROM object_versions
     WHERE collection_id = :collection AND date_added > :after
     ORDER BY date_added LIMIT :rows
""")
_ROWS = 5_000


@dataclass(frozen=True, slots=True)
class StoredContent:
    """A version as the audit knows it, with the request that brought it; `body` is None once it is removed.

    The rest is kept beside the text, and follows from it.
    """

    content: Content
    status: str
    body: str | None
    version_at: datetime
    stix_type: str
    octets: int
    level: int
    marked: bool


@dataclass(frozen=True, slots=True)
class Removal:
    """What one transaction took away."""

    at: datetime
    reason: str
    contents: Contents
    example: str


@dataclass(frozen=True, slots=True)
class Outline:
    """The newest date, and how many versions were added `earlier` than another one."""

    newest: datetime | None
    earlier: int


async def between(connection: Connection, where: Whole, after: datetime, last: datetime) -> list[StoredContent]:
    """Give what was added after a date and up to another, in the order of addition."""
    rows = await connection.execute(BETWEEN, {"collection": where.collection_id, "after": after, "last": last})
    return [
        StoredContent(
            _content(row),
            str(row.status_id),
            row.body,
            row.version_at,
            row.stix_type,
            row.body_bytes,
            row.level,
            row.marked,
        )
        for row in rows
    ]


async def outline(connection: Connection, where: Whole, start: datetime | None) -> Outline:
    """Give the outline of a collection around a date; everything is earlier than None."""
    row = (await connection.execute(OUTLINE, {"collection": where.collection_id, "start": start or "infinity"})).one()
    return Outline(row.newest, row.earlier)


async def removals(connection: Connection, where: Whole) -> AsyncIterator[Removal]:
    """Stream what was ever removed from a collection, one removal in memory at a time."""
    await connection.execute(UNHURRIED)
    key: object = None
    removal: Removal | None = None
    async with connection.stream(REMOVED, {"collection": where.collection_id}) as rows:
        async for row in rows:
            if removal is None or (row.deleted_at, row.reason, row.object) != key:
                if removal is not None:
                    yield removal
                key = (row.deleted_at, row.reason, row.object)
                removal = Removal(row.deleted_at, row.reason, Contents(), row.stix_id)
            removal.contents.add(_content(row))
    if removal is not None:
        yield removal


async def held(connection: Connection, where: Whole) -> Contents:
    """Tell all that a collection holds."""
    told, after = Contents(), "-infinity"
    while True:
        asked = {"collection": where.collection_id, "after": after, "rows": _ROWS}
        rows = list(await connection.execute(HELD, asked))
        for row in rows:
            told.add(_content(row))
        if len(rows) < _ROWS:
            return told
        after = rows[-1].date_added


def _content(row: Row[Any]) -> Content:
    return Content(row.date_added, row.stix_id, row.form, row.version, bytes(row.digest), row.member)
