"""Readers of which little more is known than a setting or two, and how they ask: replayed by what their rows say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.clients.wire import Feed, Stix, Wire, last_added
from tests.factories import indicator, stix_id
from tests.taxii.alliance import PAGE_SIZE_MAX, TAXII, assert_error

if TYPE_CHECKING:
    from tests.taxii.live import Live

pytestmark = pytest.mark.anyio


def reading(live: Live, **headers: str) -> Wire:
    """Read as harbour, by Basic: what all of these can do."""
    return Wire(live, {"Accept": TAXII, **live.as_("harbour"), **headers})


async def by_next(wire: Wire, url: str, **query: Any) -> list[Stix]:
    """Read all pages by `next`, repeating the query, as the standard has it."""
    found: list[Stix] = []
    while True:
        page = (await wire.get(url, query or None)).json()
        found += page.get("objects", [])
        if not page.get("more"):
            return found
        query["next"] = page["next"]


@pytest.mark.client("qradar")
async def test_qradar_in_taxii_2_1_polls_with_a_writer_beside_it(feed: Feed) -> None:
    """Where it speaks 2.1, or an adapter does for it: by `next`, then by the last date added."""
    await feed.add(5)
    wire = reading(feed.live)
    found = await by_next(wire, f"{feed.url}objects/", limit=2)
    last = last_added(wire.answers[-1])
    await feed.add(5)
    found += await by_next(wire, f"{feed.url}objects/", limit=2, added_after=last)

    assert feed.missed_by(found) == []
    assert feed.repeated_to(found) == []


@pytest.mark.client("qradar")
@pytest.mark.parametrize(
    "accept", ["application/vnd.oasis.taxii+json; version=2.0", "application/vnd.oasis.stix+json; version=2.0"]
)
async def test_qradar_in_taxii_2_0_is_refused_in_words(feed: Feed, accept: str) -> None:
    """Documented for 2.0: the refusal is a 406 in TAXII that names what is spoken here, never an empty success."""
    wire = reading(feed.live, Accept=accept)
    for url in (f"{feed.live.base_url}/taxii2/", f"{feed.root}collections/", f"{feed.url}objects/"):
        answer = await wire.send("GET", url)
        assert "version=2.1" in assert_error(answer, 406)["description"]


@pytest.mark.client("qradar")
async def test_qradar_in_taxii_1_is_refused_and_not_redirected(live: Live) -> None:
    """TAXII 1.x posts XML to paths of its own: 404 and 405, at once."""
    wire = reading(live, Accept="application/xml", **{"Content-Type": "application/xml"})
    for path in ("/taxii-discovery-service", "/taxii2/taxii-discovery-service/", "/taxii2/"):
        answer = await wire.send("POST", live.base_url + path, content=b"<Discovery_Request/>")
        assert answer.status_code in {404, 405}
        assert "location" not in answer.headers


@pytest.mark.client("minemeld")
async def test_minemeld_paging_by_modified_gets_what_distinct_stamps_allow(feed: Feed) -> None:
    """It takes the last object's `modified` for the date added: repeats without end, each page bounded, none a fault.

    Stamps lie before the dates of addition, so it starts over and over; nobody else notices.
    """
    await feed.add(8)
    wire = reading(feed.live)
    after = "2000-01-01T00:00:00Z"
    bodies: list[bytes] = []
    for _ in range(6):
        answer = await wire.get(f"{feed.url}objects/", {"added_after": after, "limit": "3"})
        bodies.append(answer.content)
        after = answer.json()["objects"][-1]["modified"]

    assert {len(answer.json()["objects"]) for answer in wire.answers} == {3}
    assert [body.partition(b'"objects"')[2] for body in bodies] == [bodies[0].partition(b'"objects"')[2]] * 6
    assert await by_next(reading(feed.live), f"{feed.url}objects/", limit=3) == feed.stored


@pytest.mark.client("minemeld")
async def test_minemeld_with_the_servers_largest_page_is_whole(feed: Feed) -> None:
    """What helps it is a limit above the collection: one page, no `next`, nothing to page wrongly by."""
    await feed.add(PAGE_SIZE_MAX)
    page = (await reading(feed.live).get(f"{feed.url}objects/", {"limit": "10000"})).json()

    assert page["more"] is False
    assert feed.missed_by(page["objects"]) == []


@pytest.mark.client("eclecticiq")
@pytest.mark.parametrize("way", ["next", "date"])
async def test_eclecticiq_takes_a_hundred_a_run_and_goes_on(feed: Feed, way: str) -> None:
    """A hundred objects a run: a run may end amid a walk, and the next one goes on, hours later, writers or not."""
    await feed.add(130)
    query: dict[str, str] = {"limit": "100"}
    found: list[Stix] = []
    for _ in range(6):
        answer = await reading(feed.live).get(f"{feed.url}objects/", query)
        page = answer.json()
        found += page.get("objects", [])
        goes_on = {"next": page["next"]} if way == "next" and page["more"] else {"added_after": last_added(answer)}
        query = {"limit": "100"} | goes_on
        if len(feed.stored) < 300:
            await feed.add(60)

    assert feed.missed_by(found) == []
    assert feed.repeated_to(found) == []


@pytest.mark.client("trend-micro")
async def test_trend_micro_is_told_what_was_revoked(feed: Feed) -> None:
    """It skips revoked indicators: a later version that revokes one arrives as posted, in place of the first."""
    first = indicator(id=stix_id("indicator", 71), modified="2024-06-01T00:00:00.000Z")
    await feed.put(first, indicator(id=stix_id("indicator", 72)))
    wire = reading(feed.live)
    taken = {one["id"] for one in await by_next(wire, f"{feed.url}objects/") if not one.get("revoked")}
    assert taken == {one["id"] for one in feed.stored}

    last = last_added(wire.answers[-1])
    await feed.put(first | {"modified": "2024-07-01T00:00:00.000Z", "revoked": True})
    [news] = await by_next(wire, f"{feed.url}objects/", added_after=last)
    assert (news["id"], news["revoked"]) == (first["id"], True)
    assert [one["id"] for one in await by_next(wire, f"{feed.url}objects/") if not one.get("revoked")] == [
        stix_id("indicator", 72)
    ]


@pytest.mark.client("sumo-logic")
async def test_sumo_logic_finds_its_feed_from_the_discovery_url(feed: Feed) -> None:
    """Discovery, then each advertised root and its collections, by Basic; then it polls."""
    await feed.add(3)
    wire = reading(feed.live)
    found: list[Stix] = []
    for root in (await wire.get(f"{feed.live.base_url}/taxii2/")).json()["api_roots"]:
        listed = (await wire.get(f"{root}collections/")).json()["collections"]
        for each in listed:
            if each["id"] == feed.id and each["can_read"]:
                found += await by_next(wire, f"{root}collections/{each['id']}/objects/", limit=2)

    assert found == feed.stored


@pytest.mark.client("trellix")
@pytest.mark.parametrize("limit", [500, 15_000, 2**53 - 1])
async def test_trellixs_limits_are_cut_without_a_word(feed: Feed, limit: int) -> None:
    """Its limit may be set from 500 to 15000: beyond the server's largest page it is cut, and the pages go on."""
    await feed.add(PAGE_SIZE_MAX + 30)
    wire = reading(feed.live)
    found = await by_next(wire, f"{feed.url}objects/", limit=limit)

    assert [len(answer.json()["objects"]) for answer in wire.answers] == [PAGE_SIZE_MAX, 30]
    assert feed.missed_by(found) == []
    assert feed.repeated_to(found) == []
