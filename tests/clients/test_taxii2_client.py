"""The OASIS Python client, unmodified, against the server on a real port: by Basic and by bearer token."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
import stix2
from requests.auth import AuthBase
from requests.exceptions import HTTPError
from taxii2client.common import TokenAuth
from taxii2client.exceptions import AccessError
from taxii2client.v21 import ApiRoot, Collection, Server, Status, as_pages

from tests.factories import indicator, ipv4, malware, marking, relationship, stix_id
from tests.taxii.alliance import MAX_CONTENT_LENGTH, PAGE_SIZE_MAX, TAXII

if TYPE_CHECKING:
    from requests import PreparedRequest

    from tests.clients.wire import Feed
    from tests.taxii.live import Live

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.client("taxii2-client"),
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
        return _basic(live)
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


@pytest.mark.parametrize("slash", ["", "/"])
@pytest.mark.parametrize("scheme", ["basic", "bearer"])
async def test_it_finds_its_way_from_discovery(live: Live, scheme: str, slash: str) -> None:
    """§4.1, §4.2, §5.1: discovery, its default API Root, the root's titles and limits, the collections' rights."""
    server = Server(f"{live.base_url}/taxii2{slash}", **await _credentials(live, scheme))

    def look() -> tuple[ApiRoot, list[Collection]]:
        server.default.refresh()  # the client asks as late as it can: here, not on the server's own thread
        return server.default, server.default.collections

    default, collections = await asyncio.to_thread(look)

    assert server.title == "Test exchange"
    assert server.api_roots == [default]
    assert default.url == f"{live.base_url}/taxii2/fraud-intel/"
    assert (default.title, default.description) == ("Title of fraud-intel", "for tests")
    assert (default.versions, default.max_content_length) == ([TAXII], MAX_CONTENT_LENGTH)
    assert server.custom_properties == default.custom_properties == {}
    rights = {one.id: (one.title, one.alias, one.can_read, one.can_write) for one in collections}
    assert rights[str(live.collection_id())] == ("Title of indicators", "indicators", True, True)
    assert rights[str(live.collection_id("fraud-intel/scratch"))] == ("Title of scratch", "scratch", True, True)


async def test_what_it_validates_of_a_collection_it_finds(live: Live) -> None:
    """§5.2.1: it refuses a collection without id, title or rights; what it was not granted it finds false, not null."""
    tide = live.clients["tide"]
    collection = Collection(f"{live.base_url}{live.path('')}", user=tide.client_id, password=tide.secret)

    assert await asyncio.to_thread(lambda: (collection.id, collection.can_read, collection.can_write)) == (
        str(live.collection_id()),
        False,
        True,
    )
    assert collection.media_types == ["application/stix+json;version=2.0", "application/stix+json;version=2.1"]
    assert collection.custom_properties == {}


async def test_a_status_is_polled_under_the_url_it_makes_itself(feed: Feed) -> None:
    """§4.3: it goes from the collection's URL to ../../status/id/, and counts what the lists hold."""
    collection = Collection(feed.url, **await _credentials(feed.live, "basic"))
    root = ApiRoot(feed.root, **await _credentials(feed.live, "basic"))
    known = indicator(id=stix_id("indicator", 1))
    other = known | {"pattern": "[domain-name:value = 'elsewhere.example']"}

    def push() -> tuple[Status, Status, Status]:
        collection.add_objects({"objects": [known]}, wait_for_completion=False)
        told = collection.add_objects({"objects": [known, other]}, wait_for_completion=True, poll_interval=1)
        again = root.get_status(told.id)
        told.refresh()
        return told, again, Status(f"{feed.root}status/{told.id}", **_basic(feed.live))

    for status in await asyncio.to_thread(push):
        assert bool(status) is True
        assert (status.total_count, status.success_count, status.failure_count, status.pending_count) == (2, 1, 1, 0)
        assert (len(status.successes), len(status.failures), status.pendings) == (1, 1, [])
        assert status.custom_properties == {}


@pytest.mark.parametrize("kind", ["dict", "text", "octets"])
async def test_it_posts_envelopes_in_three_forms(feed: Feed, kind: str) -> None:
    """Its text leaves out the escapes that JSON allows: UTF-8 is what arrives, and comes back."""
    one = malware(id=stix_id("malware", 40), name="Zollwächter 💩")
    text = json.dumps({"objects": [one]}, ensure_ascii=False)
    envelope = {"dict": {"objects": [one]}, "text": text, "octets": text.encode()}[kind]
    collection = Collection(feed.url, **_basic(feed.live))

    status = await asyncio.to_thread(collection.add_objects, envelope)

    assert (status.status, status.success_count) == ("complete", 1)
    assert (await asyncio.to_thread(collection.get_object, one["id"]))["objects"] == [one]


@pytest.mark.slow
async def test_a_push_of_thousands_is_answered_before_it_gives_up(feed: Feed) -> None:
    """Up to max_content_length at once; complete in the first answer, so that it never has to wait."""
    objects = [indicator(id=stix_id("indicator", 20_000 + number), description="x" * 300) for number in range(3000)]
    envelope = json.dumps({"objects": objects}).encode()
    assert MAX_CONTENT_LENGTH // 2 < len(envelope) < MAX_CONTENT_LENGTH
    collection = Collection(feed.url, **_basic(feed.live))

    status = await asyncio.to_thread(collection.add_objects, envelope, wait_for_completion=False)

    assert (status.status, status.success_count) == ("complete", 3000)
    assert sum((await asyncio.to_thread(_walk, collection)).values()) == 3000


async def test_a_page_shorter_than_asked_lowers_its_limit_and_loses_nothing(feed: Feed) -> None:
    """Asked for more than the server gives at once, it goes on with what the first page held."""
    await feed.add(PAGE_SIZE_MAX + 50)
    collection = Collection(feed.url, **_basic(feed.live))

    pages = await asyncio.to_thread(lambda: list(as_pages(collection.get_objects, per_request=5000)))

    assert [len(page["objects"]) for page in pages] == [PAGE_SIZE_MAX, 50]
    assert feed.missed_by([one for page in pages for one in page["objects"]]) == []


async def test_without_a_size_it_pages_by_the_servers(feed: Feed) -> None:
    """per_request=0 sends no limit; later pages ask for what the first held."""
    await feed.add(230)
    collection = Collection(feed.url, **_basic(feed.live))

    pages = await asyncio.to_thread(lambda: list(as_pages(collection.get_manifest)))

    assert [len(page["objects"]) for page in pages] == [100, 100, 30]
    assert len({record["id"] for page in pages for record in page["objects"]}) == 230


async def test_every_filter_it_knows_is_answered(feed: Feed) -> None:
    """§3.4: ids and types as lists, versions as datetimes or words, added_after, spec_version."""
    old, new = indicator(modified=FIRST), indicator(modified=SECOND)
    await feed.put(old)
    await feed.put(malware())
    await feed.put(new)
    collection = Collection(feed.url, **_basic(feed.live))

    def names(**filters: Any) -> list[str | None]:
        return [one.get("modified") for one in collection.get_objects(**filters).get("objects", [])]

    def ask() -> dict[str, list[str | None]]:
        records = collection.get_manifest(id=old["id"], version="all")["objects"]
        return {
            "id": names(id=[old["id"], malware()["id"]]),
            "type": names(type=["indicator", "campaign"]),
            "version": names(version=[FIRST], type="indicator"),
            "first": names(version="first", id=old["id"]),
            "spec_version": names(spec_version="2.0"),
            "added_after": names(added_after=records[0]["date_added"], version="all"),
            "versions": collection.object_versions(old["id"])["versions"],
            "nothing": names(type="grouping"),
        }

    assert await asyncio.to_thread(ask) == {
        "id": [malware()["modified"], SECOND],
        "type": [SECOND],
        "version": [FIRST],
        "first": [FIRST],
        "spec_version": [],
        "added_after": [malware()["modified"], SECOND],
        "versions": [FIRST, SECOND],
        "nothing": [],
    }


async def test_an_object_is_read_and_deleted(feed: Feed) -> None:
    """§5.6, §5.7: one version, then the whole object; afterwards it is 404, which the client raises."""
    old, new = indicator(modified=FIRST), indicator(modified=SECOND)
    await feed.put(old, new)
    collection = Collection(feed.url, **_basic(feed.live))

    def lives() -> list[list[str]]:
        versions = [collection.object_versions(old["id"])["versions"]]
        collection.delete_object(old["id"], version=SECOND)
        versions.append(collection.object_versions(old["id"])["versions"])
        collection.delete_object(old["id"])
        return versions

    assert await asyncio.to_thread(lives) == [[FIRST, SECOND], [FIRST]]
    with pytest.raises(HTTPError, match="404"):
        await asyncio.to_thread(collection.get_object, old["id"])


async def test_wrong_credentials_raise(live: Live) -> None:
    """§3.2: 401, which the client raises, for a wrong password and for none."""
    client = live.clients["north"]
    for credentials in ({"user": client.client_id, "password": "txs_wrong"}, {}):
        server = Server(f"{live.base_url}/taxii2/", **credentials)
        with pytest.raises(HTTPError, match="401"):
            await asyncio.to_thread(server.refresh)


async def test_its_own_token_scheme_is_401_with_the_challenges(live: Live) -> None:
    """`Authorization: Token …` is no scheme of this server: 401, and the challenges name those that are."""
    server = Server(f"{live.base_url}/taxii2/", auth=TokenAuth(live.clients["north"].secret))
    with pytest.raises(HTTPError, match="401") as refused:
        await asyncio.to_thread(server.refresh)

    challenges = refused.value.response.headers["WWW-Authenticate"]
    assert ("Basic" in challenges, "Bearer" in challenges) == (True, True)


@pytest.mark.slow
async def test_walks_beside_a_writer_miss_and_repeat_nothing(feed: Feed) -> None:
    """§3.5: pages of every version while somebody writes: all that was there when it began, and nothing twice."""
    collection = Collection(feed.url, **_basic(feed.live))
    await asyncio.to_thread(collection.refresh)

    async def write() -> None:
        for _ in range(40):
            await feed.add(3)

    writing = asyncio.create_task(write())
    while not writing.done():
        there = [(one["id"], one["modified"]) for one in feed.stored]
        walked = await asyncio.to_thread(_walk, collection, version="all")
        assert [key for key in there if walked[key] != 1] == []
        assert set(walked.values()) <= {1}
    await writing

    assert (await asyncio.to_thread(_walk, collection, version="all")).total() == 120


async def test_what_it_may_not_do_it_says_itself(live: Live) -> None:
    """It looks at can_read and can_write before it asks."""
    harbour = live.clients["harbour"]
    collection = Collection(f"{live.base_url}{live.path('')}", user=harbour.client_id, password=harbour.secret)

    with pytest.raises(AccessError, match="Collection"):
        await asyncio.to_thread(collection.add_objects, {"objects": [indicator()]})


def _basic(live: Live) -> dict[str, Any]:
    return {"user": live.clients["north"].client_id, "password": live.clients["north"].secret}


def _walk(collection: Collection, **filters: Any) -> Counter[Key]:
    pages = as_pages(collection.get_objects, per_request=70, **filters)
    return Counter(_key(one) for page in pages for one in page.get("objects", []))


async def test_a_recall_comes_with_the_next_poll_and_is_parsed(feed: Feed) -> None:
    """A revoked version is an object like any other to the client, and to the OASIS library behind it."""
    [one] = await feed.add(valid_from="2024-05-02T08:15:30Z")
    collection = Collection(feed.url, **_basic(feed.live))
    [before] = (await asyncio.to_thread(collection.get_manifest))["objects"]
    answer = await feed.live.http.post(
        feed.live.path(f"objects/{one['id']}/recall/", feed.name), headers=feed.live.as_("north")
    )
    polled = await asyncio.to_thread(collection.get_objects, added_after=before["date_added"])
    parsed = stix2.parse({"type": "bundle", "id": f"bundle--{uuid4()}", "objects": polled["objects"]})
    refused = await asyncio.to_thread(collection.add_objects, {"objects": [one]})

    assert answer.status_code == 200, answer.text
    assert [(each.id, each.revoked) for each in parsed.objects] == [(one["id"], True)]
    assert (refused.success_count, refused.failure_count) == (0, 1)
    assert "was recalled" in refused.failures[0]["message"]
