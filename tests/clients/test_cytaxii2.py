"""Cyware's cytaxii2, unmodified: it follows discovery's default, and its caller pages."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from cytaxii2 import cytaxii2

from tests.factories import indicator, malware, stix_id

if TYPE_CHECKING:
    from tests.clients.wire import Feed
    from tests.taxii.live import Live

pytestmark = [pytest.mark.anyio, pytest.mark.client("cytaxii2")]


def client(live: Live, member: str = "north", slash: str = "/") -> Any:
    """Make the client, from the discovery URL as somebody pasted it."""
    given = live.clients[member]
    return cytaxii2.cytaxii2(f"{live.base_url}/taxii2{slash}", given.client_id, given.secret)


async def ask(method: Any, *values: Any, **options: Any) -> Any:
    """Ask; the client tells status and body in one dict."""
    told = await asyncio.to_thread(method, *values, **options)
    assert told["status"] is True, told
    return told["response"]


@pytest.mark.parametrize("slash", ["", "/"])
async def test_the_default_root_is_fetched_as_it_stands(live: Live, slash: str) -> None:
    """§4.1.1: `default` is there, and absolute: the client fetches it without looking."""
    using = client(live, slash=slash)

    assert (await ask(using.discovery_request))["default"] == f"{live.base_url}/taxii2/fraud-intel/"
    assert (await ask(using.root_discovery))["title"] == "Title of fraud-intel"
    assert using.api_root == f"{live.base_url}/taxii2/fraud-intel/"


async def test_collections_and_one_of_them(feed: Feed) -> None:
    """§5.1, §5.2: under the default root, with the slash it adds."""
    using = client(feed.live, "harbour")

    assert feed.id in {one["id"] for one in (await ask(using.collection_request))["collections"]}
    assert (await ask(using.collection_data_request, feed.id))["can_write"] is False


async def test_its_caller_pages_by_next_and_by_date(feed: Feed) -> None:
    """§3.5: `next` comes out of the body; it sees no headers, so a later poll goes by the time of the one before."""
    await feed.add(5)
    using = client(feed.live, "harbour")
    read: list[Any] = []
    following = None
    while True:
        page = await ask(using.poll_request, feed.id, limit=2, next=following, added_after="2000-01-01T00:00:00Z")
        read += page["objects"]
        following = page.get("next")
        if not page["more"]:
            break
        await feed.add(1)

    assert feed.missed_by(read) == []
    assert feed.repeated_to(read) == []


async def test_filters(feed: Feed) -> None:
    """§3.4: `match[id]` and `match[type]`; what it was not given it leaves out."""
    [one, other] = await feed.put(indicator(id=stix_id("indicator", 31)), malware())
    using = client(feed.live, "harbour")

    assert (await ask(using.poll_request, feed.id, object_id=one["id"]))["objects"] == [one]
    assert (await ask(using.poll_request, feed.id, object_type="malware"))["objects"] == [other]
    assert "objects" not in await ask(using.poll_request, feed.id, object_type="campaign")


async def test_an_inbox_request_is_taken_as_bundle_and_as_envelope(feed: Feed) -> None:
    """§5.5: it posts the text it is given, which its callers make a bundle."""
    using = client(feed.live)
    bundle = {"type": "bundle", "id": stix_id("bundle", 1), "objects": [indicator(id=stix_id("indicator", 32))]}
    envelope = {"objects": [indicator(id=stix_id("indicator", 33))]}

    for body in (bundle, envelope):
        told = await asyncio.to_thread(using.inbox_request, feed.id, json.dumps(body))
        assert told["status_code"] == 202
        assert (told["response"]["status"], told["response"]["success_count"]) == ("complete", 1)


async def test_refusals_are_json_that_it_can_read(live: Live) -> None:
    """§3.6: it parses every answer, errors too; one that isn't JSON would end in an exception's text."""
    given = live.clients["north"]
    using = cytaxii2.cytaxii2(f"{live.base_url}/taxii2/", given.client_id, "wrong")
    told = await asyncio.to_thread(using.collection_request)
    assert (told["status"], told["status_code"], told["response"]["http_status"]) == (False, 401, "401")

    using = client(live)
    told = await asyncio.to_thread(using.poll_request, "00000000-0000-4000-8000-000000000000")
    assert (told["status"], told["status_code"], told["response"]["http_status"]) == (False, 404, "404")


async def test_as_taxii_2_0_it_is_told_406(live: Live) -> None:
    """Made for TAXII 2.0 it asks for 2.0 alone: the refusal names the version that this server speaks."""
    given = live.clients["north"]
    using = cytaxii2.cytaxii2(f"{live.base_url}/taxii2/", given.client_id, given.secret, version=2.0)
    told = await asyncio.to_thread(using.discovery_request)

    assert (told["status"], told["status_code"]) == (False, 406)
    assert "application/taxii+json;version=2.1" in told["response"]["description"]
