"""Pages of other origins (CORS): nobody's, unless TAXII_CORS_ORIGINS names them. Over real requests, as browsers send them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

import pytest

from taxii_server.operations import reading
from tests.factories import malware, stix_id
from tests.taxii import laws
from tests.taxii.alliance import GROUP, TAXII, exchange_on
from tests.taxii.live import Live, live_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

CONSOLE, OTHER = "https://console.north-bank.example", "http://localhost:3000"
STRANGERS = [
    "https://evil.example",
    "null",
    "*",
    "http://console.north-bank.example",
    f"{CONSOLE}.evil.example",
    f"{CONSOLE}:8443",
    f"{CONSOLE}/",
    CONSOLE.upper(),
    f"{CONSOLE}, {CONSOLE}",
]
OBJECTS = f"{GROUP}collections/scratch/objects/"
PREFLIGHT = {"Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization,accept"}


def cross_origin(answer: httpx.Response) -> dict[str, str]:
    """What is told of origins."""
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-")}


@pytest.fixture(scope="module")
async def live(module_database_urls: DatabaseUrls) -> AsyncIterator[Live]:
    async with live_server(module_database_urls, cors_origins=(CONSOLE, OTHER)) as running:
        running.http.event_hooks["response"].append(laws.hold)
        await running.add(malware(id=stix_id("malware", 7100)))
        yield running


@pytest.mark.parametrize("origin", [CONSOLE, OTHER])
@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/taxii2/", "GET, HEAD, OPTIONS"),
        (OBJECTS, "GET, HEAD, OPTIONS, POST"),
        (f"{OBJECTS}x/", "DELETE, GET, HEAD, OPTIONS"),
        (f"{GROUP}collections/no-such-collection/objects", "GET, HEAD, OPTIONS, POST"),
        ("/oauth2/token", "OPTIONS, POST"),
        ("/.well-known/oauth-authorization-server", "GET, HEAD, OPTIONS"),
    ],
)
async def test_a_listed_origin_may_ask_first(live: Live, path: str, methods: str, origin: str) -> None:
    """Fetch §4.8: by OPTIONS without credentials, and whatever is there."""
    answer = await live.http.options(path, headers=PREFLIGHT | {"Origin": origin})

    assert answer.status_code == 204
    assert cross_origin(answer) == {
        "access-control-allow-origin": origin,
        "access-control-allow-methods": methods,
        "access-control-allow-headers": "Authorization, Accept, Content-Type, If-None-Match",
        "access-control-max-age": "600",
    }
    assert "Origin" in answer.headers["vary"]


async def test_a_listed_origin_reads_answers_and_errors(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the headers its page would see no more than that something failed; never with the browser's own credentials."""

    async def broken(*_: object) -> NoReturn:
        raise RuntimeError

    origin = {"Origin": CONSOLE}
    answers = {
        200: await live.get(OBJECTS, headers=origin),
        401: await live.http.get(OBJECTS, headers=origin),
        404: await live.get(f"{GROUP}collections/none/", headers=origin),
        405: await live.http.put(OBJECTS, headers=origin),
        406: await live.get(OBJECTS, headers=origin | {"Accept": "application/foo"}),
    }
    tag = (await live.get(GROUP)).headers["etag"]
    answers[304] = await live.get(GROUP, headers=origin | {"If-None-Match": tag})
    monkeypatch.setattr(reading.Reader, "read", broken)
    answers[500] = await live.get(OBJECTS, headers=origin)

    for status, answer in answers.items():
        assert answer.status_code == status
        told = cross_origin(answer)
        assert told.pop("access-control-allow-origin") == CONSOLE
        exposed = set(told.pop("access-control-expose-headers").lower().split(", "))
        assert {laws.FIRST, laws.LAST, "etag", "x-request-id", "retry-after", "www-authenticate"} == exposed
        assert told == {}


async def test_a_listed_origin_gets_a_token_and_polls_with_it(live: Live) -> None:
    """The whole way that a page goes: client id and secret, token, objects."""
    origin = {"Origin": CONSOLE}
    form = {"grant_type": "client_credentials"}
    issued = await live.http.post("/oauth2/token", data=form, headers=live.as_("north") | origin)
    refused = await live.http.post("/oauth2/token", data=form, headers=origin)
    bearer = {"Authorization": f"Bearer {issued.json()['access_token']}", "Accept": TAXII}
    page = await live.http.get(OBJECTS, headers=bearer | origin)

    assert [answer.status_code for answer in (issued, refused, page)] == [200, 401, 200]
    for answer in (issued, refused, page):
        assert answer.headers["access-control-allow-origin"] == CONSOLE
        assert "Origin" in answer.headers["vary"]
    assert page.json()["objects"]


@pytest.mark.parametrize("origin", STRANGERS)
async def test_other_origins_are_told_nothing(live: Live, origin: str) -> None:
    """Exactly the listed ones; the answer itself is the same, for it isn't the server that protects a page's user."""
    asked = await live.http.options(OBJECTS, headers=PREFLIGHT | {"Origin": origin})
    got = await live.get(OBJECTS, headers={"Origin": origin})

    assert (asked.status_code, got.status_code) == (204, 200)
    assert cross_origin(asked) == cross_origin(got) == {}
    assert "Origin" in got.headers["vary"]


async def test_without_an_origin_nothing_is_told_but_that_it_counts(live: Live) -> None:
    """RFC 9110 §12.5.5: a cache must not hand this answer to a page."""
    answer = await live.get(OBJECTS)

    assert cross_origin(answer) == {}
    assert answer.headers["vary"] == "Accept, Accept-Encoding, Authorization, Origin"


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/openapi.json"])
async def test_the_rest_of_the_server_is_for_nobody_elses_pages(live: Live, path: str) -> None:
    """Only what a client needs: TAXII, the token endpoint and what describes it."""
    answer = await live.http.get(path, headers={"Origin": CONSOLE})

    assert cross_origin(answer) == {}
    assert answer.headers["vary"] == "Accept-Encoding"


async def test_a_path_that_is_no_route_can_be_read_as_such(live: Live) -> None:
    """A preflight of it fails by its status, as Fetch wants it."""
    answer = await live.http.options(f"{GROUP}nothing/", headers=PREFLIGHT | {"Origin": CONSOLE})

    assert answer.status_code == 404
    assert "access-control-allow-methods" not in cross_origin(answer)


async def test_unless_configured_there_is_no_cors(fresh_database_urls: DatabaseUrls) -> None:
    """Off as it comes: no header, and nothing varies by Origin."""
    async with exchange_on(fresh_database_urls) as exchange:
        asked = await exchange.http.options("/taxii2/", headers=PREFLIGHT | {"Origin": CONSOLE})
        got = await exchange.get("/taxii2/", headers={"Origin": CONSOLE})

    assert cross_origin(asked) == cross_origin(got) == {}
    assert got.headers["vary"] == "Accept, Accept-Encoding, Authorization"
