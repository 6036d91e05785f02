"""The OASIS Python client, unmodified, against the server on a real port: by Basic and by bearer token."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from requests.auth import AuthBase
from taxii2client.v21 import Collection, Server, as_pages

from tests.factories import indicator, ipv4, malware, marking, relationship, stix_id
from tests.taxii.live import Live, live_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from requests import PreparedRequest

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = [
    pytest.mark.anyio,
    # the client leaves its sessions to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

Stix = dict[str, Any]
Key = tuple[str, str | None]

FIRST, SECOND = "2024-05-02T08:15:30.000Z", "2024-06-02T08:15:30.000Z"
MARKING = stix_id("marking-definition", 9)


def release(version: str, numbers: range) -> list[Stix]:
    """Make one release of a knowledge base: objects that carry over from release to release with new versions."""
    statement = {"statement": f"Copyright of the release of {version}"}
    objects = [marking(id=MARKING, created=FIRST, definition=statement), ipv4(value="198.51.100.7")]
    for number in numbers:
        objects += [
            indicator(id=stix_id("indicator", number), modified=version, x_ours_score=1.50),
            malware(id=stix_id("malware", number), modified=version, name="Zollwächter \N{PILE OF POO}"),
            relationship(id=stix_id("relationship", number), modified=version),
        ]
    return objects


class Bearer(AuthBase):
    """A token sent as RFC 6750 has it; the client knows no such thing itself."""

    def __init__(self, header: dict[str, str]) -> None:
        self._header = header

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        request.headers.update(self._header)
        return request


@pytest.fixture(scope="module")
async def live(module_database_urls: DatabaseUrls) -> AsyncIterator[Live]:
    async with live_server(module_database_urls) as running:
        yield running


@pytest.fixture(scope="module")
async def statuses(live: Live) -> list[Any]:
    """What the client was told when it pushed two releases."""
    writer = _collection(live, await _credentials(live, "basic"))
    return [
        await asyncio.to_thread(writer.add_objects, {"objects": objects}, wait_for_completion=True)
        for objects in (release(FIRST, range(100)), release(SECOND, range(50, 150)))
    ]


def _collection(live: Live, credentials: dict[str, Any]) -> Collection:
    return Collection(f"{live.base_url}{live.path('')}", **credentials)


async def _credentials(live: Live, scheme: str) -> dict[str, Any]:
    if scheme == "basic":
        return {"user": live.clients["north"].client_id, "password": live.clients["north"].secret}
    return {"auth": Bearer(await live.token("north"))}


def _key(stix: Stix) -> Key:
    return stix["id"], stix.get("modified", stix.get("created"))


async def test_one_object_of_two_releases_is_refused_and_named(statuses: list[Any]) -> None:
    """A marking whose text changed under the same version is refused, and says why; everything else is stored."""
    first, second = statuses

    assert (first.status, first.total_count, first.success_count) == ("complete", 302, 302)
    assert (second.status, second.success_count, second.failure_count, second.pending_count) == ("complete", 301, 1, 0)
    (failure,) = second.failures
    assert failure["id"] == MARKING
    assert "other content" in failure["message"]


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
@pytest.mark.usefixtures("statuses")
async def test_the_default_view_is_walked_each_object_once(live: Live, scheme: str) -> None:
    """§3.4.1: without match[version], the newest version of each object, over all pages."""
    old, new = release(FIRST, range(50)), release(SECOND, range(50, 150))
    expected = {_key(one) for one in (*old, *new)}

    walked = await asyncio.to_thread(_walk, _collection(live, await _credentials(live, scheme)))

    assert Counter(dict.fromkeys(expected, 1)) == walked


@pytest.mark.parametrize("scheme", ["basic", "bearer"])
@pytest.mark.usefixtures("statuses")
async def test_every_version_is_walked_once(live: Live, scheme: str) -> None:
    """§3.4.1: match[version]=all gives every version, over all pages, as objects and as manifest records alike."""
    expected = {_key(one) for one in (*release(FIRST, range(100)), *release(SECOND, range(50, 150)))}
    collection = _collection(live, await _credentials(live, scheme))

    assert Counter(dict.fromkeys(expected, 1)) == await asyncio.to_thread(_walk, collection, version="all")

    records = await asyncio.to_thread(
        lambda: [
            record
            for page in as_pages(collection.get_manifest, per_request=60, version="all")
            for record in page["objects"]
        ],
    )
    assert {of for of, _ in expected} == {record["id"] for record in records}
    assert len(expected) == len(records)


async def test_the_client_finds_its_way_from_discovery(live: Live) -> None:
    """§4.1: discovery, default API Root, collections with their rights; then versions and deletion of one object."""
    credentials = await _credentials(live, "basic")
    server = await asyncio.to_thread(lambda: Server(f"{live.base_url}/taxii2", **credentials))

    def look() -> list[tuple[str, bool, bool]]:
        # the advertised roots carry the public URL; the listening port is another one here
        root = server.default
        assert root.url == "http://127.0.0.1:8000/taxii2/fraud-intel/"
        root.url = f"{live.base_url}/taxii2/fraud-intel/"
        return sorted((one.title, one.can_read, one.can_write) for one in root.collections)

    assert await asyncio.to_thread(look) == [("Title of indicators", True, True), ("Title of scratch", True, True)]

    collection = _collection(live, credentials)
    of = stix_id("indicator", 999)
    await asyncio.to_thread(collection.add_objects, {"objects": [indicator(id=of)]}, wait_for_completion=True)
    assert (await asyncio.to_thread(collection.object_versions, of))["versions"] == [FIRST]
    assert (await asyncio.to_thread(collection.get_object, of))["objects"][0]["id"] == of
    await asyncio.to_thread(collection.delete_object, of)
    assert (await live.get(live.path(f"objects/{of}/"))).status_code == 404


def _walk(collection: Collection, **filters: Any) -> Counter[Key]:
    pages = as_pages(collection.get_objects, per_request=70, **filters)
    return Counter(_key(one) for page in pages for one in page.get("objects", []))
