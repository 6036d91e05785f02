"""Recalling an object: who may, what pollers learn, and that it doesn't come back."""

from __future__ import annotations

import asyncio
import json
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import Engine

from taxii_server.domain.audit import Content, digest_of
from taxii_server.domain.timestamps import to_taxii
from taxii_server.operations import disclosures
from tests.auth.alliance import BOTH, statements
from tests.factories import TLP1, TLP2, custom, indicator, indicator_2_0, ipv4, marking, stix_id, tlp2
from tests.taxii.alliance import TAXII, Exchange, assert_error

if TYPE_CHECKING:
    import httpx

    from tests.factories import Stix

pytestmark = pytest.mark.anyio

INDICATORS, SCRATCH, OWNED = "fraud-intel/indicators", "fraud-intel/scratch", "fraud-intel/owned"
ALL = {"match[version]": "all", "match[spec_version]": "2.0,2.1"}
_numbers = count(7000)


def new() -> str:
    return stix_id("indicator", next(_numbers))


def version(of: str, second: int = 0, **over: Any) -> Stix:
    return indicator(id=of, modified=f"2024-05-02T08:16:{second:02}.000Z", **over)


def marked(of: str, colour: str, second: int = 0, **over: Any) -> Stix:
    return version(of, second, object_marking_refs=[TLP2[colour]], **over)


@pytest.fixture(scope="module")
async def exchange(exchange: Exchange) -> Exchange:
    """Three more members, cleared so far; `red` and `pen` have the same clearance, `pen` may only write."""
    alliance = exchange.alliance
    alliance.collection("fraud-intel", "owned", "structural", owner_only=True)
    for member, clearance in {"red": 4, "amber": 2, "green": 1, "pen": 4}.items():
        alliance.member(member)
        for name in (SCRATCH, OWNED):
            alliance.grant(member, name, ("write",) if member == "pen" else BOTH, clearance)
        exchange.clients[member] = alliance.client(member)
    for member in ("north", "harbour"):
        alliance.grant(member, OWNED, BOTH)
    return exchange


async def recall(
    exchange: Exchange, of: str, member: str = "north", name: str = SCRATCH, reason: str | None = None
) -> httpx.Response:
    path = exchange.path(f"objects/{of}/recall/", name)
    if reason is None:
        return await exchange.http.post(path, headers=exchange.as_(member))
    headers = exchange.as_(member) | {"Content-Type": TAXII}
    return await exchange.http.post(path, headers=headers, content=json.dumps({"reason": reason}))


async def recalled(exchange: Exchange, of: str, member: str = "north", name: str = SCRATCH, **how: Any) -> Any:
    answer = await recall(exchange, of, member, name, **how)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def seen(exchange: Exchange, of: str, member: str = "north", name: str = SCRATCH, **query: str) -> list[Stix]:
    """The versions of an object that a member reads, by default all of every form."""
    answer = await exchange.get(exchange.path(f"objects/{of}/", name), member, params=query or ALL)
    return list(answer.json().get("objects", [])) if answer.status_code == 200 else []


async def standing(exchange: Exchange, of: str, member: str = "north") -> Any:
    answer = await exchange.get(exchange.path(f"objects/{of}/recall/", SCRATCH), member)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refusal(exchange: Exchange, one: Stix, member: str = "north", name: str = SCRATCH) -> str | None:
    """Add one object; give what its failure says, None if it was taken."""
    answer = await exchange.post({"objects": [one]}, member, name)
    assert answer.status_code == 202, answer.text
    return answer.json()["failures"][0]["message"] if answer.json()["failure_count"] else None


# What becomes of it


async def test_pollers_learn_of_it_as_of_any_new_version(exchange: Exchange) -> None:
    """The newest version's text with `revoked` and a later `modified`; what was there stays as it is."""
    of = new()
    first, second = version(of, 1, x_risk=7), version(of, 2, x_risk=8)
    await exchange.add(first, second)
    # its own last one: a page of everything may end before that, by what others have added
    added = await exchange.get(exchange.path(name=SCRATCH), params={"match[version]": "all", "match[id]": of})
    place = added.headers["x-taxii-date-added-last"]
    told = await recalled(exchange, of, reason="A customer's own address")

    [tells] = told.pop("versions")
    assert told.pop("recalled_at") >= tells["date_added"]
    assert told == {"id": of, "state": "recalled", "outcome": "revoked", "reason": "A customer's own address"}
    *before, revoked = await seen(exchange, of)
    assert before == [first, second]
    assert revoked == {**second, "modified": tells["version"], "revoked": True}
    assert list(revoked) == [
        *list(second)[: list(second).index("modified") + 1],
        "revoked",
        *list(second)[list(second).index("modified") + 1 :],
    ]
    assert revoked["modified"] > second["modified"]
    for query in ({}, {"match[version]": "all"}):
        polled = await exchange.get(exchange.path(name=SCRATCH), "harbour", params={"added_after": place, **query})
        assert [(one["id"], one.get("revoked")) for one in polled.json()["objects"]] == [(of, True)]
        assert polled.headers["x-taxii-date-added-last"] == tells["date_added"]


async def test_numbers_and_spellings_are_left_alone(exchange: Exchange) -> None:
    """Values go out as they were spelled, whatever a JSON library would make of them."""
    of = new()
    own = '"x_n":1.50e1,"x_u":"\\u00e9é","x_o":{"b" : 1.0,  "a":-0}'
    head = f'"id":"{of}","created":"2026-01-01T00:00:00.000Z","spec_version":"2.1"'
    body = f'{{"type": "indicator",  "revoked":false, {head},"modified":"2026-01-01T00:00:00Z",{own}}}'
    assert (await exchange.post(f'{{"objects":[{body}]}}', name=SCRATCH)).json()["success_count"] == 1
    told = await recalled(exchange, of)
    answer = await exchange.get(exchange.path(f"objects/{of}/", SCRATCH))

    modified = told["versions"][0]["version"]
    assert f'{{"type":"indicator","revoked":true,{head},"modified":"{modified}",{own}}}' in answer.text


async def test_each_form_is_revoked(exchange: Exchange) -> None:
    """Who reads STIX 2.0 alone learns of it too."""
    of = new()
    await exchange.add(indicator_2_0(id=of), version(of, 2))
    told = await recalled(exchange, of)

    assert len(told["versions"]) == 2
    for form in ("2.0", "2.1"):
        [newest] = await seen(exchange, of, **{"match[spec_version]": form})
        assert newest["revoked"] is True
    assert [one["revoked"] for one in await seen(exchange, of, **{"match[version]": "last"})] == [True]


async def test_a_later_modified_than_every_version_even_of_the_future(exchange: Exchange) -> None:
    """To the millisecond, as STIX 2.0 asks; a version of tomorrow is followed too."""
    of = new()
    await exchange.add(version(of, 1), indicator(id=of, modified="2999-12-31T23:59:59.999500Z"))
    told = await recalled(exchange, of)

    assert [one["version"] for one in told["versions"]] == ["3000-01-01T00:00:00.000Z"]
    assert [one["revoked"] for one in await seen(exchange, of, **{"match[version]": "last"})] == [True]


async def test_where_no_later_instant_is_left_it_is_deleted(exchange: Exchange) -> None:
    """The end of time can't be followed by a version that says so."""
    of = new()
    await exchange.add(indicator(id=of, modified="9999-12-31T23:59:59.999999Z"))

    assert (await recalled(exchange, of))["outcome"] == "deleted"
    assert await seen(exchange, of) == []


@pytest.mark.parametrize(
    "one",
    [
        ipv4(value="203.0.113.77"),
        marking(id=stix_id("marking-definition", 7001)),
        custom(id=stix_id("x-alliance-case", 7002), created=None, modified=None),
    ],
    ids=["observable", "marking", "custom observable"],
)
async def test_what_cannot_be_revoked_is_deleted(exchange: Exchange, one: Stix) -> None:
    """STIX gives them no `revoked`; the record of what was removed names the reason."""
    await exchange.add(one)
    told = await recalled(exchange, one["id"])
    reasons = exchange.alliance.execute("SELECT reason FROM deleted_versions WHERE stix_id = %s", one["id"])

    assert told["outcome"] == "deleted"
    assert "versions" not in told
    assert await seen(exchange, one["id"]) == []
    assert reasons == [("recall",)]
    assert "was recalled by the member that had brought it" in str(await refusal(exchange, one))
    assert await recalled(exchange, one["id"]) == told


async def test_each_reader_gets_its_own_newest_version_revoked(exchange: Exchange) -> None:
    """At its own clearance, and no octet of what lies above; the strictest comes last, so nobody is left with less."""
    of = new()
    await exchange.add(marked(of, "green", 1, name="for many"), marked(of, "red", 2, name="for few"), member="red")
    told = await recalled(exchange, of, "red")
    last = {member: await seen(exchange, of, member, **{"match[version]": "last"}) for member in ("green", "red")}

    assert len(told["versions"]) == 2
    assert [(one["name"], one["revoked"]) for one in last["green"]] == [("for many", True)]
    assert [(one["name"], one["revoked"]) for one in last["red"]] == [("for few", True)]
    assert "for few" not in json.dumps(await seen(exchange, of, "green"))


async def test_an_old_strict_version_needs_none_of_its_own(exchange: Exchange) -> None:
    """A later version that everybody sees has superseded it."""
    of = new()
    await exchange.add(marked(of, "red", 1), marked(of, "green", 2), member="red")

    assert len((await recalled(exchange, of, "red"))["versions"]) == 1


async def test_what_is_above_the_clearance_is_neither_touched_nor_mentioned(exchange: Exchange) -> None:
    """The caller's view decides, as with DELETE: another member's hidden version is no obstacle, and stays."""
    of = new()
    await exchange.add(marked(of, "red", 3), member="red")
    await exchange.add(marked(of, "green", 1), member="green")
    told = await recalled(exchange, of, "green")

    assert len(told["versions"]) == 1
    assert [one["object_marking_refs"] for one in await seen(exchange, of, "red")] == [
        [TLP2["red"]],
        [TLP2["green"]],
        [TLP2["green"]],
    ]
    assert [one["revoked"] for one in await seen(exchange, of, "red", **{"match[version]": "last"})] == [True]


async def test_a_revocation_already_there_is_enough(exchange: Exchange) -> None:
    """Nothing is added; from then on nothing else is taken."""
    of = new()
    await exchange.add(version(of, 1), version(of, 2, revoked=True))
    told = await recalled(exchange, of)

    assert [one["version"] for one in told["versions"]] == ["2024-05-02T08:16:02.000Z"]
    assert len(await seen(exchange, of)) == 2
    assert "was recalled" in str(await refusal(exchange, version(of, 3)))


async def test_once_more_is_a_success_that_changes_nothing(exchange: Exchange) -> None:
    """A request whose answer was lost is sent again: the same answer, the first reason, no further version."""
    of = new()
    await exchange.add(version(of, 1))
    first = await recalled(exchange, of, reason="first")
    again = await recalled(exchange, of, reason="second")

    assert again == first
    assert len(await seen(exchange, of)) == 2
    assert await standing(exchange, of) == {**first, "recipients": (await standing(exchange, of))["recipients"]}


# Who may


async def test_another_members_object_is_403_and_stays(exchange: Exchange) -> None:
    """One version of another member is enough; only where nothing of it can be seen does it not count."""
    of = new()
    await exchange.add(version(of, 1))
    assert_error(await recall(exchange, of, "harbour"), 403)
    await exchange.add(version(of, 2), member="harbour")

    for member in ("north", "harbour"):
        assert_error(await recall(exchange, of, member), 403)
    assert [one.get("revoked") for one in await seen(exchange, of)] == [None, None]
    assert await refusal(exchange, version(of, 3)) is None


async def test_absent_and_hidden_objects_look_alike(exchange: Exchange) -> None:
    """404 in the same words for what isn't there, what lies above the clearance, and what only others may read of."""
    hidden, others = new(), new()
    await exchange.add(marked(hidden, "red"), member="red")
    await exchange.add(version(others), member="red")
    absent = assert_error(await recall(exchange, new(), "green"), 404)

    for answer in (
        await recall(exchange, hidden, "green"),
        await recall(exchange, others, "pen"),
        await exchange.get(exchange.path(f"objects/{hidden}/recall/", SCRATCH), "green"),
    ):
        assert {**assert_error(answer, 404), "error_id": ""} == {**absent, "error_id": ""}


async def test_who_may_only_write_recalls_what_it_wrote(exchange: Exchange) -> None:
    """A push tool takes back what it pushed."""
    of = new()
    await exchange.add(version(of), member="pen")

    assert (await recalled(exchange, of, "pen"))["outcome"] == "revoked"
    assert_error(await recall(exchange, new(), "court", INDICATORS), 403)


async def test_where_only_owners_add_an_object_is_its_owners(exchange: Exchange) -> None:
    """Whoever added to it before that was the rule."""
    of = new()
    exchange.alliance.execute("UPDATE collections SET owner_only = false WHERE alias = 'owned'")
    await exchange.add(version(of, 1), member="north", name=OWNED)
    await exchange.add(version(of, 2), member="harbour", name=OWNED)
    exchange.alliance.execute("UPDATE collections SET owner_only = true WHERE alias = 'owned'")

    assert_error(await recall(exchange, of, "harbour", OWNED), 403)
    assert (await recalled(exchange, of, "north", OWNED))["outcome"] == "revoked"
    assert [one["revoked"] for one in await seen(exchange, of, name=OWNED, **{"match[version]": "last"})] == [True]


@pytest.mark.parametrize(
    "one", [tlp2("green"), tlp2("green", id=TLP1["green"].upper().replace("MARKING-DEFINITION", "marking-definition"))]
)
async def test_tlps_own_markings_are_nobodys_to_recall(exchange: Exchange, one: Stix) -> None:
    """Everybody's objects name them: whoever happened to post one first must not be able to bar it."""
    await exchange.add(one)

    assert_error(await recall(exchange, one["id"]), 403)
    assert await refusal(exchange, one, "harbour") is None


async def test_nobody_else_learns_how_a_recall_stands(exchange: Exchange) -> None:
    """It is its contributor's; to others there is none, though they see the revoked version."""
    of = new()
    await exchange.add(version(of))
    told = await recalled(exchange, of, reason="mistaken")
    path = exchange.path(f"objects/{of}/recall/", SCRATCH)

    assert (await exchange.get(path, "north")).json() == told
    assert_error(await exchange.get(path, "harbour"), 404)
    assert_error(await exchange.get(exchange.path(f"objects/{new()}/recall/", SCRATCH)), 404)


async def test_the_contributor_sees_who_has_it_whom_the_recall_reached_and_who_polled_since(exchange: Exchange) -> None:
    """By member and not by client; who got the object, who merely its name, and who was sent the revoked version."""
    of, object_path = new(), exchange.path("objects/", SCRATCH)
    exchange.clients["harbour-2"] = exchange.alliance.client("harbour")
    await exchange.add(version(of, 1))
    by_id = {"match[id]": of}
    for client in ("harbour", "harbour-2", "amber"):
        assert (await exchange.get(object_path, client, params=by_id)).json()["objects"]
    assert (await exchange.get(exchange.path("manifest/", SCRATCH), "green", params=by_id)).json()["objects"]
    told = await recalled(exchange, of)
    await exchange.app.state.activity.save()
    before = {one["member"]: one for one in (await standing(exchange, of))["recipients"]}

    assert {member: (one["received"], one["informed"], one["polled_since"]) for member, one in before.items()} == {
        "amber": ("content", "none", False),
        "green": ("listing", "none", False),
        "harbour": ("content", "none", False),
    }
    assert all(one["first"] <= one["last"] <= told["recalled_at"] for one in before.values())

    # an answer that tells of the new version, without its content, informs nobody
    await exchange.get(exchange.path("manifest/", SCRATCH), "green", params=by_id)
    await exchange.get(object_path, "amber", params={"added_after": "2999-01-01T00:00:00Z"})
    [revoked] = (await exchange.get(object_path, "harbour-2", params=by_id)).json()["objects"]
    await exchange.app.state.activity.save()
    after = {one["member"]: one for one in (await standing(exchange, of))["recipients"]}

    assert revoked["revoked"] is True
    assert {member: (one["informed"], one["polled_since"]) for member, one in after.items()} == {
        "amber": ("none", True),
        "green": ("none", True),
        "harbour": ("some", True),
    }
    assert after["harbour"]["informed_at"] >= told["recalled_at"]
    await exchange.get(object_path, "harbour", params=by_id)
    assert [one["informed"] for one in (await standing(exchange, of))["recipients"]] == ["none", "none", "all"]


async def test_who_received_what_was_deleted_is_told_too(exchange: Exchange) -> None:
    """Versions that were removed before the recall count; nobody can be informed of what can't be revoked."""
    one = ipv4(value="203.0.113.81")
    await exchange.add(one)
    assert await seen(exchange, one["id"], "harbour")
    assert (await exchange.delete(exchange.path(f"objects/{one['id']}/", SCRATCH))).status_code == 200
    await exchange.add(one)
    told = await recalled(exchange, one["id"])
    [recipient] = (await standing(exchange, one["id"]))["recipients"]

    assert told["outcome"] == "deleted"
    assert (recipient["member"], recipient["received"], recipient["informed"]) == ("harbour", "content", "none")


async def test_each_recall_is_in_the_audit(exchange: Exchange) -> None:
    """In the transaction that carries it out; one that changes nothing is none."""
    of = new()
    await exchange.add(version(of))
    told = await recalled(exchange, of, reason="not for the audit")
    await recalled(exchange, of)
    found = exchange.alliance.execute(
        "SELECT stream, who, details FROM audit_events WHERE act = 'object_recalled' AND details LIKE %s", f"%{of}%"
    )

    [(stream, who, details)] = found
    assert stream == f"collection:{exchange.collection_id(SCRATCH)}"
    assert who == f"north/{exchange.clients['north'].client_id}"
    assert json.loads(details)["telling"] == [told["versions"][0]["date_added"]]
    assert "not for the audit" not in details


@pytest.mark.parametrize("outcome", ["revoked", "deleted"])
async def test_what_came_or_went_by_a_recall_is_held_by_a_digest(exchange: Exchange, outcome: str) -> None:
    """As of every other addition and deletion: the act says how many versions, when added, and exactly which."""
    one = version(new()) if outcome == "revoked" else ipv4(value="192.0.2.219")
    of = one["id"]
    await exchange.add(one)
    rows = """SELECT date_added, stix_id, form, version, digest, member FROM object_versions
               WHERE stix_id = %s ORDER BY date_added"""
    before = exchange.alliance.execute(rows, of)
    told = await recalled(exchange, of)
    after = exchange.alliance.execute(rows, of)
    [(details,)] = exchange.alliance.execute(
        "SELECT details FROM audit_events WHERE act = 'object_recalled' AND details LIKE %s", f"%{of}%"
    )
    said = json.loads(details)
    moved = [Content(*row) for row in (after[len(before) :] if outcome == "revoked" else before)]

    assert told["outcome"] == said["outcome"] == outcome
    assert (said["versions"], said["digest"]) == (1, digest_of(moved))
    assert said["first"] == said["last"] == to_taxii(moved[0].date_added)


async def test_a_recall_of_what_was_revoked_already_says_that_nothing_came(exchange: Exchange) -> None:
    """It is an act, and holds no version."""
    of = new()
    await exchange.add(version(of, revoked=True))
    await recalled(exchange, of)
    [(details,)] = exchange.alliance.execute(
        "SELECT details FROM audit_events WHERE act = 'object_recalled' AND details LIKE %s", f"%{of}%"
    )

    assert (json.loads(details)["versions"], json.loads(details)["digest"]) == (0, digest_of([]))


async def test_a_full_quota_stops_no_recall(exchange: Exchange) -> None:
    """What takes something back must not be refused for what was stored before."""
    of = new()
    await exchange.add(version(of), member="amber")
    exchange.alliance.execute("UPDATE members SET quota = 1 WHERE slug = 'amber'")
    try:
        assert (await recalled(exchange, of, "amber"))["outcome"] == "revoked"
    finally:
        exchange.alliance.execute("UPDATE members SET quota = NULL WHERE slug = 'amber'")


# It doesn't come back


async def test_what_was_recalled_is_not_taken_again(exchange: Exchange) -> None:
    """From nobody, in no version, stored already or not, nor spelled in capitals; the failure tells when and why."""
    of = new()
    stored = version(of, 1)
    await exchange.add(stored)
    told = await recalled(exchange, of, reason="A customer's own address")
    capitals = f"indicator--{of.partition('--')[2].upper()}"
    assert capitals != of

    for member in ("north", "harbour"):
        for one in (stored, version(of, 0), version(of, 5), indicator(id=of, modified="2999-01-01T00:00:00.000Z")):
            said = str(await refusal(exchange, one, member))
            assert f"was recalled by the member that had brought it at {told['recalled_at']}" in said
            assert "A customer's own address" in said
        assert "was recalled" in str(await refusal(exchange, version(capitals, 9), member))
    assert len(await seen(exchange, of)) == 2
    assert await seen(exchange, capitals) == []


async def test_what_says_itself_that_it_is_revoked_is_taken(exchange: Exchange) -> None:
    """A mirror repeats the revoked version, and the contributor's own tool may add one of its own."""
    of = new()
    await exchange.add(version(of, 1))
    await recalled(exchange, of)
    [newest] = await seen(exchange, of, **{"match[version]": "last"})

    assert await refusal(exchange, newest, "harbour") is None
    assert await refusal(exchange, {**newest, "modified": "2999-01-01T00:00:00.000Z"}) is None
    assert len(await seen(exchange, of)) == 3


async def test_a_twin_in_capitals_bars_nobody(exchange: Exchange) -> None:
    """Who recalls an object of its own that differs from another's in letters alone doesn't recall the other's."""
    of = new()
    twin = f"indicator--{of.partition('--')[2].upper()}"
    await exchange.add(version(of, 1), member="harbour")
    await exchange.add(version(twin, 1), member="north")
    await recalled(exchange, twin)

    assert await refusal(exchange, version(of, 2), "harbour") is None
    assert "was recalled" in str(await refusal(exchange, version(twin, 2)))


async def test_to_who_was_not_cleared_for_it_there_was_no_recall(exchange: Exchange) -> None:
    """What you may not see does not exist: an addition below is judged as ever, and the recall isn't told."""
    revoked, deleted = new(), ipv4(value="203.0.113.78", object_marking_refs=[TLP2["red"]])
    await exchange.add(marked(revoked, "red", 1), deleted, member="red")
    await recalled(exchange, revoked, "red", reason="secret")
    await recalled(exchange, deleted["id"], "red", reason="secret")

    assert await refusal(exchange, marked(revoked, "green", 2), "green") is None
    assert await refusal(exchange, {**deleted, "object_marking_refs": [TLP2["green"]]}, "green") is None
    for one in (marked(revoked, "red", 2), deleted, marked(revoked, "green", 3)):
        assert "secret" in str(await refusal(exchange, one, "red"))


async def test_its_own_addition_under_a_recalled_id_tells_nobody_of_the_recall(exchange: Exchange) -> None:
    """What was added after a recall doesn't make its sender one who could see what was recalled: not on the second push."""
    revoked, deleted = new(), ipv4(value="203.0.113.83", object_marking_refs=[TLP2["red"]])
    await exchange.add(marked(revoked, "red", 1), deleted, member="red")
    for of in (revoked, deleted["id"]):
        await recalled(exchange, of, "red", reason="secret")
    green = {"object_marking_refs": [TLP2["green"]]}

    for one in (marked(revoked, "green", 2), marked(revoked, "green", 2), marked(revoked, "green", 3)):
        assert await refusal(exchange, one, "green") is None
    for one in ({**deleted, **green}, {**deleted, **green}, {**deleted, **green, "x_note": "once more"}):
        assert await refusal(exchange, one, "green") is None
    assert "secret" in str(await refusal(exchange, marked(revoked, "green", 4), "red"))


async def test_a_version_whose_level_fell_tells_of_its_recall(exchange: Exchange) -> None:
    """Who can see now what was withdrawn is told that it was, though it couldn't see it then."""
    of = new()
    await exchange.add(marked(of, "red", 1), member="red")
    await recalled(exchange, of, "red", reason="mistaken")
    exchange.alliance.execute("UPDATE object_versions SET level = 1 WHERE stix_id = %s", of)

    assert "mistaken" in str(await refusal(exchange, marked(of, "green", 2), "green"))


async def test_a_recall_outlives_those_that_others_make(exchange: Exchange) -> None:
    """Who may send what says `revoked`, and recalls that at a level of few, undoes nothing for the many."""
    of = new()
    await exchange.add(marked(of, "green", 1), member="green")
    first = await recalled(exchange, of, "green", reason="first")
    assert (await exchange.delete(exchange.path(f"objects/{of}/", SCRATCH), "green")).status_code == 200
    await exchange.add(marked(of, "red", 5, revoked=True), member="red")
    await recalled(exchange, of, "red", reason="second")

    for member in ("green", "amber"):
        said = str(await refusal(exchange, marked(of, "green", 9), member))
        assert "first" in said
        assert first["recalled_at"] in said
    assert (await standing(exchange, of, "green"))["recalled_at"] == first["recalled_at"]
    assert "was recalled" in str(await refusal(exchange, marked(of, "green", 9), "red"))


async def test_each_contributor_keeps_its_own_recall(exchange: Exchange) -> None:
    """One that comes to be at another level is another member's: nobody's vanishes, and no instant or reason is mixed up."""
    of = new()
    await exchange.add(marked(of, "red", 1), member="red")
    await exchange.add(marked(of, "green", 2), member="green")
    below = await recalled(exchange, of, "green", reason="below")
    assert (await exchange.delete(exchange.path(f"objects/{of}/", SCRATCH), "green")).status_code == 200
    above = await recalled(exchange, of, "red", reason="above")

    assert above["recalled_at"] > below["recalled_at"]
    assert (await standing(exchange, of, "green"))["reason"] == "below"
    assert (await standing(exchange, of, "red"))["reason"] == "above"
    assert await recalled(exchange, of, "red") == above
    said = str(await refusal(exchange, marked(of, "green", 9), "green"))
    assert "below" in said
    assert "above" not in said
    assert "above" in str(await refusal(exchange, marked(of, "green", 9), "red"))


async def test_oracle_a_recall_is_told_to_who_may_only_write(exchange: Exchange) -> None:
    """A push tool must not bring the object back, so it learns that it was recalled and why; never below its clearance."""
    one, above = ipv4(value="203.0.113.79"), ipv4(value="203.0.113.80", object_marking_refs=[TLP2["red"]])
    exchange.clients["green-pen"] = exchange.alliance.client("green", rights=("write",))
    for thing in (one, above):
        await exchange.add(thing, member="red")
        await recalled(exchange, thing["id"], "red", reason="mistaken")

    assert "mistaken" in str(await refusal(exchange, one, "pen"))
    assert "mistaken" in str(await refusal(exchange, one, "green-pen"))
    assert await refusal(exchange, {**above, "object_marking_refs": [TLP2["green"]]}, "green-pen") is None


async def test_oracle_who_else_brought_what_a_write_only_client_recalls(exchange: Exchange) -> None:
    """Of an object that it brought itself it learns that somebody else did too; nothing of other objects."""
    of = new()
    await exchange.add(version(of, 1), member="pen")
    await exchange.add(version(of, 2), member="red")

    assert_error(await recall(exchange, of, "pen"), 403)


async def test_what_tells_of_a_recall_is_not_removed_alone(exchange: Exchange) -> None:
    """Without it the version before would count again; the whole object, or what was before, may go."""
    of = new()
    await exchange.add(version(of, 1), version(of, 2))
    await recalled(exchange, of)
    path = exchange.path(f"objects/{of}/", SCRATCH)

    assert_error(await exchange.delete(path, params={"match[version]": "last"}), 403)
    assert [one.get("revoked") for one in await seen(exchange, of)] == [None, None, True]
    assert (await exchange.delete(path, params={"match[version]": "first"})).status_code == 200
    assert (await exchange.delete(path)).status_code == 200
    assert await seen(exchange, of) == []
    assert "was recalled" in str(await refusal(exchange, version(of, 1)))


async def test_a_recall_and_additions_at_once(exchange: Exchange) -> None:
    """In whatever order: once a recall is answered, the newest version says `revoked`, on every later look."""
    for _ in range(6):
        of = new()
        await exchange.add(version(of, 0))

        async def take_back(of: str = of) -> None:
            await recalled(exchange, of)
            [newest] = await seen(exchange, of, **{"match[version]": "last"})
            assert newest["revoked"] is True

        later = [indicator(id=of, modified=f"2999-01-01T00:00:{second:02}.000Z") for second in range(8)]
        pushes = [refusal(exchange, one) for one in later]
        said = await asyncio.gather(*pushes[:4], take_back(), *pushes[4:])
        versions = await seen(exchange, of, **{"match[version]": "all"})

        taken = [one for one, why in zip(later, said[:4] + said[5:], strict=True) if why is None]
        assert len(versions) == 2 + len(taken)
        assert max(versions, key=lambda one: one["modified"]).get("revoked") is True


async def test_what_a_contributor_is_told_of_a_recall_costs_a_bounded_part_of_the_ledger(
    exchange: Exchange, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An object that was sent very often: the answer says that others may have had it."""
    of = new()
    await exchange.add(version(of, 1))
    for _ in range(3):
        assert await seen(exchange, of, "harbour")
    await recalled(exchange, of)
    whole = await standing(exchange, of)
    monkeypatch.setattr(disclosures, "_ROWS_OF_AN_ANSWER", 1)
    monkeypatch.setattr(disclosures, "_STATEMENTS_OF_AN_ANSWER", 2)
    with statements(Engine) as sent:
        part = await standing(exchange, of)

    assert "more" not in whole
    assert part["more"] is True
    assert part["recipients"][0]["last"] < whole["recipients"][0]["last"]
    assert len([one for one in sent if "FROM disclosures" in one]) == 2


@pytest.mark.parametrize("body", ['{"reason": null}', '{"reason": 7}', '["reason"]', "null"])
async def test_what_is_no_reason_recalls_nothing(exchange: Exchange, body: str) -> None:
    """A text or left out: TAXII knows no null. The object stays as it is."""
    of = new()
    await exchange.add(version(of, 1))
    headers = exchange.as_("north") | {"Content-Type": TAXII}

    answer = await exchange.http.post(exchange.path(f"objects/{of}/recall/", SCRATCH), headers=headers, content=body)

    assert assert_error(answer, 422)["error_code"] == "bad-reason"
    assert_error(await exchange.get(exchange.path(f"objects/{of}/recall/", SCRATCH)), 404)
