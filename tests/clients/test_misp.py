"""MISP: its script that pushes events to a collection, and its module that imports one; both on the real taxii2-client."""

from __future__ import annotations

import asyncio
import json
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from requests.auth import HTTPBasicAuth
from requests.exceptions import HTTPError
from taxii2client.v21 import ApiRoot, Collection, as_pages

from tests.clients.wire import key
from tests.factories import indicator, indicator_2_0, stix_id
from tests.taxii.alliance import MAX_CONTENT_LENGTH, TAXII

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.clients.wire import Feed, Stix

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.client("misp"),
    # the client leaves its sessions to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

HEAD, COMMA, TAIL = b'{"objects":[', b",", b"]}"


def envelopes(objects: list[Stix], limit: int) -> Iterator[bytes]:
    """Fill envelopes up to the API Root's max_content_length, to the octet, as its script does."""
    filled: list[bytes] = []
    for one in objects:
        octets = json.dumps(one).encode()
        if filled and len(HEAD + COMMA.join([*filled, octets]) + TAIL) > limit:
            yield HEAD + COMMA.join(filled) + TAIL
            filled = []
        filled.append(octets)
    if filled:
        yield HEAD + COMMA.join(filled) + TAIL


def push(feed: Feed, objects: list[Stix], api_root: str = "taxii2/fraud-intel") -> list[Any]:
    """Push as the script does: base URL, API Root and collection id in fields of their own, and no waiting."""
    given = feed.live.clients["north"]
    auth = HTTPBasicAuth(given.client_id.encode(), given.secret.encode())
    root_url = f"{feed.live.base_url}/{api_root}"
    with ApiRoot(root_url, auth=auth) as root:
        limit = root.max_content_length
    with Collection(f"{root_url}/collections/{feed.id}", auth=auth) as collection:
        return [collection.add_objects(each, wait_for_completion=False) for each in envelopes(objects, limit)]


async def test_it_splits_to_max_content_length_and_every_envelope_is_taken(feed: Feed) -> None:
    """§4.2.1: the number is true: envelopes filled up to it are accepted, and what they hold is stored."""
    padding = "x" * 180_000
    objects = [indicator(id=stix_id("indicator", 4000 + number), description=padding) for number in range(30)]
    statuses = await asyncio.to_thread(push, feed, objects)

    assert len(statuses) == 3
    assert [(one.status, one.failure_count) for one in statuses] == [("complete", 0)] * 3
    assert sum(one.success_count for one in statuses) == 30


@pytest.mark.parametrize(("beyond", "expected"), [(0, 202), (1, 413)])
async def test_the_limit_is_true_to_the_octet(feed: Feed, beyond: int, expected: int) -> None:
    """§4.2.1: an envelope of exactly max_content_length octets is taken, and one octet more is 413."""
    objects = [indicator(id=stix_id("indicator", 4050 + number), description="x" * 200_000) for number in range(11)]
    surplus = len(HEAD + COMMA.join(json.dumps(one).encode() for one in objects) + TAIL) - MAX_CONTENT_LENGTH
    objects[-1]["description"] = "x" * (200_000 - surplus + beyond)
    octets = HEAD + COMMA.join(json.dumps(one).encode() for one in objects) + TAIL
    assert len(octets) == MAX_CONTENT_LENGTH + beyond
    headers = {**feed.live.as_("north"), "Accept": TAXII, "Content-Type": TAXII}
    async with httpx.AsyncClient(timeout=60) as http:
        answer = await http.post(f"{feed.url}objects/", content=octets, headers=headers)

    assert answer.status_code == expected


async def test_a_second_push_of_the_same_events_is_harmless(feed: Feed) -> None:
    """It pushes what it has, again and again: equal versions are successes and keep their date."""
    objects = [indicator(id=stix_id("indicator", 4100 + number)) for number in range(3)]
    for _ in range(2):
        [status] = await asyncio.to_thread(push, feed, objects)
        assert (status.success_count, status.failure_count) == (3, 0)

    stored = (await feed.live.get(f"{feed.url}manifest/", params={"match[version]": "all"})).json()["objects"]
    assert len(stored) == 3


async def test_failures_are_in_the_first_answer(feed: Feed) -> None:
    """It doesn't wait, and logs the failures of the first answer, each with id, version and message."""
    good, bad = indicator(id=stix_id("indicator", 4200)), indicator(id="indicator--not-a-uuid")
    [status] = await asyncio.to_thread(push, feed, [good, bad])

    assert (status.success_count, status.failure_count) == (1, 1)
    assert status.failures[0]["id"] == "indicator--not-a-uuid"
    assert status.failures[0]["version"] == bad["modified"]
    assert status.failures[0]["message"]


async def test_a_collection_id_of_another_server_is_404(feed: Feed) -> None:
    """Its collection id was once fixed in the code: such a push is refused, not lost."""
    elsewhere = Collection(
        f"{feed.root}collections/91a7b528-80eb-42ed-a74d-c6fbd5a26116/",
        user=feed.live.clients["north"].client_id,
        password=feed.live.clients["north"].secret,
    )
    with pytest.raises(HTTPError, match="404"):
        await asyncio.to_thread(elsewhere.add_objects, {"objects": [indicator()]}, wait_for_completion=False)


@pytest.mark.parametrize("form", ["2.0", "2.1"])
async def test_its_import_module_names_the_form_and_stops_amid_the_pages(feed: Feed, form: str) -> None:
    """It asks for one specification version, a hundred a page, and leaves the walk when it has enough."""
    await feed.add(150)
    await feed.put(*(indicator_2_0(id=stix_id("indicator", 4300 + number)) for number in range(150)))
    given = feed.live.clients["harbour"]
    collection = Collection(feed.url, user=given.client_id, password=given.secret)

    def read(enough: int) -> list[Stix]:
        pages = as_pages(collection.get_objects, per_request=100, spec_version=form)
        return list(islice(chain.from_iterable(page.get("objects", []) for page in pages), enough))

    expected = [key(one) for one in feed.stored if one.get("spec_version", "2.0") == form]
    assert [key(one) for one in await asyncio.to_thread(read, 1000)] == expected
    assert [key(one) for one in await asyncio.to_thread(read, 120)] == expected[:120]
