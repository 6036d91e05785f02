"""POST /oauth2/revoke (RFC 7009), and tokens that operators take back: refused by the next request on every worker."""

import time
from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx
import pytest

from taxii_server.auth import secrets
from taxii_server.auth.identify import Identifier, PathNames
from taxii_server.auth.signing_keys import SigningKeys
from taxii_server.auth.tokens import LONGEST_LIFETIME
from taxii_server.domain.errors import NotAuthenticated, OperatorError
from taxii_server.operations.tokens import TokenIssuing, issue_token, revoke_jti, revoke_token
from taxii_server.settings import Settings
from taxii_server.storage import revoked_tokens
from taxii_server.storage.embedded import DatabaseUrls
from taxii_server.storage.engine import Database
from tests.auth import forge
from tests.auth.alliance import Alliance, Issued, statements
from tests.auth.forge import ISSUER

pytestmark = pytest.mark.anyio

REVOKE = "/oauth2/revoke"
NOWHERE = PathNames()


@pytest.fixture
def north(alliance: Alliance) -> Issued:
    return alliance.client("north")


@pytest.fixture
async def workers(database_urls: DatabaseUrls) -> AsyncIterator[list[Identifier]]:
    """Three workers, each with connections and remembered signatures of its own."""
    databases = [Database(database_urls.server, connections=2) for _ in range(3)]
    yield [Identifier(db, ISSUER) for db in databases]
    for db in databases:
        await db.close()


def basic(client: Issued) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{client.client_id}:{client.secret}".encode()).decode()}


async def token_of(issuing: TokenIssuing, client: Issued) -> str:
    return (await issue_token(issuing, client_id=client.client_id, secret=client.secret)).access_token


async def refusal(identifier: Identifier, token: str) -> str | None:
    try:
        await identifier.caller(f"Bearer {token}", NOWHERE)
    except NotAuthenticated as error:
        return error.reason
    return None


async def test_a_revoked_token_is_refused_by_the_next_request_on_every_worker(
    http: httpx.AsyncClient, issuing: TokenIssuing, north: Issued, workers: list[Identifier]
) -> None:
    """Although each remembers that its signature was good; the client's other tokens go on."""
    token, other = await token_of(issuing, north), await token_of(issuing, north)
    assert [await refusal(worker, token) for worker in workers] == [None] * 3

    answer = await http.post(REVOKE, data={"token": token}, headers=basic(north))

    assert (answer.status_code, answer.content) == (200, b"")
    assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")
    assert [await refusal(worker, token) for worker in workers] == ["token was revoked"] * 3
    assert await refusal(workers[0], other) is None


async def test_a_token_may_be_revoked_twice(http: httpx.AsyncClient, issuing: TokenIssuing, north: Issued) -> None:
    token = await token_of(issuing, north)

    answers = [await http.post(REVOKE, data={"token": token}, headers=basic(north)) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [200, 200]


async def test_a_client_revokes_no_token_but_its_own(
    http: httpx.AsyncClient, issuing: TokenIssuing, identifier: Identifier, alliance: Alliance, north: Issued
) -> None:
    """§2.1; not of another client of its own member either. It isn't told whether the token was any."""
    others = [alliance.client("harbour"), alliance.client("north")]
    tokens = [await token_of(issuing, one) for one in others]

    answers = [await http.post(REVOKE, data={"token": token}, headers=basic(north)) for token in tokens]
    nothing = await http.post(REVOKE, data={"token": "none"}, headers=basic(north))

    assert {(answer.status_code, answer.content) for answer in [*answers, nothing]} == {(200, b"")}
    assert [await refusal(identifier, token) for token in tokens] == [None, None]
    assert alliance.execute("SELECT count(*) FROM revoked_tokens") == [(0,)]


async def test_a_forged_token_revokes_nothing(
    http: httpx.AsyncClient, issuing: TokenIssuing, alliance: Alliance, north: Issued
) -> None:
    """Else a client could have any jti refused, and fill the table with what no key of ours signed."""
    token = await token_of(issuing, north)
    kid = (await issuing.keys.current()).kid
    forged = [
        token[:-8] + ("A" * 8 if token[-8:] != "A" * 8 else "B" * 8),
        forge.unsigned(forge.header(kid), forge.claims(north.client_id), bytes(64)),
        forge.unsigned(forge.header(kid, alg="none"), forge.claims(north.client_id)),
        forge.unsigned(forge.header("A" * 43), forge.claims(north.client_id), bytes(64)),
    ]

    for one in forged:
        answer = await http.post(REVOKE, data={"token": one}, headers=basic(north))
        assert answer.status_code == 200
    assert alliance.execute("SELECT count(*) FROM revoked_tokens") == [(0,)]


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "something-else"])
async def test_the_hint_changes_nothing(
    hint: str, http: httpx.AsyncClient, issuing: TokenIssuing, identifier: Identifier, north: Issued
) -> None:
    """§2.1: a hint that is wrong or unknown doesn't keep the server from finding the token."""
    token = await token_of(issuing, north)

    answer = await http.post(REVOKE, data={"token": token, "token_type_hint": hint}, headers=basic(north))

    assert answer.status_code == 200
    assert await refusal(identifier, token) == "token was revoked"


async def test_the_client_authenticates(
    http: httpx.AsyncClient, issuing: TokenIssuing, identifier: Identifier, alliance: Alliance, north: Issued
) -> None:
    """The token itself is no authentication: who found one can't learn from it, and needs no means to end it."""
    token = await token_of(issuing, north)
    stranger = Issued(0, north.client_id, secrets.generate())
    refused = [
        await http.post(REVOKE, data={"token": token}),
        await http.post(REVOKE, data={"token": token}, headers={"Authorization": f"Bearer {token}"}),
        await http.post(REVOKE, data={"token": token}, headers=basic(stranger)),
        await http.post(REVOKE, data={"token": token, "client_id": north.client_id, "client_secret": "txs_wrong"}),
    ]
    alliance.execute("UPDATE members SET suspended_at = now() WHERE slug = 'north'")
    refused.append(await http.post(REVOKE, data={"token": token}, headers=basic(north)))
    alliance.execute("UPDATE members SET suspended_at = NULL")

    assert [(answer.status_code, answer.json()["error"]) for answer in refused] == [(401, "invalid_client")] * 5
    assert await refusal(identifier, token) is None


@pytest.mark.parametrize("content", ["", "token=", "token_type_hint=access_token", "token=a&token=b"])
async def test_a_form_without_one_token_is_malformed(content: str, http: httpx.AsyncClient, north: Issued) -> None:
    headers = basic(north) | {"Content-Type": "application/x-www-form-urlencoded"}

    answer = await http.post(REVOKE, content=content, headers=headers)

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_a_token_in_the_url_is_refused(http: httpx.AsyncClient, issuing: TokenIssuing, north: Issued) -> None:
    """Proxies log it."""
    token = await token_of(issuing, north)

    answer = await http.post(REVOKE, params={"token": token}, data={"token": token}, headers=basic(north))

    assert answer.status_code == 400


async def test_revoking_costs_the_caller_statement_and_one_transaction(
    http: httpx.AsyncClient, issuing: TokenIssuing, db: Database, north: Issued
) -> None:
    """Turn, revocation, audit. Without a token of its own it is the caller statement alone, the same one."""
    token = await token_of(issuing, north)
    with statements(db) as nothing:
        await http.post(REVOKE, data={"token": "none"}, headers=basic(north))
    with statements(db) as sent:
        await http.post(REVOKE, data={"token": token}, headers=basic(north))

    assert len(nothing) == 1
    assert len(sent) == 4
    assert sent[0] == nothing[0]


async def test_a_token_revoked_while_a_body_is_read_ends_the_push(
    issuing: TokenIssuing, identifier: Identifier, db: Database, alliance: Alliance, north: Issued
) -> None:
    """The write transaction asks again."""
    caller = await identifier.caller(f"Bearer {await token_of(issuing, north)}", NOWHERE)
    async with db.write() as connection:
        assert (await identifier.again(connection, caller, NOWHERE)).principal == caller.principal
    assert caller.token is not None
    assert caller.token.jti is not None
    await revoke_jti(db, ISSUER, caller.token.jti)

    with pytest.raises(NotAuthenticated):
        async with db.write() as connection:
            await identifier.again(connection, caller, NOWHERE)


class TestByTheOperator:
    async def test_a_token_alone_is_enough(self, issuing: TokenIssuing, db: Database, north: Issued) -> None:
        token = await token_of(issuing, north)

        done = [await revoke_token(db, ISSUER, token) for _ in range(2)]

        assert [one.changed for one in done] == [True, False]
        assert await refusal(issuing.identifier, token) == "token was revoked"

    async def test_a_token_s_own_word_for_its_end_is_not_taken(
        self, issuing: TokenIssuing, db: Database, alliance: Alliance, north: Issued
    ) -> None:
        """Nobody looked at its signature: a copy that says it ends sooner, or never, ends the real one all the same."""
        caller = await issuing.identifier.caller(f"Bearer {await token_of(issuing, north)}", NOWHERE)
        assert caller.token is not None
        real = {"jti": caller.token.jti}
        for ends in (int(time.time()) + 5, 2**53):
            alliance.execute("DELETE FROM revoked_tokens")
            copy = forge.unsigned(
                forge.header(caller.token.kid), forge.claims(north.client_id, exp=ends, **real), bytes(64)
            )

            await revoke_token(db, ISSUER, copy)

            [(left,)] = alliance.execute("SELECT expires_at - now() FROM revoked_tokens")
            assert left > timedelta(hours=23, minutes=59)

    async def test_what_would_not_be_let_in_is_told(
        self, db: Database, keys: SigningKeys, alliance: Alliance, north: Issued
    ) -> None:
        key = await keys.current()
        expired = forge.es256(key.private_key, forge.header(key.kid), forge.claims(north.client_id, exp=1_000_000))
        elsewhere = forge.es256(key.private_key, forge.header(key.kid), forge.claims(north.client_id, iss="https://x"))

        for token in (expired, elsewhere, "no token", ""):
            with pytest.raises(OperatorError, match="no access token"):
                await revoke_token(db, ISSUER, token)

    async def test_a_jti_is_refused_for_as_long_as_any_token_lives(
        self, issuing: TokenIssuing, db: Database, alliance: Alliance, north: Issued
    ) -> None:
        caller = await issuing.identifier.caller(f"Bearer {await token_of(issuing, north)}", NOWHERE)
        assert caller.token is not None
        await revoke_jti(db, ISSUER, str(caller.token.jti))

        [(left,)] = alliance.execute("SELECT expires_at - now() FROM revoked_tokens")

        assert left > timedelta(hours=23, minutes=59)
        with pytest.raises(ValueError, match="24 hours"):
            Settings(token_lifetime=LONGEST_LIFETIME + timedelta(seconds=1))

    @pytest.mark.parametrize("jti", ["", "a b", "é", "x" * 257, "\x00"])
    async def test_a_jti_that_no_token_has_is_refused(self, jti: str, db: Database) -> None:
        with pytest.raises(OperatorError):
            await revoke_jti(db, ISSUER, jti)

    async def test_a_jti_of_another_issuer_is_another_token(
        self, issuing: TokenIssuing, db: Database, north: Issued
    ) -> None:
        token = await token_of(issuing, north)
        caller = await issuing.identifier.caller(f"Bearer {token}", NOWHERE)
        assert caller.token is not None

        await revoke_jti(db, "https://other.example", str(caller.token.jti))

        assert await refusal(issuing.identifier, token) is None


async def test_the_later_end_of_two_tokens_with_one_jti_counts(db: Database, alliance: Alliance) -> None:
    """An outside issuer may use a jti again: what refused the first must still be there for the second."""
    ends: list[timedelta] = []
    changed: list[bool] = []
    for minutes in (5, 60, 5):
        async with db.write() as connection:
            at = datetime.now(UTC) + timedelta(minutes=minutes)
            changed.append(
                await revoked_tokens.add(connection, issuer="x", jti="1", expires_at=at, at_most=LONGEST_LIFETIME)
            )
        [(left,)] = alliance.execute("SELECT expires_at - now() FROM revoked_tokens")
        ends.append(left)

    assert changed == [True, False, False]
    assert [round(left / timedelta(minutes=1)) for left in ends] == [5, 60, 60]


async def test_what_is_kept_of_a_token_goes_after_its_end(db: Database, alliance: Alliance) -> None:
    """An hour later, so that no node whose clock is late meets it again; and not before."""
    live, ended, long_ended = (str(uuid4()) for _ in range(3))
    for jti in (live, ended, long_ended):
        await revoke_jti(db, ISSUER, jti)
    alliance.execute("UPDATE revoked_tokens SET expires_at = now() WHERE jti = %s", ended)
    alliance.execute("UPDATE revoked_tokens SET expires_at = now() - interval '61 min' WHERE jti = %s", long_ended)

    async with db.write() as connection:
        purged = await revoked_tokens.purge(connection, keep=timedelta(hours=1))

    assert purged == 1
    assert {jti for (jti,) in alliance.execute("SELECT jti FROM revoked_tokens")} == {live, ended}
