"""The stix2 library's view of a collection: its source, sink and store, on the real taxii2-client."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import stix2
from stix2.datastore import DataSourceError
from taxii2client.v21 import Collection

from tests.factories import identity, indicator, ipv4, malware, marking, relationship, stix_id, tlp2
from tests.taxii.alliance import PAGE_SIZE_MAX

if TYPE_CHECKING:
    from tests.clients.wire import Feed

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.client("stix2"),
    # the client leaves its sessions to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

FIRST, SECOND, THIRD = "2024-05-02T08:15:30.000Z", "2024-06-02T08:15:30.123Z", "2024-07-02T08:15:30.123456Z"


async def collection(feed: Feed, member: str = "north") -> Collection:
    """Give the collection as the library wants it.

    Loaded, because the library looks at its rights at once, and this is the server's own thread.
    """
    client = feed.live.clients[member]
    made = Collection(feed.url, user=client.client_id, password=client.secret)
    await asyncio.to_thread(made.refresh)
    return made


def plain(stix: Any) -> dict[str, Any]:
    """Give an object of the library as a dict, to compare with what was posted."""
    return dict(stix2.parsing.parse(stix, allow_custom=True))


def same(found: list[Any], expected: list[dict[str, Any]]) -> bool:
    """Whether these are the same objects, in any order."""
    return sorted(map(str, map(plain, found))) == sorted(map(str, map(plain, expected)))


async def test_the_newest_version_comes_back_equal(feed: Feed) -> None:
    """`get` takes the first of what one object's endpoint gives: there, the newest version is the only one."""
    await feed.put(indicator(modified=FIRST))
    await feed.put(newest := indicator(modified=THIRD, name="Grüße", x_ours=1.50))
    await feed.put(indicator(modified=SECOND))
    source = stix2.TAXIICollectionSource(await collection(feed, "harbour"))

    found = await asyncio.to_thread(source.get, newest["id"])

    assert plain(found) == plain(newest)
    assert str(found["modified"]) == "2024-07-02 08:15:30.123456+00:00"


async def test_an_unknown_object_is_none(feed: Feed) -> None:
    """404 is what it takes for `not there`."""
    source = stix2.TAXIICollectionSource(await collection(feed, "harbour"))

    assert await asyncio.to_thread(source.get, stix_id("indicator", 404)) is None


async def test_all_versions_are_the_ones_stored(feed: Feed) -> None:
    """It asks the list with match[id] and match[version]=all."""
    versions = [indicator(modified=when) for when in (FIRST, SECOND, THIRD)]
    await feed.put(*versions)
    await feed.put(malware())
    source = stix2.TAXIICollectionSource(await collection(feed, "harbour"))

    assert same(await asyncio.to_thread(source.all_versions, versions[0]["id"]), versions)


@pytest.mark.slow
async def test_a_query_pages_by_five_thousand_and_gets_everything(feed: Feed) -> None:
    """It asks for 5000 a page, is given the server's largest page, and goes on with that."""
    await feed.add(PAGE_SIZE_MAX * 2 + 1)
    source = stix2.TAXIICollectionSource(await collection(feed, "harbour"))

    assert same(await asyncio.to_thread(source.query), feed.stored)


async def test_filters_are_applied_by_the_server_and_by_the_library(feed: Feed) -> None:
    """id, type, version and added_after go over the wire, one value or several; all else it filters itself."""
    first = await feed.put(indicator(), malware(), ipv4(), identity(name="North Bank"))
    records = (await feed.live.get(f"{feed.url}manifest/")).json()["objects"]
    later = await feed.put(relationship(), identity(id=stix_id("identity", 2), name="Harbour Bank"))
    source = stix2.TAXIICollectionSource(await collection(feed, "harbour"))

    def ask(*filters: stix2.Filter) -> list[Any]:
        return list(source.query(list(filters)))

    def look() -> list[list[Any]]:
        return [
            ask(stix2.Filter("type", "=", "indicator,malware")),
            ask(stix2.Filter("type", "=", ["identity", "relationship"])),
            ask(stix2.Filter("id", "=", first[1]["id"])),
            ask(stix2.Filter("added_after", "=", records[-1]["date_added"])),
            ask(stix2.Filter("type", "=", "identity"), stix2.Filter("name", "contains", "Harbour")),
            ask(stix2.Filter("type", "=", "campaign")),
        ]

    found = await asyncio.to_thread(look)
    expected = [first[:2], [first[3], *later], [first[1]], later, [later[1]], []]

    assert [same(one, other) for one, other in zip(found, expected, strict=True)] == [True] * 6


async def test_a_page_without_objects_is_an_empty_answer(feed: Feed) -> None:
    """An empty collection: `{"more": false}`, which this release reads as no objects."""
    source = stix2.TAXIICollectionSource(await collection(feed, "harbour"))

    assert await asyncio.to_thread(source.query) == []


async def test_an_older_release_stumbles_over_an_empty_page(feed: Feed) -> None:
    """Releases before 3 read one page and its `objects` unasked: a KeyError where there are none, as §2 forbids `[]`.

    Where there are objects they get the first page, which is bounded.
    """
    feeder = await collection(feed, "harbour")
    with pytest.raises(KeyError, match="objects"):
        (await asyncio.to_thread(feeder.get_objects))["objects"]

    await feed.add(3)
    assert (await asyncio.to_thread(feeder.get_objects))["objects"] == feed.stored


@pytest.mark.parametrize("as_library_objects", [False, True])
async def test_what_the_sink_adds_the_source_gives_back(feed: Feed, as_library_objects: bool) -> None:
    """The sink posts a whole bundle: one object, a list (one bundle each), a bundle, as text, dicts or objects."""
    objects = [indicator(), malware(), identity(), relationship(), marking(), ipv4(), tlp2("amber")]
    store = stix2.TAXIICollectionStore(await collection(feed), allow_custom=True)
    given = [stix2.parse(one, allow_custom=True) for one in objects] if as_library_objects else objects
    sent = stix2.v21.Bundle(*given[3:6], allow_custom=True)

    def push() -> list[Any]:
        store.add(given[0])
        store.add(given[1:3])
        store.add(sent if as_library_objects else sent.serialize())
        store.add(given[6])
        return list(store.query())

    assert same(await asyncio.to_thread(push), objects)


async def test_a_bundle_of_stix_2_0_is_taken(feed: Feed) -> None:
    """Objects without spec_version go out in a bundle of STIX 2.0, which names it on the bundle."""
    one = stix2.v20.Indicator(
        pattern="[domain-name:value = 'login.north-bank.example']",
        labels=["malicious-activity"],
        valid_from=FIRST,
        created=FIRST,
        modified=FIRST,
    )
    store = stix2.TAXIICollectionStore(await collection(feed))

    def push() -> Any:
        store.add(one)
        return store.get(one["id"])

    assert plain(await asyncio.to_thread(push)) == plain(one)


async def test_an_environment_sees_this_collection_beside_others(feed: Feed) -> None:
    """A composite source asks each of its sources, and the newest version wins."""
    await feed.put(indicator(modified=SECOND), malware())
    both = stix2.CompositeDataSource()
    both.add_data_sources(
        [
            stix2.TAXIICollectionSource(await collection(feed, "harbour")),
            stix2.MemorySource([indicator(modified=FIRST), identity()]),
        ]
    )
    environment = stix2.Environment(source=both, sink=stix2.TAXIICollectionSink(await collection(feed)))

    def look() -> list[Any]:
        environment.add(stix2.parse(relationship()))
        return [
            environment.get(indicator()["id"]),
            environment.get(identity()["id"]),
            *environment.relationships(malware()["id"]),
            *environment.all_versions(indicator()["id"]),
        ]

    found = await asyncio.to_thread(look)

    assert same(found[:3], [indicator(modified=SECOND), identity(), relationship()])
    assert same(found[3:], [indicator(modified=FIRST), indicator(modified=SECOND)])


async def test_rights_are_read_from_the_collection(feed: Feed) -> None:
    """It refuses to be a sink of what the client can't write to, before anything is sent."""
    readable = await collection(feed, "harbour")
    with pytest.raises(DataSourceError, match="does not have write access"):
        stix2.TAXIICollectionSink(readable)
