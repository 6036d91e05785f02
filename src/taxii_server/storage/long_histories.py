"""Objects with very many versions: what an addition is decided from, without reading all of them.

Of an object with `LONG` versions or more, those are read that an incoming version has to do with: the one of the same order, or
else the next one, of the later ones the first that was added, and those whose kept levels it lowers. With their kept levels
they say what all would (`domain.stix_versions.standings_after`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from taxii_server.domain.stix_objects import Form
from taxii_server.storage import arrays, stored_versions
from taxii_server.storage.hot import Statement

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from taxii_server.domain.access import Writable
    from taxii_server.domain.stix_objects import Columns
    from taxii_server.storage.engine import Connection
    from taxii_server.storage.stored_versions import StoredVersion

LONG = 256
"""Versions that are read of every object; of one that has as many, there may be more."""
_MOST_COMING = 16

# What incoming versions of one object have to do with. Walks the unique key; OFFSET 0 keeps Postgres from walking it whole for
# each bound that is looked up, and from looking for the first addition along the primary key. Of a form, a version's kept level
# is no lower than those before it have: those that are lowered are its last ones. What comes late has a look at all later ones;
# `:owned` at all there are, for the first of all.
CONCERNED = Statement(
    """
    WITH coming AS (
        SELECT * FROM unnest(CAST(:forms AS smallint[]), CAST(:instants AS timestamptz[])) AS named(form, version_at)
    )
    SELECT changed.*
      FROM unnest(CAST(:all_forms AS smallint[])) AS named(form)
     CROSS JOIN LATERAL (
           SELECT coalesce((
                  SELECT version_at FROM object_versions
                   WHERE collection_id = :collection AND stix_id = :stix_id AND form = named.form AND superseded_level <= :level
                   ORDER BY form DESC, version_at DESC LIMIT 1), '-infinity') AS at OFFSET 0) AS unchanged
     CROSS JOIN LATERAL (
           SELECT stix_id, form, version_at, date_added, level, version, digest, superseded_level, newer_form_level, member
             FROM object_versions
            WHERE collection_id = :collection AND stix_id = :stix_id AND form = named.form AND version_at > unchanged.at
           OFFSET 0) AS changed
     UNION
    SELECT stix_id, form, version_at, date_added, level, version, digest, superseded_level, newer_form_level, member
      FROM object_versions
     WHERE collection_id = :collection AND stix_id = :stix_id AND form < :form AND newer_form_level > :level
     UNION
    SELECT found.*
      FROM coming
     CROSS JOIN LATERAL (
           SELECT stix_id, form, version_at, date_added, level, version, digest, superseded_level, newer_form_level, member
             FROM object_versions AS next
            WHERE collection_id = :collection AND stix_id = :stix_id
              AND (next.form, next.version_at) >= (coming.form, coming.version_at)
            ORDER BY form, version_at LIMIT 1) AS found
     UNION
    SELECT stix_id, form, version_at, date_added, level, version, digest, superseded_level, newer_form_level, member
      FROM (SELECT (SELECT min(date_added)
                      FROM (SELECT date_added FROM object_versions AS later
                             WHERE collection_id = :collection AND stix_id = :stix_id
                               AND (later.form, later.version_at) > (coming.form, coming.version_at) OFFSET 0) AS all_later
                   ) AS first
              FROM coming
             UNION
            SELECT min(date_added)
              FROM (SELECT date_added FROM object_versions
                     WHERE collection_id = :collection AND stix_id = :stix_id AND :owned OFFSET 0) AS all_there
           ) AS firsts
     CROSS JOIN LATERAL (
           SELECT stix_id, form, version_at, date_added, level, version, digest, superseded_level, newer_form_level, member
             FROM object_versions
            WHERE collection_id = :collection AND date_added = firsts.first) AS found
    """,
    "stix_id form version_at date_added level version digest superseded_level newer_form_level member",
)


async def completed(
    connection: Connection,
    target: Writable,
    stored: Sequence[StoredVersion],
    recalled: Collection[str],
    incoming: Sequence[Columns],
) -> tuple[list[StoredVersion], set[str]]:
    """Read what is missing of objects of which `stored` has `LONG` versions; name those of which not all are there now.

    All are read where it takes all: of what was recalled, and of what has no timestamps. So they are where many come at once.
    """
    long = {stix_id for stix_id, versions in Counter(one.stix_id for one in stored).items() if versions >= LONG}
    read = [one for one in stored if one.stix_id not in long]
    coming_of: dict[str, list[Columns]] = {stix_id: [] for stix_id in sorted(long)}
    for one in incoming:
        if one.stix_id in coming_of:
            coming_of[one.stix_id].append(one)
    partly: set[str] = set()
    for stix_id, coming in coming_of.items():
        instants = [one.version_at for one in coming]
        if not coming and stix_id not in recalled:
            # asked for in case it was recalled
            continue
        if stix_id in recalled or len(coming) > _MOST_COMING or None in instants:
            read += await stored_versions.of_objects(connection, target.collection_id, [stix_id])
            continue
        unmarked = target.policy.unmarked_level
        values = {
            "collection": target.collection_id,
            "stix_id": stix_id,
            "forms": arrays.numbers(one.form for one in coming),
            "instants": arrays.instants(instants),
            "form": max(one.form for one in coming),
            "all_forms": arrays.numbers(Form),
            "level": min(int(unmarked if one.level is None else one.level) for one in coming),
            "owned": target.policy.owner_only,
        }
        read += [stored_versions.of_row(row) for row in await CONCERNED.on(connection, values)]
        partly.add(stix_id)
    return read, partly
