"""The caller statement: who asks, and what of the place the path names that member may see, in one round trip.

It runs once per request, before anything else is read, so what an operator revoked a moment ago is refused now, on
every worker. It always answers one row and always costs the same statement, whether names are known, unknown, hidden
or malformed.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from taxii_server.domain.access import (
    Attribution,
    Authentication,
    Collection,
    Grant,
    Place,
    Policy,
    Right,
    TrustGroup,
    Validation,
)
from taxii_server.domain.issuers import OutsideIssuer
from taxii_server.domain.tlp import Level
from taxii_server.storage.hot import Statement

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from taxii_server.domain.access import Presented, Principal
    from taxii_server.storage.engine import Connection, Database

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
# What no slug, alias, client id or kid holds; Postgres and its wire can't carry some of it.
_UNSPEAKABLE = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
_LONGEST_NAME = 256

# Reads, by unique key: uq_clients_client_id, ix_clients_subject or pk_client_certificates, ix_issuers_issuer, pk_members, pk_signing_keys, pk_revoked_tokens, uq_trust_groups_slug, pk_collections or
# uq_collections_trust_group_id_alias, pk_grants, pk_collection_clocks; and ix_client_secrets_client for at most a
# handful of digests. Whether the group is visible at all stops at the first visible grant: it walks the member's part
# of pk_grants with pk_collections, or the group's part of uq_collections_trust_group_id_alias with pk_grants.
# statement_timestamp(), because inside a write transaction now() is when the transaction began.
_CALLER = """
    SELECT client.id AS client, client.client_id, client.rights AS client_rights,
           client.collections AS client_collections, client.authentication,
           client.revoked_at IS NOT NULL AS client_revoked,
           coalesce(client.expires_at <= statement_timestamp(), false) AS client_expired,
           member.id AS member, member.slug AS member_slug,
           member.suspended_at IS NOT NULL AS member_suspended,
           member.removed_at IS NOT NULL AS member_removed, member.quota,
           statement_timestamp() AS asked_at,
           ARRAY(SELECT secret.digest
                   FROM client_secrets AS secret
                  WHERE secret.client = client.id
                    AND (secret.expires_at IS NULL OR secret.expires_at > statement_timestamp())) AS digests,
           EXISTS (SELECT
                     FROM client_certificates AS own
                    WHERE own.thumbprint = CAST(:certificate AS bytea)
                      AND own.client = client.id) AS certificate_held,
           (SELECT key.public_jwk
              FROM signing_keys AS key
             WHERE key.kid = CAST(:kid AS text)
               AND key.verifies_until > statement_timestamp()) AS public_jwk,
           EXISTS (SELECT
                     FROM revoked_tokens AS ended
                    WHERE ended.issuer = CAST(:issuer AS text)
                      AND ended.jti = CAST(:jti AS text)) AS token_revoked,
           outside.slug AS issuer_slug, outside.jwks_uri, outside.audience, outside.algorithms,
           circle.id AS trust_group_id, circle.slug AS trust_group_slug,
           circle.title AS trust_group_title, circle.description AS trust_group_description,
           feed.id AS collection_id, feed.alias, feed.title, feed.description, feed.validation, feed.ceiling,
           feed.unmarked_level, feed.unmarked_refused, feed.owner_only, feed.attribution,
           feed.rights AS grant_rights, feed.clearance, feed.changes, feed.last_added
      FROM (VALUES (CAST(:client_id AS text))) AS asked (client_id)
      LEFT JOIN issuers AS outside ON outside.issuer = CAST(:issuer AS text) AND outside.removed_at IS NULL
      LEFT JOIN clients AS client ON client.id = coalesce(
           (SELECT own.id FROM clients AS own WHERE own.client_id = asked.client_id),
           (SELECT tied.id
              FROM clients AS tied
             WHERE tied.issuer = outside.slug
               AND tied.subject = CAST(:named AS jsonb) ->> outside.claim
               AND tied.revoked_at IS NULL),
           (SELECT pinned.client
              FROM client_certificates AS pinned
             WHERE pinned.thumbprint = CAST(:certificate AS bytea)
               AND CAST(:by_certificate AS boolean)))
      LEFT JOIN members AS member ON member.id = client.member_id
      LEFT JOIN LATERAL (
           SELECT trust_group.id, trust_group.slug, trust_group.title, trust_group.description
             FROM trust_groups AS trust_group
            WHERE trust_group.slug = CAST(:trust_group AS text)
              AND EXISTS (
                  SELECT
                    FROM grants
                    JOIN collections ON collections.id = grants.collection_id
                   WHERE grants.member_id = member.id
                     AND collections.trust_group_id = trust_group.id
                     AND (client.collections IS NULL OR collections.id = ANY (client.collections)))
           ) AS circle ON true
      LEFT JOIN LATERAL (
           SELECT named.id, named.alias, named.title, named.description, named.validation, named.ceiling,
                  named.unmarked_level, named.unmarked_refused, named.owner_only, named.attribution,
                  grants.rights, grants.clearance, clock.changes, clock.last_added
             FROM (SELECT * FROM collections WHERE id = CAST(:collection_id AS uuid)
                   UNION ALL
                   SELECT * FROM collections WHERE trust_group_id = circle.id AND alias = CAST(:alias AS text)
                  ) AS named
             JOIN grants ON grants.member_id = member.id AND grants.collection_id = named.id
             LEFT JOIN collection_clocks AS clock ON clock.collection_id = named.id
            WHERE named.trust_group_id = circle.id
              AND (client.collections IS NULL OR named.id = ANY (client.collections))
           ) AS feed ON true
"""
_COLUMNS = (
    "client client_id client_rights client_collections authentication client_revoked client_expired "
    "member member_slug member_suspended member_removed quota asked_at digests certificate_held public_jwk token_revoked "
    "issuer_slug jwks_uri audience algorithms "
    "trust_group_id trust_group_slug trust_group_title trust_group_description "
    "collection_id alias title description validation ceiling unmarked_level unmarked_refused owner_only attribution "
    "grant_rights clearance changes last_added"
)
CALLER = Statement(_CALLER, _COLUMNS)

# The collections of one trust group that this client may see. Walks the member's part of pk_grants with pk_collections,
# or the group's part of uq_collections_trust_group_id_alias with pk_grants.
LISTING = text("""
    SELECT feed.id AS collection_id, feed.trust_group_id, feed.alias, feed.title, feed.description, feed.validation,
           feed.ceiling, feed.unmarked_level, feed.unmarked_refused, feed.owner_only, feed.attribution,
           grants.rights AS grant_rights, grants.clearance
      FROM grants
      JOIN collections AS feed ON feed.id = grants.collection_id
     WHERE grants.member_id = CAST(:member AS integer)
       AND feed.trust_group_id = CAST(:trust_group_id AS uuid)
       AND (CAST(:narrowed AS uuid[]) IS NULL OR feed.id = ANY (CAST(:narrowed AS uuid[])))
     ORDER BY feed.id
""")

# The trust groups in which this client may see a collection. Walks the member's part of pk_grants with pk_collections
# (OFFSET 0 keeps Postgres from going through all collections instead).
TRUST_GROUPS = text("""
    SELECT trust_group.id AS trust_group_id, trust_group.slug AS trust_group_slug,
           trust_group.title AS trust_group_title, trust_group.description AS trust_group_description
      FROM trust_groups AS trust_group
     WHERE trust_group.id = ANY (ARRAY(
           SELECT feed.trust_group_id
             FROM grants
            CROSS JOIN LATERAL (SELECT trust_group_id FROM collections WHERE id = grants.collection_id OFFSET 0) AS feed
            WHERE grants.member_id = CAST(:member AS integer)
              AND (CAST(:narrowed AS uuid[]) IS NULL OR grants.collection_id = ANY (CAST(:narrowed AS uuid[])))))
     ORDER BY trust_group.slug COLLATE "C"
""")


@dataclass(frozen=True, slots=True)
class KnownClient:
    """A client as issued, its member and the state of both; nothing here says that credentials hold."""

    id: int
    client_id: str
    rights: frozenset[Right]
    collections: frozenset[UUID] | None
    revoked: bool
    expired: bool
    member: int
    member_slug: str
    member_suspended: bool
    member_removed: bool
    quota: int | None
    authentication: Authentication = Authentication.ANY


@dataclass(frozen=True, slots=True)
class Found:
    """The answer of the caller statement.

    `digests` are those of the client's live secrets, `certificate_held` says whether the certificate asked about is one of
    its own; `public_jwk` is None when no key of that id verifies any more; `token_revoked` and `issuer`, an outside one, are
    about the token asked about; `asked_at` is the database's time.
    """

    client: KnownClient | None
    digests: tuple[bytes, ...]
    public_jwk: str | None
    token_revoked: bool
    issuer: OutsideIssuer | None
    place: Place
    certificate_held: bool = False
    asked_at: datetime | None = field(default=None, compare=False)


async def look_up(
    through: Connection | Database,
    *,
    client_id: str | None,
    token: Presented | None = None,
    named: Mapping[str, str] | None = None,
    certificate: bytes | None = None,
    by_certificate: bool = False,
    trust_group: str | None = None,
    collection: str | None = None,
) -> Found:
    """Run the caller statement, on a connection as part of its transaction or by itself.

    `collection` is an id or an alias. A name that can't exist is looked up all the same.

    With `named`, the claims of an outside token that can name a client, its issuer's configuration says which one does. `certificate`
    is the thumbprint of the one that was shown; with `by_certificate` it alone says whose request this is.
    """
    reference = _speakable(collection)
    by_id = reference is not None and _UUID.fullmatch(reference) is not None
    values = {
        "client_id": _speakable(client_id),
        "kid": None if token is None else _speakable(token.kid),
        "issuer": None if token is None else token.issuer,
        "named": None if named is None else json.dumps(dict(named)),
        "jti": None if token is None else _speakable(token.jti),
        "certificate": certificate,
        "by_certificate": by_certificate,
        "trust_group": _speakable(trust_group),
        "collection_id": reference if by_id else None,
        "alias": None if by_id else reference,
    }
    if isinstance(through, AsyncConnection):
        [row] = await CALLER.on(through, values)
    else:
        [row] = await through.ask(CALLER.step(values))
    return Found(
        client=_client(row),
        digests=tuple(row.digests),
        public_jwk=row.public_jwk,
        token_revoked=row.token_revoked,
        issuer=None if row.issuer_slug is None or token is None else _issuer(row, token.issuer),
        place=_place(row),
        certificate_held=row.certificate_held,
        asked_at=row.asked_at,
    )


async def listing(connection: Connection, principal: Principal, trust_group_id: UUID) -> list[tuple[Collection, Grant]]:
    """Give the collections of a trust group that the client may see, each with its member's grant, by id."""
    result = await connection.execute(
        LISTING,
        {"member": principal.member, "trust_group_id": trust_group_id, "narrowed": _narrowed(principal)},
    )
    return [(_collection(row, trust_group_id), _grant(row)) for row in result]


async def trust_groups(connection: Connection, principal: Principal) -> list[TrustGroup]:
    """Give the trust groups the client may see, by slug."""
    result = await connection.execute(TRUST_GROUPS, {"member": principal.member, "narrowed": _narrowed(principal)})
    return [_trust_group(row) for row in result]


def _speakable(name: str | None) -> str | None:
    """Turn what can't name anything into null, which names nothing either."""
    if name is None or len(name) > _LONGEST_NAME or _UNSPEAKABLE.search(name):
        return None
    return name


def _narrowed(principal: Principal) -> list[UUID] | None:
    return None if principal.collections is None else list(principal.collections)


def _client(row: Any) -> KnownClient | None:
    if row.client is None:
        return None
    return KnownClient(
        id=row.client,
        client_id=row.client_id,
        rights=_rights(*row.client_rights),
        collections=None if row.client_collections is None else frozenset(row.client_collections),
        revoked=row.client_revoked,
        expired=row.client_expired,
        member=row.member,
        member_slug=row.member_slug,
        member_suspended=row.member_suspended,
        member_removed=row.member_removed,
        quota=row.quota,
        authentication=Authentication(row.authentication),
    )


def _issuer(row: Any, issuer: str) -> OutsideIssuer:
    return OutsideIssuer(
        slug=row.issuer_slug,
        issuer=issuer,
        jwks_uri=row.jwks_uri,
        audience=row.audience,
        algorithms=frozenset(row.algorithms),
    )


def _place(row: Any) -> Place:
    if row.trust_group_id is None:
        return Place()
    if row.collection_id is None:
        return Place(trust_group=_trust_group(row))
    return Place(
        trust_group=_trust_group(row),
        collection=_collection(row, row.trust_group_id),
        grant=_grant(row),
        last_added=row.last_added,
        changes=row.changes,
    )


def _trust_group(row: Any) -> TrustGroup:
    return TrustGroup(
        id=row.trust_group_id,
        slug=row.trust_group_slug,
        title=row.trust_group_title,
        description=row.trust_group_description,
    )


def _collection(row: Any, trust_group_id: UUID) -> Collection:
    return Collection(
        id=row.collection_id,
        trust_group_id=trust_group_id,
        alias=row.alias,
        title=row.title,
        description=row.description,
        policy=policy_of(row),
    )


def policy_of(row: Any) -> Policy:
    """Read what a collection asks of what is added to it off a row that has its columns."""
    return _policy(
        row.validation, row.ceiling, row.unmarked_level, row.unmarked_refused, row.owner_only, row.attribution
    )


# there are a few of either in an alliance, and they are put together on every request
@lru_cache(maxsize=1024)
def _policy(
    validation: str, ceiling: int, unmarked_level: int, unmarked_refused: bool, owner_only: bool, attribution: str
) -> Policy:
    return Policy(
        validation=Validation(validation),
        ceiling=Level(ceiling),
        unmarked_level=Level(unmarked_level),
        unmarked_refused=unmarked_refused,
        owner_only=owner_only,
        attribution=Attribution(attribution),
    )


@cache
def _rights(*names: str) -> frozenset[Right]:
    return frozenset(map(Right, names))


def _grant(row: Any) -> Grant:
    return Grant(rights=_rights(*row.grant_rights), clearance=Level(row.clearance))
