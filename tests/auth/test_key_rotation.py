"""Signing keys by command: a new one signs at once everywhere, a leaked one is refused at once everywhere."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from taxii_server.auth import tokens
from taxii_server.auth.identify import Identifier, PathNames
from taxii_server.auth.signing_keys import SigningKeys
from taxii_server.domain.access import Right
from taxii_server.domain.errors import NotAuthenticated, OperatorError
from taxii_server.oauth.routes import router
from taxii_server.operations import signing_keys
from taxii_server.operations.tokens import TokenIssuing
from taxii_server.storage.embedded import DatabaseUrls
from taxii_server.storage.engine import Database
from tests.auth.alliance import Alliance
from tests.auth.forge import ISSUER

pytestmark = pytest.mark.anyio

TOKEN_LIFETIME = timedelta(minutes=15)
LIFETIMES = {"key_lifetime": timedelta(days=90), "token_lifetime": TOKEN_LIFETIME}
NOWHERE = PathNames()


@dataclass(frozen=True)
class Worker:
    """One process of a server: its own connections, its own memory of keys and signatures."""

    db: Database
    keys: SigningKeys
    identifier: Identifier

    async def token(self, client_id: str) -> str:
        key = await self.keys.current()
        return tokens.issue(
            key.private_key,
            kid=key.kid,
            issuer=ISSUER,
            client_id=client_id,
            rights=Right,
            lifetime=min(TOKEN_LIFETIME, key.verifies_until - datetime.now(UTC)),
        )

    async def admits(self, token: str) -> bool:
        try:
            await self.identifier.caller(f"Bearer {token}", NOWHERE)
        except NotAuthenticated:
            return False
        return True


@pytest.fixture
async def workers(database_urls: DatabaseUrls) -> AsyncIterator[list[Worker]]:
    databases = [Database(database_urls.server, connections=2) for _ in range(4)]
    yield [Worker(db, SigningKeys(db, "k" * 32, **LIFETIMES), Identifier(db, ISSUER)) for db in databases]
    for db in databases:
        await db.close()


async def test_a_new_key_signs_the_next_token_of_every_worker(alliance: Alliance, workers: list[Worker]) -> None:
    before = {(await worker.keys.current()).kid for worker in workers}

    kid = await signing_keys.rotate(workers[0].keys)

    assert before != {kid}
    assert {(await worker.keys.current()).kid for worker in workers} == {kid}


async def test_the_old_key_verifies_until_its_last_token_has_expired(alliance: Alliance, workers: list[Worker]) -> None:
    """A token signed in the moment of the rotation lives out its time on every worker, and no key stays for longer."""
    north = alliance.client("north")
    token = await workers[0].token(north.client_id)
    old = (await workers[0].keys.current()).kid

    await signing_keys.rotate(workers[1].keys)

    assert [await worker.admits(token) for worker in workers] == [True] * 4
    [(left,)] = alliance.execute("SELECT verifies_until - now() FROM signing_keys WHERE kid = %s", old)
    assert TOKEN_LIFETIME < left <= TOKEN_LIFETIME + timedelta(minutes=5)
    assert [(key.kid, key.state) for key in await signing_keys.listing(workers[2].db)][1] == (old, "verifying")


async def test_a_rotation_by_other_settings_refuses_nobody(
    alliance: Alliance, workers: list[Worker], db: Database
) -> None:
    """A terminal may lack the server's TAXII_TOKEN_LIFETIME: the key itself knows for how long its tokens were to live."""
    north = alliance.client("north")
    old = (await workers[0].keys.current()).kid
    token = await workers[0].token(north.client_id)
    brief = SigningKeys(db, "k" * 32, key_lifetime=timedelta(days=90), token_lifetime=timedelta(seconds=30))

    await signing_keys.rotate(brief)

    assert await workers[1].admits(token)
    [(left,)] = alliance.execute("SELECT verifies_until - now() FROM signing_keys WHERE kid = %s", old)
    assert left > TOKEN_LIFETIME


async def test_a_copy_of_the_keys_never_refuses_a_good_token_nor_outlives_a_key_s_tokens(
    alliance: Alliance, workers: list[Worker], keys: SigningKeys, identifier: Identifier
) -> None:
    """JWKS may be kept for max-age: who meets an unknown kid fetches anew, and a kept key has no live token left.

    A key stays published for a token's life and max-age beyond its last signature.
    """
    issuing = TokenIssuing(identifier, keys, ISSUER, TOKEN_LIFETIME, workers[0].db)
    kept = await _max_age(issuing)
    old = (await keys.current()).kid
    rotated = datetime.now(UTC)
    await signing_keys.rotate(keys)

    published = [key["kid"] for key in (await keys.jwks())["keys"]]
    [(ends,)] = alliance.execute("SELECT verifies_until FROM signing_keys WHERE kid = %s", old)

    assert published[1] == old
    assert ends - rotated >= TOKEN_LIFETIME + kept


async def _max_age(issuing: TokenIssuing) -> timedelta:
    [endpoint] = [
        route.endpoint  # type: ignore[attr-defined]
        for route in router(issuing).routes
        if route.path == "/.well-known/jwks.json" and "GET" in route.methods  # type: ignore[attr-defined]
    ]
    answer = await endpoint()
    found = re.fullmatch(r"public, max-age=(\d+)", answer.headers["cache-control"])
    assert found
    return timedelta(seconds=int(found[1]))


async def test_a_retired_key_is_refused_by_the_next_request_on_every_worker(
    alliance: Alliance, workers: list[Worker]
) -> None:
    """Although each worker remembers that the signature was good."""
    north = alliance.client("north")
    token = await workers[0].token(north.client_id)
    kid = (await workers[0].keys.current()).kid
    assert [await worker.admits(token) for worker in workers] == [True] * 4

    assert await signing_keys.retire(workers[0].db, kid) == (kid,)

    assert [await worker.admits(token) for worker in workers] == [False] * 4
    assert (await workers[3].keys.jwks())["keys"] == []
    assert [await worker.admits(await worker.token(north.client_id)) for worker in workers] == [True] * 4


async def test_what_was_signed_with_a_key_in_memory_after_it_was_retired_is_refused(
    alliance: Alliance, workers: list[Worker]
) -> None:
    """A worker that read the key a moment before can still sign with it; nobody admits what it signs."""
    north = alliance.client("north")
    key = await workers[0].keys.current()
    await signing_keys.retire(workers[1].db, key.kid)

    late = tokens.issue(
        key.private_key,
        kid=key.kid,
        issuer=ISSUER,
        client_id=north.client_id,
        rights=Right,
        lifetime=TOKEN_LIFETIME,
    )

    assert not await workers[0].admits(late)


async def test_retiring_twice_changes_nothing(alliance: Alliance, db: Database, keys: SigningKeys) -> None:
    kid = (await keys.current()).kid
    await signing_keys.retire(db, kid)
    ended = await signing_keys.listing(db)

    assert await signing_keys.retire(db, kid) == ()
    assert await signing_keys.listing(db) == ended
    assert [key.state for key in ended] == ["ended"]


async def test_an_unknown_key_is_told(alliance: Alliance, db: Database, keys: SigningKeys) -> None:
    await keys.current()

    with pytest.raises(OperatorError, match="no signing key"):
        await signing_keys.retire(db, "A" * 43)


async def test_rotating_with_another_secret_key_changes_nothing(
    alliance: Alliance, db: Database, keys: SigningKeys
) -> None:
    """No worker could open the new key, and no client would get a token any more."""
    kid = (await keys.current()).kid

    with pytest.raises(OperatorError, match="another TAXII_SECRET_KEY"):
        await signing_keys.rotate(SigningKeys(db, "o" * 32, **LIFETIMES))

    assert (await keys.current()).kid == kid


async def test_with_every_key_retired_a_new_secret_key_takes_over(
    alliance: Alliance, db: Database, keys: SigningKeys
) -> None:
    """The way out when TAXII_SECRET_KEY has leaked or is lost."""
    before = (await keys.current()).kid
    await signing_keys.retire(db, None)

    now = (await SigningKeys(db, "o" * 32, **LIFETIMES).current()).kid

    assert [(key.kid, key.state) for key in await signing_keys.listing(db)] == [(now, "signing"), (before, "ended")]


async def test_rotations_at_once_leave_one_key_that_signs(alliance: Alliance, workers: list[Worker]) -> None:
    await asyncio.gather(*(signing_keys.rotate(worker.keys) for worker in workers))

    states = [key.state for key in await signing_keys.listing(workers[0].db)]
    assert sorted(states) == ["signing", "verifying", "verifying", "verifying"]
