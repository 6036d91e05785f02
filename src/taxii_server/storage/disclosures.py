"""The disclosure ledger: rows that say which versions were sent to which client, and the way back from a version to them.

The dates of a row are packed (`domain.disclosures`). It is found through its fork: whoever looks for some versions asks for
the few dozen forks that a span with one of them can have, and looks into the rows that span one.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from taxii_server.domain.disclosures import Recipient, Way, forks, microseconds
from taxii_server.domain.trace_cursor import Place
from taxii_server.storage import arrays
from taxii_server.storage.hot import Statement
from taxii_server.storage.tables import members as all_members

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from taxii_server.domain.access import Traceable
    from taxii_server.domain.disclosures import Disclosure
    from taxii_server.storage.engine import Connection, Database

# Everything that waits, at once.
INSERT = Statement("""
    INSERT INTO disclosures (collection_id, fork, first_added, last_added, member, client, way, number, dates)
    SELECT *
      FROM unnest(
           CAST(:collection_id AS uuid[]), CAST(:fork AS bigint[]), CAST(:first_added AS timestamptz[]),
           CAST(:last_added AS timestamptz[]), CAST(:member AS integer[]), CAST(:client AS integer[]),
           CAST(:way AS smallint[]), CAST(:number AS integer[]), CAST(:dates AS bytea[]))
""")

# Rows that may tell of some versions, in the order of the primary key, after a place in it. Walks pk_disclosures fork by fork
# and stops where there are enough: the forks come sorted, so that only the rows of one are left to sort at a time. `:lows`
# and `:highs` are the first and the last of the versions that a fork stands for. The packed dates, which may lie outside
# the row, are read for what fits only; one row too many says that there are more.
SPANNING = text("""
    WITH walked AS (
        SELECT branch.fork, walk.*
          FROM (SELECT *
                  FROM unnest(CAST(:forks AS bigint[]), CAST(:lows AS timestamptz[]), CAST(:highs AS timestamptz[]))
                       AS branches(fork, low, high)
                 ORDER BY fork) AS branch
         CROSS JOIN LATERAL (
               SELECT first_added, last_added, id, sent_at, member, client, way, number, dates
                 FROM disclosures AS ledger
                WHERE collection_id = :collection AND ledger.fork = branch.fork
                  AND first_added <= branch.high AND last_added >= branch.low
                  AND (ledger.fork, first_added, last_added, id) > (
                      CAST(:after_fork AS bigint), CAST(:after_first AS timestamptz),
                      CAST(:after_last AS timestamptz), CAST(:after_id AS bigint))
                ORDER BY first_added, last_added, id
                LIMIT :rows) AS walk
         ORDER BY branch.fork, first_added, last_added, id
         LIMIT :rows
    )
    SELECT fork, first_added, last_added, id, sent_at, member, client, way, number, fits,
           CASE WHEN fits THEN dates END AS dates
      FROM (SELECT *, nth = 1 OR (nth < :rows AND told <= :most) AS fits
              FROM (SELECT *, row_number() OVER places AS nth, sum(number) OVER places AS told
                      FROM walked
                    WINDOW places AS (ORDER BY fork, first_added, last_added, id ROWS UNBOUNDED PRECEDING)) AS counted
           ) AS sized
     WHERE nth <= 2 OR told - number <= :most
     ORDER BY fork, first_added, last_added, id
""")

# An object's versions in one collection, those that were removed too, in order of addition. Walks uq_object_versions_… and
# ix_deleted_versions_stix_id.
VERSIONS = text("""
    SELECT * FROM (
        SELECT date_added, form, version, level, member, false AS removed
          FROM object_versions WHERE collection_id = :collection AND stix_id = :stix_id
     UNION ALL
        SELECT date_added, form, version, level, member, true
          FROM deleted_versions WHERE collection_id = :collection AND stix_id = :stix_id
    ) AS versions
     WHERE date_added > :after
       AND (CAST(:member AS integer) IS NULL OR member = CAST(:member AS integer)) AND level <= :clearance
     ORDER BY date_added
     LIMIT :rows
""")

# Every collection there is or was.
COLLECTIONS = text("SELECT id FROM collections UNION SELECT id FROM removed_collections ORDER BY id")

# Clients by number, with their members.
RECIPIENTS = text("""
    SELECT client.id AS client, client.client_id, member.id AS member, member.slug, member.name
      FROM clients AS client
      JOIN members AS member ON member.id = client.member_id
     WHERE client.id = ANY(CAST(:clients AS integer[]))
""")


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the ledger."""

    place: Place
    sent_at: datetime
    recipient: Recipient
    way: Way
    number: int
    dates: bytes


@dataclass(frozen=True, slots=True)
class Entries:
    """Rows in the order of their places; `more`: others follow that were too many, or told of too many versions."""

    entries: tuple[Entry, ...]
    more: bool


@dataclass(frozen=True, slots=True)
class Version:
    """A version of an object, there or removed."""

    date_added: datetime
    form: int
    version: str
    member: int
    removed: bool


@dataclass(frozen=True, slots=True)
class Named:
    """A recipient by name."""

    client_id: str
    member: str
    name: str


async def insert(through: Connection | Database, disclosures: Sequence[Disclosure]) -> None:
    """Write rows, all of them with one statement: on a connection, or by itself and durable when this returns."""
    values = {
        "collection_id": arrays.texts(one.collection_id.hex for one in disclosures),
        "fork": arrays.numbers(one.fork for one in disclosures),
        "first_added": arrays.instants(one.first_added for one in disclosures),
        "last_added": arrays.instants(one.last_added for one in disclosures),
        "member": arrays.numbers(one.recipient.member for one in disclosures),
        "client": arrays.numbers(one.recipient.client for one in disclosures),
        "way": arrays.numbers(int(one.way) for one in disclosures),
        "number": arrays.numbers(one.number for one in disclosures),
        "dates": arrays.octets(one.dates for one in disclosures),
    }
    if isinstance(through, AsyncConnection):
        await INSERT.on(through, values)
    else:
        await through.commit(INSERT.step(values))


async def spanning(
    connection: Connection,
    where: Traceable,
    dates: Sequence[datetime],
    after: Place | None,
    *,
    rows: int,
    versions: int,
) -> Entries:
    """Read rows whose span holds one of these dates: some may tell of none of them, but none that does is left out.

    At most `rows`, and no more than tell of `versions` versions together, unless the first one alone does.
    """
    branches: dict[int, list[datetime]] = defaultdict(list)
    for date in dates:
        for fork in forks(microseconds(date)):
            if after is None or fork >= after.fork:
                branches[fork].append(date)
    found = await connection.execute(
        SPANNING,
        {
            "collection": where.collection_id,
            "forks": arrays.numbers(branches),
            "lows": arrays.instants(min(some) for some in branches.values()),
            "highs": arrays.instants(max(some) for some in branches.values()),
            "after_fork": -1 if after is None else after.fork,
            "after_first": "-infinity" if after is None else after.first_added,
            "after_last": "-infinity" if after is None else after.last_added,
            "after_id": 0 if after is None else after.id,
            "rows": rows + 1,
            "most": versions,
        },
    )
    entries, more = [], False
    for row in found:
        if not row.fits:
            more = True
            break
        place = Place(row.fork, row.first_added, row.last_added, row.id)
        recipient = Recipient(row.member, row.client)
        entries.append(Entry(place, row.sent_at, recipient, Way(row.way), row.number, row.dates))
    return Entries(tuple(entries), more)


async def versions_of(
    connection: Connection,
    where: Traceable,
    stix_id: str,
    after: datetime | None,
    *,
    limit: int,
) -> list[Version]:
    """Read the versions of an object that may be traced, removed ones too, oldest addition first."""
    asked = {
        "collection": where.collection_id,
        "stix_id": stix_id,
        "after": "-infinity" if after is None else after,
        "member": where.member,
        "clearance": int(where.clearance),
        "rows": limit,
    }
    return [
        Version(row.date_added, row.form, row.version, row.member, row.removed)
        for row in await connection.execute(VERSIONS, asked)
    ]


async def collections(connection: Connection) -> list[UUID]:
    """List every collection, those that were removed too."""
    return list((await connection.execute(COLLECTIONS)).scalars())


async def recipients(connection: Connection, clients: Sequence[int]) -> dict[int, Named]:
    """Name clients and their members, by the client's number."""
    found = await connection.execute(RECIPIENTS, {"clients": list(clients)})
    return {row.client: Named(row.client_id, row.slug, row.name) for row in found}


async def members(connection: Connection, ids: Sequence[int]) -> dict[int, str]:
    """Give the slugs of members, by number."""
    found = select(all_members.c.id, all_members.c.slug).where(all_members.c.id.in_(ids))
    return {row.id: row.slug for row in await connection.execute(found)}
