"""Trust groups, members, collections and grants: how the alliance stands, and its changes one by one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    SmallInteger,
    Text,
    Uuid,
    and_,
    cast,
    delete,
    func,
    insert,
    literal,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert

from taxii_server.domain.access import Collection, Grant, Policy, Right, Whole
from taxii_server.domain.audit import Contents
from taxii_server.domain.timestamps import EPOCH
from taxii_server.domain.tlp import Level
from taxii_server.storage import audit_content, bounds, clocks, engine, issuers
from taxii_server.storage.callers import policy_of
from taxii_server.storage.engine import Connection
from taxii_server.storage.issuers import StoredIssuer
from taxii_server.storage.members import stored_by_member
from taxii_server.storage.tables import (
    clients,
    collection_clocks,
    collections,
    deleted_versions,
    grants,
    members,
    object_versions,
    removed_collections,
    trust_groups,
)

TAKE_TURNS = 7_421_336_016  # any constant of our own

# The rows of a whole collection, without their bodies, go to deleted_versions. Walks the primary key.
MOVE_OUT_ALL = text("""
    WITH gone AS (
        DELETE FROM object_versions
         WHERE collection_id = :collection
     RETURNING *
    )
    INSERT INTO deleted_versions (
           collection_id, date_added, stix_id, form, version_at, version, stix_type, digest, body_bytes, level, marked,
           member, client, status_id, reason)
    SELECT collection_id, date_added, stix_id, form, version_at, version, stix_type, digest, body_bytes, level, marked,
           member, client, status_id, 'prune'
      FROM gone
""")


@dataclass(frozen=True, slots=True)
class StoredTrustGroup:
    """A trust group as it stands."""

    id: UUID
    slug: str
    title: str
    description: str | None


@dataclass(frozen=True, slots=True)
class StoredMember:
    """A member as it stands, and the octets it stores; a removed one stays for what it brought."""

    slug: str
    name: str
    kind: str
    removed: bool
    quota: int | None = None
    octets: int = 0


@dataclass(frozen=True, slots=True)
class StoredCollection:
    """A collection as it stands, and who may do what with it, by member."""

    id: UUID
    trust_group_id: UUID
    alias: str | None
    title: str
    description: str | None
    policy: Policy
    retention: timedelta | None
    grants: Mapping[str, Grant]


@dataclass(frozen=True, slots=True)
class NamedCollection:
    """A collection and the name operators know it by, `trust-group/alias`."""

    name: str
    collection: Collection


@dataclass(frozen=True, slots=True)
class StoredAlliance:
    """Everything that alliance.yaml is about."""

    trust_groups: tuple[StoredTrustGroup, ...]
    members: tuple[StoredMember, ...]
    collections: tuple[StoredCollection, ...]
    issuers: tuple[StoredIssuer, ...] = ()


async def take_turn(connection: Connection) -> None:
    """Wait for other changes of the alliance to end; until this transaction ends nobody else's begins."""
    await connection.execute(select(func.pg_advisory_xact_lock(TAKE_TURNS)))


async def read(connection: Connection) -> StoredAlliance:
    """Read how the alliance stands."""
    of_groups = select(*trust_groups.c["id", "slug", "title", "description"]).order_by(trust_groups.c.slug)
    of_members = select(
        *members.c["slug", "name", "kind", "quota"],
        members.c.removed_at.is_not(None).label("removed"),
        stored_by_member.label("octets"),
    ).order_by(members.c.slug)
    granted: dict[UUID, dict[str, Grant]] = {}
    of_grants = select(*grants.c["collection_id", "rights", "clearance"], members.c.slug).join(members)
    for row in await connection.execute(of_grants):
        grant = Grant(frozenset(map(Right, row.rights)), Level(row.clearance))
        granted.setdefault(row.collection_id, {})[row.slug] = grant
    of_collections = select(collections).order_by(collections.c.alias, collections.c.id)
    return StoredAlliance(
        trust_groups=tuple(
            StoredTrustGroup(row.id, row.slug, row.title, row.description)
            for row in await connection.execute(of_groups)
        ),
        members=tuple(
            StoredMember(row.slug, row.name, row.kind, row.removed, row.quota, row.octets)
            for row in await connection.execute(of_members)
        ),
        collections=tuple(
            StoredCollection(
                id=row.id,
                trust_group_id=row.trust_group_id,
                alias=row.alias,
                title=row.title,
                description=row.description,
                policy=policy_of(row),
                retention=row.retention,
                grants=granted.get(row.id, {}),
            )
            for row in await connection.execute(of_collections)
        ),
        issuers=await issuers.read(connection),
    )


async def collection_named(connection: Connection, reference: str) -> NamedCollection | None:
    """Find a collection by `trust-group/alias` or by its id."""
    group, slash, alias = reference.partition("/")
    try:
        its = collections.c.id == UUID(reference)
    except ValueError:
        if not slash:
            return None
        its = and_(trust_groups.c.slug == group, collections.c.alias == alias)
    found = select(collections, trust_groups.c.slug).join(trust_groups).where(its)
    row = (await connection.execute(found)).one_or_none()
    if row is None:
        return None
    collection = Collection(
        id=row.id,
        trust_group_id=row.trust_group_id,
        alias=row.alias,
        title=row.title,
        description=row.description,
        policy=policy_of(row),
    )
    return NamedCollection(f"{row.slug}/{row.alias or row.id}", collection)


async def collections_called(connection: Connection, reference: str) -> list[UUID]:
    """Find collections by `trust-group/alias`, `trust-group/title`, alias, title or id: one, none or several."""
    group, _, rest = reference.partition("/")
    of_group = and_(trust_groups.c.slug == group, or_(collections.c.alias == rest, collections.c.title == rest))
    alone = or_(collections.c.alias == reference, collections.c.title == reference)
    by_id = cast(collections.c.id, Text) == reference.lower()
    found = select(collections.c.id).join(trust_groups).where(or_(of_group, alone, by_id))
    return list((await connection.execute(found)).scalars())


async def collection_names(connection: Connection) -> dict[UUID, str]:
    """Give every collection's `trust-group/alias`."""
    named = select(collections.c.id, trust_groups.c.slug, collections.c.alias).join(trust_groups)
    return {row.id: f"{row.slug}/{row.alias or row.id}" for row in await connection.execute(named)}


async def add_trust_group(connection: Connection, trust_group: StoredTrustGroup) -> None:
    """Add a trust group."""
    await connection.execute(insert(trust_groups).values(**asdict(trust_group)))


async def change_trust_group(connection: Connection, trust_group: StoredTrustGroup) -> None:
    """Give a trust group another title and description."""
    await connection.execute(
        update(trust_groups)
        .where(trust_groups.c.id == trust_group.id)
        .values(title=trust_group.title, description=trust_group.description)
    )


async def remove_trust_group(connection: Connection, trust_group_id: UUID) -> None:
    """Delete a trust group, whose collections must be gone."""
    await connection.execute(delete(trust_groups).where(trust_groups.c.id == trust_group_id))


async def put_member(connection: Connection, slug: str, name: str, kind: str, quota: int | None = None) -> None:
    """Add a member, change it, or take a removed one back; its clients of before stay revoked."""
    wanted = {"name": name, "kind": kind, "quota": quota, "removed_at": None}
    await connection.execute(
        upsert(members).values(slug=slug, **wanted).on_conflict_do_update(index_elements=["slug"], set_=wanted)
    )


async def remove_member(connection: Connection, slug: str) -> None:
    """Take a member's grants and clients; its row stays, because what it brought stays."""
    member_id = select(members.c.id).where(members.c.slug == slug).scalar_subquery()
    # its own row first: who is issuing a client to it holds that, and the client is there to be refused afterwards
    await connection.execute(update(members).where(members.c.slug == slug).values(removed_at=func.now()))
    await connection.execute(delete(grants).where(grants.c.member_id == member_id))
    await connection.execute(
        update(clients)
        .where(clients.c.member_id == member_id, clients.c.revoked_at.is_(None))
        .values(revoked_at=func.now())
    )


async def add_collection(connection: Connection, collection: StoredCollection, where: Whole) -> None:
    """Add a collection and its clock; its grants are put one by one.

    One that was removed and comes back under its id goes on after its last date: none is given out twice. Nor is a number
    of changes, which a replica that hasn't heard of the removal would go by.
    """
    await bounds.hold_to(connection, where)
    before = select(func.max(deleted_versions.c.date_added)).where(
        deleted_versions.c.collection_id == where.collection_id
    )
    last_added = (await connection.execute(before)).scalar_one() or EPOCH
    await connection.execute(insert(collections).values(id=collection.id, **_columns(collection)))
    clock = insert(collection_clocks).values(
        collection_id=collection.id, last_added=last_added, changes=clocks.MICROSECOND
    )
    await connection.execute(clock)


async def free_names(connection: Connection, collection_ids: Sequence[UUID]) -> None:
    """Take alias and title from collections that are about to get others, so that two may swap theirs."""
    await connection.execute(
        update(collections)
        .where(collections.c.id.in_(collection_ids))
        .values(alias=None, title=cast(collections.c.id, Text))
    )


async def change_collection(connection: Connection, collection: StoredCollection) -> None:
    """Make a collection's columns what they are to be; its grants are put one by one."""
    await connection.execute(
        update(collections).where(collections.c.id == collection.id).values(**_columns(collection))
    )


async def remove_collection(connection: Connection, where: Whole) -> Contents:
    """Delete a collection with all it holds, and tell what that was; it is noted in deleted_versions, without the bodies."""
    collection_id = where.collection_id
    await bounds.hold_to(connection, where)
    await engine.take_all_the_time(connection)  # it may hold millions
    await clocks.lock_clock(connection, collection_id)
    held = await audit_content.held(connection, where)
    await connection.execute(MOVE_OUT_ALL, {"collection": collection_id})
    await connection.execute(delete(grants).where(grants.c.collection_id == collection_id))
    await connection.execute(delete(collection_clocks).where(collection_clocks.c.collection_id == collection_id))
    await connection.execute(delete(collections).where(collections.c.id == collection_id))
    await connection.execute(upsert(removed_collections).values(id=collection_id).on_conflict_do_nothing())
    return held


async def count_versions(connection: Connection, where: Whole) -> int:
    """Count what a collection holds."""
    counted = select(func.count()).where(object_versions.c.collection_id == where.collection_id)
    return (await connection.execute(counted)).scalar_one()


async def put_grant(connection: Connection, collection_id: UUID, member: str, grant: Grant) -> None:
    """Give a member exactly this grant on a collection."""
    wanted = select(
        members.c.id,
        literal(collection_id, Uuid),
        literal(sorted(grant.rights), ARRAY(Text)),
        literal(int(grant.clearance), SmallInteger),
    ).where(members.c.slug == member)
    put = upsert(grants).from_select(["member_id", "collection_id", "rights", "clearance"], wanted)
    await connection.execute(
        put.on_conflict_do_update(
            index_elements=["member_id", "collection_id"],
            set_={"rights": put.excluded.rights, "clearance": put.excluded.clearance},
        )
    )


async def remove_grant(connection: Connection, collection_id: UUID, member: str) -> None:
    """Take a member's grant on a collection."""
    member_id = select(members.c.id).where(members.c.slug == member).scalar_subquery()
    await connection.execute(
        delete(grants).where(grants.c.collection_id == collection_id, grants.c.member_id == member_id)
    )


def _columns(collection: StoredCollection) -> dict[str, object]:
    return {
        "trust_group_id": collection.trust_group_id,
        "alias": collection.alias,
        "title": collection.title,
        "description": collection.description,
        **asdict(collection.policy),
        "retention": collection.retention,
    }
