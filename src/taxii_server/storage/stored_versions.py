"""Stored versions without their bodies: what order, visibility and removal are decided from."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select, text

from taxii_server.domain.audit import Content
from taxii_server.domain.recalls import StandingRecall
from taxii_server.domain.stix_versions import Standing, Version, standings
from taxii_server.storage import arrays
from taxii_server.storage.hot import Statement
from taxii_server.storage.tables import object_versions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime
    from uuid import UUID

    from sqlalchemy import Row, Select

    from taxii_server.storage.engine import Connection


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One stored version: its place in the order, what it says of itself, and its kept levels."""

    place: Version
    version: str
    digest: bytes
    standing: Standing
    member: int

    @property
    def date_added(self) -> datetime:
        """When it was added: its key within the collection."""
        return self.place.date_added

    @property
    def stix_id(self) -> str:
        """The object it is a version of."""
        return self.place.stix_id

    @property
    def content(self) -> Content:
        """What the audit says of it."""
        return Content(self.date_added, self.stix_id, self.place.form, self.version, self.digest, self.member)


# All versions of some objects. Probes the unique key, one object after the other.
OF_OBJECTS = text("""
    SELECT stix_id, form, version_at, date_added, level, version, digest, superseded_level, newer_form_level, member
      FROM object_versions
     WHERE collection_id = :collection AND stix_id = ANY(CAST(:stix_ids AS text[]))
""")

# The same, up to so many of each, and of each object the recalls that stand, the last of each contributor: what an addition is
# decided from. A lift ends all before it. Probes the unique key and pk_recalls. A recall is told from a version by its null form;
# in place of version_at it has the date of the newest version that it withdrew or published, which stands last.
OF_OBJECTS_AND_RECALLS = Statement(
    """
    SELECT of_object.*, NULL AS reason, NULL AS by_operator
      FROM unnest(CAST(:stix_ids AS text[])) AS named(id)
     CROSS JOIN LATERAL (
           SELECT stix_id, form, version_at, date_added, level, version, digest, superseded_level, newer_form_level, member
             FROM object_versions
            WHERE collection_id = :collection AND stix_id = named.id
            LIMIT CAST(:most AS bigint)) AS of_object
     UNION ALL
    SELECT stix_id, NULL, greatest(withdrawn[cardinality(withdrawn)], telling[cardinality(telling)]), at, level,
           NULL, NULL, NULL, NULL, NULL, reason, client IS NULL
      FROM (SELECT DISTINCT ON (stix_id, member) stix_id, at, level, withdrawn, telling, reason, client
              FROM recalls AS made
             WHERE collection_id = :collection AND stix_id = ANY(CAST(:stix_ids AS text[])) AND act = 'recall'
               AND NOT EXISTS (
                   SELECT FROM recalls AS lifted
                    WHERE lifted.collection_id = :collection AND lifted.stix_id = made.stix_id
                      AND lifted.number > made.number AND lifted.act = 'lift')
             ORDER BY stix_id, member, number DESC) AS standing
    """,
    "stix_id form version_at date_added level version digest superseded_level newer_form_level member reason by_operator",
)

# Moves the kept levels of versions whose surroundings changed. Probes the primary key.
RESTAND = Statement("""
    UPDATE object_versions AS kept
       SET superseded_level = now_is.superseded_level, newer_form_level = now_is.newer_form_level
      FROM unnest(CAST(:dates AS timestamptz[]), CAST(:superseded AS smallint[]), CAST(:newer_form AS smallint[]))
           AS now_is(date_added, superseded_level, newer_form_level)
     WHERE kept.collection_id = :collection AND kept.date_added = now_is.date_added
""")


async def of_objects(connection: Connection, collection_id: UUID, stix_ids: Iterable[str]) -> list[StoredVersion]:
    """Read every stored version of the named objects, whatever its level."""
    asked = {"collection": collection_id, "stix_ids": arrays.texts(stix_ids)}
    return [of_row(row) for row in await connection.execute(OF_OBJECTS, asked)]


async def of_objects_and_recalls(
    connection: Connection, collection_id: UUID, stix_ids: Collection[str], most: int | None = None
) -> tuple[list[StoredVersion], dict[str, list[StandingRecall]]]:
    """Read the stored versions of the named objects, and the recalls of them that stand, in one statement.

    Each object is named once. `most` is how many versions of each are read, all if it is None.
    """
    asked = {"collection": collection_id, "stix_ids": arrays.texts(stix_ids), "most": most}
    versions: list[StoredVersion] = []
    recalled: dict[str, list[StandingRecall]] = defaultdict(list)
    for row in await OF_OBJECTS_AND_RECALLS.on(connection, asked):
        if row.form is None:
            recall = StandingRecall(row.level, row.by_operator, row.date_added, row.version_at, row.reason)
            recalled[row.stix_id].append(recall)
        else:
            versions.append(of_row(row))
    return versions, recalled


async def added_before(
    connection: Connection,
    collection_id: UUID,
    instant: datetime,
    limit: int,
) -> list[StoredVersion]:
    """Read the oldest versions that were added before `instant`, oldest first, at most `limit`."""
    oldest: Select[tuple[object, ...]] = (
        select(
            *(object_versions.c[name] for name in ("stix_id", "form", "version_at", "date_added", "level", "version")),
            *(object_versions.c[name] for name in ("digest", "superseded_level", "newer_form_level", "member")),
        )
        .where(object_versions.c.collection_id == collection_id, object_versions.c.date_added < instant)
        .order_by(object_versions.c.date_added)
        .limit(limit)
    )
    return [of_row(row) for row in await connection.execute(oldest)]


def restand(connection: Connection, collection_id: UUID, versions: Sequence[StoredVersion]) -> None:
    """Recompute the kept levels of these versions, all there are of their objects, and write those that changed."""
    of_object: dict[str, list[StoredVersion]] = {}
    for version in versions:
        of_object.setdefault(version.stix_id, []).append(version)
    right = {date: standing for some in of_object.values() for date, standing in _standings(some)}
    set_standings(connection, collection_id, [(version, right[version.date_added]) for version in versions])


def set_standings(
    connection: Connection,
    collection_id: UUID,
    right: Sequence[tuple[StoredVersion, Standing]],
) -> None:
    """Write the kept levels of those versions for which they are not yet right."""
    changed = [(version.date_added, standing) for version, standing in right if standing != version.standing]
    if changed:
        RESTAND.later(
            connection,
            {
                "collection": collection_id,
                "dates": arrays.instants(date_added for date_added, _ in changed),
                "superseded": arrays.numbers(standing.superseded_level for _, standing in changed),
                "newer_form": arrays.numbers(standing.newer_form_level for _, standing in changed),
            },
        )


def _standings(versions: Sequence[StoredVersion]) -> Iterable[tuple[datetime, Standing]]:
    return standings(version.place for version in versions).items()


def of_row(row: Row[tuple[object, ...]]) -> StoredVersion:
    """Take it from a row with these columns."""
    return StoredVersion(
        place=Version(row.stix_id, row.form, row.version_at, row.date_added, row.level),
        version=row.version,
        digest=row.digest,
        standing=Standing(row.superseded_level, row.newer_form_level),
        member=row.member,
    )
