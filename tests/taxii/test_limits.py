"""How often a client may ask, how much at once, and what failed logins may cost: over HTTP, as clients meet it."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Engine

from taxii_server.app import create_app
from taxii_server.auth import client_limits, failed_logins, secrets
from taxii_server.auth.client_limits import ClientLimits
from taxii_server.auth.failed_logins import FailedLogins
from taxii_server.domain.access import Principal
from taxii_server.domain.allowances import Rate
from taxii_server.domain.errors import TooManyRequests
from tests.auth.alliance import statements
from tests.auth.certified import byte_sequence, certificate
from tests.domain.test_allowances import Clock
from tests.taxii import laws
from tests.taxii.alliance import GROUP, PUBLIC_URL, TAXII, Exchange, assert_error, basic, exchange_on, settings_for
from tests.taxii.live import live_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

NORTH = Principal(client=1, client_id="north-siem", member=1, member_slug="north")
HARBOUR = Principal(client=2, client_id="harbour-siem", member=2, member_slug="harbour")
Headers = dict[str, str]
GRANT = {"grant_type": "client_credentials"}


@pytest.fixture(scope="module")
async def exchange(module_database_urls: DatabaseUrls) -> AsyncIterator[Exchange]:
    """The alliance, with three requests and three failed logins an hour; each test has clients and addresses of its own."""
    over = {"client_rate": "3/hour", "failed_logins": "3/hour", "trusted_proxies": "192.0.2.1"}
    async with exchange_on(module_database_urls, **over) as running:
        running.http.event_hooks["response"].append(laws.hold)
        yield running


def newcomer(exchange: Exchange, member: str = "north") -> Headers:
    """The credentials of a client that nobody has seen yet."""
    client = exchange.alliance.client(member)
    return basic(client.client_id, client.secret)


def guessed(exchange: Exchange) -> Headers:
    """A bank's id and a wrong secret."""
    return basic(exchange.clients["north"].client_id, secrets.generate())


@asynccontextmanager
async def at(exchange: Exchange, address: str) -> AsyncIterator[httpx.AsyncClient]:
    """Ask from an address."""
    transport = httpx.ASGITransport(exchange.app, client=(address, 1))
    async with httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as http:
        http.event_hooks["response"].append(laws.hold)
        yield http


def refused(limit: str) -> float:
    """How many were refused so far."""
    return REGISTRY.get_sample_value("taxii_limited_total", {"limit": limit}) or 0


async def test_a_client_that_asks_too_often_is_told_when_to_come_back(exchange: Exchange) -> None:
    """429 as a TAXII error (§3.6), for that client alone; at the token endpoint in OAuth's words; HEAD counts as well."""
    http, north, before = exchange.http, newcomer(exchange), refused("rate")
    within = [
        await http.get("/taxii2/", headers=north),
        await http.head("/taxii2/", headers=north),
        await http.post("/oauth2/token", data=GRANT, headers=north),
    ]
    beyond = await http.get("/taxii2/", headers=north)
    token = await http.post("/oauth2/token", data=GRANT, headers=north)
    revoked = await http.post("/oauth2/revoke", data={"token": "x"}, headers=north)
    other = await http.get("/taxii2/", headers=newcomer(exchange))
    nobody = await http.get("/taxii2/")
    health = [(await http.get("/healthz")).status_code for _ in range(10)]

    assert [answer.status_code for answer in within] == [200, 200, 200]
    error = assert_error(beyond, 429)
    assert error["error_code"] == "too-many-requests"
    assert 1100 < int(beyond.headers["retry-after"]) <= 1200
    for answer in (token, revoked):
        assert (answer.status_code, answer.json()["error"]) == (429, "temporarily_unavailable")
        assert int(answer.headers["retry-after"]) > 1
        assert answer.headers["cache-control"] == "no-store"
    assert other.status_code == 200
    assert nobody.status_code == 401
    assert set(health) == {200}
    assert refused("rate") == before + 3


async def test_a_limit_tells_nothing_of_what_was_asked_for(exchange: Exchange) -> None:
    """There, hidden, absent, forbidden, malformed: whoever is over its limit gets one answer."""
    tide = newcomer(exchange, "tide")
    for _ in range(3):
        await exchange.http.get("/taxii2/", headers=tide)
    answers = [
        await exchange.http.request(method, path, headers=tide | {"Accept": accept})
        for path in (
            exchange.path(),
            exchange.path(name="crime-desk/cases"),
            "/taxii2/nothing/",
            f"{GROUP}collections/x/objects/?limit=0",
            f"{GROUP}status/x/",
        )
        for method in ("GET", "HEAD")
        for accept in (TAXII, "text/html")
    ]

    assert {answer.status_code for answer in answers} == {429}
    bodies = [answer.json() for answer in answers if answer.content]
    assert {(body["title"], body["description"]) for body in bodies} == {
        ("Too many requests", "This client asks more often than it may. Ask again after the seconds of Retry-After.")
    }


async def test_a_client_in_a_loop_is_refused_without_a_statement(exchange: Exchange) -> None:
    """Its credential was found good a moment ago, and is looked at again once there is an allowance; never another's."""
    north = newcomer(exchange)
    for _ in range(4):
        await exchange.http.get("/taxii2/", headers=north)
    await exchange.http.post("/oauth2/token", data=GRANT, headers=north)
    with statements(Engine) as sent:
        loop = [await exchange.http.get("/taxii2/", headers=north) for _ in range(20)]
        loop += [await exchange.http.post("/oauth2/token", data=GRANT, headers=north) for _ in range(2)]
        loop += [await exchange.http.post("/oauth2/revoke", data={"token": "x"}, headers=north) for _ in range(2)]

    assert {answer.status_code for answer in loop} == {429}
    assert sent == []


async def test_when_a_client_was_refused_is_told_by_the_databases_time() -> None:
    """Which nobody asks for again: it is as much later as this process saw pass."""
    noted: list[tuple[int, datetime]] = []
    clock, asked = Clock(), datetime(2026, 11, 1, tzinfo=UTC)
    limits = ClientLimits(Rate(1, 60), clock=clock, noted=lambda client, at: noted.append((client, at)))
    (await limits.enter(NORTH, "n", asked))()
    with pytest.raises(TooManyRequests):
        await limits.enter(NORTH, "n", asked)
    clock.now += 7
    with pytest.raises(TooManyRequests):
        limits.refuse_again("n")

    assert noted == [(1, asked), (1, asked + timedelta(seconds=7))]


async def test_a_client_in_a_loop_with_its_certificate_alone_costs_no_more(
    exchange: Exchange, module_database_urls: DatabaseUrls
) -> None:
    """What it shows in the place of Authorization is known again just so."""
    over = {"client_rate": "1/hour", "trusted_proxies": "127.0.0.1", "client_cert_header": "Client-Cert"}
    app, own = create_app(settings_for(module_database_urls, **over)), certificate()
    exchange.alliance.certificate(exchange.alliance.client("north").row, own)
    headers = {"Client-Cert": byte_sequence(own)}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=PUBLIC_URL) as http:
        within = [await http.get("/taxii2/", headers=headers) for _ in range(2)]
        with statements(Engine) as sent:
            loop = [await http.get("/taxii2/", headers=headers) for _ in range(5)]
        other = await http.get("/taxii2/", headers={"Client-Cert": byte_sequence(certificate())})

    assert [answer.status_code for answer in within] == [200, 429]
    assert {answer.status_code for answer in loop} == {429}
    assert sent == []
    assert other.status_code == 401


async def test_nobody_uses_up_the_allowance_of_another(exchange: Exchange) -> None:
    """It is taken from after the secret was found good, so a bank's id alone is of no use."""
    client = exchange.alliance.client("north")
    async with at(exchange, "203.0.113.1") as attacker:
        became = [
            (await attacker.get("/taxii2/", headers=basic(client.client_id, secrets.generate()))).status_code
            for _ in range(5)
        ]
    answer = await exchange.http.get("/taxii2/", headers=basic(client.client_id, client.secret))

    assert became == [401, 401, 401, 429, 429]
    assert answer.status_code == 200


async def test_each_worker_counts_for_itself(exchange: Exchange, module_database_urls: DatabaseUrls) -> None:
    """What a client can reach at most is the limit in each worker: the limit times workers times nodes."""
    app = create_app(settings_for(module_database_urls, client_rate="3/hour"))
    north = newcomer(exchange)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=PUBLIC_URL) as other:
        answers = [await http.get("/taxii2/", headers=north) for http in (exchange.http, other) for _ in range(5)]
        await other.get("/healthz")

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429] * 2


async def test_too_much_at_once_waits_a_moment_then_is_refused() -> None:
    """As many again as may be under way wait for two seconds at most; more are refused at once. Others aren't touched."""
    limits = ClientLimits(None, 2, patience=0.01)
    leave = [await limits.enter(NORTH) for _ in range(2)]

    with pytest.raises(TooManyRequests) as waited:
        await limits.enter(NORTH)
    patient = ClientLimits(None, 2, patience=60)
    under_way = [await patient.enter(NORTH) for _ in range(2)]
    waiting = [asyncio.create_task(patient.enter(NORTH)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests):
        await patient.enter(NORTH)
    (await patient.enter(HARBOUR))()
    for end in under_way:
        end()
    entered = await asyncio.gather(*waiting)

    assert waited.value.retry_after == 2
    leave[0]()
    (await limits.enter(NORTH))()
    leave[1]()
    for end in entered:
        end()
    assert patient._under_way == limits._under_way == {}


async def test_what_is_refused_for_what_is_under_way_uses_nothing_up() -> None:
    """A client whose connections hang finds its whole allowance when they have ended."""
    limits = ClientLimits(Rate(3, 3600), 1, patience=0.01, clock=Clock())
    end = await limits.enter(NORTH)
    for _ in range(5):
        with pytest.raises(TooManyRequests) as refusal:
            await limits.enter(NORTH)
        assert refusal.value.retry_after == 2
    end()

    for _ in range(2):
        (await limits.enter(NORTH))()
    with pytest.raises(TooManyRequests):
        await limits.enter(NORTH)


async def test_who_gives_up_waiting_leaves_nothing_behind() -> None:
    """A request that is cut off in the queue, or in its work, takes no place from those after it."""
    limits = ClientLimits(None, 1, patience=60)
    end = await limits.enter(NORTH)
    waiting = asyncio.create_task(limits.enter(NORTH))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    end()

    (await limits.enter(NORTH))()
    assert limits._under_way == {}


async def test_who_gives_up_as_its_turn_comes_leaves_nothing_behind_either() -> None:
    """All others have ended by then, so nobody comes after it who would clear up."""
    limits = ClientLimits(None, 1, patience=60)
    end = await limits.enter(NORTH)
    waiting = asyncio.create_task(limits.enter(NORTH))
    await asyncio.sleep(0)
    end()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert limits._under_way == {}
    (await limits.enter(NORTH))()


async def test_a_clock_that_is_set_changes_no_allowance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward by a year or back: it is never asked what time of day it is."""
    limits, logins = ClientLimits(Rate(1, 3600), 1), FailedLogins()
    (await limits.enter(NORTH))()
    for step in (-1e8, 1e8, 4e9):
        monkeypatch.setattr(time, "time", lambda step=step: step)
        with pytest.raises(TooManyRequests) as refusal:
            await limits.enter(NORTH)
        assert 3590 < (refusal.value.retry_after or 0) <= 3600
    assert logins._clock is time.monotonic


@pytest.mark.slow
async def test_requests_under_way_are_counted_until_they_are_answered(
    fresh_database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that fails, is refused or is left by its client ends like any other."""
    monkeypatch.setattr(client_limits, "PATIENCE", 0.2)
    async with live_server(fresh_database_urls, client_concurrency=1) as live:
        for _ in range(3):
            assert (await live.get("/taxii2/nothing/")).status_code == 404
            assert (await live.get(live.path("objects/?limit=0"))).status_code == 400
            assert (await live.post(b"{")).status_code == 400
        async with live.connection() as (_, writer):
            # a body that doesn't come holds the one place there is
            writer.write(live.head("POST", live.path(), Content_Type=TAXII, Content_Length="100"))
            await writer.drain()
            async with asyncio.timeout(20):
                while (held := await live.get("/taxii2/", "north")).status_code == 200:
                    pass
            other = await live.get("/taxii2/", "harbour")
        after = await _when_it_ended(live)
        at_once = await asyncio.gather(*(live.get("/taxii2/") for _ in range(2)))

    assert assert_error(held, 429)["error_code"] == "too-many-requests"
    assert "under way" in held.json()["description"]
    assert held.headers["retry-after"] == "2"
    assert other.status_code == 200
    assert after.status_code == 200
    assert [answer.status_code for answer in at_once] == [200, 200]


async def _when_it_ended(live: Exchange) -> httpx.Response:
    """Ask until the server has noticed that the other one's connection is gone."""
    async with asyncio.timeout(20):
        while (answer := await live.get("/taxii2/")).status_code == 429:
            pass
    return answer


async def test_failed_logins_from_one_address(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """429 in each face's form; the bank whose name was used gets in, from there and elsewhere, with secret and token."""
    # its clients are newer than what another test may have had read a moment ago
    monkeypatch.setattr(failed_logins, "FRESH", 0)
    north, harbour = newcomer(exchange), newcomer(exchange, "harbour")
    async with at(exchange, "203.0.113.9") as attacker:
        failed = [(await attacker.get("/taxii2/", headers=guessed(exchange))).status_code for _ in range(3)]
        throttled = await attacker.get("/taxii2/", headers=guessed(exchange))
        form = GRANT | {"client_id": exchange.clients["north"].client_id, "client_secret": secrets.generate()}
        no_token = await attacker.post("/oauth2/token", data=form)
        same_address = await attacker.get("/taxii2/", headers=north)
        token = await attacker.post("/oauth2/token", data=GRANT, headers=harbour)
        bearer = {"Authorization": f"Bearer {token.json()['access_token']}"}
        with_token = await attacker.get(exchange.path(), headers=bearer)
    async with at(exchange, "198.51.100.7") as bank:
        elsewhere = await bank.get("/taxii2/", headers=north)
        wrong_elsewhere = await bank.get("/taxii2/", headers=guessed(exchange))

    assert failed == [401, 401, 401]
    assert_error(throttled, 429)
    assert 1100 < int(throttled.headers["retry-after"]) <= 1200
    assert "www-authenticate" not in throttled.headers
    assert (no_token.status_code, no_token.json()["error"]) == (429, "temporarily_unavailable")
    assert (same_address.status_code, token.status_code, with_token.status_code) == (200, 200, 200)
    assert elsewhere.status_code == 200
    assert wrong_elsewhere.status_code == 401


async def test_behind_a_trusted_proxy_addresses_are_those_of_clients(exchange: Exchange) -> None:
    """And what a client writes itself into X-Forwarded-For changes nothing."""
    async with at(exchange, "192.0.2.1") as proxy:

        async def wrong(forwarded: str) -> int:
            headers = guessed(exchange) | {"X-Forwarded-For": forwarded}
            return (await proxy.get("/taxii2/", headers=headers)).status_code

        became = [await wrong("203.0.113.20") for _ in range(3)]
        became += [await wrong("1.1.1.1, 203.0.113.20"), await wrong("198.51.100.20")]

    assert became == [401, 401, 401, 429, 401]


async def test_who_comes_back_when_told_is_let_in() -> None:
    """Retry-After is in whole seconds, and never a fraction too short."""
    clock = Clock()
    limits = ClientLimits(Rate(1, 10), 1, clock=clock)
    (await limits.enter(NORTH))()
    clock.now += 0.5
    with pytest.raises(TooManyRequests) as refusal:
        await limits.enter(NORTH)
    assert refusal.value.retry_after == 10
    clock.now += refusal.value.retry_after

    (await limits.enter(NORTH))()


async def test_however_many_tokens_a_client_loops_with_memory_is_bounded() -> None:
    """Each of them is known again only as long as it is among the last."""
    limits = ClientLimits(Rate(1, 3600), 1, clock=Clock())
    (await limits.enter(NORTH, "first"))()
    for number in range(5_000):
        with pytest.raises(TooManyRequests):
            await limits.enter(NORTH, f"token {number}")

    assert len(limits._refused) < 5_000
    with pytest.raises(TooManyRequests):
        limits.refuse_again("token 4999")
    limits.refuse_again("token 0")


async def test_the_defaults_let_a_full_sync_pass() -> None:
    """A million objects in pages of a hundred, faster than any worker serves them, and as many pushes as fit at once."""
    clock = Clock()
    limits = ClientLimits(Rate.parse("12000/minute"), 32, clock=clock)
    for _ in range(10_000):
        (await limits.enter(NORTH))()
