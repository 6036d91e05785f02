"""Filtering (§3.4), on objects and manifest alike: each question is put to both."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.factories import indicator, indicator_2_0, stix_id
from tests.taxii.laws import FIRST, LAST
from tests.taxii.shelf import A1, A2, A3, CREATED, PAGES, X20, X21, A, B, M, S, X

if TYPE_CHECKING:
    import httpx

    from tests.taxii.alliance import Exchange
    from tests.taxii.shelf import Shelf

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("rest", ["objects/", "manifest/"])
# What STIX 2.1 defines: 19 SDOs, 18 SCOs, 2 SROs and 3 meta objects.
STIX_TYPES = """
    attack-pattern campaign course-of-action grouping identity incident indicator infrastructure intrusion-set location
    malware malware-analysis note observed-data opinion report threat-actor tool vulnerability
    artifact autonomous-system directory domain-name email-addr email-message file ipv4-addr ipv6-addr mac-addr mutex
    network-traffic process software url user-account windows-registry-key x509-certificate
    relationship sighting
    extension-definition language-content marking-definition
""".split()  # noqa: SIM905 - a column of names would say no more


@BOTH
@pytest.mark.parametrize(
    ("query", "names"),
    [
        # §3.4: without parameters all content, as the defaults of version and spec_version leave it
        ({}, "b m s a3 x21 o20"),
        # ids (§3.4.1)
        ({"match_id": B}, "b"),
        ({"match_id": f"{B},{S}"}, "b s"),
        ({"match_id": f"{S},{B},{S}"}, "b s"),
        ({"match_id": stix_id("tool", 99)}, ""),
        ({"match_id": "no identifier"}, ""),
        ({"match_id": B.upper()}, ""),
        # types, which are told apart by case
        ({"match_type": "indicator"}, "a3 x21 o20"),
        ({"match_type": "indicator,malware"}, "b a3 x21 o20"),
        ({"match_type": "ipv4-addr"}, "s"),
        ({"match_type": "x-acme-thing"}, ""),
        ({"match_type": "Indicator"}, ""),
        # several fields: and
        ({"match_type": "indicator", "match_id": B}, ""),
        ({"match_type": "indicator,malware", "match_id": f"{B},{M}"}, "b"),
        ({"match_type": "indicator", "match_spec_version": "2.0", "match_id": f"{X},{B}"}, "x20"),
        ({"match_type": "indicator", "match_version": "first", "match_spec_version": "2.1"}, "a1 x21"),
        # forms: those that don't exist match nothing
        ({"match_spec_version": "2.0"}, "x20 o20"),
        ({"match_spec_version": "2.1"}, "b m s a3 x21"),
        ({"match_spec_version": "2.0", "match_id": S}, ""),
        ({"match_spec_version": "9.9"}, ""),
        ({"match_spec_version": "9.9,2.0"}, "x20 o20"),
        ({"match_spec_version": "2.0,2.1"}, "b m s a3 x21 o20"),
        ({"match_spec_version": "2.1,2.0", "match_version": "all"}, "a1 b a2 m x20 s a3 x21 o20"),
        ({"match_spec_version": "2.0,2.1", "match_version": "first"}, "a1 b m x20 s o20"),
        # versions by word and by instant
        ({"match_version": "last"}, "b m s a3 x21 o20"),
        ({"match_version": "first"}, "a1 b m s x21 o20"),
        ({"match_version": "all"}, "a1 b a2 m s a3 x21 o20"),
        ({"match_version": "first,last"}, "a1 b m s a3 x21 o20"),
        ({"match_version": f"first,{A2},last", "match_id": A}, "a1 a2 a3"),
        ({"match_version": A2}, "a2"),
        ({"match_version": f"{A2},{A3}"}, "a2 a3"),
        ({"match_version": A1}, "a1 o20"),
        # instants, not spellings
        ({"match_version": "2024-01-01T00:00:02.1Z"}, "a2"),
        ({"match_version": "2024-01-01T00:00:02.100000Z"}, "a2"),
        ({"match_version": "2024-01-01T00:00:02.100001Z"}, ""),
        # a marking's version is its created; created of what has a modified is no version
        ({"match_version": "2001-02-03T04:05:06.7Z"}, "m"),
        ({"match_version": CREATED}, ""),
        # judged per object: an instant that is of an older form alone is found
        ({"match_version": X20}, "x20"),
        ({"match_version": X21}, "x21"),
        ({"match_version": X20, "match_spec_version": "2.1"}, ""),
        ({"match_version": f"{X20},last", "match_id": X}, "x20 x21"),
    ],
)
async def test_filters_select(filled: Shelf, rest: str, query: dict[str, str], names: str) -> None:
    """§3.4, §3.4.1, §5.3, D-05: the same versions from objects and manifest, in order of addition."""
    assert await filled.names(rest, **query) == names.split()


@BOTH
@pytest.mark.parametrize(
    ("name", "query", "left"),
    [
        # strictly after (§3.4); what is left is judged as if the rest did not exist
        ("a2", {}, "m s a3 x21 o20"),
        ("a3", {}, "x21 o20"),
        ("o20", {}, ""),
        ("b", {"match_version": "all"}, "a2 m s a3 x21 o20"),
        ("b", {"match_version": "first"}, "a2 m s x21 o20"),
        ("b", {"match_id": A, "match_version": A1}, ""),
        ("s", {"match_spec_version": "2.0"}, "o20"),
        ("b", {"match_type": "indicator", "match_spec_version": "2.0"}, "x20 o20"),
    ],
)
async def test_added_after_is_strict(filled: Shelf, rest: str, name: str, query: dict[str, str], left: str) -> None:
    """§3.4: only what was added after the instant, and the other filters on what that leaves."""
    assert await filled.names(rest, added_after=filled.dates[name], **query) == left.split()


@pytest.mark.parametrize("rest", PAGES)
async def test_nothing_was_added_after_the_future(filled: Shelf, rest: str) -> None:
    """§3.4, §5.4, D-03: an empty page tells the caller's own instant as both dates."""
    answer = await filled.get(rest, added_after="2999-01-01T00:00:00Z")

    assert answer.json() == {"more": False}
    assert answer.headers[FIRST] == answer.headers[LAST] == "2999-01-01T00:00:00.000000Z"


@pytest.mark.parametrize("rest", PAGES)
@pytest.mark.parametrize(
    "text",
    [
        "1970-01-01T00:00:00Z",
        "1970-01-01T00:00:00.1Z",
        "1970-01-01T00:00:00.123Z",
        "1970-01-01T00:00:00.123456Z",
        "1970-01-01T00:00:00.123456789Z",
        "1970-01-01T00:00:00%2B00:00",
        "1970-01-01T02:00:00+02:00",
        "1969-12-31T22:30:00-01:30",
        "0001-01-01T00:00:00Z",
    ],
)
async def test_added_after_is_read_as_clients_write_it(filled: Shelf, rest: str, text: str) -> None:
    """§3.4, D-14: nought to nine digits, `Z` or an offset; an offset's + may arrive unescaped."""
    answer = await filled.status(f"added_after={text}", rest)

    assert answer.status_code == 200
    assert answer.json()["more"] is False
    assert len(answer.json()) == 2


@BOTH
async def test_digits_beyond_microseconds_are_cut_off(filled: Shelf, rest: str) -> None:
    """§2, D-14: nine digits are understood, six of them count."""
    date = filled.dates["a3"]

    assert await filled.names(rest, added_after=date.replace("Z", "999Z")) == ["x21", "o20"]


@BOTH
async def test_brackets_colons_and_commas_may_be_encoded(filled: Shelf, rest: str) -> None:
    """RFC 3986: the encoded and the literal query are one."""
    query = f"match[id]={A},{B}&match[version]={A1},last&added_after=2000-01-01T00:00:00Z"
    encoded = query.replace("[", "%5B").replace("]", "%5D").replace(":", "%3A").replace(",", "%2C")

    literal = await filled.status(query, rest)
    assert len(literal.json()["objects"]) == 3
    assert (await filled.status(encoded, rest)).content == literal.content


@BOTH
async def test_no_type_of_stix_is_an_error(filled: Shelf, rest: str) -> None:
    """§3.4.1: all types that STIX 2.1 defines may be asked for, held or not."""
    assert len(STIX_TYPES) == len(set(STIX_TYPES)) == 42
    held = set()
    for stix_type in STIX_TYPES:
        if await filled.names(rest, match_type=stix_type):
            held.add(stix_type)

    assert held == {"indicator", "malware", "marking-definition", "ipv4-addr"}
    assert await filled.names(rest, match_type=",".join(STIX_TYPES)) == ["b", "m", "s", "a3", "x21", "o20"]


async def test_an_unversioned_object_is_found_by_its_date(filled: Shelf) -> None:
    """§3.4.1, D-17: an observable's version is its date of addition, wherever it is told or asked for."""
    date = filled.dates["s"]
    [record] = (await filled.get("manifest/", match_id=S)).json()["objects"]

    assert record["version"] == record["date_added"] == date
    assert (await filled.get(f"objects/{S}/versions/")).json()["versions"] == [date]
    assert await filled.names(match_version=date) == ["s"]
    assert await filled.names(match_version=date, match_id=S, match_type="ipv4-addr") == ["s"]


async def _names(exchange: Exchange, name: str, stix_id: str, query: dict[str, str]) -> list[str]:
    answer: httpx.Response = await exchange.get(exchange.path("objects/", name), params=query | {"match[id]": stix_id})
    return [one["name"] for one in answer.json().get("objects", [])]


async def test_the_latest_form_goes_before_the_latest_version(exchange: Exchange) -> None:
    """§3.4.1, D-05: of an object whose 2.0 version was modified later, the 2.1 version is the answer."""
    of, cases = stix_id("indicator", 50), "crime-desk/cases"
    await exchange.add(
        indicator(id=of, modified="2024-06-01T00:00:00Z", name="2.1"),
        indicator_2_0(id=of, modified="2024-06-02T00:00:00Z", name="2.0"),
        member="constabulary",
        name=cases,
    )

    async def names(**query: str) -> list[str]:
        answer = await exchange.get(
            exchange.path(f"objects/{of}/", cases),
            "constabulary",
            params={f"match[{name}]": value for name, value in query.items()},
        )
        return [one["name"] for one in answer.json().get("objects", [])]

    assert await names() == ["2.1"]
    assert await names(version="all") == ["2.1"]
    assert await names(version="last", spec_version="2.0,2.1") == ["2.1"]
    assert await names(version="first", spec_version="2.0,2.1") == ["2.0"]
    assert await names(spec_version="2.0") == ["2.0"]
    assert await names(version="2024-06-02T00:00:00Z") == ["2.0"]


async def test_a_late_arrival_is_news_to_who_asks_from_after_its_successor(exchange: Exchange) -> None:
    """§3.4.1, D-06: add a3, note the time, add a2. Since then a2 is the latest; on the whole it is a3."""
    of, indicators = stix_id("indicator", 51), "fraud-intel/indicators"
    later, earlier = (indicator(id=of, modified=f"2024-06-0{day}T00:00:00Z", name=f"a{day}") for day in (3, 2))
    await exchange.add(later, name=indicators)
    manifest = await exchange.get(exchange.path("manifest/"), params={"match[id]": of})
    noted = manifest.headers[LAST]
    await exchange.add(earlier, name=indicators)

    async def names(**query: str) -> list[str]:
        return await _names(
            exchange,
            indicators,
            of,
            {name.replace("match_version", "match[version]"): value for name, value in query.items()},
        )

    assert await names() == ["a3"]
    assert await names(match_version="all") == ["a3", "a2"]
    assert await names(match_version="first") == ["a2"]
    assert await names(added_after=noted) == ["a2"]
    assert await names(added_after=noted, match_version="all") == ["a2"]

    await exchange.add(indicator(id=of, modified="2024-06-04T00:00:00Z", name="a4"), name=indicators)
    assert await names(added_after=noted) == ["a4"]
    assert await names() == ["a4"]


async def test_an_instant_between_two_microseconds_is_no_version(filled: Shelf) -> None:
    """§3.4.1: it follows STIX's rule, so it is no error; nothing stored can have it. Zeros at its end say nothing."""
    assert await filled.names(**{"match[version]": "2024-01-01T00:00:02.1000001Z"}) == []
    assert await filled.names(**{"match[version]": "2024-01-01T00:00:02.1000001Z,first", "match[id]": A}) == ["a1"]
    assert await filled.names(**{"match[version]": "2024-01-01T00:00:02.100000000Z"}) == ["a2"]


async def test_a_type_named_twice_is_walked_once(filled: Shelf) -> None:
    """§3.4, OR: the same type again adds nothing, on no page."""
    for version in ("last", "all"):
        once = await filled.names(**{"match[type]": "indicator", "match[version]": version})

        assert once == await filled.names(**{"match[type]": "indicator,indicator", "match[version]": version})
