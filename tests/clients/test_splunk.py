"""Splunk: the app that submits to a CTIS server, on the real taxii2-client, and Enterprise Security's reader."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import stix2
from requests.exceptions import HTTPError
from taxii2client.v21 import ApiRoot, Collection

from tests.clients.wire import Feed, Stix, Wire, last_added
from tests.factories import TLP2, WHEN, identity, indicator, stix_id
from tests.taxii.alliance import TAXII, assert_error

if TYPE_CHECKING:
    from tests.taxii.live import Live

pytestmark = [
    pytest.mark.anyio,
    # the client leaves its sessions to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]

submitting = pytest.mark.client("splunk-ctis")
reading = pytest.mark.client("splunk-es")


def submission(*colours: str) -> stix2.v21.Bundle:
    """Make what it submits: a grouping with its identity and indicators, marked with TLP 2.0, in a bundle."""
    author = identity(id=stix_id("identity", 61))
    marked = {"created_by_ref": author["id"]}
    indicators = [
        indicator(id=stix_id("indicator", 610 + place), object_marking_refs=[TLP2[colour]], **marked)
        for place, colour in enumerate(colours)
    ]
    grouping = {
        "type": "grouping",
        "spec_version": "2.1",
        "id": stix_id("grouping", 61),
        "created": WHEN,
        "modified": WHEN,
        "context": "suspicious-activity",
        "object_refs": [one["id"] for one in indicators],
        "object_marking_refs": [TLP2[colours[0]]],
        **marked,
    }
    return stix2.v21.Bundle(*(stix2.parse(one) for one in (author, grouping, *indicators)))


def collections_by_id(live: Live, member: str) -> dict[str, Collection]:
    """List a root's collections, as it does before each submission; its user pastes the root's URL, slash or not."""
    given = live.clients[member]
    root = ApiRoot(f"{live.base_url}/taxii2/fraud-intel", user=given.client_id, password=given.secret)
    return {one.id: one for one in root.collections}


@submitting
async def test_a_grouping_with_tlp_2_is_complete_in_a_strict_collection(live: Live) -> None:
    """The bundle is taken whole, its TLP 2.0 markings known without their definitions, and complete at once.

    It waits for `complete` up to a minute, polling each second: it never has to.
    """
    feed = Feed.opened(live, validation="strict")
    bundle = submission("amber", "amber+strict", "green", "clear", "red")

    def submit() -> Any:
        return collections_by_id(live, "north")[feed.id].add_objects(bundle.serialize())

    status = await asyncio.to_thread(submit)

    assert (status.status, status.total_count, status.success_count) == ("complete", 7, 7)
    stored = (await live.get(f"{feed.url}objects/")).json()["objects"]
    assert sorted(one["id"] for one in stored) == sorted(one["id"] for one in bundle["objects"])
    levels = live.alliance.execute(
        "SELECT level FROM object_versions WHERE collection_id = %s AND marked ORDER BY level", feed.id
    )
    assert [level for (level,) in levels] == [0, 1, 2, 2, 3, 4]


@submitting
async def test_it_is_shown_what_it_can_write_to(live: Live) -> None:
    """It picks from `collections/`, greys out what isn't writable, and can't reach what the list leaves out."""

    def listed(member: str) -> dict[str, tuple[bool, bool]]:
        found = collections_by_id(live, member)
        return {one.title: (one.can_read, one.can_write) for one in found.values()}

    assert (await asyncio.to_thread(listed, "tide")) == {"Title of indicators": (False, True)}
    assert (await asyncio.to_thread(listed, "harbour"))["Title of indicators"] == (True, False)


@submitting
async def test_a_write_only_member_submits(live: Live) -> None:
    """A submitter needs no right to read: listing, posting and the status are enough."""
    bundle = submission("green")

    def submit() -> Any:
        return collections_by_id(live, "tide")[str(live.collection_id())].add_objects(bundle.serialize())

    assert (await asyncio.to_thread(submit)).success_count == 3


@submitting
async def test_its_error_text_says_what_was_wrong(live: Live) -> None:
    """What it shows its user is the exception's text: the status and the URL."""
    harbour = live.clients["harbour"]
    root = ApiRoot(f"{live.base_url}/taxii2/crime-desk", user=harbour.client_id, password=harbour.secret)
    with pytest.raises(HTTPError, match="404 Client Error: Not Found for url"):
        await asyncio.to_thread(root.refresh_collections)


@reading
async def test_enterprise_security_polls_by_user_and_password(feed: Feed) -> None:
    """ES speaks TAXII 2.1 from 8.2 on, with user and password; by `next`, then by the last date added."""
    wire = Wire(feed.live, {"Accept": TAXII, **feed.live.as_("harbour")})
    found: list[Stix] = []
    query: dict[str, str] = {"limit": "2"}
    for _ in range(3):
        await feed.add(3)
        while True:
            answer = await wire.get(f"{feed.url}objects/", query)
            page = answer.json()
            found += page["objects"]
            if not page["more"]:
                break
            query = {"limit": "2", "next": page["next"]}
        query = {"limit": "2", "added_after": last_added(answer)}

    assert feed.missed_by(found) == []
    assert feed.repeated_to(found) == []


@reading
async def test_an_older_enterprise_security_is_told_what_is_spoken_here(live: Live) -> None:
    """Before 8.2 it speaks TAXII 1.x, which posts XML to a service of its own: a readable refusal, not a fault."""
    wire = Wire(
        live,
        {
            "Content-Type": "application/xml",
            "Accept": "application/xml",
            "X-TAXII-Content-Type": "urn:taxii.mitre.org:message:xml:1.1",
            **live.as_("harbour"),
        },
    )
    answer = await wire.send("POST", f"{live.base_url}/taxii2/", content=b"<taxii_11:Discovery_Request/>")

    assert_error(answer, 405)
