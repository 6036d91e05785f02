"""The order of what is listed (§3.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.factories import malware, stix_id
from tests.taxii.laws import FIRST, LAST
from tests.taxii.shelf import EVERY, OBJECTS, A

if TYPE_CHECKING:
    from tests.taxii.alliance import Exchange
    from tests.taxii.shelf import Shelf

pytestmark = pytest.mark.anyio

CASES = "crime-desk/cases"


async def test_content_comes_in_the_order_of_its_addition(filled: Shelf) -> None:
    """§3.3: oldest addition first, whatever dates stand in the objects."""
    objects = (await filled.get(**EVERY)).json()["objects"]
    manifest = (await filled.get("manifest/", **EVERY)).json()["objects"]

    assert objects == list(OBJECTS.values())
    dates = [one["date_added"] for one in manifest]
    assert dates == sorted(set(dates))


@pytest.mark.parametrize("query", [{}, EVERY, {"match_version": "first"}, {"match_type": "indicator"}])
async def test_manifest_and_objects_correspond(filled: Shelf, query: dict[str, str]) -> None:
    """§5.3: under the same filters the one lists what the other holds, item by item, with the same dates about it."""
    objects, manifest = await filled.get(**query), await filled.get("manifest/", **query)

    for one, record in zip(objects.json()["objects"], manifest.json()["objects"], strict=True):
        assert record["id"] == one["id"]
        assert record["version"] == one.get("modified", one.get("created", record["date_added"]))
        form = one.get("spec_version", "2.1" if one["type"] == "ipv4-addr" else "2.0")
        assert record["media_type"] == f"application/stix+json;version={form}"
    assert objects.headers[FIRST] == manifest.headers[FIRST] == manifest.json()["objects"][0]["date_added"]
    assert objects.headers[LAST] == manifest.headers[LAST] == manifest.json()["objects"][-1]["date_added"]


async def test_one_object_and_its_versions_are_in_order_of_addition_too(exchange: Exchange) -> None:
    """§3.3, §3.5: first added first, not newest first; versions that came out of order stay in that order."""
    of, days = stix_id("malware", 720), (5, 1, 9, 3)
    for day in days:
        await exchange.add(malware(id=of, modified=f"2024-01-0{day}T00:00:00Z"), member="constabulary", name=CASES)
    versions = await exchange.get(exchange.path(f"objects/{of}/versions/", CASES), "constabulary")
    objects = await exchange.get(
        exchange.path(f"objects/{of}/", CASES), "constabulary", params={"match[version]": "all"}
    )

    assert versions.json()["versions"] == [f"2024-01-0{day}T00:00:00Z" for day in days]
    assert [one["modified"] for one in objects.json()["objects"]] == versions.json()["versions"]
    last = await exchange.get(exchange.path(f"objects/{of}/", CASES), "constabulary")
    first = await exchange.get(
        exchange.path(f"objects/{of}/", CASES), "constabulary", params={"match[version]": "first"}
    )
    assert [one["modified"][8:10] for one in last.json()["objects"] + first.json()["objects"]] == ["09", "01"]


async def test_every_version_has_its_own_date(filled: Shelf) -> None:
    """§5.3.1: `date_added` is of a version, not of an object."""
    records = (await filled.get("manifest/", match_id=A, match_version="all")).json()["objects"]

    assert [one["date_added"] for one in records] == [filled.dates[name] for name in ("a1", "a2", "a3")]


async def test_added_again_it_keeps_its_place(filled: Shelf) -> None:
    """§3.3, D-20: a version that is there already is not dated anew."""
    before = (await filled.get("manifest/", **EVERY)).content
    await filled.exchange.add(*OBJECTS.values(), name="fraud-intel/scratch")

    assert (await filled.get("manifest/", **EVERY)).content == before


async def test_collections_are_listed_by_id(exchange: Exchange) -> None:
    """§3.3: always in the same order, ascending by id."""
    for number in range(12):
        alias = f"feed-{number}"
        exchange.alliance.collection("crime-desk", alias)
        exchange.alliance.grant("constabulary", f"crime-desk/{alias}", ("read",))
    first = await exchange.get("/taxii2/crime-desk/collections/", "constabulary")
    again = await exchange.get("/taxii2/crime-desk/collections/", "constabulary")

    ids = [one["id"] for one in first.json()["collections"]]
    assert ids == sorted(ids)
    assert len(ids) == 13
    assert again.content == first.content
