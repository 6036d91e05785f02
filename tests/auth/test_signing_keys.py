"""Signing keys: one for all workers, sealed, rotated with overlap."""

import asyncio
import json
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import timedelta
from hashlib import sha256

import pytest

from taxii_server.auth.signing_keys import SigningKeys
from taxii_server.domain.errors import OperatorError
from taxii_server.storage.embedded import DatabaseUrls
from taxii_server.storage.engine import Database
from tests.auth.alliance import Alliance

pytestmark = pytest.mark.anyio

LIFETIMES = {"key_lifetime": timedelta(days=90), "token_lifetime": timedelta(minutes=15)}


async def kids(keys: SigningKeys) -> list[str]:
    return [key["kid"] for key in (await keys.jwks())["keys"]]


@pytest.fixture
async def workers(database_urls: DatabaseUrls) -> AsyncIterator[list[SigningKeys]]:
    """Eight workers, each with connections of its own."""
    databases = [Database(database_urls.server, connections=2) for _ in range(8)]
    yield [SigningKeys(database, "k" * 32, **LIFETIMES) for database in databases]
    for database in databases:
        await database.close()


async def test_workers_that_start_at_once_make_one_key(alliance: Alliance, workers: list[SigningKeys]) -> None:
    found = await asyncio.gather(*(worker.current() for worker in workers))

    assert len({key.kid for key in found}) == 1
    assert alliance.execute("SELECT count(*) FROM signing_keys") == [(1,)]


async def test_the_key_stays_while_it_signs(alliance: Alliance, keys: SigningKeys) -> None:
    assert (await keys.current()).kid == (await keys.current()).kid


async def test_past_its_time_a_key_signs_no_more_but_verifies(alliance: Alliance, keys: SigningKeys) -> None:
    old = await keys.current()
    alliance.execute("UPDATE signing_keys SET signs_until = now()")

    new = await keys.current()

    assert new.kid != old.kid
    assert await kids(keys) == [new.kid, old.kid]


async def test_a_retired_key_is_not_published(alliance: Alliance, keys: SigningKeys) -> None:
    await keys.current()
    alliance.execute("UPDATE signing_keys SET signs_until = now(), verifies_until = now()")

    assert await kids(keys) == []


async def test_a_key_verifies_a_token_s_lifetime_longer_than_it_signs(alliance: Alliance, keys: SigningKeys) -> None:
    await keys.current()

    [(signs, verifies)] = alliance.execute("SELECT signs_until - now(), verifies_until - signs_until FROM signing_keys")

    assert timedelta(days=89) < signs <= timedelta(days=90)
    assert verifies >= timedelta(minutes=15)


async def test_another_worker_opens_the_same_key(alliance: Alliance, keys: SigningKeys, db: Database) -> None:
    made = await keys.current()

    opened = await SigningKeys(db, "k" * 32, **LIFETIMES).current()

    assert opened.private_key.private_numbers() == made.private_key.private_numbers()


async def test_with_another_secret_key_the_operator_is_told_what_to_do(
    alliance: Alliance, keys: SigningKeys, db: Database
) -> None:
    await keys.current()

    with pytest.raises(OperatorError, match="Set the one they were made with"):
        await SigningKeys(db, "o" * 32, **LIFETIMES).current()


async def test_without_a_secret_key_nothing_is_sealed(db: Database) -> None:
    with pytest.raises(OperatorError, match="openssl rand"):
        SigningKeys(db, "", **LIFETIMES)


async def test_a_sealed_key_moved_to_another_row_does_not_open(
    alliance: Alliance, keys: SigningKeys, db: Database
) -> None:
    await keys.current()
    alliance.execute("UPDATE signing_keys SET kid = %s", "A" * 43)

    with pytest.raises(OperatorError):
        await SigningKeys(db, "k" * 32, **LIFETIMES).current()


async def test_a_damaged_sealed_key_does_not_open(alliance: Alliance, keys: SigningKeys, db: Database) -> None:
    await keys.current()
    alliance.execute("UPDATE signing_keys SET sealed_private_key = '\\x00'")

    with pytest.raises(OperatorError):
        await SigningKeys(db, "k" * 32, **LIFETIMES).current()


async def test_no_private_part_is_stored_or_published_readably(alliance: Alliance, keys: SigningKeys) -> None:
    key = await keys.current()
    private = key.private_key.private_numbers().private_value.to_bytes(32, "big")

    [(stored, sealed)] = alliance.execute("SELECT public_jwk, sealed_private_key FROM signing_keys")
    [published] = (await keys.jwks())["keys"]

    assert private not in bytes(sealed)
    assert json.loads(stored) == published
    assert published.keys() == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    assert "private" not in repr(key)


async def test_the_kid_is_the_rfc_7638_thumbprint(alliance: Alliance, keys: SigningKeys) -> None:
    await keys.current()
    [key] = (await keys.jwks())["keys"]
    required = json.dumps({name: key[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))

    assert key["kid"] == urlsafe_b64encode(sha256(required.encode()).digest()).rstrip(b"=").decode()
