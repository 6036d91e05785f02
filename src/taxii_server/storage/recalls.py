"""Recalls: a row for each, and one for each time that an object was let in again. Rows are never changed.

Of each contributor the last recall of an object counts, beside those of the others: levels that one can't see may hold
another's. Letting it in again ends all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from sqlalchemy import insert, select, text

from taxii_server.domain.recalls import Outcome
from taxii_server.storage.tables import clients, members, recalls

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row

    from taxii_server.domain.tlp import Level
    from taxii_server.storage.engine import Connection


@dataclass(frozen=True, slots=True)
class Telling:
    """A version that tells of a recall: its `date_added`, and how the wire names it."""

    date_added: datetime
    version: str


@dataclass(frozen=True, slots=True)
class Recall:
    """A recall as it was carried out; `member` is the contributor, `client` None if the operator did it.

    `withdrawn` are the dates of the versions that were there, `telling` the versions that say `revoked` since then.
    """

    stix_id: str
    at: datetime
    member: int
    client: int | None
    reason: str | None
    outcome: Outcome
    level: int
    withdrawn: tuple[datetime, ...]
    telling: tuple[Telling, ...]
    lifted_at: datetime | None = None

    def is_undone_by(self, going: Collection[datetime], left: Collection[datetime]) -> bool:
        """Whether what tells of it would be removed, and versions that it withdrew be left."""
        told = {one.date_added for one in self.telling}
        return self.lifted_at is None and not told.isdisjoint(going) and not told.issuperset(left)


# Bodies of a handful of versions. Probes the primary key.
BODIES = text("""
    SELECT date_added, body
      FROM object_versions
     WHERE collection_id = :collection AND date_added = ANY(CAST(:dates AS timestamptz[]))
""")

# Which of some versions, removed ones too, a clearance lets one see. Probes the primary keys.
SEEN = text("""
    SELECT date_added
      FROM object_versions
     WHERE collection_id = :collection AND date_added = ANY(CAST(:dates AS timestamptz[])) AND level <= :clearance
     UNION ALL
    SELECT date_added
      FROM deleted_versions
     WHERE collection_id = :collection AND date_added = ANY(CAST(:dates AS timestamptz[])) AND level <= :clearance
""")

# Whether a collection holds an object. Probes the unique key.
HOLDS = text("""
    SELECT EXISTS (SELECT FROM object_versions WHERE collection_id = :collection AND stix_id = :stix_id)
""")


async def bodies(connection: Connection, collection_id: UUID, dates: Collection[datetime]) -> Mapping[datetime, str]:
    """Read the text of some versions."""
    found = await connection.execute(BODIES, {"collection": collection_id, "dates": list(dates)})
    return {row.date_added: row.body for row in found}


async def of_object(connection: Connection, collection_id: UUID, stix_id: str) -> list[Recall]:
    """Read the last recall of an object by each contributor, and whether it was lifted, in order."""
    asked = select(recalls).where(recalls.c.collection_id == collection_id, recalls.c.stix_id == stix_id)
    return _last_of_each(await connection.execute(asked.order_by(recalls.c.number)))


async def of_collection(connection: Connection, collection_id: UUID) -> list[Recall]:
    """Read the same of every object of a collection, in the order of their ids."""
    asked = select(recalls).where(recalls.c.collection_id == collection_id)
    rows = await connection.execute(asked.order_by(recalls.c.stix_id, recalls.c.number))
    return [recall for _, of_one in groupby(rows, lambda row: row.stix_id) for recall in _last_of_each(of_one)]


async def seen(
    connection: Connection, collection_id: UUID, dates: Collection[datetime], clearance: Level
) -> set[datetime]:
    """Tell which of some versions, by their dates, somebody of this clearance can see, or could until they were removed."""
    asked = {"collection": collection_id, "dates": list(dates), "clearance": int(clearance)}
    return set((await connection.execute(SEEN, asked)).scalars())


async def add(connection: Connection, collection_id: UUID, recall: Recall, others: Iterable[int] = ()) -> Recall:
    """Note that an object was recalled; give it with the instant at which it was noted. The clock must be locked.

    `others` are members in whose names it is noted as well: what they brought was recalled with it.
    """
    values: dict[str, Any] = {
        "collection_id": collection_id,
        "stix_id": recall.stix_id,
        "act": "recall",
        "client": recall.client,
        "reason": recall.reason,
        "outcome": recall.outcome.value,
        "level": recall.level,
        "withdrawn": list(recall.withdrawn),
        "telling": [one.date_added for one in recall.telling],
        "telling_versions": [one.version for one in recall.telling],
    }
    # its own row last, so that it is the last recall of the object
    for member in (*others, recall.member):
        row = await connection.execute(insert(recalls).values(member=member, **values).returning(recalls.c.at))
        values["at"] = row.scalar_one()
    return replace(recall, at=values["at"])


async def lift(connection: Connection, collection_id: UUID, stix_id: str, reason: str | None) -> datetime:
    """Note that the operator lifted the recall of an object; give when. The clock must be locked."""
    values = {"collection_id": collection_id, "stix_id": stix_id, "act": "lift", "reason": reason}
    at: datetime = (await connection.execute(insert(recalls).values(**values).returning(recalls.c.at))).scalar_one()
    return at


async def names(connection: Connection, recall: Recall) -> tuple[str, str | None]:
    """Tell what the contributor and the client of a recall are called; the client is None if the operator did it."""
    member = select(members.c.slug).where(members.c.id == recall.member)
    client = select(clients.c.client_id).where(clients.c.id == recall.client)
    return (await connection.execute(member)).scalar_one(), (await connection.execute(client)).scalar_one_or_none()


async def holds(connection: Connection, collection_id: UUID, stix_id: str) -> bool:
    """Tell whether a collection holds a version of an object."""
    asked = {"collection": collection_id, "stix_id": stix_id}
    return bool((await connection.execute(HOLDS, asked)).scalar_one())


def _last_of_each(rows: Iterable[Row[tuple[object, ...]]]) -> list[Recall]:
    found: dict[int, Recall] = {}
    for row in rows:
        if row.act == "recall":
            # behind those of others that were made before it
            found.pop(row.member, None)
            found[row.member] = _recall(row)
            continue
        for member, recall in found.items():
            if recall.lifted_at is None:
                found[member] = replace(recall, lifted_at=row.at)
    return list(found.values())


def _recall(row: Row[tuple[object, ...]]) -> Recall:
    return Recall(
        stix_id=row.stix_id,
        at=row.at,
        member=row.member,
        client=row.client,
        reason=row.reason,
        outcome=Outcome(row.outcome),
        level=row.level,
        withdrawn=tuple(row.withdrawn),
        telling=tuple(Telling(*one) for one in zip(row.telling, row.telling_versions, strict=True)),
    )
