"""Who received an object, asked by the member that brought it; and the ledger against what pollers themselves noted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from taxii_server.operations import disclosures as operations
from tests.auth.alliance import BOTH, statements
from tests.factories import TLP2, indicator
from tests.taxii import histories
from tests.taxii.alliance import Exchange, assert_error, basic

if TYPE_CHECKING:
    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

SCRATCH = "fraud-intel/scratch"


def another(**over: Any) -> dict[str, Any]:
    """An object nobody has seen."""
    return indicator(**{"id": f"indicator--{uuid4()}", **over})


async def ask(exchange: Exchange, of: str, member: str = "north", **params: str) -> Any:
    """Ask who received an object; give all that is told, part after part."""
    told: list[Any] = []
    while True:
        answer = await exchange.get(exchange.path(f"objects/{of}/disclosures/", SCRATCH), member, params=params)
        assert answer.status_code == 200, answer.text
        told += answer.json().get("disclosures", [])
        if not answer.json()["more"]:
            return told
        params = {"next": answer.json()["next"]}


async def test_a_contributor_is_told_which_members_received_what(exchange: Exchange) -> None:
    """Content and listings apart, its own polls as well, clients added up by member, each version by itself."""
    one = another()
    await exchange.add(one)
    second = exchange.alliance.client("harbour")
    of = exchange.path(f"objects/{one['id']}/", SCRATCH)
    await exchange.get(of)
    await exchange.get(of, "harbour")
    await exchange.http.get(of, headers=basic(second.client_id, second.secret))
    await exchange.get(f"{of}versions/", "harbour")
    await exchange.add({**one, "modified": "2025-01-01T00:00:00.000Z"})

    told = await ask(exchange, one["id"])

    assert [(each["member"], each["name"], each["received"], each["times"]) for each in told] == [
        ("harbour", "Harbour", "content", 2),
        ("harbour", "Harbour", "listing", 1),
        ("north", "North", "content", 1),
    ]
    assert {(each["version"], each["removed"]) for each in told} == {(one["modified"], False)}
    assert told[0]["first"] < told[0]["last"] < told[1]["first"]
    for client in (exchange.clients["harbour"], second):
        assert client.client_id not in str(told)


async def test_it_is_told_of_what_was_removed(exchange: Exchange) -> None:
    """What was sent stays sent; what was posted anew is another version, which nobody has yet."""
    one = another()
    await exchange.add(one)
    await exchange.get(exchange.path(f"objects/{one['id']}/", SCRATCH), "harbour")
    assert (await exchange.delete(exchange.path(f"objects/{one['id']}/", SCRATCH))).status_code == 200
    gone = await ask(exchange, one["id"])
    await exchange.add(one)
    again = await ask(exchange, one["id"])

    assert [(each["member"], each["removed"]) for each in gone] == [("harbour", True)]
    assert again == gone


async def test_what_another_member_brought_does_not_exist(exchange: Exchange) -> None:
    """Its reader, a stranger to the object, and whoever asks about what never was get the same answer at the same cost."""
    one = another()
    await exchange.add(one, member="harbour")
    await exchange.get(exchange.path(f"objects/{one['id']}/", SCRATCH))
    found = []
    for of in (one["id"], another()["id"], "x", "%00"):
        with statements(Engine) as sent:
            answer = await exchange.get(exchange.path(f"objects/{of}/disclosures/", SCRATCH))
        told = {name: value for name, value in answer.headers.items() if name != "x-request-id"}
        found.append((assert_error(answer, 404) | {"error_id": ""}, told, len(sent)))

    assert found == [found[0]] * 4
    assert found[0][2] == 2


async def test_of_an_object_of_two_members_each_is_told_of_its_own_versions(exchange: Exchange) -> None:
    """Who brought the others, and who has them, is not its business."""
    one = another()
    await exchange.add(one)
    await exchange.add({**one, "modified": "2025-01-01T00:00:00.000Z"}, member="harbour")
    path = exchange.path(f"objects/{one['id']}/?match[version]=all", SCRATCH)
    for member in ("north", "harbour"):
        await exchange.get(path, member)

    for member, version in (("north", one["modified"]), ("harbour", "2025-01-01T00:00:00.000Z")):
        assert {each["version"] for each in await ask(exchange, one["id"], member)} == {version}


async def test_a_version_above_the_clearance_of_its_own_contributor_is_not_told_of(exchange: Exchange) -> None:
    """A clearance that was lowered afterwards hides one's own versions too, here as everywhere."""
    alliance = exchange.alliance
    member = f"lowered-{uuid4().hex[:8]}"
    alliance.member(member)
    alliance.grant(member, SCRATCH, BOTH)
    exchange.clients[member] = alliance.client(member)
    one = another(object_marking_refs=[TLP2["red"]])
    await exchange.add(one, member=member)
    await exchange.get(exchange.path(f"objects/{one['id']}/", SCRATCH))
    assert len(await ask(exchange, one["id"], member)) == 1
    alliance.execute("UPDATE grants SET clearance = 1 WHERE member_id = %s", alliance.members[member])

    assert_error(await exchange.get(exchange.path(f"objects/{one['id']}/disclosures/", SCRATCH), member), 404)


async def test_one_answer_reads_a_bounded_part_of_the_ledger(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often an object was sent: parts, whose sums are the whole; a version at a time if need be."""
    monkeypatch.setattr(operations, "_ROWS_OF_AN_ANSWER", 3)
    monkeypatch.setattr(operations, "_VERSIONS_OF_AN_ANSWER", 4)
    monkeypatch.setattr(operations, "_BATCH", 2)
    one = another()
    times = [f"2025-01-0{day}T00:00:00.000Z" for day in range(1, 6)]
    for time in times:
        await exchange.add({**one, "modified": time}, another())
    for number in range(7):
        query = "match[version]=all" if number % 2 else f"match[version]={times[number // 2]}"
        await exchange.get(exchange.path(f"objects/{one['id']}/?{query}", SCRATCH), "harbour")
    await exchange.get(exchange.path("objects/?match[version]=all", SCRATCH), "harbour")
    path = exchange.path(f"objects/{one['id']}/disclosures/", SCRATCH)
    parts = 0
    params: dict[str, str] = {}
    counted: dict[str, int] = dict.fromkeys(times, 0)
    while True:
        with statements(Engine) as sent:
            body = (await exchange.get(path, params=params)).json()
        assert len(sent) == 4
        parts += 1
        for each in body.get("disclosures", []):
            counted[each["version"]] += each["times"]
        if not body["more"]:
            break
        params = {"next": body["next"]}

    assert parts > 5
    assert counted == {time: 3 + 1 + (number < 4) for number, time in enumerate(times)}


async def test_a_cursor_is_good_for_its_object_alone(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made up, of another object, of a page, too large a number: 400; and it shows nothing that a plain request wouldn't."""
    monkeypatch.setattr(operations, "_BATCH", 1)
    one, other = another(), another()
    for each in (one, other):
        await exchange.add(each, {**each, "modified": "2025-01-01T00:00:00.000Z"})
    path = exchange.path(f"objects/{one['id']}/disclosures/", SCRATCH)
    good = (await exchange.get(path)).json()["next"]
    page = (await exchange.get(exchange.path("objects/?limit=1", SCRATCH))).json()["next"]
    elsewhere = exchange.path(f"objects/{other['id']}/disclosures/", SCRATCH)

    assert (await exchange.get(path, params={"next": good})).status_code == 200
    assert_error(await exchange.get(elsewhere, params={"next": good}), 400)
    for bad in ("x", page, good[:-1], f"{good}A", good.swapcase()):
        assert_error(await exchange.get(path, params={"next": bad}), 400)
    assert_error(await exchange.get(path, "harbour", params={"next": good}), 404)


async def test_the_ledger_says_what_the_pollers_say(fresh_database_urls: DatabaseUrls) -> None:
    """Random histories over real HTTP: members, clients, clearances, filters, versions, late arrivals, deletions and
    writers at work meanwhile; of every version, who got it, whether whole, how often, first and last when.
    """
    versions, clients = await histories.hold(fresh_database_urls, 1)

    assert versions > 20
    assert clients > 1


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seeds", [range(100 + 20 * part, 120 + 20 * part) for part in range(5)], ids=range(5))
async def test_the_ledger_says_what_the_pollers_say_a_hundred_times(
    fresh_database_urls: DatabaseUrls, seeds: range
) -> None:
    """The same with a hundred other histories."""
    for seed in seeds:
        await histories.hold(fresh_database_urls, seed)
