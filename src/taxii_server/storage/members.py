"""Members as operators see them; `alliance` adds, changes and removes them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import BigInteger, cast, func, select, update

from taxii_server.storage.engine import Connection
from taxii_server.storage.tables import clients, grants, members, stored_octets


@dataclass(frozen=True, slots=True)
class Member:
    """A member; `clients` are those that are neither revoked nor expired, `grants` the collections it has a grant for.

    `octets` is what it stores in all collections, `quota` the most it may.
    """

    id: int
    slug: str
    name: str
    kind: str
    suspended_at: datetime | None
    clients: int
    grants: int
    quota: int | None
    octets: int


_LIVE_CLIENTS = (
    select(func.count())
    .where(
        clients.c.member_id == members.c.id,
        clients.c.revoked_at.is_(None),
        clients.c.expires_at.is_(None) | (clients.c.expires_at > func.now()),
    )
    .correlate(members)
    .scalar_subquery()
)
_GRANTS = select(func.count()).where(grants.c.member_id == members.c.id).correlate(members).scalar_subquery()
stored_by_member = (
    select(cast(func.coalesce(func.sum(stored_octets.c.octets), 0), BigInteger))
    .where(stored_octets.c.member == members.c.id)
    .correlate(members)
    .scalar_subquery()
)
"""The octets that a member stores in all collections."""

_MEMBERS = select(
    *members.c["id", "slug", "name", "kind", "suspended_at", "quota"],
    _LIVE_CLIENTS.label("clients"),
    _GRANTS.label("grants"),
    stored_by_member.label("octets"),
).where(members.c.removed_at.is_(None))


async def listing(connection: Connection) -> list[Member]:
    """List all members but the removed."""
    rows = await connection.execute(_MEMBERS.order_by(members.c.slug))
    return [Member(**row._mapping) for row in rows]  # noqa: SLF001 - a public method of rows, spelled to clash with no column


async def lock(connection: Connection, slug: str) -> Member | None:
    """Find a member and let nobody else change it, or issue clients to it, until this transaction ends."""
    await connection.execute(select(members.c.id).where(members.c.slug == slug).with_for_update(key_share=True))
    row = (await connection.execute(_MEMBERS.where(members.c.slug == slug))).one_or_none()
    return None if row is None else Member(**row._mapping)  # noqa: SLF001 - as above


async def find(connection: Connection, slug: str) -> Member | None:
    """Find a member that is not removed."""
    row = (await connection.execute(_MEMBERS.where(members.c.slug == slug))).one_or_none()
    return None if row is None else Member(**row._mapping)  # noqa: SLF001 - as above


async def set_suspended(connection: Connection, member_id: int, *, suspended: bool) -> None:
    """Suspend a member from now on, or let it be active again."""
    await connection.execute(
        update(members).where(members.c.id == member_id).values(suspended_at=func.now() if suspended else None)
    )
