"""OpenCTI's three ways to TAXII: its own ingester, the connector that imports, and the connector that posts."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from requests.auth import HTTPBasicAuth
from requests.exceptions import HTTPError
from taxii2client.v21 import Server

from tests.clients.wire import Feed, Stix, Wire, key, last_added
from tests.factories import indicator, ipv4, stix_id
from tests.taxii.alliance import TAXII, assert_error

if TYPE_CHECKING:
    from taxii2client.v21 import Collection

    from tests.taxii.live import Live

pytestmark = [
    pytest.mark.anyio,
    # the client leaves its sessions to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

ingester = pytest.mark.client("opencti-ingester")
importer = pytest.mark.client("opencti-connector-taxii2")
poster = pytest.mark.client("opencti-taxii-post")


@dataclass
class Ingester:
    """The platform's own ingester: one request a run; it keeps `next`, and between walks a date in milliseconds."""

    wire: Wire
    root: str
    collection: str
    limit: int | None = None
    following: str | None = None
    added_after: str | None = None
    taken: list[Stix] = field(default_factory=list)

    async def run(self) -> int:
        """Ask once; give how many objects came."""
        query = {"next": self.following, "added_after": self.added_after, "limit": self.limit}
        given = {name: value for name, value in query.items() if value is not None}
        root = self.root if self.root.endswith("/") else f"{self.root}/"
        answer = await self.wire.get(f"{root}collections/{self.collection}/objects/", given)
        body = answer.json()
        if not body.get("objects"):
            return 0  # nothing of its state moves
        self.taken += body["objects"]
        if body.get("more") and body.get("next"):
            self.following = body["next"]
        else:
            self.following = None
            self.added_after = f"{last_added(answer)[:23]}Z"  # JavaScript knows milliseconds
        return len(body["objects"])

    async def catch_up(self) -> None:
        """Run until the walk is over."""
        for _ in range(200):
            await self.run()
            if self.following is None:
                return
        pytest.fail("it never came to the end")


def ingesting(feed: Feed, limit: int | None = None, slash: str = "/") -> Ingester:
    """Set the ingester up: an API Root's URL, a collection's id, Basic."""
    wire = Wire(feed.live, {"Accept": TAXII, **feed.live.as_("harbour")})
    return Ingester(wire, feed.root.rstrip("/") + slash, feed.id, limit)


@ingester
@pytest.mark.parametrize("slash", ["", pytest.param("/", marks=pytest.mark.slow)])
async def test_the_ingester_misses_nothing_and_repeats_a_millisecond_at_most(feed: Feed, slash: str) -> None:
    """Its date is cut to milliseconds, so what was added within the last one comes again; nothing older does."""
    client = ingesting(feed, limit=3, slash=slash)
    dates: dict[str, str] = {}
    for _ in range(4):
        await feed.add(4)
        await client.run()
        await feed.add(1)
        begun, kept = len(client.taken), client.added_after
        await client.catch_up()
        manifest = await feed.live.get(f"{feed.url}manifest/", params={"match[version]": "all"})
        dates = {record["id"]: record["date_added"] for record in manifest.json()["objects"]}
        assert kept is None or all(dates[one["id"]] >= kept.replace("Z", "000Z") for one in client.taken[begun:])

    assert feed.missed_by(client.taken) == []
    assert client.added_after == f"{max(dates.values())[:23]}Z"


@ingester
async def test_a_millisecond_with_hundreds_of_objects_is_paged_by_next(feed: Feed) -> None:
    """One envelope's objects are a microsecond apart: hundreds share its cut date, and `next` still goes through them."""
    await feed.add(300)
    client = ingesting(feed, limit=50)
    await client.catch_up()
    assert len(client.wire.answers) == 6
    assert feed.repeated_to(client.taken) == []

    await feed.add(10)
    await client.catch_up()
    assert feed.missed_by(client.taken) == []


@ingester
async def test_the_header_is_on_every_page_so_that_its_own_clock_is_never_used(feed: Feed) -> None:
    """Without X-TAXII-Date-Added-Last it would go on from its own time, and lose what came in between."""
    await feed.add(5)
    client = ingesting(feed, limit=2)
    await client.catch_up()
    await client.run()

    *walk, after = [last_added(answer) for answer in client.wire.answers]
    assert len(walk) == 3
    assert walk == sorted(walk)
    assert after[:23] == walk[-1][:23]


@ingester
async def test_a_walk_whose_rest_was_deleted_goes_on_where_it_stood(feed: Feed) -> None:
    """An empty page moves none of its state: it keeps asking with the same `next`, and gets what is added later."""
    await feed.add(4)
    client = ingesting(feed, limit=2)
    await client.run()
    for gone in feed.stored[2:]:
        assert (await feed.live.delete(f"{feed.url}objects/{gone['id']}/")).status_code == 200
    del feed.stored[2:]
    assert [await client.run(), await client.run()] == [0, 0]
    assert client.following is not None

    await feed.add(3)
    await client.catch_up()
    assert feed.missed_by(client.taken) == []
    assert feed.repeated_to(client.taken) == []


@ingester
async def test_the_ingester_takes_a_bearer_too(feed: Feed) -> None:
    """A token pasted as its value."""
    await feed.add(2)
    token = await feed.live.token("harbour")
    client = Ingester(Wire(feed.live, {"Accept": TAXII, **token}), feed.root, feed.id)
    await client.catch_up()

    assert client.taken == feed.stored


class Importer:
    """The connector external-import/taxii2, on the real taxii2-client.

    One dict of filters serves every collection and, for the life of the process, every run: a `next` in it stays until
    another page replaces it, and page 2 has no `added_after`.
    """

    def __init__(self, live: Live, limit: int = 2) -> None:
        given = live.clients["harbour"]
        self.server = Server(f"{live.base_url}/taxii2/", auth=HTTPBasicAuth(given.client_id, given.secret))
        self.filters: dict[str, Any] = {"limit": limit}
        self.failed: list[str] = []

    def run(self, *wanted: str, since: str = "2000-01-01T00:00:00.000000Z") -> list[Stix]:
        """Poll collections, named `root.title` as its operators do."""
        self.filters["added_after"] = since
        found: list[Stix] = []
        for name in wanted:
            try:
                found += self._poll(self._collection(*name.split(".", 1)))
            except HTTPError as error:
                self.failed.append(f"{name}: {error.response.status_code} {error.response.text}")
        return found

    def _collection(self, root_path: str, title: str) -> Collection:
        [root] = [root for root in self.server.api_roots if root.url.split("/")[-2] == root_path]
        return next(one for one in root.collections if one.title == title)

    def _poll(self, collection: Collection) -> list[Stix]:
        found: list[Stix] = []
        answer = collection.get_objects(**self.filters)
        first = answer.get("objects", [{"spec_version": "2.1"}])[0]
        for _ in range(200):
            found += answer.get("objects", [])
            if "spec_version" not in first:  # taken for TAXII 2.0, which has no `next`
                [record] = collection.get_manifest(id=answer["objects"][-1]["id"])["objects"]
                self.filters["added_after"] = record["date_added"]
                answer = collection.get_objects(**self.filters)
                continue
            if answer.get("more") is not True:
                return found
            if "next" in answer:
                self.filters.pop("added_after", None)
                self.filters["next"] = answer["next"]
                answer = collection.get_objects(**self.filters)
        pytest.fail("`more` without `next` never ends")


@importer
async def test_the_importers_second_page_has_no_added_after(feed: Feed) -> None:
    """`next` carries the date of page 1, so that page 2 doesn't begin at the beginning of time."""
    await feed.add(5)
    manifest = (await feed.live.get(f"{feed.url}manifest/")).json()["objects"]
    await feed.add(5)
    client = Importer(feed.live)
    found = await asyncio.to_thread(client.run, f"fraud-intel.{feed.title}", since=manifest[-1]["date_added"])

    assert found == feed.stored[5:]


@importer
async def test_a_stale_next_goes_to_the_next_collection_and_breaks_nothing(live: Live) -> None:
    """D-15: the second collection gets the first one's `next`: it is set aside, and the second is read from its start."""
    feeds = [Feed.opened(live) for _ in range(3)]
    for feed in feeds:
        await feed.add(5)
    client = Importer(live)
    found = await asyncio.to_thread(client.run, *(f"fraud-intel.{feed.title}" for feed in feeds))

    assert client.failed == []
    assert [key(one) for one in found] == [key(one) for feed in feeds for one in feed.stored]


@pytest.mark.slow
@importer
async def test_run_after_run_in_one_process_nothing_is_missed(live: Live) -> None:
    """D-15: its later runs send an old run's `next` with a new `added_after`: refused, each run would end in an error.

    The date is when its last run began, by its own clock: what that run read may come again.
    """
    feeds = [Feed.opened(live) for _ in range(2)]
    client = Importer(live)
    found: list[Stix] = []
    since = "2000-01-01T00:00:00.000000Z"
    for sizes in ((5, 5), (1, 1), (5, 1), (0, 0), (1, 1), (1, 5), (2, 2)):
        for feed, size in zip(feeds, sizes, strict=True):
            if size:
                await feed.add(size)
        begun = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        found += await asyncio.to_thread(client.run, *(f"fraud-intel.{feed.title}" for feed in feeds), since=since)
        since = begun

    assert client.failed == []
    assert [feed.missed_by(found) for feed in feeds] == [[], []]


@importer
async def test_every_page_with_more_has_next(feed: Feed) -> None:
    """`more` without `next` would hang it for good."""
    await feed.add(7)
    client = Importer(feed.live, limit=1)

    assert await asyncio.to_thread(client.run, f"fraud-intel.{feed.title}") == feed.stored


@importer
async def test_what_the_importer_cannot_read_at_any_server(feed: Feed) -> None:
    """A page that begins with an object without spec_version it takes for TAXII 2.0: it goes on by the manifest's dates.

    They lead it through everything, to a page without objects, whose `objects` it looks for: there is no empty list (§2).
    """
    await feed.put(ipv4(spec_version=None))
    await feed.add(4)
    client = Importer(feed.live)
    with pytest.raises(KeyError, match="objects"):
        await asyncio.to_thread(client.run, f"fraud-intel.{feed.title}")

    manifest = (await feed.live.get(f"{feed.url}manifest/")).json()["objects"]
    assert client.filters["added_after"] == manifest[-1]["date_added"]


@poster
@pytest.mark.parametrize("scheme", ["basic", "bearer"])
async def test_the_poster_sends_one_object_in_a_bundle_as_stix(feed: Feed, scheme: str) -> None:
    """D-19: `application/stix+json; version=2.1` with a space, a bundle with a spec_version, one object a POST.

    It reads no status afterwards: what it is told at once is final.
    """
    auth = feed.live.as_("north") if scheme == "basic" else await feed.live.token("north")
    wire = Wire(
        feed.live,
        {
            "Content-Type": "application/stix+json; version=2.1",
            "Accept": "application/taxii+json; version=2.1",
            **auth,
        },
    )
    stripped = indicator(id=stix_id("indicator", 81), created_by_ref=None, object_marking_refs=None)
    for one in (stripped, ipv4(), indicator(id=stix_id("indicator", 82))):
        bundle = {"type": "bundle", "spec_version": "2.1", "id": f"bundle--{uuid4()}", "objects": [one]}
        answer = await wire.send("POST", f"{feed.url}objects/", content=json.dumps(bundle).encode())
        assert answer.status_code == 202, answer.text
        assert (answer.json()["status"], answer.json()["success_count"]) == ("complete", 1)
        feed.stored.append(one)

    stored = (await feed.live.get(f"{feed.url}objects/")).json()["objects"]
    assert stored == feed.stored


@poster
async def test_the_poster_repeats_an_object_without_harm(feed: Feed) -> None:
    """A stream that is read again posts the same objects again: each is a success, and nothing is stored twice."""
    wire = Wire(
        feed.live, {"Content-Type": "application/stix+json; version=2.1", "Accept": TAXII, **feed.live.as_("north")}
    )
    bundle = {"type": "bundle", "id": f"bundle--{uuid4()}", "objects": [indicator()]}
    for _ in range(3):
        answer = await wire.send("POST", f"{feed.url}objects/", content=json.dumps(bundle).encode())
        assert answer.json()["success_count"] == 1

    assert len((await feed.live.get(f"{feed.url}manifest/")).json()["objects"]) == 1


@poster
async def test_set_to_stix_2_0_the_poster_is_refused_at_once(feed: Feed) -> None:
    """D-19: its type for STIX 2.0 is that of TAXII 2.0: 415, in words, and the connection is not left hanging."""
    wire = Wire(
        feed.live,
        {"Content-Type": "application/vnd.oasis.stix+json; version=2.0", "Accept": TAXII, **feed.live.as_("north")},
    )
    answer = await wire.send("POST", f"{feed.url}objects/", content=b'{"type": "bundle", "objects": []}')

    assert TAXII in assert_error(answer, 415)["description"]
