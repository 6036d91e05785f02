"""The keys that sign access tokens, as rows: the private half only ever sealed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

if TYPE_CHECKING:
    from taxii_server.storage.engine import Connection

# Any number will do, so long as nothing else in this database locks the same one.
_MAKING_A_KEY = 0x7461786969_6B6579

_TAKE_TURNS = text("SELECT pg_advisory_xact_lock(CAST(:lock AS bigint))")

_NEWEST_SIGNING = text("""
    -- The key to sign with now. The table holds a handful of rows.
    SELECT kid, public_jwk, sealed_private_key, verifies_until
      FROM signing_keys
     WHERE signs_until > statement_timestamp()
     ORDER BY signs_until DESC, kid
     LIMIT 1
""")

_VERIFYING = text("""
    -- The public halves of all keys whose tokens are still accepted, newest first.
    SELECT public_jwk
      FROM signing_keys
     WHERE verifies_until > statement_timestamp()
     ORDER BY signs_until DESC, kid
""")

_ADD = text("""
    INSERT INTO signing_keys (kid, public_jwk, sealed_private_key, created_at, signs_until, verifies_until)
    VALUES (:kid, :public_jwk, :sealed_private_key, statement_timestamp(),
            statement_timestamp() + CAST(:signs_for AS interval),
            statement_timestamp() + CAST(:verifies_for AS interval))
    RETURNING kid, public_jwk, sealed_private_key, verifies_until
""")

_LISTING = text("""
    -- All keys there are, those that ended lately too, newest first.
    SELECT kid, created_at, signs_until, verifies_until,
           signs_until > statement_timestamp() AS signs, verifies_until > statement_timestamp() AS verifies
      FROM signing_keys
     ORDER BY signs_until DESC, kid
""")

_STOP_SIGNING = text("""
    -- All keys but one sign no more, and verify for as long as a token signed a moment ago may live: by the settings of who
    -- asks, or by those that the key was made with, which may be another process's.
    UPDATE signing_keys
       SET signs_until = statement_timestamp(),
           verifies_until = least(verifies_until,
                                  statement_timestamp() + greatest(CAST(:verifies_for AS interval),
                                                                   verifies_until - signs_until))
     WHERE kid <> :successor AND signs_until > statement_timestamp()
""")

_RETIRE = text("""
    -- Null means every key. What has ended keeps the instant at which it did.
    UPDATE signing_keys
       SET signs_until = least(signs_until, statement_timestamp()), verifies_until = statement_timestamp()
     WHERE (CAST(:kid AS text) IS NULL OR kid = CAST(:kid AS text)) AND verifies_until > statement_timestamp()
    RETURNING kid
""")

_PUBLIC = text("SELECT kid, public_jwk FROM signing_keys")

_PURGE = text("""
    DELETE FROM signing_keys WHERE verifies_until < statement_timestamp() - CAST(:keep AS interval)
    RETURNING kid, public_jwk
""")


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A signing key whose private half only the holder of TAXII_SECRET_KEY can open."""

    kid: str
    public_jwk: str
    sealed_private_key: bytes
    verifies_until: datetime


@dataclass(frozen=True, slots=True)
class ListedKey:
    """A signing key as a list shows it; `signs` and `verifies` tell of now."""

    kid: str
    created_at: datetime
    signs_until: datetime
    verifies_until: datetime
    signs: bool
    verifies: bool


async def take_turns(connection: Connection) -> None:
    """Wait until no other transaction is making a key; ends with the transaction."""
    await connection.execute(_TAKE_TURNS, {"lock": _MAKING_A_KEY})


async def newest_signing(connection: Connection) -> SealedKey | None:
    """Give the key that signs now, if there is one."""
    row = (await connection.execute(_NEWEST_SIGNING)).one_or_none()
    return None if row is None else _sealed(row)


async def verifying(connection: Connection) -> list[str]:
    """Give the public JWKs of all keys that still verify, newest first."""
    return list((await connection.execute(_VERIFYING)).scalars())


async def add(
    connection: Connection,
    *,
    kid: str,
    public_jwk: str,
    sealed_private_key: bytes,
    signs_for: timedelta,
    verifies_for: timedelta,
) -> SealedKey:
    """Store a new key; its times count from the database's present."""
    result = await connection.execute(
        _ADD,
        {
            "kid": kid,
            "public_jwk": public_jwk,
            "sealed_private_key": sealed_private_key,
            "signs_for": signs_for,
            "verifies_for": verifies_for,
        },
    )
    return _sealed(result.one())


async def listing(connection: Connection) -> list[ListedKey]:
    """List all keys, newest first."""
    return [ListedKey(**row._mapping) for row in await connection.execute(_LISTING)]  # noqa: SLF001 - it is public


async def stop_signing(connection: Connection, *, successor: str, verifies_for: timedelta) -> None:
    """Let no key but the successor sign any more, and each of them verify for `verifies_for`, or as it was made."""
    await connection.execute(_STOP_SIGNING, {"successor": successor, "verifies_for": verifies_for})


async def retire(connection: Connection, kid: str | None) -> list[str]:
    """Let a key, or with None every key, neither sign nor verify from now on; which ones did until now."""
    return list((await connection.execute(_RETIRE, {"kid": kid})).scalars())


async def purge(connection: Connection, *, keep: timedelta) -> dict[str, str]:
    """Delete the keys that stopped verifying longer than `keep` ago; their public JWKs, by id."""
    return {row.kid: row.public_jwk for row in await connection.execute(_PURGE, {"keep": keep})}


async def public_jwks(connection: Connection) -> dict[str, str]:
    """Give the public JWKs of all keys there are, those that ended too, by id."""
    return {row.kid: row.public_jwk for row in await connection.execute(_PUBLIC)}


def _sealed(row: Any) -> SealedKey:
    return SealedKey(
        kid=row.kid,
        public_jwk=row.public_jwk,
        sealed_private_key=bytes(row.sealed_private_key),
        verifies_until=row.verifies_until,
    )
