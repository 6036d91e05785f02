"""Statuses of add requests, kept for at least a day after they finished (§4.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import select

from taxii_server.domain.statuses import Detail, Status
from taxii_server.storage.hot import Statement
from taxii_server.storage.tables import statuses

if TYPE_CHECKING:
    from uuid import UUID

    from taxii_server.domain.access import Principal
    from taxii_server.storage.engine import Connection

INSERT = Statement("""
    INSERT INTO statuses (
           id, trust_group_id, collection_id, member, client, requested_at, total_count, success_count, failure_count,
           successes, failures)
    VALUES (:id, :trust_group, :collection, :member, :client, :requested_at, :total, :succeeded, :failed,
           :successes, :failures)
""")
_DETAILS = msgspec.json.Decoder(tuple[Detail, ...])


def write(
    connection: Connection,
    status: Status,
    *,
    trust_group_id: UUID,
    collection_id: UUID,
    member: int,
    client: int | None,
) -> None:
    """Store a finished status, in the transaction that stored what it tells of."""
    INSERT.later(
        connection,
        {
            "id": status.id,
            "trust_group": trust_group_id,
            "collection": collection_id,
            "member": member,
            "client": client,
            "requested_at": status.requested_at,
            "total": status.total_count,
            "succeeded": len(status.successes),
            "failed": len(status.failures),
            "successes": msgspec.json.encode(status.successes).decode(),
            "failures": msgspec.json.encode(status.failures).decode(),
        },
    )


async def find(connection: Connection, status_id: UUID, *, trust_group_id: UUID, principal: Principal) -> Status | None:
    """Read a status in one trust group; None if there is none, or it isn't for this client.

    It is for the clients of the member that made the request, as far as they were issued for its collection.
    """
    asked = select(statuses.c.requested_at, statuses.c.successes, statuses.c.failures).where(
        statuses.c.id == status_id,
        statuses.c.trust_group_id == trust_group_id,
        statuses.c.member == principal.member,
    )
    if principal.collections is not None:
        asked = asked.where(statuses.c.collection_id.in_(principal.collections))
    row = (await connection.execute(asked)).one_or_none()
    if row is None:
        return None
    return Status(status_id, row.requested_at, _DETAILS.decode(row.successes), _DETAILS.decode(row.failures))
