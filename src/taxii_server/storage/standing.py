"""The short form of the caller statement, for credentials that were let in before and a path that names a collection by its id.

It gives the caller only if all is as it must be with client, member and what it showed. If not, it says nothing at all, and the
caller statement is asked, which alone refuses. Both read the same tables on each request, so rights are no older here than
there; this one has half the look-ups, because it needn't tell what only somebody who is refused is to be told. A collection
that the caller doesn't see is nowhere, as is then its trust group, which nobody asks about who named a collection in it.

Remembered is how the values of a row were put together, by those values: a client, its member and the feed it polls are the
same ones for days.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from taxii_server.domain.access import (
    Attribution,
    Collection,
    Grant,
    Place,
    Policy,
    Principal,
    Right,
    TrustGroup,
    Validation,
)
from taxii_server.domain.tlp import Level
from taxii_server.storage.hot import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from taxii_server.domain.access import Presented
    from taxii_server.storage.engine import Connection, Database

_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_SLUG: Final = re.compile(r"[a-z0-9-]{1,64}")

_standing = partial(Statement, columns="stands client proof asked_at sees place changes last_added")

# These read, by unique key: uq_clients_client_id, pk_members, pk_grants, pk_collections, uq_trust_groups_slug or pk_trust_groups,
# pk_collection_clocks; pk_signing_keys and pk_revoked_tokens, or ix_client_secrets_client. Outer joins, and what must hold in
# a column of its own, so that these are walked in this order and by these keys, whatever Postgres knows of the tables. The
# grant comes first: without one nothing of the collection is read, and it costs what one costs that isn't there.
OF_TOKEN: Final = _standing("""
    SELECT client.id IS NOT NULL
           AND client.revoked_at IS NULL
           AND (client.expires_at IS NULL OR client.expires_at > statement_timestamp())
           AND client.authentication = 'any'
           AND member.suspended_at IS NULL
           AND member.removed_at IS NULL
           AND key.verifies_until > statement_timestamp()
           AND NOT EXISTS (SELECT
                             FROM revoked_tokens AS ended
                            WHERE ended.issuer = CAST(:issuer AS text)
                              AND ended.jti = CAST(:jti AS text)) AS stands,
           ARRAY[CAST(client.id AS text), client.client_id, CAST(client.rights AS text), CAST(client.collections AS text),
                 CAST(member.id AS text), member.slug, CAST(member.quota AS text)] AS client,
           key.public_jwk AS proof,
           statement_timestamp() AS asked_at,
           circle.id IS NOT NULL AS sees,
           ARRAY[CAST(circle.id AS text), circle.slug, circle.title, circle.description,
                 CAST(feed.id AS text), feed.alias, feed.title, feed.description, feed.validation, CAST(feed.ceiling AS text),
                 CAST(feed.unmarked_level AS text), CAST(feed.unmarked_refused AS text), CAST(feed.owner_only AS text),
                 feed.attribution, CAST(granted.rights AS text), CAST(granted.clearance AS text)] AS place,
           clock.changes, clock.last_added
      FROM (VALUES (CAST(:client_id AS text))) AS asked (client_id)
      LEFT JOIN clients AS client ON client.client_id = asked.client_id
      LEFT JOIN members AS member ON member.id = client.member_id
      LEFT JOIN grants AS granted
        ON granted.member_id = member.id
       AND granted.collection_id = CAST(:collection_id AS uuid)
       AND (client.collections IS NULL OR granted.collection_id = ANY (client.collections))
      LEFT JOIN collections AS feed ON feed.id = granted.collection_id
      LEFT JOIN trust_groups AS circle ON circle.id = feed.trust_group_id AND circle.slug = CAST(:trust_group AS text)
      LEFT JOIN collection_clocks AS clock ON clock.collection_id = feed.id AND circle.id IS NOT NULL
      LEFT JOIN signing_keys AS key ON key.kid = CAST(:kid AS text)
""")
OF_SECRET: Final = _standing("""
    SELECT client.id IS NOT NULL
           AND client.revoked_at IS NULL
           AND (client.expires_at IS NULL OR client.expires_at > statement_timestamp())
           AND client.authentication = 'any'
           AND member.suspended_at IS NULL
           AND member.removed_at IS NULL AS stands,
           ARRAY[CAST(client.id AS text), client.client_id, CAST(client.rights AS text), CAST(client.collections AS text),
                 CAST(member.id AS text), member.slug, CAST(member.quota AS text)] AS client,
           ARRAY(SELECT secret.digest
                   FROM client_secrets AS secret
                  WHERE secret.client = client.id
                    AND (secret.expires_at IS NULL OR secret.expires_at > statement_timestamp())) AS proof,
           statement_timestamp() AS asked_at,
           circle.id IS NOT NULL AS sees,
           ARRAY[CAST(circle.id AS text), circle.slug, circle.title, circle.description,
                 CAST(feed.id AS text), feed.alias, feed.title, feed.description, feed.validation, CAST(feed.ceiling AS text),
                 CAST(feed.unmarked_level AS text), CAST(feed.unmarked_refused AS text), CAST(feed.owner_only AS text),
                 feed.attribution, CAST(granted.rights AS text), CAST(granted.clearance AS text)] AS place,
           clock.changes, clock.last_added
      FROM (VALUES (CAST(:client_id AS text))) AS asked (client_id)
      LEFT JOIN clients AS client ON client.client_id = asked.client_id
      LEFT JOIN members AS member ON member.id = client.member_id
      LEFT JOIN grants AS granted
        ON granted.member_id = member.id
       AND granted.collection_id = CAST(:collection_id AS uuid)
       AND (client.collections IS NULL OR granted.collection_id = ANY (client.collections))
      LEFT JOIN collections AS feed ON feed.id = granted.collection_id
      LEFT JOIN trust_groups AS circle ON circle.id = feed.trust_group_id AND circle.slug = CAST(:trust_group AS text)
      LEFT JOIN collection_clocks AS clock ON clock.collection_id = feed.id AND circle.id IS NOT NULL
""")
_TRUE: Final = "true"


@dataclass(frozen=True, slots=True)
class Standing:
    """A client in good standing as it was issued, and what it sees of the place; its credentials are still to be compared."""

    principal: Principal
    place: Place
    asked_at: datetime


async def of_token(
    through: Connection | Database, client_id: str, token: Presented, trust_group: str | None, collection: str | None
) -> tuple[Standing, str] | None:
    """Ask for the standing of a client and its token, and for the key (a JWK's JSON) that this must be signed with.

    None if anything at all is not as it must be, or can't be asked so.
    """
    values = {"client_id": client_id, "kid": token.kid, "issuer": token.issuer, "jti": token.jti}
    return await _look_up(through, OF_TOKEN, values, trust_group, collection)


async def of_secret(
    through: Connection | Database, client_id: str, trust_group: str | None, collection: str | None
) -> tuple[Standing, Sequence[bytes]] | None:
    """Ask for a client's standing, and for the digests of its live secrets; None likewise."""
    return await _look_up(through, OF_SECRET, {"client_id": client_id}, trust_group, collection)


async def _look_up(
    through: Connection | Database,
    statement: Statement,
    values: dict[str, str | None],
    trust_group: str | None,
    collection: str | None,
) -> tuple[Standing, Any] | None:
    if collection is None or not _ID.fullmatch(collection) or trust_group is None or not _SLUG.fullmatch(trust_group):
        return None
    values |= {"trust_group": trust_group, "collection_id": collection}
    if isinstance(through, AsyncConnection):
        [row] = await statement.on(through, values)
    else:
        [row] = await through.ask(statement.step(values))
    # of what isn't there it is unknown whether it holds
    if row.stands is not True:
        return None
    place = Place(*_granted(*row.place), row.last_added, row.changes) if row.sees is True else Place()
    return Standing(_client(*row.client), place, row.asked_at), row.proof


# the values of `client` and `place`, as the texts that Postgres writes; None for what may be NULL
@lru_cache(maxsize=1024)
def _client(
    client: str, client_id: str, rights: str, collections: str | None, member: str, slug: str, quota: str | None
) -> Principal:
    return Principal(
        client=int(client),
        client_id=client_id,
        member=int(member),
        member_slug=slug,
        rights=frozenset(map(Right, _listed(rights))),
        collections=None if collections is None else frozenset(map(UUID, _listed(collections))),
        quota=None if quota is None else int(quota),
    )


@lru_cache(maxsize=1024)
def _granted(*told: Any) -> tuple[TrustGroup, Collection, Grant]:
    (
        circle_id,
        slug,
        circle_title,
        circle_description,
        feed_id,
        alias,
        title,
        description,
        *of_policy,
        rights,
        clearance,
    ) = told
    validation, ceiling, unmarked, refused, owner_only, attribution = of_policy
    circle = TrustGroup(UUID(circle_id), slug, circle_title, circle_description)
    policy = Policy(
        validation=Validation(validation),
        ceiling=Level(int(ceiling)),
        unmarked_level=Level(int(unmarked)),
        unmarked_refused=refused == _TRUE,
        owner_only=owner_only == _TRUE,
        attribution=Attribution(attribution),
    )
    feed = Collection(UUID(feed_id), circle.id, alias, title, description, policy)
    return circle, feed, Grant(frozenset(map(Right, _listed(rights))), Level(int(clearance)))


def _listed(array: str) -> list[str]:
    """Read an array of names or ids, which need no quotes, as Postgres writes it."""
    return [one for one in array.strip("{}").split(",") if one]
