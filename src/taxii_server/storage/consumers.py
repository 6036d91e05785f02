"""Who reads what, and how far it has come: for the operator."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from taxii_server.domain.access import Authentication, Caller, Collection, Grant, Place, Principal, Right, TrustGroup
from taxii_server.domain.tlp import Level
from taxii_server.storage.callers import policy_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taxii_server.domain.access import Readable
    from taxii_server.storage.engine import Connection

MOST_WAITING = 1_000
"""So many waiting versions are counted; where there are more, that is what is told."""

# One page of the clients that may read something, with each collection that they may read. Sorts the alliance's clients
# and grants, some thousands; then, for those of the page alone, pk_client_activity and pk_client_readings. Without an id
# the revoked are left out.
_CONSUMERS = text("""
    WITH listed AS (
        SELECT client.id AS client, client.client_id, client.rights AS client_rights,
               client.collections AS client_collections, client.created_at, client.authentication,
               client.expires_at,
               client.revoked_at IS NOT NULL AS revoked,
               coalesce(client.expires_at <= statement_timestamp(), false) AS expired,
               member.suspended_at IS NOT NULL AS suspended,
               client.issuer IS NOT NULL AS vouched_for,
               member.id AS member, member.slug AS member_slug,
               circle.id AS trust_group_id, circle.slug AS trust_group_slug, circle.title AS trust_group_title,
               feed.id AS collection_id, feed.alias, feed.title, feed.validation, feed.ceiling, feed.unmarked_level,
               feed.unmarked_refused, feed.owner_only, feed.attribution,
               grants.rights AS grant_rights, grants.clearance,
               circle.slug || '/' || coalesce(feed.alias, feed.id::text) AS collection
          FROM clients AS client
          JOIN members AS member ON member.id = client.member_id
          JOIN grants ON grants.member_id = member.id
          JOIN collections AS feed ON feed.id = grants.collection_id
          JOIN trust_groups AS circle ON circle.id = feed.trust_group_id
         WHERE 'read' = ANY (grants.rights) AND 'read' = ANY (client.rights)
           AND (client.collections IS NULL OR feed.id = ANY (client.collections))
           AND CASE WHEN CAST(:client_id AS text) IS NULL THEN client.revoked_at IS NULL
                    ELSE client.client_id = CAST(:client_id AS text) END
           AND (client.client_id, circle.slug || '/' || coalesce(feed.alias, feed.id::text))
               > (CAST(:after_client AS text), CAST(:after_collection AS text))
         ORDER BY client.client_id, circle.slug || '/' || coalesce(feed.alias, feed.id::text)
         LIMIT :rows
    )
    SELECT listed.*, statement_timestamp() AS now,
           vouched_for,
           EXISTS (
               SELECT FROM client_secrets AS secret
                WHERE secret.client = listed.client
                  AND (secret.expires_at IS NULL OR secret.expires_at > statement_timestamp())) AS has_secret,
           EXISTS (
               SELECT FROM client_certificates AS own
                WHERE own.client = listed.client AND own.not_before <= statement_timestamp()
                  AND own.not_after > statement_timestamp()) AS has_certificate,
           (SELECT max(own.not_after) FROM client_certificates AS own
             WHERE own.client = listed.client) AS certified_until,
           conduct.requests, conduct.errors, conduct.succeeded_at, conduct.failed_at, conduct.failed_status,
           conduct.failures, conduct.refused_at, conduct.refused_for,
           reading.*
      FROM listed
      LEFT JOIN client_activity AS conduct ON conduct.client = listed.client
      LEFT JOIN LATERAL (
           SELECT sum(polls)::bigint AS polls, sum(versions)::bigint AS versions,
                  max(polled_at) AS polled_at, max(received_at) AS received_at,
                  max(reached) FILTER (WHERE endpoint = 'objects') AS objects_reached,
                  max(reached) FILTER (WHERE endpoint = 'manifest') AS manifest_reached,
                  max(polled_at) FILTER (WHERE endpoint IN ('objects', 'manifest')) AS feed_polled_at,
                  max(ended_at) AS ended_at, max(filtered_at) AS filtered_at
             FROM client_readings
            WHERE client_readings.collection_id = listed.collection_id AND client_readings.client = listed.client
           ) AS reading ON true
     ORDER BY listed.client_id, listed.collection
""")

# What waits, for readers of one clearance that are at these positions: for each of them short walks of
# ix_object_versions_latest, one a level and level that supersedes. The index's condition is repeated to the letter.
WAITING = text("""
    SELECT asked.nth, waiting.oldest, waiting.many,
           (SELECT max(newest.date_added)
              FROM generate_series(0, CAST(:clearance AS integer)) AS levels (at_level)
             CROSS JOIN generate_series(CAST(:clearance AS integer) + 1, 5) AS above (from_level)
             CROSS JOIN LATERAL (
                   SELECT date_added
                     FROM object_versions
                    WHERE collection_id = :collection AND level = at_level
                      AND least(superseded_level, newer_form_level) = from_level
                      AND least(superseded_level, newer_form_level) > level
                    ORDER BY date_added DESC, form DESC LIMIT 1) AS newest) AS newest
      FROM unnest(CAST(:positions AS timestamptz[])) WITH ORDINALITY AS asked (position, nth)
     CROSS JOIN LATERAL (
           SELECT min(date_added) AS oldest, count(*) AS many
             FROM generate_series(0, CAST(:clearance AS integer)) AS levels (at_level)
            CROSS JOIN generate_series(CAST(:clearance AS integer) + 1, 5) AS above (from_level)
            CROSS JOIN LATERAL (
                  SELECT date_added
                    FROM object_versions
                   WHERE collection_id = :collection AND level = at_level AND date_added > asked.position
                     AND least(superseded_level, newer_form_level) = from_level
                     AND least(superseded_level, newer_form_level) > level
                   ORDER BY date_added, form LIMIT :rows) AS walk
           ) AS waiting
     ORDER BY asked.nth
""")

# Every client with something to tell of, by pk_client_activity and pk_clients: some thousands at most.
_SILENT = text("""
    SELECT count(*)
      FROM client_activity AS conduct
      JOIN clients AS client ON client.id = conduct.client
      JOIN members AS member ON member.id = client.member_id
     WHERE conduct.succeeded_at < statement_timestamp() - CAST(:since AS interval)
       AND 'read' = ANY (client.rights)
       AND client.revoked_at IS NULL AND (client.expires_at IS NULL OR client.expires_at > statement_timestamp())
       AND member.suspended_at IS NULL AND member.removed_at IS NULL
""")

# Every live client that has an end, by ix_client_certificates_client: some thousands at most.
_ENDING = text("""
    SELECT count(*)
      FROM clients AS client
      JOIN members AS member ON member.id = client.member_id
      LEFT JOIN LATERAL (
           SELECT max(own.not_after) AS until FROM client_certificates AS own WHERE own.client = client.id
           ) AS certified ON true
     WHERE client.revoked_at IS NULL AND (client.expires_at IS NULL OR client.expires_at > statement_timestamp())
       AND member.suspended_at IS NULL AND member.removed_at IS NULL
       AND (client.expires_at < statement_timestamp() + CAST(:within AS interval)
            OR certified.until > statement_timestamp()
               AND certified.until < statement_timestamp() + CAST(:within AS interval))
""")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one client and one collection; of `caller` it is as if it asked for the collection now.

    `refused`: it would not be let in, and why; `certified_until`: when the last of its certificates ends. `failures` are those since its last success, the newest first.
    """

    caller: Caller
    collection: str
    created_at: datetime
    expires_at: datetime | None
    certified_until: datetime | None
    now: datetime
    refused: str | None
    polls: int
    versions: int
    polled_at: datetime | None
    received_at: datetime | None
    objects_reached: datetime | None
    manifest_reached: datetime | None
    feed_polled_at: datetime | None
    ended_at: datetime | None
    filtered_at: datetime | None
    requests: int
    errors: int
    succeeded_at: datetime | None
    failed_at: datetime | None
    failed_status: int | None
    failures: tuple[datetime, ...]
    refused_at: datetime | None
    refused_for: str | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a reader has not fetched yet: how many versions, at most one more than are counted, and the oldest's date.

    `newest` is the newest version that it may see, fetched or not.
    """

    many: int
    oldest: datetime | None
    newest: datetime | None


async def listing(
    connection: Connection, *, client_id: str | None, after: tuple[str, str], limit: int
) -> tuple[list[Known], bool]:
    """List clients with the collections that they may read, by id and name, after these; and whether there are more."""
    result = await connection.execute(
        _CONSUMERS,
        {"client_id": client_id, "after_client": after[0], "after_collection": after[1], "rows": limit + 1},
    )
    rows = result.all()
    return [_known(row) for row in rows[:limit]], len(rows) > limit


async def waiting(connection: Connection, where: Readable, positions: Sequence[datetime | None]) -> list[Waiting]:
    """Tell what of a collection waits for readers who have read up to these dates; nothing for None."""
    result = await connection.execute(
        WAITING,
        {
            "collection": where.collection_id,
            "clearance": int(where.clearance),
            "positions": ["infinity" if position is None else position.isoformat() for position in positions],
            "rows": MOST_WAITING + 1,
        },
    )
    return [Waiting(min(row.many, MOST_WAITING + 1), row.oldest, row.newest) for row in result]


async def count_silent(connection: Connection, *, since: timedelta) -> int:
    """Count the clients that may read, could log in, and were answered before but not within `since`."""
    return int((await connection.execute(_SILENT, {"since": since})).scalar_one())


async def count_ending(connection: Connection, *, within: timedelta) -> int:
    """Count the clients that are let in now, and that end, or the last of their certificates does, before long."""
    return int((await connection.execute(_ENDING, {"within": within})).scalar_one())


def _known(row: Any) -> Known:
    refusals = {
        "revoked": row.revoked,
        "expired": row.expired,
        "suspended": row.suspended,
        "without credentials that hold": not _has_credentials(row),
    }
    return Known(
        caller=_caller(row),
        collection=row.collection,
        created_at=row.created_at,
        expires_at=row.expires_at,
        certified_until=row.certified_until,
        now=row.now,
        refused=next((reason for reason, holds in refusals.items() if holds), None),
        polls=row.polls or 0,
        versions=row.versions or 0,
        polled_at=row.polled_at,
        received_at=row.received_at,
        objects_reached=row.objects_reached,
        manifest_reached=row.manifest_reached,
        feed_polled_at=row.feed_polled_at,
        ended_at=row.ended_at,
        filtered_at=row.filtered_at,
        requests=row.requests or 0,
        errors=row.errors or 0,
        succeeded_at=row.succeeded_at,
        failed_at=row.failed_at,
        failed_status=row.failed_status,
        failures=tuple(row.failures or ()),
        refused_at=row.refused_at,
        refused_for=row.refused_for,
    )


def _has_credentials(row: Any) -> bool:
    shows = {
        Authentication.ANY: row.vouched_for or row.has_secret or row.has_certificate,
        Authentication.CERTIFICATE: row.has_certificate,
        Authentication.BOTH: row.has_secret and row.has_certificate,
    }
    return bool(shows[Authentication(row.authentication)])


def _caller(row: Any) -> Caller:
    principal = Principal(
        client=row.client,
        client_id=row.client_id,
        member=row.member,
        member_slug=row.member_slug,
        rights=frozenset(map(Right, row.client_rights)),
        collections=None if row.client_collections is None else frozenset(row.client_collections),
    )
    group = TrustGroup(id=row.trust_group_id, slug=row.trust_group_slug, title=row.trust_group_title, description=None)
    feed = Collection(
        id=row.collection_id,
        trust_group_id=row.trust_group_id,
        alias=row.alias,
        title=row.title,
        description=None,
        policy=policy_of(row),
    )
    grant = Grant(rights=frozenset(map(Right, row.grant_rights)), clearance=Level(row.clearance))
    return Caller(principal, Place(group, feed, grant), asked_at=row.now)
