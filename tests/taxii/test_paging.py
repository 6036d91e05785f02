"""Paging (§3.5): by `next`, or by `added_after` alone; `limit`; what a cursor is good for, and for whom."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taxii_server.app import create_app
from tests.factories import indicator, malware, stix_id
from tests.taxii.alliance import PAGE_SIZE, PAGE_SIZE_MAX, Exchange, assert_error, exchange_on, settings_for
from tests.taxii.laws import FIRST, LAST, hold
from tests.taxii.shelf import EVERY, NAME, OBJECTS, A, B, Shelf

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

INDICATORS = "fraud-intel/indicators"
CASES = "crime-desk/cases"
PAGE_BYTES = 3000
MANY = PAGE_SIZE_MAX + 50
PAGES = {
    "objects/": {"match[version]": "all", "match[spec_version]": "2.0,2.1"},
    "manifest/": {"match[version]": "all", "match[spec_version]": "2.0,2.1"},
    f"objects/{A}/": {"match[version]": "all"},
    f"objects/{A}/versions/": {"match[spec_version]": "2.0,2.1"},
}
every_page = pytest.mark.parametrize("rest", PAGES)


@pytest.fixture(scope="module")
async def many(exchange: Exchange) -> list[str]:
    """Add more than a page holds to a collection, in one request; give the ids in that order."""
    found = [malware(id=stix_id("malware", number), name=f"{number}") for number in range(MANY)]
    await exchange.add(*found, member="constabulary", name=CASES)
    return [one["id"] for one in found]


def _items(answer: httpx.Response) -> list[Any]:
    body = answer.json()
    return list(body.get("objects", body.get("versions", [])))


async def walk(
    exchange: Exchange, path: str, member: str, query: dict[str, str], *, by: str, repeat: bool = True
) -> list[list[Any]]:
    """Page to the end, by `next` (repeating the query or dropping it) or by `added_after`; give the pages."""
    pages, asked = [], dict(query)
    for _ in range(1000):
        answer = await exchange.get(path, member, params=asked)
        assert answer.status_code == 200, answer.text
        pages.append(_items(answer))
        if not answer.json()["more"]:
            return pages
        if by == "next":
            asked = ({**query} if repeat else {}) | {"next": answer.json()["next"]}
        else:
            asked = {**query, "added_after": answer.headers[LAST]}
    pytest.fail("paging doesn't come to an end")


@every_page
@pytest.mark.parametrize("limit", range(1, 11))
@pytest.mark.parametrize("how", ["next, repeating the query", "next alone", "added_after"])
async def test_every_walk_gives_everything_once_and_in_order(filled: Shelf, rest: str, limit: int, how: str) -> None:
    """§3.5, D-15, D-18: pages hold no more than asked, and their union is the unpaged answer, whichever way one pages."""
    whole = _items(await filled.exchange.get(filled.path(rest), params=PAGES[rest]))
    by, repeat = "next" if "next" in how else how, "alone" not in how
    # who drops the query on page two drops its limit too, so page two is the rest
    pages = await walk(
        filled.exchange, filled.path(rest), "north", PAGES[rest] | {"limit": f"{limit}"}, by=by, repeat=repeat
    )

    assert [item for page in pages for item in page] == whole
    assert all(pages)
    assert len(pages[0]) == min(limit, len(whole))
    if repeat:
        assert {len(page) for page in pages[:-1]} <= {limit}


@pytest.mark.parametrize("by", ["next", "added_after"])
@pytest.mark.parametrize(
    "query",
    [
        {},
        {"match[type]": "indicator"},
        {"match[spec_version]": "2.0"},
        {"match[type]": "indicator,malware", "match[version]": "all", "match[spec_version]": "2.0,2.1"},
        {"match[id]": f"{A},{B}", "match[version]": "all"},
    ],
)
async def test_filters_hold_over_all_pages(filled: Shelf, query: dict[str, str], by: str) -> None:
    """§3.5: each page continues the same result set."""
    for rest in ("objects/", "manifest/"):
        whole = _items(await filled.exchange.get(filled.path(rest), params=query))
        pages = await walk(filled.exchange, filled.path(rest), "north", query | {"limit": "1"}, by=by)
        assert [item for page in pages for item in page] == whole


async def test_a_cursor_does_not_move_the_question(filled: Shelf) -> None:
    """D-05, D-06: what is first is judged by the first request; `added_after` is a filter, a position is none."""
    query = {"match[version]": "first", "match[id]": A}
    first = await filled.exchange.get(filled.path(), params=query | {"limit": "1"})
    assert _items(first) == [OBJECTS["a1"]]
    assert first.json()["more"] is False

    pages = await walk(filled.exchange, filled.path(), "north", {"match[version]": "first", "limit": "1"}, by="next")
    assert [page[0] for page in pages] == [OBJECTS[name] for name in ("a1", "b", "m", "s", "x21", "o20")]
    after = await filled.exchange.get(filled.path(), params=query | {"added_after": first.headers[LAST]})
    assert _items(after) == [OBJECTS["a2"]]


@every_page
async def test_dates_are_those_of_the_page(filled: Shelf, rest: str) -> None:
    """§3.2, §3.5: First and Last are of this response's items, not of the collection's."""
    records = (await filled.exchange.get(filled.path("manifest/"), params=EVERY)).json()["objects"]
    dates = [one["date_added"] for one in records if A not in rest or one["id"] == A]
    query = PAGES[rest] | {"limit": "2"}
    first = await filled.exchange.get(filled.path(rest), params=query)
    second = await filled.exchange.get(filled.path(rest), params=query | {"next": first.json()["next"]})

    assert [first.headers[name] for name in (FIRST, LAST)] == [dates[0], dates[1]]
    assert [second.headers[name] for name in (FIRST, LAST)] == [dates[2], dates[2:4][-1]]


async def test_limit_may_change_from_page_to_page(filled: Shelf) -> None:
    """§3.5: the OASIS client asks for less on page two once the server gave less on page one."""
    query, names = dict(EVERY), list(OBJECTS)
    taken: list[Any] = []
    for limit in (4, 1, 3, 50):
        answer = await filled.exchange.get(filled.path(), params=query | {"limit": f"{limit}"})
        taken += _items(answer)
        query = dict(EVERY) | {"next": answer.json().get("next", "")}

    assert taken == [OBJECTS[name] for name in names]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, PAGE_SIZE),
        ({"limit": "7"}, 7),
        ({"limit": "0007"}, 7),
        ({"limit": f"{PAGE_SIZE + 1}"}, PAGE_SIZE + 1),
        ({"limit": f"{PAGE_SIZE_MAX}"}, PAGE_SIZE_MAX),
        ({"limit": f"{PAGE_SIZE_MAX + 1}"}, PAGE_SIZE_MAX),
        ({"limit": f"{2**53 - 1}"}, PAGE_SIZE_MAX),
    ],
)
@pytest.mark.parametrize("rest", ["objects/", "manifest/"])
async def test_the_server_caps_pages(
    exchange: Exchange, many: list[str], rest: str, query: dict[str, str], expected: int
) -> None:
    """§3.4, §3.5, D-21: fewer than asked is no error, a large limit neither; without a limit there is one too."""
    answer = await exchange.get(exchange.path(rest, CASES), "constabulary", params=query)

    assert [one["id"] for one in _items(answer)] == many[:expected]
    assert answer.json()["more"] is True


@pytest.mark.parametrize("limit", [MANY - PAGE_SIZE_MAX, MANY - PAGE_SIZE_MAX + 1, PAGE_SIZE_MAX])
async def test_what_fits_is_returned_whole(exchange: Exchange, many: list[str], limit: int) -> None:
    """§3.4: exactly as many as there are, or fewer than asked, is the end: no `more`, no `next`."""
    path = exchange.path("objects/", CASES)
    first = await exchange.get(path, "constabulary", params={"limit": f"{PAGE_SIZE_MAX}"})
    rest = await exchange.get(path, "constabulary", params={"limit": f"{limit}", "next": first.json()["next"]})

    assert [one["id"] for one in _items(rest)] == many[PAGE_SIZE_MAX:]
    assert rest.json()["more"] is False


@pytest.mark.parametrize("by", ["next", "added_after"])
@pytest.mark.parametrize("rest", ["objects/", "manifest/"])
async def test_one_envelopes_objects_page_apart(exchange: Exchange, many: list[str], rest: str, by: str) -> None:
    """§3.3, §3.5, D-18: objects added by one request have dates of their own, so a page border among them loses none."""
    pages = await walk(exchange, exchange.path(rest, CASES), "constabulary", {"limit": "37"}, by=by)

    assert [one["id"] for page in pages for one in page] == many


async def test_a_page_that_is_empty_ends_where_the_caller_was(exchange: Exchange) -> None:
    """§3.5, D-03: after the rest was deleted, `next` gives an empty page whose dates don't go back."""
    of = [indicator(id=stix_id("indicator", number)) for number in (900, 901)]
    await exchange.add(*of, name=INDICATORS)
    path = exchange.path("objects/")
    query = {"limit": "1", "match[id]": ",".join(one["id"] for one in of)}
    first = await exchange.get(path, params=query)
    await exchange.delete(exchange.path(f"objects/{of[1]['id']}/"))
    second = await exchange.get(path, params=query | {"next": first.json()["next"]})

    assert second.json() == {"more": False}
    assert second.headers[FIRST] == second.headers[LAST] == first.headers[LAST]


async def test_ranges_are_of_the_past(filled: Shelf) -> None:
    """§1.7.1: TAXII 2.0's Range header means nothing here."""
    answer = await filled.exchange.get(filled.path(), headers={"Range": "items 0-1"})

    assert answer.status_code == 200
    assert "content-range" not in answer.headers
    assert len(_items(answer)) == 6


# Cursors


async def _cursor(filled: Shelf, rest: str, query: dict[str, str] | None = None) -> str:
    answer = await filled.exchange.get(filled.path(rest), params={**PAGES[rest], **(query or {}), "limit": "1"})
    return str(answer.json()["next"])


@pytest.mark.parametrize(
    "query",
    [
        {"match[type]": "malware"},
        {"match[type]": "indicator"},
        {"match[id]": B},
        {"match[version]": "last"},
        {"match[version]": "first"},
        {"match[spec_version]": "2.1"},
        {"added_after": "2024-01-01T00:00:00Z"},
    ],
)
@pytest.mark.parametrize("rest", PAGES)
async def test_a_cursor_with_other_filters_is_400(filled: Shelf, rest: str, query: dict[str, str]) -> None:
    """§3.4, D-15: what the request spells out has to be what the cursor continues, where the endpoint has the field."""
    cursor = await _cursor(filled, rest, {"match[type]": "indicator,malware", "match[id]": f"{A},{B}"})
    answer = await filled.exchange.get(filled.path(rest), params=query | {"next": cursor})
    ignored = A in rest and ("type" in str(query) or "[id]" in str(query))

    if ignored or ("versions/" in rest and "match[version]" in query):
        assert answer.status_code == 200
    else:
        assert_error(answer, 400)


async def test_the_same_filters_in_other_words_are_the_same(filled: Shelf) -> None:
    """§3.4, D-15: the order of values and the spelling of an instant are not part of the question."""
    first = await filled.exchange.get(
        filled.path(),
        params={
            "limit": "1",
            "added_after": "1970-01-01T00:00:00.500Z",
            "match[id]": f"{A},{B}",
            "match[type]": "malware,indicator",
            "match[version]": "first,last,2024-01-01T00:00:02.100Z",
            "match[spec_version]": "2.0,2.1",
        },
    )
    again = await filled.exchange.get(
        filled.path(),
        params={
            "next": first.json()["next"],
            "added_after": "1970-01-01T01:00:00.5+01:00",
            "match[id]": f"{B},{A}",
            "match[type]": "indicator,malware",
            "match[version]": "2024-01-01T00:00:02.1Z,last,first",
            "match[spec_version]": "2.1,2.0",
        },
    )

    assert _items(first) + _items(again) == [OBJECTS[name] for name in ("a1", "b", "a2", "a3")]


@pytest.mark.parametrize("other", PAGES)
@pytest.mark.parametrize("rest", PAGES)
async def test_a_cursor_is_of_its_endpoint(filled: Shelf, rest: str, other: str) -> None:
    """§3.5, D-15: continued at another endpoint it is 400."""
    answer = await filled.exchange.get(filled.path(other), params={"next": await _cursor(filled, rest)})

    if rest == other:
        assert answer.status_code == 200
    else:
        assert_error(answer, 400)


@pytest.mark.parametrize("part", ["", "versions/"])
async def test_a_cursor_of_one_object_is_of_no_other(filled: Shelf, part: str) -> None:
    """§5.6, D-15: the object the path names is part of the question."""
    cursor = await _cursor(filled, f"objects/{A}/{part}")

    assert_error(await filled.exchange.get(filled.path(f"objects/{B}/{part}"), params={"next": cursor}), 400)


@every_page
async def test_a_cursor_of_another_collection_is_set_aside(filled: Shelf, rest: str) -> None:
    """D-15: a real client sends the `next` of one collection to the next one; its own filters are what is answered."""
    exchange = filled.exchange
    if A in rest:
        await exchange.add(OBJECTS["a1"], name=INDICATORS)
    cursor = await _cursor(filled, rest)
    plain = await exchange.get(exchange.path(rest), params={"limit": "3"})
    answer = await exchange.get(exchange.path(rest), params={"limit": "3", "next": cursor})

    assert answer.status_code == 200
    assert answer.content == plain.content
    assert answer.headers[LAST] == plain.headers[LAST]


async def test_a_cursor_gives_no_rights(filled: Shelf) -> None:
    """Appendix B: it is evaluated for the present caller: others get what they may see, and no more."""
    exchange = filled.exchange
    cursor = await _cursor(filled, "objects/")
    north, harbour = [
        await exchange.get(filled.path(), member, params={"next": cursor}) for member in ("north", "harbour")
    ]
    assert harbour.content == north.content

    path = exchange.path()
    await exchange.add(*(indicator(id=stix_id("indicator", number)) for number in (910, 911)), name=INDICATORS)
    cursor = (await exchange.get(path, params={"limit": "1"})).json()["next"]
    for member, status in {"tide": 403, "court": 403, "constabulary": 404, "stranger": 404}.items():
        assert_error(await exchange.get(path, member, params={"next": cursor}), status)
    assert_error(await exchange.http.get(path, params={"next": cursor}), 401)


async def test_a_cursor_ends_with_the_right_to_read(filled: Shelf) -> None:
    """Appendix B: a right withdrawn between two pages is withdrawn from the second."""
    exchange = filled.exchange
    alliance = exchange.alliance
    alliance.member("passing")
    alliance.grant("passing", NAME, ("read",))
    exchange.clients["passing"] = alliance.client("passing")
    first = await exchange.get(filled.path(), "passing", params={"limit": "1"})
    alliance.execute("DELETE FROM grants WHERE member_id = %s", alliance.members["passing"])

    assert_error(await exchange.get(filled.path(), "passing", params={"next": first.json()["next"]}), 404)


async def test_a_cursor_outlives_the_process(filled: Shelf, module_database_urls: DatabaseUrls) -> None:
    """§3.5: cursors are values: another worker, or this one started anew, continues from them."""
    cursor = await _cursor(filled, "objects/")
    here = await filled.exchange.get(filled.path(), params={"next": cursor})
    another = create_app(settings_for(module_database_urls))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(another), base_url="http://127.0.0.1:8000") as http:
        there = await http.get(filled.path(), params={"next": cursor}, headers=filled.exchange.as_("north"))

    assert there.content == here.content


def _pack(plain: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(plain, separators=(",", ":")).encode()).rstrip(b"=").decode()


def _unpack(cursor: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))


async def test_every_truncation_of_a_cursor_is_400(filled: Shelf) -> None:
    """§3.4, Appendix B: half a cursor is no cursor."""
    cursor = await _cursor(filled, "objects/")
    for length in range(1, len(cursor)):
        assert_error(await filled.exchange.get(filled.path(), params={"next": cursor[:length]}), 400)
    for longer in (f"{cursor}=", f"{cursor}A", f" {cursor}", f"{cursor}\n", f"{cursor}{cursor}", f"{cursor},{cursor}"):
        assert_error(await filled.exchange.get(filled.path(), params={"next": longer}), 400)


_odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["all", "last", A, "objects"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(place=st.integers(0, 8), value=_odd)
async def test_a_forged_cursor_is_400_or_a_plain_page(filled: Shelf, place: int, value: Any) -> None:
    """Appendix B: with any value in any place, it is refused, or understood as a question that could be asked plainly."""
    plain = _unpack(await _cursor(filled, "objects/"))
    plain[place] = value
    answer = await filled.exchange.get(filled.path(), params={"next": _pack(plain)})

    assert answer.status_code in {200, 400}
    if answer.status_code == 200:
        assert all(one in OBJECTS.values() for one in _items(answer))


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_a_tampered_cursor_is_never_a_fault(filled: Shelf, data: st.DataObject) -> None:
    """Appendix B: random text is refused; one letter changed is refused or shows what the caller may see anyway."""
    cursor = await _cursor(filled, "objects/")
    if data.draw(st.booleans()):
        tampered = data.draw(
            st.text(min_size=1, max_size=60)
            | st.binary(min_size=1, max_size=60).map(lambda octets: base64.urlsafe_b64encode(octets).decode())
        )
        assert_error(await filled.exchange.get(filled.path(), params={"next": tampered.replace("\ud800", "")}), 400)
        return
    at = data.draw(st.integers(0, len(cursor) - 1))
    letter = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
    answer = await filled.exchange.get(filled.path(), params={"next": cursor[:at] + letter + cursor[at + 1 :]})

    assert answer.status_code in {200, 400}
    if answer.status_code == 200:
        assert all(one in OBJECTS.values() for one in _items(answer))


# Pages bounded by octets


@pytest.fixture
async def narrow(fresh_database_urls: DatabaseUrls) -> AsyncIterator[Exchange]:
    """An exchange whose pages hold few octets."""
    async with exchange_on(fresh_database_urls, page_bytes=PAGE_BYTES) as running:
        running.http.event_hooks["response"].append(hold)
        yield running


async def test_pages_are_bounded_by_octets(narrow: Exchange) -> None:
    """§3.4, §3.5: what no longer fits is left for the next page; an object larger than a page goes alone."""
    sizes = [100, 1000, 1000, 1000, 5000, 100, 2600, 100, 9000]
    objects = [malware(id=stix_id("malware", number), name="-" * size) for number, size in enumerate(sizes)]
    expected: list[list[int]] = [[]]
    octets = 0
    for one, size in zip(objects, sizes, strict=True):
        octets += len(json.dumps(one))
        if expected[-1] and octets > PAGE_BYTES:
            expected.append([])
            octets = len(json.dumps(one))
        expected[-1].append(size)
    await narrow.add(*objects, name=NAME)
    for by in ("next", "added_after"):
        pages = await walk(narrow, narrow.path("objects/", NAME), "north", {}, by=by)
        assert [one for page in pages for one in page] == objects
        assert [[len(one["name"]) for one in page] for page in pages] == expected
    assert len(expected) > 4
    records = await walk(narrow, narrow.path("manifest/", NAME), "north", {}, by="next")
    assert [one["id"] for page in records for one in page] == [one["id"] for one in objects]
