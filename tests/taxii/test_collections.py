"""Collections and one collection (§5.1, §5.2), by id and by alias."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.factories import malware, stix_id
from tests.taxii.alliance import GROUP, OTHER_GROUP, Exchange, assert_error
from tests.taxii.laws import FIRST, LAST
from tests.taxii.shelf import NAME, A

if TYPE_CHECKING:
    from tests.taxii.shelf import Shelf

pytestmark = pytest.mark.anyio

MEDIA_TYPES = ["application/stix+json;version=2.0", "application/stix+json;version=2.1"]
RIGHTS = {
    "north": (True, True),
    "harbour": (True, False),
    "tide": (False, True),
    "court": (False, False),
}


@pytest.mark.parametrize("member", RIGHTS)
async def test_a_collection_tells_what_the_caller_may_do(exchange: Exchange, member: str) -> None:
    """§5.2.1: can_read and can_write are computed for the requesting client; the list has the same entry."""
    can_read, can_write = RIGHTS[member]
    one = (await exchange.get(exchange.path(""), member)).json()
    listed = (await exchange.get(f"{GROUP}collections/", member)).json()["collections"]

    assert one == {
        "id": str(exchange.collection_id()),
        "title": "Title of indicators",
        "alias": "indicators",
        "can_read": can_read,
        "can_write": can_write,
        "media_types": MEDIA_TYPES,
    }
    assert one in listed


@pytest.mark.parametrize("member", RIGHTS)
async def test_what_it_tells_is_what_happens(exchange: Exchange, member: str) -> None:
    """§5.2.1, §5.3, §5.4, §5.6, §5.8: true is allowed, false is refused, on every endpoint."""
    can_read, can_write = RIGHTS[member]
    of = stix_id("malware", 730)
    await exchange.add(malware(id=of), name="fraud-intel/indicators")
    for rest in ("manifest/", "objects/", f"objects/{of}/", f"objects/{of}/versions/"):
        answer = await exchange.get(exchange.path(rest), member)
        assert answer.status_code == (200 if can_read else 403)
    posted = await exchange.post({"objects": [malware(id=of)]}, member)
    assert posted.status_code == (202 if can_write else 403)


async def test_a_tokens_scope_shows_in_what_it_tells(exchange: Exchange) -> None:
    """§5.2.1: for a client whose credential narrows its rights, the collection says so."""
    token = await exchange.token("north", "taxii:read")
    one = (await exchange.http.get(exchange.path(""), headers=token)).json()

    assert (one["can_read"], one["can_write"]) == (True, False)


async def test_the_list_holds_what_the_caller_sees(exchange: Exchange) -> None:
    """§1.6.9, §5.1: collections of others are left out, those without rights are not."""
    aliases = {
        member: [one["alias"] for one in (await exchange.get(f"{GROUP}collections/", member)).json()["collections"]]
        for member in RIGHTS
    }

    assert {member: set(some) for member, some in aliases.items()} == {
        "north": {"indicators", "scratch"},
        "harbour": {"indicators", "scratch"},
        "tide": {"indicators"},
        "court": {"indicators"},
    }
    assert_error(await exchange.get(f"{OTHER_GROUP}collections/"), 404)


async def test_a_client_issued_for_others_sees_an_empty_root(exchange: Exchange) -> None:
    """§5.1.1, §2: where nothing is left to list the key is absent, or the whole root is."""
    elsewhere = exchange.collection_id(NAME)
    exchange.clients["narrow"] = exchange.alliance.client("tide", collections=[elsewhere])
    answer = await exchange.get(f"{GROUP}collections/", "narrow")

    if answer.status_code == 200:
        assert answer.json() == {}
    else:
        assert_error(answer, 404)


async def test_all_collections_come_in_one_answer(exchange: Exchange) -> None:
    """§5.1: the list has no pages."""
    exchange.alliance.group("wide")
    exchange.alliance.member("broad")
    for number in range(150):
        exchange.alliance.collection("wide", f"feed-{number}")
        exchange.alliance.grant("broad", f"wide/feed-{number}", ("read",))
    exchange.clients["broad"] = exchange.alliance.client("broad")
    answer = await exchange.get("/taxii2/wide/collections/?limit=2", "broad")

    assert len(answer.json()["collections"]) == 150


@pytest.mark.parametrize("rest", ["", "manifest/", "objects/", f"objects/{A}/", f"objects/{A}/versions/"])
async def test_the_alias_stands_for_the_id(filled: Shelf, rest: str) -> None:
    """§5.2.1: every endpoint under a collection answers under its alias as under its id."""
    by_id = await filled.exchange.get(filled.path(rest))
    by_alias = await filled.exchange.get(f"{GROUP}collections/scratch/{rest}")

    assert by_alias.status_code == 200
    assert by_alias.content == by_id.content
    for name in (FIRST, LAST):
        assert by_alias.headers.get(name) == by_id.headers.get(name)


async def test_a_cursor_got_by_id_goes_on_by_alias(filled: Shelf) -> None:
    """§3.5, §5.2.1: the collection is the same, however it is named."""
    cursor = (await filled.get(limit=2)).json()["next"]
    by_id = await filled.exchange.get(filled.path(), params={"next": cursor})
    by_alias = await filled.exchange.get(f"{GROUP}collections/scratch/objects/", params={"next": cursor})

    assert by_alias.content == by_id.content
    assert len(by_alias.json()["objects"]) == 4


async def test_an_alias_is_of_its_own_root(exchange: Exchange) -> None:
    """§5.2.1: unique within an API Root; elsewhere the same alias may name another collection."""
    groups = ("fraud-intel", "crime-desk")
    ids = [str(exchange.alliance.collection(group, "shared-name")) for group in groups]
    exchange.alliance.member("namesake")
    for group in groups:
        exchange.alliance.grant("namesake", f"{group}/shared-name", ("read",))
    exchange.clients["namesake"] = exchange.alliance.client("namesake")

    answers = [await exchange.get(f"/taxii2/{group}/collections/shared-name/", "namesake") for group in groups]
    assert [answer.json()["id"] for answer in answers] == ids


@pytest.mark.parametrize("rest", ["", "manifest/", "objects/", f"objects/{A}/", f"objects/{A}/versions/"])
@pytest.mark.parametrize("name", ["5a0d8f0c-6a53-4c7e-9a3a-1c1d0f0a9b77", "no-such-alias", "1", "91a7b528", "cases"])
async def test_unknown_and_hidden_collections_are_not_found(exchange: Exchange, name: str, rest: str) -> None:
    """§5.2: 404 on every endpoint, the same for what is hidden as for what is absent, apart from the error's id."""
    absent = assert_error(await exchange.get(f"{GROUP}collections/{name}/{rest}"), 404)
    hidden = assert_error(await exchange.get(exchange.path(rest, "crime-desk/cases")), 404)

    assert absent | {"error_id": ""} == hidden | {"error_id": ""}


async def test_rights_change_at_once(exchange: Exchange) -> None:
    """§5.2.1: the next answer shows a grant as it is now."""
    exchange.alliance.member("changing")
    exchange.alliance.grant("changing", NAME, ("read",))
    exchange.clients["changing"] = exchange.alliance.client("changing")
    path = exchange.path("", NAME)
    seen = [(await exchange.get(path, "changing")).json()["can_write"]]
    exchange.alliance.execute(
        "UPDATE grants SET rights = '{read,write}' WHERE member_id = %s", exchange.alliance.members["changing"]
    )
    seen.append((await exchange.get(path, "changing")).json()["can_write"])

    assert seen == [False, True]
