"""Answers in gzip (RFC 9110 §8.4, §12.5.3), over real sockets: what arrives is what would have arrived without."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING, Any, NoReturn

import httpx
import pytest
import requests

from taxii_server.web import compression
from taxii_server.web.compression import LONGEST_ON_THE_LOOP, SMALLEST
from tests.factories import envelope, indicator, stix_id
from tests.taxii.alliance import GROUP, PAGE_SIZE_MAX, TAXII, assert_error
from tests.taxii.laws import FIRST, LAST
from tests.taxii.live import Live, live_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

PAGE_BYTES = 300_000
OBJECTS = f"{GROUP}collections/scratch/objects/"
PAGES = ["objects/", "manifest/", f"objects/{stix_id('indicator', 8000)}/", "objects/?limit=1"]


@pytest.fixture(scope="module")
async def live(module_database_urls: DatabaseUrls) -> AsyncIterator[Live]:
    """A collection of some pages; every tenth object is large, and none is plain ASCII."""
    async with live_server(module_database_urls, page_bytes=PAGE_BYTES) as running:
        named = [
            indicator(
                id=stix_id("indicator", 8000 + number),
                name=f"Grüße \N{PILE OF POO} {number}",
                description="\\u0041 \N{EURO SIGN} " * (1000 if number % 10 == 0 else 40),
            )
            for number in range(150)
        ]
        for first in range(0, len(named), 50):
            await running.add(*named[first : first + 50])
        yield running


async def plain(live: Live, path: str) -> httpx.Response:
    """What arrives without any coding."""
    answer = await live.get(path, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in answer.headers
    assert int(answer.headers["content-length"]) == len(answer.content)
    return answer


@pytest.mark.parametrize("rest", PAGES)
async def test_a_packed_page_is_the_page(live: Live, rest: str) -> None:
    """Octet for octet, dates included; Content-Length is that of what is sent."""
    path = f"{GROUP}collections/scratch/{rest}"
    expected = await plain(live, path)
    sent = await live.raw(live.head("GET", path, Accept_Encoding="gzip"))

    assert sent.headers.get_list("content-encoding") == ["gzip"]
    assert sent.content == expected.content
    differs = {"content-length", "content-encoding", "x-request-id", "date"}
    assert {k: v for k, v in sent.headers.items() if k not in differs} == {
        k: v for k, v in expected.headers.items() if k not in differs
    }
    assert int(sent.headers["content-length"]) < len(expected.content)


async def test_the_octets_on_the_wire_are_a_gzip_file(live: Live) -> None:
    """RFC 1952: exactly one, as long as announced, and the standard library reads it."""
    expected = await plain(live, OBJECTS)
    async with live.http.stream("GET", OBJECTS, headers=live.as_("north") | {"Accept-Encoding": "gzip"}) as answer:
        octets = b"".join([piece async for piece in answer.aiter_raw()])

    assert len(octets) == int(answer.headers["content-length"])
    assert gzip.decompress(octets) == expected.content
    assert len(expected.content) > LONGEST_ON_THE_LOOP


@pytest.mark.parametrize("rest", PAGES)
async def test_what_python_clients_ask_for_by_themselves(live: Live, rest: str) -> None:
    """The libraries under real clients, requests and httpx, ask for gzip unasked, and hand over the octets of the page."""
    path = f"{GROUP}collections/scratch/{rest}"
    expected = await plain(live, path)
    client = live.clients["north"]

    def ask() -> requests.Response:
        return requests.get(
            f"{live.base_url}{path}", auth=(client.client_id, client.secret), headers={"Accept": TAXII}, timeout=20
        )

    by_requests, by_httpx = await asyncio.to_thread(ask), await live.get(path)

    assert by_requests.content == by_httpx.content == expected.content
    assert by_requests.headers["content-encoding"] == by_httpx.headers["content-encoding"] == "gzip"
    assert by_requests.json() == by_httpx.json()


async def test_paging_is_the_same_packed(live: Live) -> None:
    """A page holds what it would hold plain: `page_bytes` counts objects, not what they pack to."""
    walks: dict[str, list[Any]] = {"identity": [], "gzip": []}
    for encoding, walk in walks.items():
        query: dict[str, Any] = {"limit": PAGE_SIZE_MAX}
        while True:
            answer = await live.get(OBJECTS, params=query, headers={"Accept-Encoding": encoding})
            walk.append((answer.content, answer.headers[FIRST], answer.headers[LAST]))
            assert len(answer.content) < PAGE_BYTES * 1.2
            if not answer.json()["more"]:
                break
            query["next"] = answer.json()["next"]

    assert walks["identity"] == walks["gzip"]
    assert len(walks["gzip"]) > 1


async def test_short_answers_stay_as_they_are(live: Live) -> None:
    """They fit into a packet either way; but who refuses them plain gets them packed."""
    asked = await live.get(GROUP, headers={"Accept-Encoding": "gzip"})
    refused = await live.get(GROUP, headers={"Accept-Encoding": "gzip, identity;q=0"})

    assert len(asked.content) < SMALLEST
    assert "content-encoding" not in asked.headers
    assert refused.headers["content-encoding"] == "gzip"
    assert refused.content == asked.content
    # one tag for both codings, as it is weak
    assert refused.headers["etag"] == asked.headers["etag"]


async def test_who_refuses_every_coding_gets_it_plain(live: Live) -> None:
    """RFC 9110 §15.5.7 lets a server give its default; TAXII's 406 is for media types."""
    answer = await live.get(OBJECTS, headers={"Accept-Encoding": "br, *;q=0"})

    assert answer.status_code == 200
    assert "content-encoding" not in answer.headers


async def test_a_large_status_is_packed(live: Live) -> None:
    """It has a line for every object: the answer to the POST, and the status resource itself."""
    repeats = [indicator(id=stix_id("indicator", 8500 + number)) for number in range(40)]
    posted = await live.post(envelope(*repeats), name="fraud-intel/scratch")
    read = await live.get(f"{GROUP}status/{posted.json()['id']}/")

    assert posted.status_code == 202
    assert posted.headers["content-encoding"] == read.headers["content-encoding"] == "gzip"
    assert posted.json() == read.json()


async def test_a_token_is_never_packed(live: Live) -> None:
    """Its length would tell of it, and it is short (RFC 6749 §5.1)."""
    answer = await live.http.post(
        "/oauth2/token",
        data={"grant_type": "client_credentials"},
        headers=live.as_("north") | {"Accept-Encoding": "gzip, identity;q=0"},
    )

    assert answer.json()["access_token"]
    assert "content-encoding" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"


async def test_head_tells_the_packed_length_and_the_connection_goes_on(live: Live) -> None:
    """RFC 9110 §9.3.2: what GET would say, though nothing follows."""
    async with live.connection() as (reader, writer):
        for encoding in ("gzip", "identity"):
            get = await live.get(OBJECTS, headers={"Accept-Encoding": encoding})
            writer.write(live.head("HEAD", OBJECTS, Accept_Encoding=encoding))
            async with asyncio.timeout(10):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            assert head.startswith("HTTP/1.1 200")
            assert f"content-length: {get.headers['content-length']}\r\n" in head
        writer.write(live.head("GET", "/healthz", None))
        async with asyncio.timeout(10):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_pages_are_packed_side_by_side(live: Live) -> None:
    """Many at once get each its own."""
    expected = await plain(live, OBJECTS)
    answers = await asyncio.gather(*(live.get(OBJECTS) for _ in range(20)))

    assert {answer.headers["content-encoding"] for answer in answers} == {"gzip"}
    assert {answer.content for answer in answers} == {expected.content}


async def test_a_fault_while_packing_is_told_as_one(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """§3.6: nothing was sent yet, so the client gets a whole error and not half a page."""

    def broken(_: bytes) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(compression, "_pack", broken)
    error = assert_error(await live.get(OBJECTS), 500)

    assert error["error_code"] == "internal-error"


async def test_the_api_document_is_packed(live: Live) -> None:
    """It is large, and the same for everybody."""
    answer = await live.http.get("/openapi.json", headers={"Accept-Encoding": "gzip"})

    assert answer.headers["content-encoding"] == "gzip"
    assert answer.json()["openapi"].startswith("3.")
