"""What an operator takes away is refused by the next request on every worker: real processes, each of them asked.

Each worker is held by a connection of its own, so that the next request is known to be its next. Before anything is taken
away each has let the credential in, and remembers that the token's signature was good.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import httpx
import pytest

from taxii_server.auth import jws
from taxii_server.operations import alliance, alliance_file, clients, members, signing_keys, tokens
from taxii_server.operations.clients import IssuedClient
from taxii_server.storage.engine import Database
from tests.auth.issuer import Issuer, running
from tests.cli.conftest import ALLIANCE
from tests.cli.processes import accepted_by, taxii_server
from tests.taxii.alliance import TAXII, basic

if TYPE_CHECKING:
    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(180)]

WORKERS: Final = 3
WITHDRAWN: Final = ALLIANCE.replace("north-bank: [read, write], ", "")
OBJECTS: Final = "/taxii2/fraud-intel/collections/indicators/objects/"
MOST_CONNECTIONS: Final = 300
"""So many are enough, and more, for each worker to have accepted one."""


@dataclass
class Served:
    """A server of several workers, a connection to each of them by its process, and the database as an operator has it."""

    url: str
    db: Database
    bank: Issuer
    workers: dict[int, httpx.Client] = field(default_factory=dict)

    async def issue(self, member: str = "north-bank") -> IssuedClient:
        """Issue a client of its own to a test."""
        return await clients.issue(self.db, member, name=f"tool-{uuid4().hex[:8]}")

    def token(self, client: IssuedClient) -> str:
        """Fetch a token, as the client's tool would."""
        answer = httpx.post(
            f"{self.url}/oauth2/token",
            data={"grant_type": "client_credentials"},
            headers=basic(client.client_id, client.client_secret),
            timeout=60,
        )
        return str(answer.json()["access_token"])

    def told(self, credentials: dict[str, str]) -> dict[int, int]:
        """Send one request to each worker, over its own connection; the status of each by its process."""
        headers = credentials | {"Accept": TAXII}
        return {number: each.get(OBJECTS, headers=headers).status_code for number, each in self.workers.items()}


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture(scope="module")
async def served(module_database_urls: DatabaseUrls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Served]:
    folder = tmp_path_factory.mktemp("workers")
    settings = {
        "TAXII_DATABASE_URL": module_database_urls.server,
        "TAXII_SECRET_KEY": "k" * 32,
        "TAXII_METRICS_PORT": "0",
        "TAXII_DATA_DIR": str(folder),
        "TAXII_VALIDATOR_PROCESSES": "1",
    }
    db = Database(module_database_urls.server, connections=3)
    with running() as bank:
        issuers = f"""\
issuers:
  bank: {{issuer: "{bank.url}", jwks_uri: "{bank.jwks_uri}", audience: https://taxii.example.org, algorithms: [RS256]}}
"""
        await alliance.apply(db, alliance_file.parse(issuers + ALLIANCE))
        command = ("serve", "--port", "0", "--workers", str(WORKERS))
        with taxii_server(*command, cwd=folder, settings=settings) as process:
            said = process.wait_for("Application startup complete", times=WORKERS)
            [url] = set(re.findall(r"http://127\.0\.0\.1:\d+", said))
            processes = {int(number) for number in re.findall(r"Started server process \[(\d+)\]", said)}
            made = Served(url, db, bank)
            try:
                meet(made, processes)
                yield made
            finally:
                for each in made.workers.values():
                    each.close()
                await db.close()


def meet(served: Served, processes: set[int]) -> None:
    """Connect until every worker has accepted a connection, and keep one of each."""
    for _ in range(MOST_CONNECTIONS):
        client = httpx.Client(base_url=served.url, timeout=60, limits=httpx.Limits(max_connections=1))
        with client.stream("GET", "/healthz") as answer:
            ours = answer.extensions["network_stream"].get_extra_info("client_addr")[1]
            answer.read()
        worker = accepted_by(ours, processes)
        if worker in served.workers:
            client.close()
        else:
            served.workers[worker] = client
        if served.workers.keys() == processes:
            return
    pytest.fail(f"{MOST_CONNECTIONS} connections met only {sorted(served.workers)} of {sorted(processes)}")


Take = Callable[[Served, IssuedClient, str], Awaitable[object]]


@pytest.fixture
async def restored(served: Served) -> AsyncIterator[Served]:
    """The server, and the alliance as it was for whoever comes next."""
    yield served
    await members.resume(served.db, "north-bank")
    await alliance.apply(served.db, alliance_file.parse(ALLIANCE))


async def revoke_client(served: Served, client: IssuedClient, _: str) -> None:
    assert await clients.revoke(served.db, client.client_id)


async def suspend_member(served: Served, _: IssuedClient, __: str) -> None:
    assert await members.suspend(served.db, "north-bank")


async def withdraw_grant(served: Served, _: IssuedClient, __: str) -> None:
    assert (await alliance.apply(served.db, alliance_file.parse(WITHDRAWN))).changes


async def revoke_jti(served: Served, _: IssuedClient, token: str) -> None:
    claims = jws.parse(token).claims
    assert (await tokens.revoke_jti(served.db, claims["iss"], claims["jti"])).changed


async def retire_key(served: Served, _: IssuedClient, token: str) -> None:
    assert await signing_keys.retire(served.db, jws.parse(token).header["kid"])


@pytest.mark.parametrize(
    ("take", "secret_too", "refused"),
    [
        (revoke_client, True, 401),
        (suspend_member, True, 401),
        (withdraw_grant, True, 404),
        (revoke_jti, False, 401),
        (retire_key, False, 401),
    ],
)
async def test_by_the_next_request_on_every_worker(
    restored: Served, take: Take, secret_too: bool, refused: int
) -> None:
    """A revoked client, a suspended member, a withdrawn grant, a revoked token and a retired key.

    What wasn't taken away goes on: the secret where it was the token's turn, another member's client, a new token.
    """
    served = restored
    client = await served.issue()
    token = served.token(client)
    other = await served.issue("harbour-bank")
    secret = basic(client.client_id, client.client_secret)
    assert len(served.workers) == WORKERS
    for credentials in (bearer(token), secret):
        assert set(served.told(credentials).values()) == {200}

    await take(served, client, token)

    assert set(served.told(bearer(token)).values()) == {refused}
    assert set(served.told(secret).values()) == {refused if secret_too else 200}
    assert set(served.told(basic(other.client_id, other.client_secret)).values()) == {200}
    if not secret_too:
        assert set(served.told(bearer(served.token(client))).values()) == {200}


async def test_an_outside_token_and_its_issuer(served: Served) -> None:
    """A token that an outside issuer signed, by its jti; then every token of the issuer, with the issuer."""
    await clients.tie(served.db, "north-bank", name="siem", issuer="bank", subject="siem")
    token, other = (served.bank.token(jti=jti) for jti in ("one", "two"))
    for each in (token, other):
        assert set(served.told(bearer(each)).values()) == {200}

    await tokens.revoke_jti(served.db, served.url, "one", outside="bank")

    assert set(served.told(bearer(token)).values()) == {401}
    assert set(served.told(bearer(other)).values()) == {200}
    await alliance.apply(served.db, alliance_file.parse(ALLIANCE), prune=True)
    assert set(served.told(bearer(other)).values()) == {401}
