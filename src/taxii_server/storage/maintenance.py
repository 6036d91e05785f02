"""What upkeep and checks read and change: old statuses, retentions, clocks, kept levels, roles."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, func, literal, select, text, update

from taxii_server.domain.access import Submissions
from taxii_server.domain.stix_versions import Standing, Version
from taxii_server.domain.tlp import MARKING_LEVELS, Level
from taxii_server.storage.clocks import FURTHEST_AHEAD, MICROSECOND
from taxii_server.storage.engine import Connection
from taxii_server.storage.tables import (
    collection_clocks,
    collections,
    members,
    statuses,
    trust_groups,
)

ONE_AT_A_TIME = 7_421_336_017  # any constant of our own

# Who the server connects as: nobody who could pass by what was granted.
ROLE = text("""
    SELECT current_user AS name,
           own.rolsuper AS superuser,
           own.rolbypassrls AS bypasses_policies,
           (SELECT count(*) FROM pg_class WHERE relowner = own.oid) AS owned,
           EXISTS (SELECT FROM pg_database WHERE datname = current_database() AND datdba = own.oid) AS owns_database,
           has_schema_privilege('public', 'CREATE') AS may_create,
           (SELECT coalesce(array_agg(DISTINCT pg_get_userbyid(relowner)::text), '{}')
              FROM pg_class
             WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND relowner <> own.oid
               AND pg_has_role(relowner, 'MEMBER')) AS acts_as
      FROM pg_roles AS own
     WHERE own.rolname = current_user
""")

NAMES = text("""
    SELECT collection.id, trust_group.slug || '/' || coalesce(collection.alias, collection.id::text) AS name
      FROM collections AS collection
      JOIN trust_groups AS trust_group ON trust_group.id = collection.trust_group_id
     ORDER BY name
""")

# How a clock stands against the database's time and against what its collection holds or held. Walks the primary keys
# of both large tables from their far ends.
CLOCK = text("""
    SELECT clock.last_added,
           clock_timestamp() AS now,
           (SELECT max(date_added) FROM object_versions WHERE collection_id = collection.id) AS newest,
           (SELECT max(date_added) FROM deleted_versions WHERE collection_id = collection.id) AS newest_deleted
      FROM collections AS collection
      LEFT JOIN collection_clocks AS clock ON clock.collection_id = collection.id
     WHERE collection.id = :collection
""")

# Every version of one collection, object by object in their order, and the level that its rule gives it: null for what
# is marked. Walks uq_object_versions_….
KEPT_LEVELS = text("""
    SELECT stix_id, form, version_at, date_added, level, superseded_level, newer_form_level,
           CASE WHEN NOT marked AND lower(stix_id) <> ALL(CAST(:exempt AS text[])) THEN rule.unmarked_level END AS ruled
      FROM object_versions
     CROSS JOIN (SELECT unmarked_level FROM collections WHERE id = :collection) AS rule
     WHERE collection_id = :collection
     ORDER BY collection_id, stix_id, form, version_at
""")


@dataclass(frozen=True, slots=True)
class Role:
    """What the role of this connection could do beyond what it was granted."""

    name: str
    superuser: bool
    bypasses_policies: bool
    owned: int
    owns_database: bool
    may_create: bool
    acts_as: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClockReading:
    """A collection's clock; `last_added` is None where the row is missing, `newest` is the last date given out."""

    last_added: datetime | None
    now: datetime
    newest: datetime | None

    @property
    def stops_writes(self) -> bool:
        """Whether it is so far ahead that writes are refused."""
        return self.last_added is not None and self.last_added > self.now + FURTHEST_AHEAD


@dataclass(frozen=True, slots=True)
class KeptLevels:
    """A version with the levels kept beside it, and the one that its collection's rule gives it if it is unmarked."""

    version: Version
    standing: Standing
    ruled: Level | None


@dataclass(frozen=True, slots=True)
class Retention:
    """A collection that doesn't keep everything, and the instant before which it keeps nothing now."""

    collection_id: UUID
    name: str
    before: datetime


async def take_sole_turn(connection: Connection) -> bool:
    """Become the one who maintains, until `end_turn` or the connection's end; False if somebody else is."""
    return bool((await connection.execute(select(func.pg_try_advisory_lock(ONE_AT_A_TIME)))).scalar_one())


async def end_turn(connection: Connection) -> None:
    """Let another one maintain."""
    await connection.execute(select(func.pg_advisory_unlock(ONE_AT_A_TIME)))


async def members_of_all_times(connection: Connection) -> list[int]:
    """List the members there are or were: none is ever deleted."""
    return list((await connection.execute(select(members.c.id).order_by(members.c.id))).scalars())


async def purge_statuses(connection: Connection, of: Submissions, *, keep: timedelta, limit: int) -> int:
    """Delete at most `limit` statuses of a member that were completed longer than `keep` ago; how many there were."""
    old = (
        select(statuses.c.id)
        .where(statuses.c.member == of.member, statuses.c.completed_at < func.now() - literal(keep))
        .limit(limit)
    )
    return (await connection.execute(delete(statuses).where(statuses.c.id.in_(old)))).rowcount


async def retentions(connection: Connection) -> list[Retention]:
    """List the collections that have a retention."""
    name = trust_groups.c.slug + "/" + collections.c.alias
    found = (
        select(collections.c.id, name.label("name"), (func.now() - collections.c.retention).label("before"))
        .join(trust_groups)
        .where(collections.c.retention.is_not(None))
        .order_by(name)
    )
    return [Retention(row.id, row.name, row.before) for row in await connection.execute(found)]


async def role(connection: Connection) -> Role:
    """Tell what the role of this connection is able to do."""
    row = (await connection.execute(ROLE)).one()
    return Role(
        name=row.name,
        superuser=row.superuser,
        bypasses_policies=row.bypasses_policies,
        owned=row.owned,
        owns_database=row.owns_database,
        may_create=row.may_create,
        acts_as=tuple(row.acts_as),
    )


async def names(connection: Connection) -> dict[UUID, str]:
    """Name all collections, by id, in the order of their names."""
    return {row.id: row.name for row in await connection.execute(NAMES)}


async def clock(connection: Connection, collection_id: UUID) -> ClockReading | None:
    """Read the clock of a collection; None if the collection is gone."""
    row = (await connection.execute(CLOCK, {"collection": collection_id})).one_or_none()
    if row is None:
        return None
    return ClockReading(
        last_added=row.last_added,
        now=row.now,
        newest=max((date for date in (row.newest, row.newest_deleted) if date is not None), default=None),
    )


async def advance_clocks(connection: Connection, *, by: timedelta) -> int:
    """Move every clock to `by` past the database's time, unless it is there already, and note a change; how many."""
    then = func.greatest(collection_clocks.c.last_added, func.clock_timestamp() + literal(by))
    changes = func.greatest(collection_clocks.c.changes + 1, MICROSECOND)
    moved = update(collection_clocks).values(last_added=then, changes=changes)
    return (await connection.execute(moved)).rowcount


async def estimated_versions(connection: Connection) -> int:
    """Tell about how many versions there are, without counting them."""
    size = text("SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'object_versions'::regclass")
    return int((await connection.execute(size)).scalar_one())


async def kept_levels(connection: Connection, collection_id: UUID) -> AsyncIterator[KeptLevels]:
    """Stream every version of a collection, object by object, with the levels kept beside it."""
    asked = {"collection": collection_id, "exempt": sorted(MARKING_LEVELS)}
    async with connection.stream(KEPT_LEVELS, asked) as rows:
        async for row in rows:
            yield KeptLevels(
                Version(row.stix_id, row.form, row.version_at, row.date_added, row.level),
                Standing(row.superseded_level, row.newer_form_level),
                None if row.ruled is None else Level(row.ruled),
            )
