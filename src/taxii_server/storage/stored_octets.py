"""How much each member stores. The database counts it itself, with every addition and removal (`migrations/`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select, text

from taxii_server.storage.tables import stored_octets

if TYPE_CHECKING:
    from uuid import UUID

    from taxii_server.storage.engine import Connection

# Two additions of one member to two collections take turns, or each would find the room that the other is about to use.
# Taken after the clock, and nobody who holds it waits for a clock. The first number is any constant of our own.
TAKE_TURN = text("SELECT pg_advisory_xact_lock(742133602, :member)")

# Where the kept sums of a collection differ from what it holds. Reads the collection whole.
DIFFERENCES = text("""
    SELECT member.slug,
           coalesce(kept.versions, 0) AS kept_versions, coalesce(kept.octets, 0) AS kept_octets,
           coalesce(held.versions, 0) AS versions, coalesce(held.octets, 0) AS octets
      FROM (SELECT member, versions, octets FROM stored_octets WHERE collection_id = :collection) AS kept
      FULL JOIN (SELECT member, count(*) AS versions, sum(body_bytes) AS octets
                   FROM object_versions
                  WHERE collection_id = :collection
                  GROUP BY member) AS held ON held.member = kept.member
      LEFT JOIN members AS member ON member.id = coalesce(kept.member, held.member)
     WHERE coalesce(kept.versions, 0) <> coalesce(held.versions, 0) OR coalesce(kept.octets, 0) <> coalesce(held.octets, 0)
     ORDER BY member.slug
""")


@dataclass(frozen=True, slots=True)
class Difference:
    """Sums of a member in a collection that are not what it holds."""

    member: str
    kept_versions: int
    kept_octets: int
    versions: int
    octets: int


async def of_member(connection: Connection, member: int) -> int:
    """Add up what a member stores in all collections, and let none of its other additions do so until this one is done."""
    await connection.execute(TAKE_TURN, {"member": member})
    # walks ix_stored_octets_member: as many rows as collections that the member has added to
    total = select(func.coalesce(func.sum(stored_octets.c.octets), 0)).where(stored_octets.c.member == member)
    return int((await connection.execute(total)).scalar_one())


async def differences(connection: Connection, collection_id: UUID) -> list[Difference]:
    """Compare the kept sums of a collection with what it holds."""
    return [
        Difference(str(row.slug), row.kept_versions, int(row.kept_octets), row.versions, int(row.octets))
        for row in await connection.execute(DIFFERENCES, {"collection": collection_id})
    ]
