"""What a collection holds and held, as the audit tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from taxii_server.domain.audit import Content

if TYPE_CHECKING:
    from datetime import datetime

    from taxii_server.domain.access import Whole
    from taxii_server.storage.engine import Connection

# What was added between two dates, removed since or not. Walks the primary keys of both large tables.
BETWEEN = text("""
    SELECT date_added, stix_id, form, version, digest, member, status_id, body
      FROM object_versions
     WHERE collection_id = :collection AND date_added > :after AND date_added <= :last
     UNION ALL
    SELECT date_added, stix_id, form, version, digest, member, status_id, NULL
      FROM deleted_versions
     WHERE collection_id = :collection AND date_added > :after AND date_added <= :last
     ORDER BY date_added
""")

# The newest date given out, what was added before a date, and what was removed of the rest. Walks the primary keys of both
# large tables: the newest from the far end, what is earlier from the near one, and all that was removed since.
OUTLINE = text("""
    SELECT greatest((SELECT max(date_added) FROM object_versions WHERE collection_id = :collection),
                    (SELECT max(date_added) FROM deleted_versions WHERE collection_id = :collection)) AS newest,
           (SELECT count(*) FROM object_versions WHERE collection_id = :collection AND date_added < :start)
           + (SELECT count(*) FROM deleted_versions WHERE collection_id = :collection AND date_added < :start) AS earlier,
           (SELECT count(*) FROM deleted_versions WHERE collection_id = :collection AND date_added >= :start) AS removed
""")


@dataclass(frozen=True, slots=True)
class StoredContent:
    """A version as the audit knows it, with the request that brought it; `body` is None once it is removed."""

    content: Content
    status: str
    body: str | None


@dataclass(frozen=True, slots=True)
class Outline:
    """The newest date; how many versions were added `earlier` than a date, and how many of the rest were `removed`."""

    newest: datetime | None
    earlier: int
    removed: int


async def between(connection: Connection, where: Whole, after: datetime, last: datetime) -> list[StoredContent]:
    """Give what was added after a date and up to another, in the order of addition."""
    rows = await connection.execute(BETWEEN, {"collection": where.collection_id, "after": after, "last": last})
    return [
        StoredContent(
            Content(row.date_added, row.stix_id, row.form, row.version, bytes(row.digest), row.member),
            str(row.status_id),
            row.body,
        )
        for row in rows
    ]


async def outline(connection: Connection, where: Whole, start: datetime | None) -> Outline:
    """Give the outline of a collection around a date; everything is earlier than None."""
    row = (await connection.execute(OUTLINE, {"collection": where.collection_id, "start": start or "infinity"})).one()
    return Outline(row.newest, row.earlier, row.removed)
