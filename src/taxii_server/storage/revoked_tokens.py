"""Tokens that are refused before their time, by issuer and jti; the caller statement looks here for every token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from taxii_server.storage.engine import Connection

# An issuer may use a jti again, so of two ends the later one counts: a row that ends sooner makes room. Counting those
# lets the deletion end before the insertion begins. Probes pk_revoked_tokens.
_ADD = text("""
    WITH until AS (
        SELECT least(CAST(:expires_at AS timestamptz), statement_timestamp() + CAST(:at_most AS interval)) AS expires_at
    ), sooner AS (
        DELETE FROM revoked_tokens AS ended
         USING until
         WHERE ended.issuer = :issuer AND ended.jti = :jti AND ended.expires_at < until.expires_at
     RETURNING ended.jti
    )
    INSERT INTO revoked_tokens (issuer, jti, expires_at)
    SELECT :issuer, :jti, until.expires_at
      FROM until, (SELECT count(*) AS rows FROM sooner) AS gone
        ON CONFLICT (issuer, jti) DO NOTHING
    RETURNING (SELECT count(*) = 0 FROM sooner) AS is_new
""")

# One row a revocation, gone soon after the token's own end: a scan of what is there.
_PURGE = text("""
    DELETE FROM revoked_tokens WHERE expires_at < statement_timestamp() - CAST(:keep AS interval)
""")


async def add(
    connection: Connection, *, issuer: str, jti: str, expires_at: datetime | None, at_most: timedelta
) -> bool:
    """Refuse a token until it would have expired, or for `at_most`, whichever is sooner; False if it was refused already."""
    values = {"issuer": issuer, "jti": jti, "expires_at": expires_at, "at_most": at_most}
    return bool((await connection.execute(_ADD, values)).scalar())


async def purge(connection: Connection, *, keep: timedelta) -> int:
    """Forget the tokens that expired longer than `keep` ago; how many there were."""
    return (await connection.execute(_PURGE, {"keep": keep})).rowcount
