"""API Roots (§4.2): trust groups, each on its own, and the largest body one may send to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.taxii.alliance import GROUP, OTHER_GROUP, PUBLIC_URL, Exchange, assert_error, exchange_on
from tests.taxii.laws import hold

if TYPE_CHECKING:
    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("member", "root"), [("north", GROUP), ("constabulary", OTHER_GROUP)])
async def test_what_discovery_names_can_be_fetched(exchange: Exchange, member: str, root: str) -> None:
    """§3.1, §4.1.1: absolute URLs with a last slash; the default is one of them."""
    discovery = (await exchange.get("/taxii2/", member)).json()

    assert discovery["api_roots"] == [f"{PUBLIC_URL}{root}"]
    assert discovery["default"] in discovery["api_roots"]
    for url in discovery["api_roots"]:
        assert (await exchange.get(url, member)).json()["title"] == f"Title of {root.split('/')[2]}"
        assert (await exchange.get(f"{url}collections/", member)).status_code == 200


async def test_several_roots_answer_independently(exchange: Exchange) -> None:
    """§4.2: a member of two trust groups sees both, in a fixed order, with the collections of each apart."""
    alliance = exchange.alliance
    alliance.member("liaison")
    alliance.grant("liaison", "fraud-intel/indicators", ("read",))
    alliance.grant("liaison", "crime-desk/cases", ("read",))
    exchange.clients["liaison"] = alliance.client("liaison")
    discovery = (await exchange.get("/taxii2/", "liaison")).json()

    assert discovery["api_roots"] == [f"{PUBLIC_URL}{OTHER_GROUP}", f"{PUBLIC_URL}{GROUP}"]
    aliases = [
        [one["alias"] for one in (await exchange.get(f"{url}collections/", "liaison")).json()["collections"]]
        for url in discovery["api_roots"]
    ]
    assert aliases == [["cases"], ["indicators"]]
    # a collection is found under its own root alone
    indicators = exchange.collection_id("fraud-intel/indicators")
    assert_error(await exchange.get(f"{OTHER_GROUP}collections/{indicators}/", "liaison"), 404)


@pytest.mark.parametrize("path", ["/taxii2", "/taxii2/fraud-intel", "/taxii2/fraud-intel/collections"])
async def test_the_last_slash_may_be_missing(exchange: Exchange, path: str) -> None:
    """§3.1, D-01: both forms are served as they are; nothing redirects."""
    with_slash = await exchange.get(f"{path}/")
    without = await exchange.get(path)

    assert without.status_code == 200
    assert without.content == with_slash.content


async def test_every_collection_endpoint_takes_both_slash_forms(exchange: Exchange) -> None:
    """§3.1, D-01: whatever a client's URL is built from."""
    for rest in ("", "manifest/", "objects/"):
        path = exchange.path(rest)
        with_slash, without = await exchange.get(path), await exchange.get(path.removesuffix("/"))
        assert without.status_code == 200
        assert without.content == with_slash.content


async def test_title_and_contact_are_the_operators(fresh_database_urls: DatabaseUrls) -> None:
    """§4.1.1, §4.2.1: the optional properties, where they are set; links as the outside knows this server."""
    over = {"description": "For members", "contact": "desk@exchange.example", "public_url": "https://exchange.example"}
    async with exchange_on(fresh_database_urls, **over) as exchange:
        exchange.http.event_hooks["response"].append(hold)
        answer = await exchange.get("/taxii2/")

    root = "https://exchange.example/taxii2/fraud-intel/"
    assert answer.json() == {
        "title": "Test exchange",
        "description": "For members",
        "contact": "desk@exchange.example",
        "default": root,
        "api_roots": [root],
    }


async def test_channels_are_reserved(exchange: Exchange) -> None:
    """§6: there is nothing to serve."""
    assert_error(await exchange.get(f"{GROUP}channels/"), 404)
