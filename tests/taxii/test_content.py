"""Manifest, objects, one object, its versions (§5.3, §5.4, §5.6, §5.8): what each holds, and when it is 404."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Engine

from tests.auth.alliance import statements
from tests.factories import TLP2, indicator, malware, marking, stix_id
from tests.taxii.alliance import Exchange, assert_error
from tests.taxii.laws import FIRST, LAST
from tests.taxii.shelf import A1, A2, A3, OBJECTS, X20, X21, A, B, M, O, S, X

if TYPE_CHECKING:
    from tests.taxii.shelf import Shelf

pytestmark = pytest.mark.anyio

INDICATORS, CASES = "fraud-intel/indicators", "crime-desk/cases"
CONTENT = ["manifest/", "objects/", f"objects/{A}/", f"objects/{A}/versions/"]


# Get Objects


async def test_an_envelope_holds_the_objects_as_they_were_posted(filled: Shelf) -> None:
    """§3.7, §5.4: an envelope, no bundle, even about a single object; its items are the STIX objects themselves."""
    answer = await filled.get()
    single = await filled.get(match_id=B)

    assert answer.json() == {
        "more": False,
        "objects": [OBJECTS[name] for name in ("b", "m", "s", "a3", "x21", "o20")],
    }
    assert single.json() == {"more": False, "objects": [OBJECTS["b"]]}


async def test_nothing_found_is_an_empty_envelope(filled: Shelf) -> None:
    """§3.7, §5.4: 200 without `objects`, never an empty list and never 404."""
    for rest in ("objects/", "manifest/"):
        assert (await filled.get(rest, match_type="campaign")).json() == {"more": False}


# Manifest


async def test_a_manifest_has_one_record_a_version(filled: Shelf) -> None:
    """§5.3.1: id, date, version by the object's own text, and media type; modified, else created, else the date."""
    records = (await filled.get("manifest/", match_version="all", match_spec_version="2.0,2.1")).json()["objects"]
    versions = [A1, OBJECTS["b"]["modified"], A2, OBJECTS["m"]["created"], X20, filled.dates["s"], A3, X21, A1]

    assert records == [
        {
            "id": one["id"],
            "date_added": filled.dates[name],
            "version": version,
            "media_type": f"application/stix+json;version={'2.0' if name.endswith('20') else '2.1'}",
        }
        for (name, one), version in zip(OBJECTS.items(), versions, strict=True)
    ]


async def test_media_types_of_records_are_among_the_collections(filled: Shelf) -> None:
    """§5.2.1, §5.3.1: the collection names every media type it stores."""
    collection = (await filled.exchange.get(filled.path(""))).json()
    records = (await filled.get("manifest/", match_spec_version="2.0,2.1", match_version="all")).json()["objects"]

    assert {one["media_type"] for one in records} == set(collection["media_types"])


# One object


@pytest.mark.parametrize("of", [A, B, M, S, X, O])
@pytest.mark.parametrize(
    "query",
    [
        {},
        {"match_version": "all"},
        {"match_version": "first"},
        {"match_version": f"{A2},last"},
        {"match_version": "all", "match_spec_version": "2.0,2.1"},
        {"match_spec_version": "2.0"},
        {"match_version": "all", "limit": 2},
        {"added_after": "2000-01-01T00:00:00Z"},
        {"match_version": "1999-01-02T00:00:00Z"},
        {"added_after": "2999-01-01T00:00:00Z"},
    ],
)
async def test_one_object_is_the_list_narrowed_to_its_id(filled: Shelf, of: str, query: dict[str, str]) -> None:
    """§5.6: the same as Get Objects with `match[id]`, dates and paging included."""
    one = await filled.get(f"objects/{of}/", **query)
    listed = await filled.get(match_id=of, **query)

    assert one.json().get("objects") == listed.json().get("objects")
    assert one.json()["more"] == listed.json()["more"]
    assert [one.headers[name] for name in (FIRST, LAST)] == [listed.headers[name] for name in (FIRST, LAST)]


async def test_the_latest_version_unless_others_are_asked_for(filled: Shelf) -> None:
    """§5.6, §3.4.1: `all` gives every version, in order of addition."""
    assert await filled.names(f"objects/{A}/") == ["a3"]
    assert await filled.names(f"objects/{A}/", match_version="all") == ["a1", "a2", "a3"]


@pytest.mark.parametrize(
    ("of", "query"),
    [
        (A, {"match_version": "1999-01-01T00:00:00.000Z"}),
        (A, {"match_spec_version": "2.0"}),
        (A, {"match_spec_version": "9.9"}),
        (O, {"match_spec_version": "2.1"}),
        (A, {"added_after": "2999-01-01T00:00:00Z"}),
    ],
)
async def test_filters_that_leave_nothing_of_it_are_no_404(filled: Shelf, of: str, query: dict[str, str]) -> None:
    """§5.6: the object is there, so 200 with an empty envelope."""
    assert (await filled.get(f"objects/{of}/", **query)).json() == {"more": False}


@pytest.mark.parametrize(
    "query", ["", "?match[version]=all", "?match[spec_version]=9.9", "?added_after=2999-01-01T00:00:00Z"]
)
@pytest.mark.parametrize("part", ["", "versions/"])
@pytest.mark.parametrize("of", [stix_id("indicator", 99), "indicator--1", "x", A.upper(), A[:-1], f"{A}%20"])
async def test_an_unknown_object_is_404(filled: Shelf, of: str, part: str, query: str) -> None:
    """§5.6, §5.8: whatever the filters; ids are compared to the letter."""
    assert_error(await filled.exchange.get(f"{filled.path(f'objects/{of}/{part}')}{query}"), 404)


async def test_an_object_of_another_collection_is_404(filled: Shelf) -> None:
    """§5.6: collections hold objects of their own."""
    for part in ("", "versions/"):
        assert_error(await filled.exchange.get(filled.exchange.path(f"objects/{B}/{part}")), 404)


# Versions


@pytest.mark.parametrize(
    ("of", "query", "versions"),
    [
        (A, {}, [A1, A2, A3]),
        (B, {}, [OBJECTS["b"]["modified"]]),
        (M, {}, [OBJECTS["m"]["created"]]),
        # the latest form only, unless forms are named
        (X, {}, [X21]),
        (X, {"match_spec_version": "2.0"}, [X20]),
        (X, {"match_spec_version": "2.0,2.1"}, [X20, X21]),
        (O, {}, [A1]),
        (A, {"match_version": "first"}, [A1, A2, A3]),
        (A, {"limit": 2}, [A1, A2]),
    ],
)
async def test_versions_are_listed_as_the_objects_write_them(
    filled: Shelf, of: str, query: dict[str, str], versions: list[str]
) -> None:
    """§5.8, §5.8.1, D-05: all of them, modified else created, in order of addition."""
    answer = await filled.get(f"objects/{of}/versions/", **query)

    assert answer.json()["versions"] == versions
    assert answer.json()["more"] is ("limit" in query)


async def test_versions_may_be_filtered_away(filled: Shelf) -> None:
    """§5.8.1: no empty list; §3.4: `added_after` counts here too."""
    after = filled.dates["a1"]

    assert (await filled.get(f"objects/{A}/versions/", added_after=after)).json()["versions"] == [A2, A3]
    for query in ({"added_after": "2999-01-01T00:00:00Z"}, {"match_spec_version": "2.0"}):
        assert (await filled.get(f"objects/{A}/versions/", **query)).json() == {"more": False}


# Who may read


@pytest.mark.parametrize("rest", CONTENT)
@pytest.mark.parametrize(
    ("member", "status"), [("tide", 403), ("court", 403), ("constabulary", 404), ("stranger", 404)]
)
async def test_without_the_right_to_read(exchange: Exchange, rest: str, member: str, status: int) -> None:
    """§5.3, §5.4, §5.6, §5.8: 403 where the collection is visible, 404 where it isn't; the object there or not."""
    await exchange.add(OBJECTS["a1"], name=INDICATORS)
    there = assert_error(await exchange.get(exchange.path(rest), member), status)
    absent = assert_error(await exchange.get(exchange.path(rest.replace(A, stix_id("indicator", 98))), member), status)

    assert there | {"error_id": ""} == absent | {"error_id": ""}


async def test_what_is_above_the_clearance_does_not_exist(exchange: Exchange) -> None:
    """§1.6.9, §8.2.2: versions, counts, dates and `more` are those of a collection without it."""
    red = "marking-definition--e828b379-4e03-4974-9ac4-e53a884c97c1"
    of, other = stix_id("indicator", 740), stix_id("malware", 740)
    alliance = exchange.alliance
    alliance.member("guest")
    alliance.grant("guest", CASES, ("read",), clearance=1)
    exchange.clients["guest"] = alliance.client("guest")
    old = indicator(id=of, modified="2024-01-01T00:00:00Z")
    await exchange.add(old, member="constabulary", name=CASES)
    await exchange.add(
        indicator(id=of, modified="2024-01-02T00:00:00Z", object_marking_refs=[red]), member="constabulary", name=CASES
    )
    await exchange.add(malware(id=other, object_marking_refs=[red]), member="constabulary", name=CASES)

    def path(rest: str) -> str:
        return exchange.path(rest, CASES)

    listed = await exchange.get(path("objects/"), "guest", params={"match[id]": f"{of},{other}", "limit": "1"})
    assert listed.json() == {"more": False, "objects": [old]}
    assert listed.headers[FIRST] == listed.headers[LAST]
    versions = await exchange.get(path(f"objects/{of}/versions/"), "guest")
    assert versions.json()["versions"] == ["2024-01-01T00:00:00Z"]
    for part in ("", "versions/"):
        assert_error(await exchange.get(path(f"objects/{other}/{part}"), "guest"), 404)


@pytest.mark.parametrize("by_id", [True, False])
async def test_at_once_each_sees_what_its_own_clearance_allows(exchange: Exchange, by_id: bool) -> None:
    """§8.2.2: those who ask for the same at the same moment share a read, and never with another clearance."""
    alliance = exchange.alliance
    low, high = ("low-by-id", "high-by-id") if by_id else ("low", "high")
    readers = ["constabulary", low, high]
    for name, clearance in ((low, 1), (high, 2)):
        alliance.member(name)
        alliance.grant(name, CASES, ("read",), clearance=clearance)
        exchange.clients[name] = alliance.client(name)
    for number, level in ((750, "green"), (751, "amber"), (752, "red")):
        one = indicator(id=stix_id("indicator", number), object_marking_refs=[TLP2[level]])
        await exchange.add(one, member="constabulary", name=CASES)
    path = exchange.path("objects/", CASES)
    params = {"match[id]": ",".join(stix_id("indicator", number) for number in (750, 751, 752))} if by_id else {}
    alone = [(await exchange.get(path, reader, params=params)).content for reader in readers]
    assert len(set(alone)) == len(readers)

    with statements(Engine) as sent:
        answers = await asyncio.gather(*(exchange.get(path, reader, params=params) for reader in readers * 10))
    assert [answer.content for answer in answers] == alone * 10
    pages = sum("object_versions" in statement for statement in sent)
    assert len(readers) <= pages < 10 * len(readers)


async def test_markings_are_served_like_any_object(exchange: Exchange) -> None:
    """§3.7: marking-definitions are items of an envelope too."""
    one = marking(id=stix_id("marking-definition", 741))
    await exchange.add(one, member="constabulary", name=CASES)

    answer = await exchange.get(exchange.path(f"objects/{one['id']}/", CASES), "constabulary")
    assert answer.json()["objects"] == [one]
