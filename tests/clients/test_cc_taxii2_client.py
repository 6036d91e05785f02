"""CloudCover's cc-taxii2-client, unmodified but for the URL it is pointed at: its roots are `api` and the account's."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from cc_taxii2_client import CCTaxiiClient, count_indicators, description_search, ip_search
from cc_taxii2_client.exceptions import TaxiiAuthorizationError, TaxiiConnectionError

from tests.clients.wire import Feed
from tests.factories import indicator, stix_id

if TYPE_CHECKING:
    from tests.taxii.live import Live

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.client("cc-taxii2-client"),
    # the client leaves its session to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
]


@pytest.fixture(scope="module")
async def public(live: Live) -> Feed:
    """A trust group named `api` with one collection in it, of indicators with every property the client wants."""
    live.alliance.group("api")
    feed = Feed.opened(live, "api")
    for number in range(5):
        await feed.put(
            indicator(
                id=stix_id("indicator", 700 + number),
                name=f"Seen at {number}",
                description="Card testing" if number % 2 else "Phishing",
                pattern=f"[ipv4-addr:value = '198.51.100.{number}']",
                pattern_version="2.1",
            )
        )
    return feed


def client(live: Live, secret: str | None = None, account: str | None = None) -> Any:
    """Make the client; it knows one URL of its own, which its attribute replaces."""
    given = live.clients["harbour"]
    made: Any = CCTaxiiClient(account or given.client_id, secret or given.secret)
    made.url = f"{live.base_url}/taxii2"
    return made


async def test_an_account_in_capitals_is_the_same(public: Feed) -> None:
    """It writes the account in small letters: ids of clients have no others."""
    given = public.live.clients["harbour"].client_id

    assert given == given.lower()
    made = client(public.live, account=given.upper())
    assert await asyncio.to_thread(made.get_collections) == [public.id]


async def test_pages_are_followed_with_next_beside_the_filters(public: Feed) -> None:
    """It puts `next` into the URL unescaped, beside limit, added_after and the match fields of the first request."""

    def read() -> list[list[Any]]:
        return list(
            client(public.live).get_cc_indicators_generator(
                limit=2,
                added_after="2000-01-01T00:00:00.000Z",
                matches={"type": "indicator", "version": "last"},
                follow_pages=True,
            )
        )

    pages = await asyncio.to_thread(read)

    assert [len(page) for page in pages] == [2, 2, 1]
    assert [one.id for page in pages for one in page] == [one["id"] for one in public.stored]


async def test_its_searches_find_what_is_there(public: Feed) -> None:
    """Counting and searching go over whole walks."""

    def look() -> tuple[int, list[str], list[str]]:
        using = client(public.live)
        return (
            count_indicators(using.get_cc_indicators_generator(follow_pages=True, limit=3)),
            [one.name for one in ip_search("198.51.100.3", using.get_cc_indicators_generator(public.id))],
            [one.name for one in description_search("Card", using.get_cc_indicators_generator(public.id))],
        )

    assert await asyncio.to_thread(look) == (5, ["Seen at 3"], ["Seen at 1", "Seen at 3"])


async def test_nothing_new_ends_its_walk(public: Feed) -> None:
    """A page without objects and without more: none is yielded."""

    def read() -> list[list[Any]]:
        far = "2999-01-01T00:00:00.000Z"
        return list(client(public.live).get_cc_indicators_generator(added_after=far, follow_pages=True))

    assert await asyncio.to_thread(read) == []


async def test_refusals_end_in_its_own_errors(public: Feed) -> None:
    """It reads every answer as an envelope or a list of collections: an error resource is neither."""
    wrong = client(public.live, secret="wrong")

    with pytest.raises((TaxiiConnectionError, TaxiiAuthorizationError)):
        await asyncio.to_thread(lambda: list(wrong.get_cc_indicators_generator(public.id)))
