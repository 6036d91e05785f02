"""Cortex XSOAR's TAXII 2 feed: built on taxii2-client, from discovery to a collection known by its title."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from requests.auth import HTTPBasicAuth
from requests.exceptions import HTTPError
from taxii2client import v20, v21
from taxii2client.common import _HTTPConnection

from tests.clients.wire import Feed, Stix, Wire, key
from tests.factories import TLP1, TLP2, indicator, malware, relationship, stix_id, tlp1
from tests.taxii.alliance import assert_error

if TYPE_CHECKING:
    from tests.taxii.live import Live

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.client("xsoar"),
    # the client leaves its sessions to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

READABLE_TLP = {TLP1[colour]: colour for colour in ("white", "green", "amber", "red")}


class Xsoar:
    """Its steps: a connection of its own for all, TAXII 2.1 first and 2.0 upon a 406, root and collection by name."""

    def __init__(self, live: Live, title: str, *, header: dict[str, str] | None = None, secret: str = "") -> None:
        given = live.clients["harbour"]
        self.url = f"{live.base_url}/taxii2/"
        self.auth = None if header else HTTPBasicAuth(given.client_id, secret or given.secret)
        self.header = header or {}
        self.title = title
        self.version = "2.1"
        self.collection: Any = None
        self.since: str | None = None
        self.known: set[Any] = set()

    def start(self, root_name: str | None = None) -> None:
        """Find the collection."""
        try:
            self._find(v21, root_name)
        except HTTPError as error:
            if error.response.status_code != 406 and "version=2.0" not in str(error):
                raise
            self.version = "2.0"
            self._find(v20, root_name)

    def _find(self, library: Any, root_name: str | None) -> None:
        connection = _HTTPConnection(version=self.version, auth=self.auth)
        connection.session.headers.update(self.header)
        server = library.Server(self.url, conn=connection)
        roots = {root.url.split("/")[-2]: root for root in server.api_roots}
        root = roots[root_name] if root_name else server.default or server.api_roots[0]
        root._conn = connection
        self.collection = next(one for one in root.collections if one.title == self.title)

    def fetch(self, *types: str, limit: int = 100) -> list[Stix]:
        """Poll once; it filters repeats by what it knows, because it goes by the STIX `modified` it saw last."""
        filters: dict[str, Any] = {"type": [*types, *(["relationship"] if len(types) > 1 else [])]} if types else {}
        if self.since:
            filters["added_after"] = self.since
        fresh: list[Stix] = []
        for envelope in v21.as_pages(self.collection.get_objects, per_request=limit, **filters):
            objects = envelope.get("objects")
            if not objects:
                break
            fresh += [one for one in objects if key(one) not in self.known]
            self.known |= {key(one) for one in objects}
        self.since = max([one["modified"] for one in fresh if "modified" in one] + [self.since or ""]) or None
        return fresh


async def test_it_starts_at_discovery_and_finds_root_and_collection_by_name(feed: Feed) -> None:
    """Root by the last segment of its path or by `default`, collection by title; 2.1 is not answered with 406."""
    await feed.add(3)
    for root_name in (None, "fraud-intel"):
        client = Xsoar(feed.live, feed.title)
        await asyncio.to_thread(client.start, root_name)
        assert client.version == "2.1"
        assert client.collection.id == feed.id
        assert await asyncio.to_thread(client.fetch) == feed.stored


async def test_a_bearer_goes_into_its_header_field(feed: Feed) -> None:
    """`_header:Authorization` as user name makes the password that header's value."""
    client = Xsoar(feed.live, feed.title, header=await feed.live.token("harbour"))
    await asyncio.to_thread(client.start)

    assert client.collection.id == feed.id


async def test_a_wrong_secret_is_not_taken_for_taxii_2_0(live: Live) -> None:
    """It falls back to TAXII 2.0 upon 406, or an error that says `version=2.0`: a 401 is neither."""
    client = Xsoar(live, "Title of indicators", secret="txs_wrong")
    with pytest.raises(HTTPError, match="401"):
        await asyncio.to_thread(client.start)

    assert client.version == "2.1"


async def test_its_fallback_is_told_406_in_taxii(live: Live) -> None:
    """What it would ask as TAXII 2.0 is refused with the version that is spoken here."""
    wire = Wire(live, {"Accept": "application/vnd.oasis.taxii+json; version=2.0", **live.as_("harbour")})

    assert "version=2.1" in assert_error(await wire.send("GET", f"{live.base_url}/taxii2/"), 406)["description"]


async def test_its_types_go_as_one_list_with_relationships(feed: Feed) -> None:
    """`match[type]` with several values, over pages; other types are left out."""
    await feed.put(indicator(), malware(), relationship(), tlp1("amber"))
    await feed.add(150)
    client = Xsoar(feed.live, feed.title)
    await asyncio.to_thread(client.start)
    found = await asyncio.to_thread(client.fetch, "indicator", "malware")

    assert [key(one) for one in found] == [key(one) for one in feed.stored if one["type"] != "marking-definition"]


async def test_going_by_modified_it_repeats_but_misses_nothing(feed: Feed) -> None:
    """It polls from the newest `modified` it has, which lies before the date of addition: repeats, and no gap."""
    client = Xsoar(feed.live, feed.title)
    await asyncio.to_thread(client.start)
    found: list[Stix] = []
    for month in (3, 1, 2):
        await feed.add(5, modified=f"2025-{month:02}-01T00:00:00.000Z")
        found += await asyncio.to_thread(client.fetch, limit=2)

    assert feed.missed_by(found) == []
    assert feed.repeated_to(found) == []


async def test_markings_of_tlp_1_arrive_as_it_knows_them(feed: Feed) -> None:
    """It reads the colour from the four ids of TLP 1.0; those of TLP 2.0 it doesn't know. Neither is rewritten."""
    await feed.put(
        indicator(id=stix_id("indicator", 51), object_marking_refs=[TLP1["amber"]]),
        indicator(id=stix_id("indicator", 52), object_marking_refs=[TLP2["amber"]]),
    )
    client = Xsoar(feed.live, feed.title)
    await asyncio.to_thread(client.start)
    found = await asyncio.to_thread(client.fetch, "indicator")

    assert [one["object_marking_refs"] for one in found] == [[TLP1["amber"]], [TLP2["amber"]]]
    assert [READABLE_TLP.get(one["object_marking_refs"][0]) for one in found] == ["amber", None]


async def test_no_two_collections_of_a_root_share_a_title(live: Live) -> None:
    """It takes the first collection of that title, so the titles of a trust group are unique; the database holds it."""
    unique = live.alliance.execute(
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'collections'::regclass AND contype = 'u'"
    )

    assert "UNIQUE (trust_group_id, title)" in {definition for (definition,) in unique}
