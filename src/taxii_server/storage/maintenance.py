"""What upkeep and checks read and change: old statuses, retentions, clocks, kept levels, roles."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, func, literal, select, text, update

from taxii_server.domain.stix_versions import Standing, Version
from taxii_server.storage.clocks import FURTHEST_AHEAD
from taxii_server.storage.engine import Connection
from taxii_server.storage.tables import (
    collection_clocks,
    collections,
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

# How each clock stands against the database's time and against what its collection holds or held. Walks the primary
# keys of both large tables from their far ends.
CLOCKS = text("""
    SELECT collection.id,
           trust_group.slug || '/' || coalesce(collection.alias, collection.id::text) AS name,
           clock.last_added,
           clock_timestamp() AS now,
           (SELECT max(date_added) FROM object_versions WHERE collection_id = collection.id) AS newest,
           (SELECT max(date_added) FROM deleted_versions WHERE collection_id = collection.id) AS newest_deleted
      FROM collections AS collection
      JOIN trust_groups AS trust_group ON trust_group.id = collection.trust_group_id
      LEFT JOIN collection_clocks AS clock ON clock.collection_id = collection.id
     ORDER BY name
""")

# Every version of one collection, object by object in their order. Walks uq_object_versions_….
KEPT_LEVELS = text("""
    SELECT stix_id, form, version_at, date_added, level, superseded_level, newer_form_level
      FROM object_versions
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

    collection_id: UUID
    name: str
    last_added: datetime | None
    now: datetime
    newest: datetime | None

    @property
    def stops_writes(self) -> bool:
        """Whether it is so far ahead that writes are refused."""
        return self.last_added is not None and self.last_added > self.now + FURTHEST_AHEAD


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


async def purge_statuses(connection: Connection, *, keep: timedelta, limit: int) -> int:
    """Delete at most `limit` statuses that were completed longer than `keep` ago; how many there were."""
    old = select(statuses.c.id).where(statuses.c.completed_at < func.now() - literal(keep)).limit(limit)
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


async def clocks(connection: Connection) -> list[ClockReading]:
    """Read the clocks of all collections."""
    return [
        ClockReading(
            collection_id=row.id,
            name=row.name,
            last_added=row.last_added,
            now=row.now,
            newest=max((date for date in (row.newest, row.newest_deleted) if date is not None), default=None),
        )
        for row in await connection.execute(CLOCKS)
    ]


async def advance_clocks(connection: Connection, *, by: timedelta) -> int:
    """Move every clock to `by` past the database's time, unless it is there already, and note a change; how many."""
    then = func.greatest(collection_clocks.c.last_added, func.clock_timestamp() + literal(by))
    moved = update(collection_clocks).values(last_added=then, changes=collection_clocks.c.changes + 1)
    return (await connection.execute(moved)).rowcount


async def estimated_versions(connection: Connection) -> int:
    """Tell about how many versions there are, without counting them."""
    size = text("SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'object_versions'::regclass")
    return int((await connection.execute(size)).scalar_one())


async def kept_levels(connection: Connection, collection_id: UUID) -> AsyncIterator[tuple[Version, Standing]]:
    """Stream every version of a collection, object by object, with the levels kept beside it."""
    async with connection.stream(KEPT_LEVELS, {"collection": collection_id}) as rows:
        async for row in rows:
            yield (
                Version(row.stix_id, row.form, row.version_at, row.date_added, row.level),
                Standing(row.superseded_level, row.newer_form_level),
            )
