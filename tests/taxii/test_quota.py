"""What a member may store in all: exact, in the order of the envelope, whatever comes and goes at once."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from taxii_server.operations import maintenance
from taxii_server.storage.engine import Database
from tests.auth.alliance import BOTH
from tests.factories import indicator, ipv4, malware
from tests.taxii import laws
from tests.taxii.alliance import Exchange, exchange_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

SCRATCH = "fraud-intel/scratch"
SECOND = "fraud-intel/second"


@pytest.fixture(scope="module")
async def exchange(module_database_urls: DatabaseUrls) -> AsyncIterator[Exchange]:
    """The alliance with one more collection; every answer is held to the standard, and each test has a member of its own."""
    async with exchange_on(module_database_urls) as running:
        running.http.event_hooks["response"].append(laws.hold)
        running.alliance.collection("fraud-intel", "second", validation="structural")
        yield running


@pytest.fixture
def bank(exchange: Exchange) -> str:
    """A member that nobody has seen yet, who may do everything."""
    slug = f"bank-{uuid4().hex[:8]}"
    exchange.alliance.member(slug)
    for name in (SCRATCH, SECOND):
        exchange.alliance.grant(slug, name, BOTH)
    exchange.clients[slug] = exchange.alliance.client(slug)
    return slug


def quota(exchange: Exchange, slug: str, octets: int | None) -> None:
    """Set a member's quota."""
    exchange.alliance.execute("UPDATE members SET quota = %s WHERE slug = %s", octets, slug)


def stored(exchange: Exchange, slug: str) -> tuple[int, int]:
    """What is counted for a member, which must be what it stores."""
    member = exchange.alliance.members[slug]
    [kept] = exchange.alliance.execute(
        "SELECT coalesce(sum(versions), 0)::int, coalesce(sum(octets), 0)::int FROM stored_octets WHERE member = %s",
        member,
    )
    [held] = exchange.alliance.execute(
        "SELECT count(*)::int, coalesce(sum(octet_length(body)), 0)::int FROM object_versions WHERE member = %s", member
    )
    assert kept == held
    return kept[0], kept[1]


def some(size: int, **over: Any) -> dict[str, Any]:
    """An indicator of exactly so many octets, as the tests send it."""
    plain = indicator(id=f"indicator--{uuid4()}", **over)
    missing = size - len(json.dumps(plain | {"description": ""}))
    return plain | {"description": "x" * missing}


async def test_what_fits_is_taken_in_order_and_the_rest_told_why(exchange: Exchange, bank: str) -> None:
    """Each object whole or not at all; the failure tells the member its own figures, and nobody else's."""
    quota(exchange, bank, 2500)
    before = REGISTRY.get_sample_value("taxii_quota_refusals_total") or 0
    answer = await exchange.post({"objects": [some(1000), some(1600), some(1000), some(500)]}, bank, SCRATCH)

    status = answer.json()
    assert [status["success_count"], status["failure_count"]] == [3, 1]
    assert status["failures"][0]["message"].startswith(
        "your member has a quota of 2500 octets, and of these 1500 are left; this version takes 1600."
    )
    assert stored(exchange, bank) == (3, 2500)
    assert REGISTRY.get_sample_value("taxii_quota_refusals_total") == before + 1
    more = (await exchange.post({"objects": [some(500)]}, bank, SECOND)).json()
    assert "of these 0 are left" in more["failures"][0]["message"]
    assert (await exchange.post({"objects": [some(500)]}, "north", SCRATCH)).json()["success_count"] == 1


async def test_repeats_need_no_room_and_conflicts_stay_conflicts(exchange: Exchange, bank: str) -> None:
    """So a push that is sent again is answered as before, with the quota full."""
    once, seen = some(1000), ipv4(value="198.51.100.99")
    await exchange.add(once, seen, member=bank)
    quota(exchange, bank, 1)

    again = await exchange.add(once, seen, once, member=bank)
    other = (await exchange.post({"objects": [once | {"description": "changed"}]}, bank, SCRATCH)).json()

    assert again["success_count"] == 3
    assert "already with other content" in other["failures"][0]["message"]


async def test_what_is_removed_makes_room(exchange: Exchange, bank: str) -> None:
    """By DELETE, by retention, and with a collection that is pruned; a quota that is lifted is none."""
    quota(exchange, bank, 1000)
    first = some(1000)
    await exchange.add(first, member=bank)
    refused = (await exchange.post({"objects": [some(1000)]}, bank, SCRATCH)).json()
    deleted = await exchange.delete(exchange.path(f"objects/{first['id']}/", SCRATCH), bank)
    await exchange.add(some(1000), member=bank)
    quota(exchange, bank, None)
    await exchange.add(some(1000), member=bank)

    assert refused["failure_count"] == 1
    assert deleted.status_code == 200
    assert stored(exchange, bank) == (2, 2000)


async def test_additions_to_two_collections_at_once_don_t_both_take_the_last_room(
    exchange: Exchange, bank: str
) -> None:
    """They take turns: never an octet over, however many come at once."""
    quota(exchange, bank, 10_000)
    answers = await asyncio.gather(
        *(
            exchange.post({"objects": [some(900) for _ in range(3)]}, bank, name)
            for _ in range(8)
            for name in (SCRATCH, SECOND)
        )
    )

    assert sum(answer.json()["success_count"] for answer in answers) == 11
    assert stored(exchange, bank) == (11, 9900)


async def test_the_sums_are_right_whatever_happens(
    exchange: Exchange, bank: str, module_database_urls: DatabaseUrls
) -> None:
    """Additions that fail as a whole, versions, removals and a pruned collection; and `db check` finds a sum that is not."""
    gone = exchange.alliance.collection("fraud-intel", f"gone-{uuid4().hex[:6]}", validation="structural")
    name = next(key for key, value in exchange.alliance.collections.items() if value == gone)
    exchange.alliance.grant(bank, name, BOTH)
    await exchange.add(some(700), some(800), member=bank, name=name)
    versions = [malware(modified=f"2024-05-0{day}T00:00:00.000Z", id=f"malware--{uuid4()}") for day in (3, 4)]
    await exchange.add(*versions, member=bank)
    assert (await exchange.post(b'{"objects": [{}', bank, SCRATCH)).status_code == 400
    assert stored(exchange, bank)[0] == 4
    # as the owner, because the server's role may not: a part of them, then all
    exchange.alliance.execute("DELETE FROM object_versions WHERE collection_id = %s AND body_bytes = 700", gone)
    assert stored(exchange, bank)[0] == 3
    exchange.alliance.execute("DELETE FROM object_versions WHERE collection_id = %s", gone)
    exchange.alliance.execute("DELETE FROM grants WHERE collection_id = %s", gone)
    exchange.alliance.execute("DELETE FROM statuses WHERE collection_id = %s", gone)
    assert stored(exchange, bank)[0] == 2

    database = Database(module_database_urls.server, connections=4)
    try:
        assert (await maintenance.check(database)).findings == ()
        exchange.alliance.execute(
            "UPDATE stored_octets SET octets = octets + 1 WHERE member = %s AND versions > 0",
            exchange.alliance.members[bank],
        )
        [finding] = (await maintenance.check(database)).findings
        exchange.alliance.execute(
            "UPDATE stored_octets SET octets = octets - 1 WHERE member = %s AND versions > 0",
            exchange.alliance.members[bank],
        )
    finally:
        await database.close()
    assert bank in finding.what


async def test_the_server_can_t_change_what_is_counted(exchange: Exchange, module_database_urls: DatabaseUrls) -> None:
    """Its role may read the sums and no more."""
    granted = exchange.alliance.execute(
        "SELECT privilege_type FROM information_schema.table_privileges "
        "WHERE table_name = 'stored_octets' AND grantee = 'taxii_server'"
    )

    assert [row[0] for row in granted] == ["SELECT"]


async def test_oracle_the_quota_tells_a_repeat(exchange: Exchange, bank: str) -> None:
    """Told by docs/security.md: whoever guesses an object word for word learns whether somebody had brought it before."""
    known = some(1000)
    await exchange.add(known, member="north")
    quota(exchange, bank, 1)

    guess = (await exchange.post({"objects": [known, some(1000)]}, bank, SCRATCH)).json()

    assert [guess["success_count"], guess["failure_count"]] == [1, 1]
