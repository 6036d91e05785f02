"""Microsoft Sentinel's TAXII connector: an API Root's URL, a collection's id, a user and a password; nothing else is known.

So it is replayed in every form that its documents and its users' reports leave open.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.clients.wire import Feed, Stix, Wire, last_added
from tests.taxii.alliance import TAXII, assert_error

pytestmark = [pytest.mark.anyio, pytest.mark.client("sentinel")]

CURL = {"Accept": "*/*", "User-Agent": "curl/8.5.0"}
ACCEPTS = pytest.mark.parametrize(
    "accept",
    [{}, CURL, {"Accept": TAXII}, {"Accept": "application/taxii+json; version=2.1"}, {"Accept": "application/json"}],
    ids=["none", "curl", "taxii", "spaced", "json"],
)


async def walk(wire: Wire, url: str, **query: str) -> tuple[list[Stix], str]:
    """Read all pages; give them with the last date."""
    found: list[Stix] = []
    while True:
        answer = await wire.get(url, query or None)
        page = answer.json()
        found += page.get("objects", [])
        if not page["more"]:
            return found, last_added(answer)
        query["next"] = page["next"]


@ACCEPTS
@pytest.mark.parametrize("slash", ["", "/"])
async def test_root_and_collection_id_are_enough(feed: Feed, accept: dict[str, str], slash: str) -> None:
    """Microsoft's sample asks for the collection and its objects by curl, which accepts anything."""
    await feed.add(3)
    wire = Wire(feed.live, accept | feed.live.as_("harbour"))

    assert (await wire.get(f"{feed.root}collections/{feed.id}{slash}")).json()["can_read"] is True
    assert (await wire.get(f"{feed.root}collections{slash}")).json()["collections"]
    assert (await walk(wire, f"{feed.root}collections/{feed.id}/objects{slash}"))[0] == feed.stored


async def test_an_alias_serves_as_collection_id(feed: Feed) -> None:
    """Its samples have collection ids that are no UUIDs, so its field takes an alias as well."""
    await feed.add(2)
    wire = Wire(feed.live, feed.live.as_("harbour"))
    alias = feed.name.partition("/")[2]

    assert (await walk(wire, f"{feed.root}collections/{alias}/objects/"))[0] == feed.stored


@pytest.mark.parametrize("days", [None, 1, 7, 30])
async def test_its_start_windows_and_polls(feed: Feed, days: int | None) -> None:
    """It starts with everything, or a day, week or month back, and then polls by date: once each."""
    await feed.add(120)
    wire = Wire(feed.live, CURL | feed.live.as_("harbour"))
    since = None if days is None else (datetime.now(UTC) - timedelta(days=days)).isoformat(timespec="seconds")
    query = {} if since is None else {"added_after": since.replace("+00:00", "Z")}
    found, last = await walk(wire, f"{feed.url}objects/", **query)
    for _ in range(3):
        await feed.add(2)
        fresh, last = await walk(wire, f"{feed.url}objects/", added_after=last)
        found += fresh
    nothing, _ = await walk(wire, f"{feed.url}objects/", added_after=last)

    assert nothing == []
    assert feed.missed_by(found) == []
    assert feed.repeated_to(found) == []


async def test_its_fortnightly_refresh_reads_the_same_again(feed: Feed) -> None:
    """About every 14 days it reads everything anew: the same objects, octet for octet."""
    await feed.add(5, x_ours_score=1.50)
    wire = Wire(feed.live, CURL | feed.live.as_("harbour"))
    first = await wire.get(f"{feed.url}objects/")
    again = await wire.get(f"{feed.url}objects/")

    assert again.content == first.content


async def test_a_root_pasted_as_discovery_url_or_the_other_way_is_told_apart(feed: Feed) -> None:
    """It gives its operator no errors of the import, so wrong places must be refusals and never empty successes."""
    wire = Wire(feed.live, CURL | feed.live.as_("harbour"))
    discovery = f"{feed.live.base_url}/taxii2/"

    assert_error(await wire.send("GET", f"{discovery}collections/{feed.id}/objects/"), 404)
    assert_error(await wire.send("GET", f"{feed.root}collections/{feed.id[:-1]}0/objects/x"), 404)
    nobody = Wire(feed.live, CURL)
    assert_error(await nobody.send("GET", f"{feed.url}objects/"), 401)
