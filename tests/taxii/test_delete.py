"""Removing an object (§5.7): who may, what goes, and what is left."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from tests.factories import TLP1, indicator, indicator_2_0, ipv4, stix_id
from tests.taxii.alliance import TAXII, Exchange, assert_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls
    from tests.factories import Stix

pytestmark = pytest.mark.anyio

INDICATORS, SCRATCH = "fraud-intel/indicators", "fraud-intel/scratch"
_numbers = count(3000)


def new() -> str:
    return stix_id("indicator", next(_numbers))


def at(second: int) -> str:
    return f"2024-05-02T08:16:{second:02}.000Z"


def version(of: str, second: int, **over: Any) -> Stix:
    return indicator(id=of, modified=at(second), **over)


def version_2_0(of: str, second: int) -> Stix:
    return indicator_2_0(id=of, modified=at(second))


async def versions(exchange: Exchange, of: str, member: str = "north", name: str = SCRATCH) -> list[tuple[str, str]]:
    """What a member sees of an object: (form, version) of each, in the order of their addition."""
    answer = await exchange.get(
        exchange.path("manifest/", name),
        member,
        params={"match[id]": of, "match[version]": "all", "match[spec_version]": "2.0,2.1"},
    )
    assert answer.status_code == 200, answer.text
    return [(each["media_type"][-3:], each["version"]) for each in answer.json().get("objects", [])]


def deleted(exchange: Exchange, of: str) -> list[tuple[Any, ...]]:
    return exchange.alliance.execute(
        "SELECT version, reason, member, deleted_by_member, deleted_by_client FROM deleted_versions WHERE stix_id = %s "
        "ORDER BY date_added",
        of,
    )


async def shown(exchange: Exchange, of: str, member: str = "north") -> list[Any]:
    """What the default view of the whole collection shows of an object."""
    found: list[Any] = []
    page: dict[str, Any] = {"next": None}
    while "next" in page:
        query = {"limit": "200"} | ({} if page["next"] is None else {"next": page["next"]})
        page = (await exchange.get(exchange.path("objects/", SCRATCH), member, params=query)).json()
        found += [each for each in page.get("objects", []) if each["id"] == of]
    return found


async def until_it_waits(exchange: Exchange) -> None:
    """Return once a connection waits for a lock that the test itself holds."""
    asked = "SELECT pid FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    async with asyncio.timeout(20):
        while not exchange.alliance.execute(asked):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


# Who may


@pytest.mark.parametrize(
    ("member", "status"),
    [("north", 200), ("harbour", 403), ("tide", 403), ("court", 404), ("stranger", 404), ("constabulary", 404)],
)
async def test_both_rights_are_needed(exchange: Exchange, member: str, status: int) -> None:
    """§5.7: read or write alone is 403, neither is 404, a hidden collection too."""
    of = new()
    await exchange.add(version(of, 1), name=INDICATORS)
    answer = await exchange.delete(exchange.path(f"objects/{of}/"), member)

    if status == 200:
        assert answer.status_code == 200
        assert await versions(exchange, of, name=INDICATORS) == []
    else:
        assert_error(answer, status)
        assert len(await versions(exchange, of, name=INDICATORS)) == 1


@pytest.mark.parametrize("member", ["harbour", "tide", "court", "stranger"])
async def test_without_the_rights_absent_and_present_objects_look_alike(exchange: Exchange, member: str) -> None:
    """§5.7: who may not delete doesn't learn from the answer whether an object exists."""
    of = new()
    await exchange.add(version(of, 1), name=INDICATORS)
    there = await exchange.delete(exchange.path(f"objects/{of}/"), member)
    absent = await exchange.delete(exchange.path(f"objects/{new()}/"), member)

    assert there.status_code == absent.status_code
    assert {**there.json(), "error_id": ""} == {**absent.json(), "error_id": ""}


async def test_a_token_for_reading_may_not_delete(exchange: Exchange) -> None:
    """A credential only ever narrows."""
    of = new()
    await exchange.add(version(of, 1))
    answer = await exchange.delete(
        exchange.path(f"objects/{of}/", SCRATCH),
        headers=await exchange.token("north", "taxii:read"),
    )

    assert_error(answer, 403)
    assert len(await versions(exchange, of)) == 1


async def test_another_client_of_the_contributor_may(exchange: Exchange) -> None:
    """What a member brought is that member's, whichever of its clients did; the record names the one that removed."""
    of = new()
    await exchange.add(version(of, 1))
    other = exchange.clients["other"] = exchange.alliance.client("north")
    answer = await exchange.delete(exchange.path(f"objects/{of}/", SCRATCH), "other")

    assert answer.status_code == 200
    north = exchange.alliance.members["north"]
    assert deleted(exchange, of) == [(at(1), "delete", north, north, other.row)]


async def test_another_members_object_is_403_and_stays(exchange: Exchange) -> None:
    """Only the member that brought a version may remove it; both may read and write here."""
    of = new()
    await exchange.add(version(of, 1), member="north")
    assert_error(await exchange.delete(exchange.path(f"objects/{of}/", SCRATCH), "harbour"), 403)

    assert await versions(exchange, of) == [("2.1", at(1))]


async def test_a_mixture_of_members_is_403_and_nothing_goes(exchange: Exchange) -> None:
    """One version of another member among those named stops it all; naming only one's own works."""
    of = new()
    await exchange.add(version(of, 1), member="north")
    await exchange.add(version(of, 2), member="harbour")
    path = exchange.path(f"objects/{of}/", SCRATCH)
    for query in ("", "?match[version]=all", f"?match[version]={at(1)},{at(2)}", "?match[version]=last"):
        assert_error(await exchange.delete(path + query, "north"), 403)
    assert len(await versions(exchange, of)) == 2
    assert deleted(exchange, of) == []

    assert (await exchange.delete(f"{path}?match[version]=first", "north")).status_code == 200
    assert await versions(exchange, of) == [("2.1", at(2))]


async def test_a_repeat_by_another_member_makes_it_nobody_elses(exchange: Exchange) -> None:
    """Bringing what is there already is a success, but gives no right to remove it."""
    of = new()
    await exchange.add(version(of, 1), member="north")
    await exchange.add(version(of, 1), member="harbour")

    assert_error(await exchange.delete(exchange.path(f"objects/{of}/", SCRATCH), "harbour"), 403)


async def test_a_right_withdrawn_while_it_waits_stops_it(exchange: Exchange) -> None:
    """Rights are read again under the collection's lock: what was withdrawn meanwhile no longer holds."""
    exchange.alliance.member("late")
    exchange.alliance.grant("late", SCRATCH, ("read", "write"))
    exchange.clients["late"] = exchange.alliance.client("late")
    of = new()
    await exchange.add(version(of, 1), member="late")
    exchange.alliance.execute("BEGIN")
    try:
        exchange.alliance.execute(
            "SELECT 1 FROM collection_clocks WHERE collection_id = %s FOR UPDATE",
            exchange.collection_id(SCRATCH),
        )
        deleting = asyncio.create_task(exchange.delete(exchange.path(f"objects/{of}/", SCRATCH), "late"))
        await until_it_waits(exchange)
        exchange.alliance.execute(
            "UPDATE grants SET rights = ARRAY['read'] WHERE member_id = %s", exchange.alliance.members["late"]
        )
    finally:
        exchange.alliance.execute("COMMIT")

    assert_error(await deleting, 403)
    assert len(await versions(exchange, of)) == 1


# What goes


async def test_the_whole_object_goes_without_a_version_named(exchange: Exchange) -> None:
    """§5.7: 200 without a body, in TAXII's content type; D-08: every version of every form."""
    of, beside = new(), new()
    await exchange.add(version(of, 1), version_2_0(of, 3), version(of, 2), version(beside, 1))
    answer = await exchange.delete(exchange.path(f"objects/{of}/", SCRATCH))

    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["content-type"] == TAXII
    assert not [name for name in answer.headers if name.startswith("x-taxii")]
    assert await versions(exchange, of) == []
    assert await versions(exchange, beside) == [("2.1", at(1))]


async def test_after_it_the_object_is_nowhere(exchange: Exchange) -> None:
    """§5.7: one object and its versions are 404, manifest and objects don't show it (D-09: 200, without it)."""
    of = new()
    await exchange.add(version(of, 1))
    await exchange.delete(exchange.path(f"objects/{of}/", SCRATCH))

    assert_error(await exchange.get(exchange.path(f"objects/{of}/", SCRATCH)), 404)
    assert_error(await exchange.get(exchange.path(f"objects/{of}/versions/", SCRATCH)), 404)
    for place in ("objects/", "manifest/"):
        answer = await exchange.get(exchange.path(place, SCRATCH), params={"match[id]": of})
        assert answer.json() == {"more": False}


async def test_a_second_delete_is_404(exchange: Exchange) -> None:
    """§5.7: there is nothing left to remove."""
    of = new()
    await exchange.add(version(of, 1))
    path = exchange.path(f"objects/{of}/", SCRATCH)

    assert (await exchange.delete(path)).status_code == 200
    assert_error(await exchange.delete(path), 404)
    assert len(deleted(exchange, of)) == 1


@pytest.mark.parametrize("of", ["x", "%00", "indicator--", "..%2F..", "indicator--%F0%9F%98%80", "all"])
async def test_unknown_objects_are_404(exchange: Exchange, of: str) -> None:
    """§5.7: whatever is no object here."""
    assert_error(await exchange.delete(exchange.path(f"objects/{of}/", SCRATCH)), 404)


ONE, TWO, THREE = (("2.1", at(second)) for second in (1, 2, 3))
OLD_ONE, OLD_NINE = ("2.0", at(1)), ("2.0", at(9))


@pytest.mark.parametrize(
    ("query", "left"),
    [
        ("match[version]=first", [OLD_ONE, OLD_NINE, TWO, THREE]),
        ("match[version]=last", [OLD_ONE, OLD_NINE, ONE, TWO]),
        ("match[version]=first,last", [OLD_ONE, OLD_NINE, TWO]),
        ("match[version]=all", []),
        # after it nothing that the same request would name may be left (§5.7), in whichever form
        (f"match[version]={at(1)}", [OLD_NINE, TWO, THREE]),
        (f"match[version]={at(2)}", [OLD_ONE, OLD_NINE, ONE, THREE]),
        ("match[version]=2024-05-02T08:16:02Z", [OLD_ONE, OLD_NINE, ONE, THREE]),
        (f"match[version]={at(2)},first", [OLD_ONE, OLD_NINE, THREE]),
        ("match[spec_version]=2.1", [OLD_ONE, OLD_NINE]),
        ("match[spec_version]=2.0", [ONE, TWO, THREE]),
        ("match[spec_version]=2.0,2.1", []),
        ("match[spec_version]=2.0&match[version]=last", [OLD_ONE, ONE, TWO, THREE]),
        ("match[spec_version]=2.0&match[version]=first", [OLD_NINE, ONE, TWO, THREE]),
        (f"match[spec_version]=2.0&match[version]={at(1)}", [OLD_NINE, ONE, TWO, THREE]),
        (f"match[spec_version]=2.1&match[version]={at(1)}", [OLD_ONE, OLD_NINE, TWO, THREE]),
    ],
)
async def test_filters_say_which_versions_go(exchange: Exchange, query: str, left: list[tuple[str, str]]) -> None:
    """§5.7, §3.4.1: first, last, all, exact versions, one form, and their combinations."""
    of = new()
    await exchange.add(
        version_2_0(of, 1),
        version_2_0(of, 9),
        version(of, 1),
        version(of, 2),
        version(of, 3),
    )
    answer = await exchange.delete(f"{exchange.path(f'objects/{of}/', SCRATCH)}?{query}")

    assert answer.status_code == 200
    assert await versions(exchange, of) == left


@pytest.mark.parametrize(
    "query",
    [
        f"match[version]={at(7)}",
        "match[spec_version]=2.0",
        "match[spec_version]=9.9",
        f"match[version]={at(1)}&match[spec_version]=2.0",
    ],
)
async def test_filters_that_match_nothing_are_404(exchange: Exchange, query: str) -> None:
    """§5.7: no version matches: 404, and the object stays."""
    of = new()
    await exchange.add(version(of, 1))
    assert_error(await exchange.delete(f"{exchange.path(f'objects/{of}/', SCRATCH)}?{query}"), 404)

    assert await versions(exchange, of) == [("2.1", at(1))]


@pytest.mark.parametrize(
    "query",
    [
        "match[version]=",
        "match[version]=yesterday",
        "match[version]=all,first",
        "match[version]=last,last",
        "match[version]=last&match[version]=first",
        "match[spec_version]=",
        "match[version]=%00",
    ],
)
async def test_malformed_filters_are_400(exchange: Exchange, query: str) -> None:
    """§3.4, §5.7: and nothing is removed on a guess."""
    of = new()
    await exchange.add(version(of, 1))
    assert_error(await exchange.delete(f"{exchange.path(f'objects/{of}/', SCRATCH)}?{query}"), 400)

    assert await versions(exchange, of) == [("2.1", at(1))]


async def test_other_filters_are_not_of_this_endpoint(exchange: Exchange) -> None:
    """D-04: fields that the endpoint doesn't list are ignored, so they can't make a DELETE look narrower than it is."""
    of = new()
    await exchange.add(version(of, 1))
    answer = await exchange.delete(f"{exchange.path(f'objects/{of}/', SCRATCH)}?limit=0&x=1")

    assert answer.status_code == 200


async def test_a_bad_accept_is_406(exchange: Exchange) -> None:
    """§5.7: before anything is removed."""
    of = new()
    await exchange.add(version(of, 1))
    assert_error(await exchange.delete(exchange.path(f"objects/{of}/", SCRATCH), headers={"Accept": "text/html"}), 406)

    assert await versions(exchange, of) == [("2.1", at(1))]


async def test_an_observable_is_removed_by_its_date(exchange: Exchange) -> None:
    """D-17: the version of an object without timestamps is its date of addition, in a DELETE too."""
    one = ipv4(value="203.0.113.77")
    await exchange.add(one, {**one, "x_seen": 2})
    [(_, first), (_, second)] = await versions(exchange, one["id"])
    answer = await exchange.delete(f"{exchange.path('objects/' + one['id'] + '/', SCRATCH)}?match[version]={second}")

    assert answer.status_code == 200
    assert await versions(exchange, one["id"]) == [("2.1", first)]


# What is left


async def test_what_remains_is_shown_as_if_the_rest_had_never_been(exchange: Exchange) -> None:
    """§3.4.1: with the newest version gone the one before is the newest, with its date as it was."""
    of = new()
    await exchange.add(version(of, 1), version(of, 2))
    before = (await exchange.get(exchange.path(f"objects/{of}/?match[version]=first", SCRATCH))).headers
    await exchange.delete(exchange.path(f"objects/{of}/?match[version]=last", SCRATCH))
    after = await exchange.get(exchange.path(f"objects/{of}/", SCRATCH))

    assert after.json()["objects"] == await shown(exchange, of) == [version(of, 1)]
    assert after.headers["x-taxii-date-added-last"] == before["x-taxii-date-added-last"]


async def test_with_the_newer_form_gone_the_older_one_shows(exchange: Exchange) -> None:
    """§3.4.1: the latest form is computed from what is there."""
    of = new()
    await exchange.add(version_2_0(of, 1), version(of, 2))
    await exchange.delete(exchange.path(f"objects/{of}/?match[spec_version]=2.1", SCRATCH))

    one = await exchange.get(exchange.path(f"objects/{of}/", SCRATCH))
    assert one.json()["objects"] == await shown(exchange, of) == [version_2_0(of, 1)]


async def test_posted_again_it_is_stored_anew(exchange: Exchange) -> None:
    """§5.7: a later POST stores the object with a new date, so that pollers get it again; other content is welcome."""
    of = new()
    await exchange.add(version(of, 1))
    first = (await exchange.get(exchange.path(f"objects/{of}/", SCRATCH))).headers["x-taxii-date-added-last"]
    await exchange.delete(exchange.path(f"objects/{of}/", SCRATCH))
    await exchange.add(version(of, 1, confidence=7))
    again = await exchange.get(exchange.path("objects/", SCRATCH), params={"match[id]": of, "added_after": first})

    assert again.json()["objects"] == [version(of, 1, confidence=7)]
    assert again.headers["x-taxii-date-added-last"] > first


async def test_the_record_of_what_was_deleted_keeps_no_body(exchange: Exchange) -> None:
    """Rows are kept, each time the object goes; their content is not."""
    of = new()
    for confidence in (1, 2):
        await exchange.add(version(of, 1, confidence=confidence))
        await exchange.delete(exchange.path(f"objects/{of}/", SCRATCH))
    north = exchange.alliance.members["north"]
    rows = [(at(1), "delete", north, north, exchange.clients["north"].row)]

    assert deleted(exchange, of) == rows * 2
    columns = exchange.alliance.execute(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'deleted_versions'",
    )
    assert ("body",) not in columns


async def test_a_removal_counts_as_a_change_and_moves_no_date(exchange: Exchange) -> None:
    """Replicas are compared by the number of changes; the collection's last date stays."""
    of = new()
    await exchange.add(version(of, 1))
    ask = "SELECT changes, last_added FROM collection_clocks WHERE collection_id = %s"
    [(changes, last_added)] = exchange.alliance.execute(ask, exchange.collection_id(SCRATCH))
    await exchange.delete(exchange.path(f"objects/{of}/", SCRATCH))

    [(changed, last)] = exchange.alliance.execute(ask, exchange.collection_id(SCRATCH))
    assert changed > changes
    assert last == last_added


async def test_pagers_go_on_over_a_removal(exchange: Exchange) -> None:
    """§3.5: `more` may turn out to be empty; a cursor that stands on a removed version still holds."""
    ids = [new() for _ in range(3)]
    await exchange.add(*(version(of, 1) for of in ids))
    query = {"match[id]": ",".join(ids), "limit": "1"}
    first = (await exchange.get(exchange.path("objects/", SCRATCH), params=query)).json()
    for of in ids[:2]:
        await exchange.delete(exchange.path(f"objects/{of}/", SCRATCH))
    rest = (await exchange.get(exchange.path("objects/", SCRATCH), params={**query, "next": first["next"]})).json()
    assert [each["id"] for each in rest["objects"]] == ids[2:]
    await exchange.delete(exchange.path(f"objects/{ids[2]}/", SCRATCH))

    empty = await exchange.get(exchange.path("objects/", SCRATCH), params={**query, "next": first["next"]})
    assert empty.json() == {"more": False}


# Above the clearance


@pytest.fixture
async def cleared(exchange: Exchange, module_database_urls: DatabaseUrls) -> AsyncIterator[str]:
    """A member that may see no more than GREEN, beside north, which sees all."""
    if "cleared" not in exchange.clients:
        exchange.alliance.member("cleared")
        exchange.alliance.grant("cleared", SCRATCH, ("read", "write"), clearance=1)
        exchange.clients["cleared"] = exchange.alliance.client("cleared")
    yield "cleared"  # noqa: PT022 - an async fixture


def amber(of: str, second: int) -> Stix:
    return version(of, second, object_marking_refs=[TLP1["amber"]])


async def bring(exchange: Exchange, *objects: Stix) -> None:
    """Add objects in the member's name from the time when it was cleared for all of them."""
    lower = "UPDATE grants SET clearance = %s WHERE member_id = %s"
    exchange.alliance.execute(lower, 4, exchange.alliance.members["cleared"])
    try:
        await exchange.add(*objects, member="cleared")
    finally:
        exchange.alliance.execute(lower, 1, exchange.alliance.members["cleared"])


async def test_versions_above_the_clearance_are_not_touched(exchange: Exchange, cleared: str) -> None:
    """What you may not see does not exist: what is above stays, though the member's own client brought it."""
    of = new()
    await bring(exchange, version(of, 1), amber(of, 2), version(of, 3))
    assert await versions(exchange, of, cleared) == [("2.1", at(1)), ("2.1", at(3))]
    answer = await exchange.delete(exchange.path(f"objects/{of}/", SCRATCH), cleared)

    assert answer.status_code == 200
    assert await versions(exchange, of, cleared) == []
    assert await versions(exchange, of, "north") == [("2.1", at(2))]
    assert_error(await exchange.get(exchange.path(f"objects/{of}/", SCRATCH), cleared), 404)


async def test_another_members_version_above_the_clearance_doesnt_stop_it(exchange: Exchange, cleared: str) -> None:
    """What is above isn't mentioned either: a 403 would tell that it is there."""
    of = new()
    await exchange.add(version(of, 1), member=cleared)
    await exchange.add(amber(of, 2), member="north")

    assert (await exchange.delete(exchange.path(f"objects/{of}/", SCRATCH), cleared)).status_code == 200
    assert await versions(exchange, of) == [("2.1", at(2))]


@pytest.mark.parametrize("query", ["", "?match[version]=all", "?match[version]=last", f"?match[version]={at(2)}"])
async def test_an_object_wholly_above_the_clearance_is_absent(exchange: Exchange, cleared: str, query: str) -> None:
    """404, in the words that an unknown object gets, whoever brought it."""
    for its_own in (True, False):
        of = new()
        await (bring(exchange, amber(of, 2)) if its_own else exchange.add(amber(of, 2)))
        above = await exchange.delete(exchange.path(f"objects/{of}/{query}", SCRATCH), cleared)
        absent = await exchange.delete(exchange.path(f"objects/{new()}/{query}", SCRATCH), cleared)
        assert {**assert_error(above, 404), "error_id": ""} == {**assert_error(absent, 404), "error_id": ""}
        assert await versions(exchange, of) == [("2.1", at(2))]


async def test_last_is_the_last_that_the_caller_sees(exchange: Exchange, cleared: str) -> None:
    """First and last are computed as if what is above weren't there."""
    of = new()
    await bring(exchange, amber(of, 1), version(of, 2), version(of, 3), amber(of, 4))
    for word, left in (("last", [1, 2, 4]), ("first", [1, 4])):
        answer = await exchange.delete(exchange.path(f"objects/{of}/?match[version]={word}", SCRATCH), cleared)
        assert answer.status_code == 200
        assert await versions(exchange, of) == [("2.1", at(second)) for second in left]


async def test_removing_a_low_version_shows_what_it_superseded(exchange: Exchange, cleared: str) -> None:
    """Kept levels are set anew for every clearance, those of versions the remover can't see too."""
    of = new()
    await bring(exchange, version(of, 1), amber(of, 2), version(of, 3))
    await exchange.delete(exchange.path(f"objects/{of}/?match[version]=last", SCRATCH), cleared)

    assert await shown(exchange, of, cleared) == [version(of, 1)]
    assert await shown(exchange, of) == [amber(of, 2)]
    for member, left in ((cleared, version(of, 1)), ("north", amber(of, 2))):
        one = await exchange.get(exchange.path(f"objects/{of}/", SCRATCH), member)
        assert one.json()["objects"] == [left]
