"""Clients and their secrets as operators see them; `callers` reads both for every request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, delete, func, insert, literal, select, update

from taxii_server.domain.access import Authentication, Right
from taxii_server.storage.engine import Connection
from taxii_server.storage.tables import client_certificates, client_secrets, clients, grants, members


@dataclass(frozen=True, slots=True)
class Client:
    """A client and whether its member is suspended; `issuer` and `subject` where an outside issuer vouches for it.

    `collections` is None where it may use all of its member's, `secrets` and `certificates` count those that hold now;
    `certified_until` is when the last of its certificates ends.
    """

    id: int
    client_id: str
    member: str
    member_id: int
    name: str
    rights: frozenset[Right]
    collections: tuple[UUID, ...] | None
    created_at: datetime
    expires_at: datetime | None
    expired: bool
    revoked_at: datetime | None
    suspended: bool
    secrets: int
    issuer: str | None = None
    subject: str | None = None
    authentication: Authentication = Authentication.ANY
    certificates: int = 0
    certified_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class NewClient:
    """What a client is to be."""

    client_id: str
    name: str
    rights: frozenset[Right]
    collections: tuple[UUID, ...] | None
    expires_in: timedelta | None
    issuer: str | None = None
    subject: str | None = None
    authentication: Authentication = Authentication.ANY


_EXPIRED = func.coalesce(clients.c.expires_at <= func.now(), False)
_HOLDS = client_secrets.c.expires_at.is_(None) | (client_secrets.c.expires_at > func.now())
_SECRETS = (
    select(func.count()).where(client_secrets.c.client == clients.c.id, _HOLDS).correlate(clients).scalar_subquery()
)

_CERTIFICATES = (
    select(func.count())
    .where(
        client_certificates.c.client == clients.c.id,
        client_certificates.c.not_before <= func.now(),
        client_certificates.c.not_after > func.now(),
    )
    .correlate(clients)
    .scalar_subquery()
)
_CERTIFIED_UNTIL = (
    select(func.max(client_certificates.c.not_after))
    .where(client_certificates.c.client == clients.c.id)
    .correlate(clients)
    .scalar_subquery()
)


def _clients() -> Select[Any]:
    return select(
        clients,
        members.c.slug.label("member"),
        members.c.suspended_at.is_not(None).label("suspended"),
        _EXPIRED.label("expired"),
        _SECRETS.label("secrets"),
        _CERTIFICATES.label("certificates"),
        _CERTIFIED_UNTIL.label("certified_until"),
    ).join(members)


async def listing(connection: Connection) -> list[Client]:
    """List all clients, the ended ones too."""
    rows = await connection.execute(_clients().order_by(members.c.slug, clients.c.name, clients.c.id))
    return [_client(row) for row in rows]


async def find(connection: Connection, client_id: str) -> Client | None:
    """Find a client by its id."""
    row = (await connection.execute(_clients().where(clients.c.client_id == client_id))).one_or_none()
    return None if row is None else _client(row)


async def lock(connection: Connection, client_id: str) -> Client | None:
    """Find a client and let nobody else change it or its secrets until this transaction ends."""
    await connection.execute(
        select(clients.c.id).where(clients.c.client_id == client_id).with_for_update(key_share=True)
    )
    return await find(connection, client_id)


async def live_of_name(connection: Connection, member_id: int, name: str) -> str | None:
    """Find the id of the member's client of that name which is neither revoked nor expired."""
    found = select(clients.c.client_id).where(
        clients.c.member_id == member_id, clients.c.name == name, clients.c.revoked_at.is_(None), ~_EXPIRED
    )
    return (await connection.execute(found)).scalars().first()


async def tied(connection: Connection, issuer: str, subject: str) -> str | None:
    """Find the id of the client that an outside issuer vouches for by this subject, unless it is revoked."""
    found = select(clients.c.client_id).where(
        clients.c.issuer == issuer, clients.c.subject == subject, clients.c.revoked_at.is_(None)
    )
    return (await connection.execute(found)).scalars().first()


async def granted(connection: Connection, member_id: int) -> set[UUID]:
    """Give the collections a member has a grant for."""
    return set(
        (await connection.execute(select(grants.c.collection_id).where(grants.c.member_id == member_id))).scalars()
    )


async def add(connection: Connection, member_id: int, client: NewClient) -> int:
    """Add a client without a secret and give its number."""
    values = {
        "client_id": client.client_id,
        "member_id": member_id,
        "name": client.name,
        "rights": sorted(client.rights),
        "collections": None if client.collections is None else list(client.collections),
        "expires_at": None if client.expires_in is None else func.now() + literal(client.expires_in),
        "issuer": client.issuer,
        "subject": client.subject,
        "authentication": client.authentication,
    }
    added = await connection.execute(insert(clients).values(values).returning(clients.c.id))
    return int(added.scalar_one())


async def add_secret(connection: Connection, client: int, digest: bytes) -> None:
    """Let a client in with the secret of this digest as well."""
    await connection.execute(insert(client_secrets).values(client=client, digest=digest))


async def require(connection: Connection, client: int, authentication: Authentication) -> None:
    """Set what a client must show from now on."""
    await connection.execute(update(clients).where(clients.c.id == client).values(authentication=authentication))


async def end_secrets(connection: Connection, client: int, *, overlap: timedelta) -> None:
    """Let the newest secret go on for `overlap` at most, and forget all others."""
    newest = (
        select(client_secrets.c.id)
        .where(client_secrets.c.client == client, _HOLDS)
        .order_by(client_secrets.c.id.desc())
        .limit(1)
    )
    kept: Sequence[int] = ()
    if overlap:
        kept = (await connection.execute(newest)).scalars().all()
        until = func.now() + literal(overlap)
        await connection.execute(
            update(client_secrets)
            .where(client_secrets.c.id.in_(kept))
            # least() ignores NULL, so an end that is nearer stays
            .values(expires_at=func.least(client_secrets.c.expires_at, until))
        )
    await connection.execute(
        delete(client_secrets).where(client_secrets.c.client == client, client_secrets.c.id.not_in(kept))
    )


async def revoke(connection: Connection, client: int) -> None:
    """Refuse a client from now on, for good, and forget its secrets and certificates."""
    await connection.execute(update(clients).where(clients.c.id == client).values(revoked_at=func.now()))
    await connection.execute(delete(client_secrets).where(client_secrets.c.client == client))
    await connection.execute(delete(client_certificates).where(client_certificates.c.client == client))


def _client(row: Row[Any]) -> Client:
    return Client(
        id=row.id,
        client_id=row.client_id,
        member=row.member,
        member_id=row.member_id,
        name=row.name,
        rights=frozenset(map(Right, row.rights)),
        collections=None if row.collections is None else tuple(row.collections),
        created_at=row.created_at,
        expires_at=row.expires_at,
        expired=row.expired,
        revoked_at=row.revoked_at,
        suspended=row.suspended,
        secrets=row.secrets,
        issuer=row.issuer,
        subject=row.subject,
        authentication=Authentication(row.authentication),
        certificates=row.certificates,
        certified_until=row.certified_until,
    )
