"""Reading the audit: ends of streams for checkpoints, and everything, bit by bit, for whoever verifies or exports it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from taxii_server.domain.audit import HEADS, Written
from taxii_server.domain.audit_chain import Head

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from taxii_server.storage.engine import Connection

# The last act of every stream: one step on pk_audit_events for each stream, from the last one back.
ENDS = text("""
    WITH RECURSIVE ends AS (
        (SELECT stream, seq, digest FROM audit_events ORDER BY stream DESC, seq DESC LIMIT 1)
         UNION ALL
        SELECT before.stream, before.seq, before.digest
          FROM ends
         CROSS JOIN LATERAL (
               SELECT stream, seq, digest
                 FROM audit_events
                WHERE stream < ends.stream
                ORDER BY stream DESC, seq DESC LIMIT 1) AS before
    )
    SELECT stream, seq, digest FROM ends
""")

# An instant outside of the years that Python has was never written by us. It is read as the nearest one there is, which
# doesn't match the digest either.

# The next acts in the order of stream and number. Walks pk_audit_events.
AFTER = text("""
    SELECT stream, seq, least(greatest(at, '0001-01-01Z'), '9999-12-31Z') AS at, act, who, details, digest
      FROM audit_events
     WHERE (stream, seq) > (:stream, :seq)
     ORDER BY stream, seq LIMIT :rows
""")
# The next acts of one stream. Walks pk_audit_events.
OF_STREAM = text("""
    SELECT stream, seq, least(greatest(at, '0001-01-01Z'), '9999-12-31Z') AS at, act, who, details, digest
      FROM audit_events
     WHERE stream = :stream AND seq > :seq
     ORDER BY seq LIMIT :rows
""")
# The acts before one of a stream, newest first. Walks pk_audit_events back.
BACK = text("""
    SELECT stream, seq, least(greatest(at, '0001-01-01Z'), '9999-12-31Z') AS at, act, who, details, digest
      FROM audit_events
     WHERE stream = :stream AND seq < :seq
     ORDER BY seq DESC LIMIT :rows
""")
# The first act of a kind in a stream. Walks pk_audit_events until it is met.
FIRST = text("""
    SELECT stream, seq, at, act, who, details, digest
      FROM audit_events
     WHERE stream = :stream AND act = :act
     ORDER BY seq LIMIT 1
""")
# What stands at some places. Probes pk_audit_events.
AT = text("""
    SELECT audit_events.stream, audit_events.seq, audit_events.digest
      FROM unnest(CAST(:streams AS text[]), CAST(:numbers AS bigint[])) AS asked (stream, seq)
      JOIN audit_events ON audit_events.stream = asked.stream AND audit_events.seq = asked.seq
""")
# Whether the last checkpoint is younger than that. One that is of the future, after the database's clock was set back,
# doesn't hold up those to come.
FRESH = text("""
    SELECT coalesce((SELECT at BETWEEN clock_timestamp() - CAST(:than AS interval)
                                   AND clock_timestamp() + CAST(:than AS interval)
                       FROM audit_events WHERE stream = 'heads' ORDER BY seq DESC LIMIT 1), false)
""")
ADD_SIGNED = text("INSERT INTO audit_heads (seq, signed) VALUES (:seq, :signed) ON CONFLICT (seq) DO NOTHING")
SIGNED = text("SELECT seq, signed FROM audit_heads WHERE seq > :seq ORDER BY seq LIMIT :rows")
NEWEST_SIGNED = text("SELECT signed FROM audit_heads ORDER BY seq DESC LIMIT 1")


async def ends(connection: Connection) -> list[Head]:
    """Give the end of every stream as it stands at one moment, checkpoints left out."""
    rows = await connection.execute(ENDS)
    return [Head(row.stream, row.seq, bytes(row.digest)) for row in rows if row.stream != HEADS]


async def fresh(connection: Connection, than: timedelta) -> bool:
    """Tell whether the last checkpoint was made less long ago."""
    return bool((await connection.execute(FRESH, {"than": than})).scalar_one())


async def add_signed(connection: Connection, seq: int, signed: str) -> bool:
    """Keep the signed head of a checkpoint; False if there is one of that number already."""
    return (await connection.execute(ADD_SIGNED, {"seq": seq, "signed": signed})).rowcount > 0


async def newest_signed(connection: Connection) -> str | None:
    """Give the newest signed head."""
    return (await connection.execute(NEWEST_SIGNED)).scalar_one_or_none()


async def signed_after(connection: Connection, seq: int, rows: int) -> list[tuple[int, str]]:
    """Give the next signed heads."""
    return [(row.seq, row.signed) for row in await connection.execute(SIGNED, {"seq": seq, "rows": rows})]


async def after(connection: Connection, stream: str, seq: int, rows: int) -> list[Written]:
    """Give the acts after a place, in the order of stream and number."""
    return _written(await connection.execute(AFTER, {"stream": stream, "seq": seq, "rows": rows}))


async def of_stream(connection: Connection, stream: str, seq: int, rows: int) -> list[Written]:
    """Give the acts of a stream after a number."""
    return _written(await connection.execute(OF_STREAM, {"stream": stream, "seq": seq, "rows": rows}))


async def first_of(connection: Connection, stream: str, act: str) -> Written | None:
    """Give the first act of this kind in a stream."""
    return next(iter(_written(await connection.execute(FIRST, {"stream": stream, "act": act}))), None)


async def back(connection: Connection, stream: str, seq: int, rows: int) -> list[Written]:
    """Give the acts of a stream before a number, newest first."""
    return _written(await connection.execute(BACK, {"stream": stream, "seq": seq, "rows": rows}))


async def digests(connection: Connection, heads: Sequence[Head]) -> dict[tuple[str, int], bytes]:
    """Give the digests that stand where these heads are."""
    asked = {"streams": [head.stream for head in heads], "numbers": [head.seq for head in heads]}
    return {(row.stream, row.seq): bytes(row.digest) for row in await connection.execute(AT, asked)}


async def streams(connection: Connection) -> dict[str, int]:
    """Give every stream's last number, checkpoints included."""
    return {row.stream: row.seq for row in await connection.execute(ENDS)}


def _written(rows: Any) -> list[Written]:
    return [Written(row.stream, row.seq, row.at, row.act, row.who, row.details, bytes(row.digest)) for row in rows]
