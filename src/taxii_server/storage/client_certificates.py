"""Which certificate is whose; `callers` asks that for every request."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, delete, func, select
from sqlalchemy.dialects.postgresql import insert

from taxii_server.storage.engine import Connection
from taxii_server.storage.tables import client_certificates, clients


@dataclass(frozen=True, slots=True)
class StoredCertificate:
    """A client's certificate."""

    thumbprint: bytes
    client_id: str
    subject: str
    not_before: datetime
    not_after: datetime
    begun: bool
    expired: bool
    added_at: datetime


def _stored() -> Select[Any]:
    return select(
        client_certificates,
        clients.c.client_id,
        (client_certificates.c.not_before <= func.now()).label("begun"),
        (client_certificates.c.not_after <= func.now()).label("expired"),
    ).join(clients)


async def listing(connection: Connection, client: int | None = None) -> list[StoredCertificate]:
    """List the certificates of one client, or of all, by client and age."""
    stored = _stored().order_by(clients.c.client_id, client_certificates.c.added_at, client_certificates.c.thumbprint)
    if client is not None:
        stored = stored.where(client_certificates.c.client == client)
    return [_certificate(row) for row in await connection.execute(stored)]


async def find(connection: Connection, thumbprint: bytes) -> StoredCertificate | None:
    """Find a certificate by its thumbprint."""
    row = (await connection.execute(_stored().where(client_certificates.c.thumbprint == thumbprint))).one_or_none()
    return None if row is None else _certificate(row)


async def add(
    connection: Connection,
    client: int,
    *,
    thumbprint: bytes,
    subject: str,
    not_before: datetime,
    not_after: datetime,
) -> bool:
    """Make a certificate a client's; False if it is somebody's already."""
    added = await connection.execute(
        insert(client_certificates)
        .values(thumbprint=thumbprint, client=client, subject=subject, not_before=not_before, not_after=not_after)
        .on_conflict_do_nothing()
        .returning(client_certificates.c.thumbprint)
    )
    return added.one_or_none() is not None


async def remove(connection: Connection, client: int, thumbprint: bytes) -> bool:
    """Take a certificate from a client; False if it has none of that thumbprint."""
    removed = await connection.execute(
        delete(client_certificates)
        .where(client_certificates.c.thumbprint == thumbprint, client_certificates.c.client == client)
        .returning(client_certificates.c.thumbprint)
    )
    return removed.one_or_none() is not None


def _certificate(row: Row[Any]) -> StoredCertificate:
    return StoredCertificate(
        thumbprint=bytes(row.thumbprint),
        client_id=row.client_id,
        subject=row.subject,
        not_before=row.not_before,
        not_after=row.not_after,
        begun=row.begun,
        expired=row.expired,
        added_at=row.added_at,
    )
