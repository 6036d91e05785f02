"""Elastic's custom threat-intelligence integration: a program in CEL that polls one `/objects/` URL on an interval."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, quote_plus, urlsplit

import httpx
import pytest

from tests.clients.wire import Feed, Stix, Wire, last_added
from tests.taxii.alliance import TAXII, basic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.taxii.live import Live

pytestmark = [pytest.mark.anyio, pytest.mark.client("elastic")]

LONG_AGO = "2000-01-01T00:00:00Z"


@dataclass
class Cel:
    """The integration's program. Its releases differ in what page 2 repeats and in how the cursor is kept."""

    wire: Wire
    url: str
    limit: int | None = 2
    initial: str | None = LONG_AGO
    repeats_added_after: bool = False
    whole_seconds: bool = False
    survives_empty_pages: bool = True
    cursor: str | None = None
    events: list[Stix] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    async def poll(self, between: Callable[[], Awaitable[object]] | None = None) -> None:
        """Run the program once: until a page comes without `next`, whatever `more` says."""
        start = self.cursor or self.initial
        query: dict[str, Any] = {} if start is None else {"added_after": start}
        if self.limit is not None and start is not None:
            query["limit"] = self.limit
        for _ in range(200):
            answer = await self.wire.get(self.url.rstrip("/") + "/" if query else self.url, query or None)
            body = answer.json()
            if "objects" not in body and not self.survives_empty_pages:
                self.errors.append("no such key: objects")
                return
            self.events += body.get("objects", [])
            self.cursor = self._kept(last_added(answer))
            if not body.get("next"):
                return
            if between is not None:
                await between()
            query = {"next": body["next"]} | ({} if self.limit is None else {"limit": self.limit})
            if self.repeats_added_after and start is not None:
                query["added_after"] = start
        pytest.fail("it never came to the end")

    def _kept(self, date: str) -> str:
        return f"{date[:19]}Z" if self.whole_seconds else date


def headers(live: Live) -> dict[str, str]:
    """Accept and Content-Type on a GET, as it sends them, and Basic."""
    return {"Accept": TAXII, "Content-Type": TAXII, **live.as_("harbour")}


@pytest.mark.parametrize("repeats_added_after", [pytest.param(False, marks=pytest.mark.slow), True])
async def test_it_follows_next_with_and_without_added_after(feed: Feed, repeats_added_after: bool) -> None:
    """Page 2 carries `next` and `limit` alone in some releases; the question stays that of page 1, writers or not."""
    await feed.add(5)
    client = Cel(Wire(feed.live, headers(feed.live)), f"{feed.url}objects/", repeats_added_after=repeats_added_after)
    for _ in range(3):
        await client.poll(between=feed.add)
        await feed.add(3)
    await client.poll()

    assert len(feed.stored) > 15
    assert feed.missed_by(client.events) == []
    assert feed.repeated_to(client.events) == []


@pytest.mark.slow
async def test_polls_beside_a_writer_miss_and_repeat_nothing(feed: Feed) -> None:
    """Its stored date, walk after walk, while somebody writes all the time."""
    client = Cel(Wire(feed.live, headers(feed.live)), f"{feed.url}objects/", limit=7)

    async def write() -> None:
        for _ in range(60):
            await feed.add(2)

    writing = asyncio.create_task(write())
    while not writing.done():
        await client.poll()
    await writing
    await client.poll()

    assert len(feed.stored) == 120
    assert feed.missed_by(client.events) == []
    assert feed.repeated_to(client.events) == []


async def test_a_next_is_never_there_without_more(feed: Feed) -> None:
    """It follows `next` even when `more` is false: every page has both or neither, so that its loop ends."""
    await feed.add(6)
    client = Cel(Wire(feed.live, headers(feed.live)), f"{feed.url}objects/")
    await client.poll()
    await client.poll()

    pages = [answer.json() for answer in client.wire.answers]
    assert [page["more"] for page in pages] == [True, True, False, False]
    assert ["next" in page for page in pages] == [True, True, False, False]


async def test_dates_kept_to_the_second_repeat_a_second_at_most(feed: Feed) -> None:
    """Releases that kept whole seconds read the last second again; nothing older, and nothing is missed."""
    client = Cel(Wire(feed.live, headers(feed.live)), f"{feed.url}objects/", limit=100, whole_seconds=True)
    for _ in range(3):
        await feed.add(4)
        before, cursor = len(client.events), client.cursor or LONG_AGO
        await client.poll()
        manifest = await feed.live.get(f"{feed.url}manifest/", params={"match[version]": "all"})
        dates = {record["id"]: record["date_added"] for record in manifest.json()["objects"]}
        assert all(dates[one["id"]] > cursor.replace("Z", ".000000Z") for one in client.events[before:])

    assert feed.missed_by(client.events) == []


async def test_an_empty_page_is_an_error_to_old_releases_and_loses_nothing(feed: Feed) -> None:
    """TAXII knows no empty list (§2), so a page without objects has no `objects`: their cursor stays where it was."""
    client = Cel(Wire(feed.live, headers(feed.live)), f"{feed.url}objects/", survives_empty_pages=False)
    await feed.add(3)
    await client.poll()
    await client.poll()
    assert client.errors == ["no such key: objects"]

    await feed.add(2)
    await client.poll()
    assert feed.missed_by(client.events) == []
    assert feed.repeated_to(client.events) == []


async def test_an_empty_page_moves_no_cursor_back(feed: Feed) -> None:
    """It stores X-TAXII-Date-Added-Last of every page, the empty ones too."""
    client = Cel(Wire(feed.live, headers(feed.live)), f"{feed.url}objects/")
    await client.poll()
    assert client.cursor == "2000-01-01T00:00:00.000000Z"

    await feed.add(3)
    await client.poll()
    kept = client.cursor
    await client.poll()
    assert client.cursor == kept
    assert feed.repeated_to(client.events) == []


@pytest.mark.parametrize("slash", ["", "/"])
async def test_a_pasted_url_without_interval_is_fetched_as_it_is(feed: Feed, slash: str) -> None:
    """Without an initial interval the URL goes out as the user pasted it, without a query; what follows has one."""
    await feed.add(150)
    client = Cel(Wire(feed.live, headers(feed.live)), f"{feed.url}objects{slash}", limit=None, initial=None)
    await client.poll()

    assert client.wire.answers[0].request.url.query == b""
    assert len(client.wire.answers) == 2
    assert feed.missed_by(client.events) == []
    assert feed.repeated_to(client.events) == []


async def test_its_bearer_is_a_token_fetched_as_gos_oauth2_does(feed: Feed) -> None:
    """Client credentials: Go's library tries Basic with form-encoded id and secret, and falls back to the body."""
    await feed.add(3)
    harbour = feed.live.clients["harbour"]
    token_url = f"{feed.live.base_url}/oauth2/token"
    quoted = basic(quote_plus(harbour.client_id), quote_plus(harbour.secret))
    form = {"grant_type": "client_credentials"}
    in_body = form | {"client_id": harbour.client_id, "client_secret": harbour.secret}
    async with httpx.AsyncClient(timeout=60) as http:
        granted = [await http.post(token_url, data=form, headers=quoted), await http.post(token_url, data=in_body)]

    for answer in granted:
        assert answer.status_code == 200
        bearer = {"Accept": TAXII, "Content-Type": TAXII, "Authorization": f"Bearer {answer.json()['access_token']}"}
        client = Cel(Wire(feed.live, bearer), f"{feed.url}objects/")
        await client.poll()
        assert feed.missed_by(client.events) == []


async def test_next_survives_its_query_encoding(feed: Feed) -> None:
    """It writes `next` into a URL by form encoding; ours needs none, so that no encoder can spoil it."""
    await feed.add(3)
    client = Cel(Wire(feed.live, headers(feed.live)), f"{feed.url}objects/")
    await client.poll()
    [following] = [answer.json()["next"] for answer in client.wire.answers if "next" in answer.json()]

    assert quote_plus(following) == following
    assert parse_qs(urlsplit(str(client.wire.answers[1].request.url)).query)["next"] == [following]
