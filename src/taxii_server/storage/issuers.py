"""Outside issuers as `apply` left them; `callers` reads one for every token that names it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select, update
from sqlalchemy.dialects.postgresql import insert as upsert

from taxii_server.storage.tables import clients, issuers

if TYPE_CHECKING:
    from taxii_server.storage.engine import Connection


@dataclass(frozen=True, slots=True)
class StoredIssuer:
    """An issuer as it stands; a removed one stays for the clients that were tied to it. `clients` counts live ones."""

    slug: str
    issuer: str
    jwks_uri: str | None
    audience: str
    claim: str
    algorithms: tuple[str, ...]
    removed: bool = False
    clients: int = 0


async def read(connection: Connection) -> tuple[StoredIssuer, ...]:
    """Read all issuers, by slug."""
    live = (
        select(func.count())
        .where(clients.c.issuer == issuers.c.slug, clients.c.revoked_at.is_(None))
        .correlate(issuers)
        .scalar_subquery()
    )
    of_issuers = select(
        *issuers.c["slug", "issuer", "jwks_uri", "audience", "claim", "algorithms"],
        issuers.c.removed_at.is_not(None).label("removed"),
        live.label("clients"),
    ).order_by(issuers.c.slug)
    return tuple(
        StoredIssuer(
            slug=row.slug,
            issuer=row.issuer,
            jwks_uri=row.jwks_uri,
            audience=row.audience,
            claim=row.claim,
            algorithms=tuple(row.algorithms),
            removed=row.removed,
            clients=row.clients,
        )
        for row in await connection.execute(of_issuers)
    )


async def lock(connection: Connection, slug: str) -> StoredIssuer | None:
    """Find an issuer that counts, and let nobody remove it until this transaction ends."""
    await connection.execute(select(issuers.c.slug).where(issuers.c.slug == slug).with_for_update(key_share=True))
    return next((one for one in await read(connection) if one.slug == slug and not one.removed), None)


async def put(connection: Connection, issuer: StoredIssuer) -> None:
    """Add an issuer, change it, or take a removed one back; clients that were tied to that stay revoked."""
    wanted = {
        "issuer": issuer.issuer,
        "jwks_uri": issuer.jwks_uri,
        "audience": issuer.audience,
        "claim": issuer.claim,
        "algorithms": list(issuer.algorithms),
        "removed_at": None,
    }
    await connection.execute(
        upsert(issuers).values(slug=issuer.slug, **wanted).on_conflict_do_update(index_elements=["slug"], set_=wanted)
    )


async def remove(connection: Connection, slug: str) -> None:
    """Trust an issuer no more, and refuse the clients that only it could vouch for."""
    # its own row first: who is tying a client to it holds that, and the client is there to be refused afterwards
    await connection.execute(update(issuers).where(issuers.c.slug == slug).values(removed_at=func.now()))
    await connection.execute(
        update(clients).where(clients.c.issuer == slug, clients.c.revoked_at.is_(None)).values(revoked_at=func.now())
    )
