"""The audit of a running exchange: what is done over HTTP has its act, in the same transaction, and what is refused has none."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from taxii_server.auth.signing_keys import SigningKeys
from taxii_server.operations import audit, audit_heads, audit_listing, clients, members
from taxii_server.storage.engine import Database
from tests.factories import indicator, stix_id
from tests.taxii.alliance import Exchange, basic, exchange_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

NUMBERS = count(1)
SCRATCH, INDICATORS = "fraud-intel/scratch", "fraud-intel/indicators"


@pytest.fixture(scope="module")
async def exchange(module_database_urls: DatabaseUrls) -> AsyncIterator[Exchange]:
    async with exchange_on(module_database_urls) as running:
        yield running


@pytest.fixture(scope="module")
async def db(module_database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    database = Database(module_database_urls.server)
    yield database
    await database.close()


def some() -> dict[str, Any]:
    """An object that nobody has posted yet."""
    return indicator(id=stix_id("indicator", 1000 + next(NUMBERS)))


async def acts(db: Database, stream: str | None = None) -> list[dict[str, Any]]:
    return [act async for act in audit_listing.export(db, stream=stream)]


def stream_of(exchange: Exchange, name: str) -> str:
    return f"collection:{exchange.collection_id(name)}"


async def test_a_push_is_one_act(exchange: Exchange, db: Database) -> None:
    """Who, which request, how many and between which dates; nothing of the objects themselves."""
    status = await exchange.add(some(), some())

    act = (await acts(db, stream_of(exchange, SCRATCH)))[-1]
    dates = [one["version"] for one in status["successes"]]
    assert (act["act"], act["who"]) == ("objects_added", f"north/{exchange.clients['north'].client_id}")
    assert act["details"]["status"] == status["id"]
    assert (act["details"]["versions"], act["details"]["refused"]) == (2, 0)
    assert act["details"]["first"] < act["details"]["last"]
    assert len(dates) == 2
    assert "pattern" not in json.dumps(act["details"])


async def test_a_push_that_stores_nothing_is_no_act(exchange: Exchange, db: Database) -> None:
    """Repeats, conflicts and refused objects change nothing: nobody can fill the audit with them."""
    one = some()
    await exchange.add(one)
    before = await acts(db)
    for objects in ([one], [{**one, "name": "other"}], [{"type": "indicator"}], []):
        await exchange.post({"objects": objects}, name=SCRATCH)

    assert await acts(db) == before


async def test_a_removal_is_one_act(exchange: Exchange, db: Database) -> None:
    """With the object's id and a digest of what went."""
    one = some()
    await exchange.add(one)
    answer = await exchange.delete(exchange.path(f"objects/{one['id']}/", SCRATCH))
    assert answer.status_code == 200

    added, removed = (await acts(db, stream_of(exchange, SCRATCH)))[-2:]
    assert (removed["act"], removed["details"]["object"]) == ("objects_deleted", one["id"])
    assert removed["details"]["digest"] == added["details"]["digest"]


async def test_a_token_and_its_revocation_are_acts_without_the_token(exchange: Exchange, db: Database) -> None:
    """Its jti is told, by which it can be taken back, and never the token or a secret."""
    north = exchange.clients["north"]
    held = await exchange.token("north", "taxii:read")
    token = held["Authorization"].removeprefix("Bearer ")
    issued = (await acts(db, "member:north"))[-1]
    await exchange.http.post("/oauth2/revoke", data={"token": token}, headers=exchange.as_("north"))
    revoked = (await acts(db, "keys"))[-1]

    assert (issued["act"], issued["details"]["scope"]) == ("token_issued", "taxii:read")
    assert (revoked["act"], revoked["who"]) == ("token_revoked", issued["who"])
    assert revoked["details"]["jti"] == issued["details"]["jti"]
    written = json.dumps([issued["details"], revoked["details"]])
    assert not any(part in written for part in (*token.split("."), north.secret))


@pytest.mark.parametrize("times", [20, pytest.param(1000, marks=pytest.mark.slow)])
async def test_refusals_write_nothing(exchange: Exchange, db: Database, times: int) -> None:
    """Bad logins and writes that aren't allowed are logged and counted: they can't fill a disk."""
    before = await acts(db)
    wrong = basic(exchange.clients["north"].client_id, exchange.clients["harbour"].secret)
    form = {"grant_type": "client_credentials"}
    for number in range(times):
        refused = [
            await exchange.http.post("/oauth2/token", data=form, headers=wrong),
            await exchange.http.get("/taxii2/", headers=basic(f"nobody-{number}", "wrong")),
            await exchange.post({"objects": [some()]}, "harbour"),
            await exchange.post({"objects": [some()]}, "stranger"),
            await exchange.delete(exchange.path(f"objects/{stix_id('indicator', 1)}/"), "harbour"),
        ]
        assert all(answer.status_code in {401, 403, 404, 429} for answer in refused)

    assert await acts(db) == before


@dataclass
class Crowd:
    """Everybody who does something at once, each so many times."""

    exchange: Exchange
    db: Database
    rounds: int

    async def writing(self, name: str) -> None:
        for _ in range(self.rounds):
            await self.exchange.add(some(), name=name)

    async def removing(self) -> None:
        for _ in range(self.rounds):
            one = some()
            await self.exchange.add(one, name=SCRATCH)
            answer = await self.exchange.delete(self.exchange.path(f"objects/{one['id']}/", SCRATCH))
            assert answer.status_code == 200

    async def credentials(self, member: str) -> None:
        for number in range(self.rounds):
            issued = await clients.issue(self.db, member, name=f"{member}-{next(NUMBERS)}")
            await clients.rotate(self.db, issued.client_id)
            await members.suspend(self.db, "stranger")
            await members.resume(self.db, "stranger")
            if number % 2:
                await clients.revoke(self.db, issued.client_id)

    async def tokens(self) -> None:
        for _ in range(self.rounds):
            await self.exchange.token("north")

    async def heads(self) -> None:
        for _ in range(self.rounds):
            await audit_heads.make(self.db, audit_keys(self.db), "http://127.0.0.1:8000", wait=True)


@pytest.mark.parametrize("rounds", [3, pytest.param(40, marks=pytest.mark.slow)])
async def test_many_at_once_leave_whole_chains(exchange: Exchange, db: Database, rounds: int) -> None:
    """Eight writers in two collections, clients, members, tokens and checkpoints together: no gap, no fork, no act lost."""
    before = Counter(act["act"] for act in await acts(db))
    crowd = Crowd(exchange, db, rounds)
    async with asyncio.TaskGroup() as group:
        for name in (SCRATCH, INDICATORS) * 4:
            group.create_task(crowd.writing(name))
        for extra in (crowd.removing(), crowd.tokens(), crowd.tokens(), crowd.heads()):
            group.create_task(extra)
        for member in ("court", "tide"):
            group.create_task(crowd.credentials(member))

    done = await acts(db)
    after = Counter(act["act"] for act in done) - before
    assert after["objects_added"] == 9 * rounds
    assert after["objects_deleted"] == rounds
    assert after["client_issued"] == after["client_rotated"] == 2 * rounds
    assert after["token_issued"] == 2 * rounds
    assert after["member_suspended"] == after["member_resumed"]
    assert (await audit.verify(db)).flaws == []
    for stream in {act["stream"] for act in done}:
        numbers = [act["seq"] for act in done if act["stream"] == stream]
        assert numbers == list(range(1, len(numbers) + 1))


def audit_keys(db: Database) -> SigningKeys:
    return SigningKeys(db, "k" * 32, key_lifetime=timedelta(days=90), token_lifetime=timedelta(minutes=15))


@asynccontextmanager
async def heads_of(db: Database, file: Path | None) -> AsyncIterator[list[Any]]:
    """Heads made again and again by a worker; what it logs."""
    making = audit_heads.Heads(db, audit_keys(db), "http://127.0.0.1:8000", timedelta(milliseconds=20), file)
    with capture_logs() as logged:
        async with making.running():
            yield logged


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - told by nothing but the log
            await asyncio.sleep(0.01)


async def test_heads_go_out_by_themselves(exchange: Exchange, db: Database, tmp_path: Path) -> None:
    """Into the log and, synced, into a file of the operator's; once for each change, and once more when the server stops."""
    file = tmp_path / "heads"

    def made() -> list[str]:
        return [line["head"] for line in logged if line["event"] == "audit_head"]

    # whichever test came before may have left nothing that a head hasn't told of
    await exchange.add(some())
    async with heads_of(db, file) as logged:
        await until(made)
        await exchange.add(some())
        known = len(made())
        await until(lambda: len(made()) > known)
        await exchange.add(some())
    last = audit_heads.FORM.findall(file.read_text())

    assert last == made()
    assert file.stat().st_mode & 0o777 == 0o600
    found = await audit.verify(db, audit.heads_in(file.read_text()))
    assert (found.flaws, found.uncovered) == ([], 0)


async def test_a_file_that_can_t_be_written_stops_nothing(exchange: Exchange, db: Database, tmp_path: Path) -> None:
    """It is logged and counted; the head is in the log all the same."""
    await exchange.add(some())
    async with heads_of(db, tmp_path) as logged:  # a folder is no file
        await until(lambda: any(line["event"] == "audit_head_file" for line in logged))

    assert any(line["event"] == "audit_head" for line in logged)


async def test_trouble_with_the_database_stops_no_heads(exchange: Exchange, db: Database, monkeypatch: Any) -> None:
    """Whatever goes wrong with one, the next one is tried."""
    make = audit_heads.make
    failures = iter([LookupError("secret detail"), TimeoutError()])

    async def failing(*given: Any, **more: Any) -> Any:
        for error in failures:
            raise error
        return await make(*given, **more)

    await exchange.add(some())
    monkeypatch.setattr(audit_heads, "make", failing)
    async with heads_of(db, None) as logged:
        await until(lambda: any(line["event"] == "audit_head" for line in logged))

    assert [line["reason"] for line in logged if line["event"] == "audit_head_failed"] == [
        "LookupError",
        "TimeoutError",
    ]
