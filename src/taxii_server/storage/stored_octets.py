"""How much each member stores. The database counts it itself, with every addition and removal (`migrations/`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import func, select, text

from taxii_server.storage import held
from taxii_server.storage.tables import stored_octets

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from uuid import UUID

    from taxii_server.storage.engine import Connection

# Additions of one member to several collections commit one after the other, or each would take the room that another is
# about to. The turn is taken last, with nothing left to do but to look at the sum and commit: whoever waits for it holds a
# clock, so others wait as well. And nobody who has it waits for anything, so no two wait for each other. The first number
# is any constant of our own.
TAKE_TURN = text("SELECT pg_advisory_xact_lock(742133602, :member)")

SAVE = text("SAVEPOINT before_adding")
TAKE_BACK = text("ROLLBACK TO SAVEPOINT before_adding")

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


Added = TypeVar("Added")


@dataclass(frozen=True, slots=True)
class Difference:
    """Sums of a member in a collection that are not what it holds."""

    member: str
    kept_versions: int
    kept_octets: int
    versions: int
    octets: int


async def of_member(connection: Connection, member: int) -> int:
    """Add up what a member stores in all collections, as far as it is committed or this transaction's own."""
    # walks ix_stored_octets_member: as many rows as collections that the member has added to
    total = select(func.coalesce(func.sum(stored_octets.c.octets), 0)).where(stored_octets.c.member == member)
    return int((await connection.execute(total)).scalar_one())


async def within(
    connection: Connection,
    member: int,
    quota: int,
    add: Callable[[int], Awaitable[Added]],
    adds: Callable[[Added], bool],
) -> Added:
    """Have `add` store what there is room for; `adds` tells whether that is anything.

    It is done by what the sum is now. If another addition of the member took some of that room meanwhile, it is taken
    back and done once more, in turn. Nothing may be done after this but to commit.
    """
    room = quota - await of_member(connection, member)
    await connection.execute(SAVE)
    added = await add(room)
    if not adds(added):
        return added
    await connection.execute(TAKE_TURN, {"member": member})
    if await of_member(connection, member) <= quota:
        return added
    await connection.execute(TAKE_BACK)  # and the turn with it
    await held.forget(connection)
    await connection.execute(TAKE_TURN, {"member": member})
    return await add(quota - await of_member(connection, member))


async def differences(connection: Connection, collection_id: UUID) -> list[Difference]:
    """Compare the kept sums of a collection with what it holds."""
    return [
        Difference(str(row.slug), row.kept_versions, int(row.kept_octets), row.versions, int(row.octets))
        for row in await connection.execute(DIFFERENCES, {"collection": collection_id})
    ]
