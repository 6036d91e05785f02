"""All credentials that would be let in now, read at once: for when too many come that wouldn't be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from taxii_server.domain.access import Authentication
from taxii_server.domain.issuers import OutsideIssuer
from taxii_server.storage.tables import client_certificates, client_secrets, clients, issuers, members, signing_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taxii_server.storage.engine import Connection

_LIVE = (
    clients.c.revoked_at.is_(None)
    & (clients.c.expires_at.is_(None) | (clients.c.expires_at > func.now()))
    & members.c.suspended_at.is_(None)
    & members.c.removed_at.is_(None)
)
_CLIENTS = select(*clients.c["client_id", "authentication", "issuer", "subject"]).join(members).where(_LIVE)
_SECRETS = (
    select(client_secrets.c.digest, clients.c.client_id)
    .join(clients, clients.c.id == client_secrets.c.client)
    .join(members, members.c.id == clients.c.member_id)
    .where(_LIVE, client_secrets.c.expires_at.is_(None) | (client_secrets.c.expires_at > func.now()))
)
_CERTIFICATES = (
    select(client_certificates.c.thumbprint, clients.c.client_id)
    .join(clients, clients.c.id == client_certificates.c.client)
    .join(members, members.c.id == clients.c.member_id)
    .where(_LIVE)
)
_KEYS = select(signing_keys.c.kid, signing_keys.c.public_jwk).where(signing_keys.c.verifies_until > func.now())
_ISSUERS = select(*issuers.c["slug", "issuer", "jwks_uri", "audience", "algorithms", "claim"]).where(
    issuers.c.removed_at.is_(None)
)


@dataclass(frozen=True, slots=True)
class LiveCredentials:
    """Clients in good standing, and what they can show.

    `clients` has what each must show by client id, `secrets` and `certificates` the client id by digest, `keys` our public keys
    by `kid`, `issuers` the outside ones, each with the claim that names a client, and `subjects` whom they vouch for: the
    client id by the issuer's slug and the claim's value.
    """

    clients: Mapping[str, Authentication]
    secrets: Mapping[bytes, str]
    certificates: Mapping[bytes, str]
    keys: Mapping[str, str]
    issuers: Mapping[str, tuple[OutsideIssuer, str]]
    subjects: Mapping[tuple[str, str], str]


async def read(connection: Connection) -> LiveCredentials:
    """Read them all: as many rows as there are clients, secrets, keys and issuers."""
    found = (await connection.execute(_CLIENTS)).all()
    return LiveCredentials(
        clients={row.client_id: Authentication(row.authentication) for row in found},
        secrets={row.digest: row.client_id for row in await connection.execute(_SECRETS)},
        certificates={row.thumbprint: row.client_id for row in await connection.execute(_CERTIFICATES)},
        keys={row.kid: row.public_jwk for row in await connection.execute(_KEYS)},
        issuers={
            row.issuer: (
                OutsideIssuer(row.slug, row.issuer, row.jwks_uri, row.audience, frozenset(row.algorithms)),
                row.claim,
            )
            for row in await connection.execute(_ISSUERS)
        },
        subjects={(row.issuer, row.subject): row.client_id for row in found if row.issuer is not None},
    )
