"""The audit's rows: an act is appended in the transaction that does it, and never touched again.

Whoever appends holds the lock of the stream until commit:

| stream | lock |
| --- | --- |
| `collection:…` | the collection's clock (`clocks.lock_clock`), which every change of content holds anyway |
| `alliance` | `alliance.take_turn` |
| `keys` | `signing_keys.take_turns` |
| `member:…`, `heads` | `lock`, below |

Without it two of the same number would meet, and the second transaction fails: a chain never forks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from taxii_server.domain import audit
from taxii_server.storage.hot import Statement

if TYPE_CHECKING:
    from datetime import datetime

    from taxii_server.domain.audit import Entry
    from taxii_server.storage.engine import Connection

_SEED = 7_421_336_018  # any constant of our own

# Alone in its statement: one that also read the stream's end would read it as it was before the wait.
LOCK = text("SELECT pg_advisory_xact_lock(hashtextextended(:stream, :seed))")
TRY_LOCK = text("SELECT pg_try_advisory_xact_lock(hashtextextended(:stream, :seed))")

# One row after the stream's last one, which is the first step of a walk back on pk_audit_events. The digest is what
# domain.audit.link says, over the very instant that is stored.
APPEND = Statement(
    """
    INSERT INTO audit_events (stream, seq, at, act, who, details, digest)
    SELECT CAST(:stream AS text), coming.seq, coming.at, CAST(:act AS text), CAST(:who AS text), CAST(:details AS text),
           sha256(coming.previous || int8send(coming.seq)
                  || int8send(CAST(extract(epoch FROM coming.at) * 1000000 AS bigint)) || CAST(:body AS bytea))
      FROM (SELECT coalesce(newest.seq, 0) + 1 AS seq, clock_timestamp() AS at,
                   coalesce(newest.digest, CAST(:start AS bytea)) AS previous
              FROM (VALUES (1)) AS one
              LEFT JOIN LATERAL (
                   SELECT seq, digest FROM audit_events WHERE stream = CAST(:stream AS text) ORDER BY seq DESC LIMIT 1
                   ) AS newest ON true
            OFFSET 0) AS coming
 RETURNING seq, at, digest
    """,
    "seq at digest",
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an act came to stand."""

    seq: int
    at: datetime
    digest: bytes


async def lock(connection: Connection, stream: str) -> None:
    """Wait for a stream that has no other lock, and hold it until the transaction ends."""
    await connection.execute(LOCK, {"stream": stream, "seed": _SEED})


async def try_lock(connection: Connection, stream: str) -> bool:
    """Hold a stream until the transaction ends, if nobody else does."""
    return bool((await connection.execute(TRY_LOCK, {"stream": stream, "seed": _SEED})).scalar_one())


async def append(connection: Connection, entry: Entry) -> Place:
    """Write an act down at the end of its stream, whose lock must be held."""
    (row,) = await APPEND.on(connection, _values(entry))
    return Place(row.seq, row.at, bytes(row.digest))


def append_later(connection: Connection, entry: Entry) -> None:
    """The same for whom it doesn't matter where it comes to stand: with whatever comes next on the connection."""
    APPEND.later(connection, _values(entry))


async def append_locking(connection: Connection, entry: Entry) -> Place:
    """Write an act down in a stream that has no other lock."""
    await lock(connection, entry.stream)
    return await append(connection, entry)


def _values(entry: Entry) -> dict[str, Any]:
    return {
        "stream": entry.stream,
        "act": entry.act.value,
        "who": entry.who,
        "details": entry.text,
        "body": entry.body,
        "start": audit.START,
    }
