"""What clients did lately: saved in batches, merged with what other workers saved, whatever the order.

Instants merge by the later one, counts by adding up, and each worker numbers its batches, so that one which is sent
again because its answer was lost is not added twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
from sqlalchemy import text

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from taxii_server.storage.engine import Connection

MOST_FAILURES = 20
"""So many failures in a row are told apart; what comes on top is told as more."""

# What is saved can wait and may be lost with the last moments before a crash of Postgres: nothing here waits for a disk,
# a standby or somebody's lock as long as what clients wait for may.
_GENTLY = text("""
    SELECT set_config('synchronous_commit', 'off', true),
           set_config('lock_timeout', '2s', true),
           set_config('statement_timeout', '5s', true)
""")

# By pk_activity_batches. No row comes back if this batch was saved before.
_BEGIN = text("""
    INSERT INTO activity_batches AS known (worker, batch, saved_at)
    VALUES (:worker, :batch, clock_timestamp())
        ON CONFLICT (worker) DO UPDATE SET batch = excluded.batch, saved_at = excluded.saved_at
     WHERE known.batch < excluded.batch
 RETURNING batch
""")

# By pk_client_readings, in its order, so that workers can't wait for each other in a circle. What belongs to a collection
# or client that is gone is left out.
_READINGS = text("""
    INSERT INTO client_readings AS known
           (collection_id, client, endpoint, polls, versions, polled_at, received_at, reached, ended_at, filtered_at)
    SELECT news.collection_id, news.client, news.endpoint, news.polls, news.versions,
           news.polled_at, news.received_at, news.reached, news.ended_at, news.filtered_at
      FROM json_to_recordset(CAST(:readings AS json)) AS news (
           collection_id uuid, client integer, endpoint text, polls bigint, versions bigint,
           polled_at timestamptz, received_at timestamptz, reached timestamptz, ended_at timestamptz,
           filtered_at timestamptz)
      JOIN collections ON collections.id = news.collection_id
      JOIN clients ON clients.id = news.client
     ORDER BY news.collection_id, news.client, news.endpoint
        ON CONFLICT (collection_id, client, endpoint) DO UPDATE
       SET polls = known.polls + excluded.polls,
           versions = known.versions + excluded.versions,
           polled_at = greatest(known.polled_at, excluded.polled_at),
           received_at = greatest(known.received_at, excluded.received_at),
           reached = greatest(known.reached, excluded.reached),
           ended_at = greatest(known.ended_at, excluded.ended_at),
           filtered_at = greatest(known.filtered_at, excluded.filtered_at)
""")

# By pk_client_activity, in its order. A failure counts as in a row while no success is later.
_CLIENTS = text("""
    INSERT INTO client_activity AS known
           (client, requests, errors, succeeded_at, failed_at, failed_status, failures, refused_at, refused_for)
    SELECT news.client, news.requests, news.errors, news.succeeded_at, news.failed_at, news.failed_status,
           news.failures, news.refused_at, news.refused_for
      FROM json_to_recordset(CAST(:clients AS json)) AS news (
           client integer, requests bigint, errors bigint, succeeded_at timestamptz, failed_at timestamptz,
           failed_status smallint, failures timestamptz[], refused_at timestamptz, refused_for text)
      JOIN clients ON clients.id = news.client
     ORDER BY news.client
        ON CONFLICT (client) DO UPDATE
       SET requests = known.requests + excluded.requests,
           errors = known.errors + excluded.errors,
           succeeded_at = greatest(known.succeeded_at, excluded.succeeded_at),
           failed_at = greatest(known.failed_at, excluded.failed_at),
           failed_status = CASE WHEN (excluded.failed_at, excluded.failed_status)
                                   > (coalesce(known.failed_at, '-infinity'), coalesce(known.failed_status, 0))
                                THEN excluded.failed_status ELSE known.failed_status END,
           failures = ARRAY(SELECT DISTINCT failure
                              FROM unnest(known.failures || excluded.failures) AS each (failure)
                             WHERE failure > coalesce(greatest(known.succeeded_at, excluded.succeeded_at), '-infinity')
                             ORDER BY failure DESC LIMIT :most_failures),
           refused_at = greatest(known.refused_at, excluded.refused_at),
           refused_for = CASE WHEN (excluded.refused_at, excluded.refused_for)
                                 > (coalesce(known.refused_at, '-infinity'), coalesce(known.refused_for, ''))
                              THEN excluded.refused_for ELSE known.refused_for END
""")

# Walks pk_client_readings.
_LAST_POLLS = text("""
    SELECT client, max(polled_at) AS polled_at, max(reached) FILTER (WHERE endpoint = 'objects') AS reached
      FROM client_readings
     WHERE collection_id = :collection AND client = ANY(CAST(:clients AS integer[]))
     GROUP BY client
""")

# Scans of what is there: a row for each worker since the last purge; the revoked clients, by pk_clients.
_PURGE_BATCHES = text("DELETE FROM activity_batches WHERE saved_at < statement_timestamp() - CAST(:keep AS interval)")
_PURGE_READINGS = text("""
    DELETE FROM client_readings USING clients
     WHERE clients.id = client AND clients.revoked_at < statement_timestamp() - CAST(:keep AS interval)
""")
_PURGE_CLIENTS = text("""
    DELETE FROM client_activity USING clients
     WHERE clients.id = client AND clients.revoked_at < statement_timestamp() - CAST(:keep AS interval)
""")


@dataclass(slots=True)
class Reading:
    """What one client read of one collection at one endpoint since the last batch; columns of `client_readings`."""

    collection_id: UUID
    client: int
    endpoint: str
    polls: int = 0
    versions: int = 0
    polled_at: datetime | None = None
    received_at: datetime | None = None
    reached: datetime | None = None
    ended_at: datetime | None = None
    filtered_at: datetime | None = None


@dataclass(slots=True)
class Conduct:
    """How one client's requests ended since the last batch; columns of `client_activity`."""

    client: int
    requests: int = 0
    errors: int = 0
    succeeded_at: datetime | None = None
    failed_at: datetime | None = None
    failed_status: int | None = None
    failures: list[datetime] = field(default_factory=list)
    refused_at: datetime | None = None
    refused_for: str | None = None


@dataclass(frozen=True, slots=True)
class LastPoll:
    """When a client last read of a collection, and up to which `date_added` it has the objects that it asks for."""

    polled_at: datetime
    reached: datetime | None


async def save(
    connection: Connection, worker: UUID, batch: int, readings: Sequence[Reading], conducts: Sequence[Conduct]
) -> None:
    """Merge a worker's batch into what is known; a batch no higher than the worker's last one was saved before."""
    await connection.execute(_GENTLY)
    begun = await connection.execute(_BEGIN, {"worker": worker, "batch": batch})
    if begun.one_or_none() is None:
        return
    if readings:
        await connection.execute(_READINGS, {"readings": msgspec.json.encode(readings).decode()})
    if conducts:
        values = {"clients": msgspec.json.encode(conducts).decode(), "most_failures": MOST_FAILURES}
        await connection.execute(_CLIENTS, values)


async def last_polls(connection: Connection, collection_id: UUID, clients: Collection[int]) -> dict[int, LastPoll]:
    """Tell of those of these clients that ever read of the collection when that was last; as of the last batches.

    `polled_at` is the database's time just before the page was read, so whoever polled after something was committed
    was answered with it in view.
    """
    rows = await connection.execute(_LAST_POLLS, {"collection": collection_id, "clients": list(clients)})
    return {row.client: LastPoll(row.polled_at, row.reached) for row in rows}


async def purge(connection: Connection, *, workers: timedelta, revoked: timedelta) -> None:
    """Forget the workers that saved nothing, and the clients that have been revoked, for longer than that."""
    await connection.execute(_PURGE_BATCHES, {"keep": workers})
    await connection.execute(_PURGE_READINGS, {"keep": revoked})
    await connection.execute(_PURGE_CLIENTS, {"keep": revoked})
