"""Paging (§3.5): by `next`, or by `added_after` alone; `limit`; what a cursor is good for, and for whom."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.factories import indicator, malware, stix_id
from tests.taxii.alliance import PAGE_SIZE, PAGE_SIZE_MAX, Exchange, exchange_on
from tests.taxii.laws import FIRST, LAST, hold
from tests.taxii.shelf import EVERY, NAME, OBJECTS, PAGES, A, B, Shelf, items

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

INDICATORS = "fraud-intel/indicators"
CASES = "crime-desk/cases"
PAGE_BYTES = 3000
MANY = PAGE_SIZE_MAX + 50
every_page = pytest.mark.parametrize("rest", PAGES)


@pytest.fixture(scope="module")
async def many(exchange: Exchange) -> list[str]:
    """Add more than a page holds to a collection, in one request; give the ids in that order."""
    found = [malware(id=stix_id("malware", number), name=f"{number}") for number in range(MANY)]
    await exchange.add(*found, member="constabulary", name=CASES)
    return [one["id"] for one in found]


async def walk(
    exchange: Exchange, path: str, member: str, query: dict[str, str], *, by: str, repeat: bool = True
) -> list[list[Any]]:
    """Page to the end, by `next` (repeating the query or dropping it) or by `added_after`; give the pages."""
    pages, asked = [], dict(query)
    for _ in range(1000):
        answer = await exchange.get(path, member, params=asked)
        assert answer.status_code == 200, answer.text
        pages.append(items(answer))
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
    whole = items(await filled.exchange.get(filled.path(rest), params=PAGES[rest]))
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
        whole = items(await filled.exchange.get(filled.path(rest), params=query))
        pages = await walk(filled.exchange, filled.path(rest), "north", query | {"limit": "1"}, by=by)
        assert [item for page in pages for item in page] == whole


async def test_a_cursor_does_not_move_the_question(filled: Shelf) -> None:
    """D-05, D-06: what is first is judged by the first request; `added_after` is a filter, a position is none."""
    query = {"match[version]": "first", "match[id]": A}
    first = await filled.exchange.get(filled.path(), params=query | {"limit": "1"})
    assert items(first) == [OBJECTS["a1"]]
    assert first.json()["more"] is False

    pages = await walk(filled.exchange, filled.path(), "north", {"match[version]": "first", "limit": "1"}, by="next")
    assert [page[0] for page in pages] == [OBJECTS[name] for name in ("a1", "b", "m", "s", "x21", "o20")]
    after = await filled.exchange.get(filled.path(), params=query | {"added_after": first.headers[LAST]})
    assert items(after) == [OBJECTS["a2"]]


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
        taken += items(answer)
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

    assert [one["id"] for one in items(answer)] == many[:expected]
    assert answer.json()["more"] is True


@pytest.mark.parametrize("limit", [MANY - PAGE_SIZE_MAX, MANY - PAGE_SIZE_MAX + 1, PAGE_SIZE_MAX])
async def test_what_fits_is_returned_whole(exchange: Exchange, many: list[str], limit: int) -> None:
    """§3.4: exactly as many as there are, or fewer than asked, is the end: no `more`, no `next`."""
    path = exchange.path("objects/", CASES)
    first = await exchange.get(path, "constabulary", params={"limit": f"{PAGE_SIZE_MAX}"})
    rest = await exchange.get(path, "constabulary", params={"limit": f"{limit}", "next": first.json()["next"]})

    assert [one["id"] for one in items(rest)] == many[PAGE_SIZE_MAX:]
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
    assert len(items(answer)) == 6


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
