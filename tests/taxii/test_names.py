"""Hostile paths, query strings and headers: whatever is asked, nothing is a fault of this server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.factories import malware, stix_id
from tests.taxii.alliance import GROUP, TAXII, Exchange, assert_error

if TYPE_CHECKING:
    from starlette.types import Message

pytestmark = pytest.mark.anyio

SCRATCH = "fraud-intel/scratch"
HOSTILE = [
    "\0",
    "a\0b",
    "/",
    "..",
    ".",
    "../../etc/passwd",
    "%",
    "%00",
    "%2F",
    "' OR 1=1 --",
    "'; DROP TABLE object_versions; --",
    "\\",
    "*",
    "?",
    "#",
    " ",
    "\n",
    "\r\nX-Injected: 1",
    "\u202e",
    "😀",
    "é",
    "e\u0301",
    "\udcff",
    "\x7f",
    "{0}",
    "%s",
    "null",
    "-1",
    "00000000-0000-0000-0000-000000000000",
    "x" * 5000,
    "é" * 5000,
    "[" * 3000,
    "FRAUD-INTEL",
    "fraud-intel ",
]


def encoded(text: str) -> str:
    """Text as one path segment, every octet of it encoded."""
    return "".join(f"%{octet:02X}" for octet in text.encode("utf-8", "surrogateescape"))


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_names_are_absent(exchange: Exchange, name: str) -> None:
    """§4, §5: 404 in every place of a path, in the words that any absent thing gets."""
    segment = encoded(name)
    collection = exchange.path("", SCRATCH)
    absent = assert_error(await exchange.get("/taxii2/absent/"), 404)
    for path in (
        f"/taxii2/{segment}/",
        f"/taxii2/{segment}/collections/",
        f"{GROUP}status/{segment}/",
        f"{GROUP}collections/{segment}/",
        f"{GROUP}collections/{segment}/objects/",
        f"{GROUP}collections/{segment}/manifest/",
        f"{collection}objects/{segment}/",
        f"{collection}objects/{segment}/versions/",
        f"{collection}{segment}/",
    ):
        error = assert_error(await exchange.get(path), 404)
        assert {**error, "error_id": ""} == {**absent, "error_id": ""}, path
    assert_error(await exchange.delete(f"{collection}objects/{segment}/"), 404)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
async def test_hostile_values_of_filters_match_nothing_or_are_refused(exchange: Exchange, name: str) -> None:
    """§3.4: an id or type that nothing has gives an empty page; what can't be a value is 400."""
    for field in ("match[id]", "match[type]"):
        answer = await exchange.get(f"{exchange.path('objects/', SCRATCH)}?{quote(field)}={encoded(name)}")
        if "\0" in name or "\udcff" in name:
            assert_error(answer, 400)
        else:
            assert answer.json() == {"more": False}
    for field in ("match[version]", "added_after", "limit", "next"):
        assert_error(await exchange.get(f"{exchange.path('objects/', SCRATCH)}?{quote(field)}={encoded(name)}"), 400)


@pytest.mark.parametrize("name", ["objects", "OBJECTS/", "objects//", "/objects/", "objects/%2e%2e/", "objects/./x/"])
async def test_only_the_paths_of_the_standard_exist(exchange: Exchange, name: str) -> None:
    """§3.1: names are matched to the letter, and paths are never tidied up; D-01: the last slash alone may be missing."""
    answer = await exchange.http.get(
        httpx.URL(f"http://127.0.0.1:8000{exchange.path('', SCRATCH)}{name}"), headers=exchange.as_("north")
    )

    assert answer.status_code == (200 if name == "objects" else 404)


@pytest.mark.parametrize("member", ["north", "stranger"])
@pytest.mark.parametrize("separator", ["%2F", "%2f"])
async def test_an_encoded_slash_reaches_nothing_hidden(exchange: Exchange, separator: str, member: str) -> None:
    """A path is checked as it is routed: encoding its slashes shows nobody more than it may see."""
    plain = await exchange.get(exchange.path("objects/", "crime-desk/cases"), member)
    packed = exchange.path("objects/", "crime-desk/cases").replace("/", separator).removeprefix(separator)
    answer = await exchange.get("/" + packed, member)

    assert plain.status_code == answer.status_code == 404


@pytest.mark.parametrize("method", ["PUT", "PATCH", "TRACE", "BREW", "GETT"])
async def test_other_methods_are_405(exchange: Exchange, method: str) -> None:
    """RFC 9110 §15.5.6: with the methods that there are, and before anybody is asked who they are."""
    answer = await exchange.http.request(method, exchange.path("objects/", SCRATCH))

    assert answer.status_code == 405
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS, POST"


async def test_a_stored_object_is_found_under_every_encoding_of_its_id(exchange: Exchange) -> None:
    """RFC 3986 §6.2.2: a path is its decoded form."""
    one = malware(id=stix_id("malware", 5000))
    await exchange.add(one)
    for segment in (one["id"], encoded(one["id"]), quote(one["id"]).replace("-", "%2d")):
        answer = await exchange.get(exchange.path(f"objects/{segment}/", SCRATCH))
        assert answer.json()["objects"] == [one]


# Anything at all

_segments = st.one_of(
    st.sampled_from(
        [
            "taxii2",
            "fraud-intel",
            "crime-desk",
            "collections",
            "scratch",
            "objects",
            "manifest",
            "versions",
            "status",
            "",
        ],
    ),
    st.sampled_from(HOSTILE),
    st.text(max_size=12),
)
_paths = st.one_of(
    st.lists(_segments, max_size=7),
    st.builds(
        lambda place, rest: ["taxii2", "fraud-intel", "collections", "scratch", place, *rest],
        st.sampled_from(["objects", "manifest"]),
        st.lists(_segments, max_size=3),
    ),
).map(lambda parts: "/" + "/".join(parts))
_fields = st.sampled_from(
    ["added_after", "limit", "next", "match[id]", "match[type]", "match[version]", "match[spec_version]", "x", ""],
)
_values = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        [
            "2024-05-02T08:15:30Z",
            "all",
            "last",
            "first,last",
            "2.0,2.1",
            "10",
            "9" * 40,
            "WyIxIl0",
            "٣",
            "1e3",
            *HOSTILE,
        ]
    ),
)
_queries = st.one_of(
    st.lists(st.tuples(_fields, _values), max_size=4).map(
        lambda pairs: "&".join(f"{name}={encoded(value)}" for name, value in pairs).encode(),
    ),
    st.binary(max_size=30),
)
_header_names = st.sampled_from(
    [
        b"accept",
        b"content-type",
        b"content-length",
        b"content-encoding",
        b"range",
        b"host",
        b"x-forwarded-for",
        b"cookie",
        b"x-request-id",
        b"transfer-encoding",
        b"if-none-match",
        b"accept-encoding",
        b"origin",
        b"authorization",
        b"expect",
    ],
)
_header_values = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [
            TAXII.encode(),
            b"*/*",
            b"application/*;q=0",
            b",,,",
            b';"',
            b'a/b;"\\',
            b"bytes=0-1",
            b"-1",
            b"0",
            b"99999999999999999999",
            b"gzip",
            b"gzip, identity;q=0",
            b"*",
            b"Basic",
            b"Basic \xff",
            b"Bearer a.b.c",
            b"Bearer " + b"." * 500,
            b"Digest x",
            b"x" * 9000,
            "٣".encode(),
        ],
    ),
)
_headers = st.lists(st.tuples(_header_names, _header_values), max_size=4)


async def ask(
    exchange: Exchange, method: str, path: str, query: bytes, headers: list[tuple[bytes, bytes]]
) -> httpx.Response:
    """Ask the application as a server would, with whatever octets: no client library tidies them up."""
    messages: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b'{"objects": [{}]}', "more_body": False}

    async def send(message: Message) -> None:
        messages.append(message)

    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        # as uvicorn decodes it
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query,
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "state": {},
    }
    await exchange.app(scope, receive, send)
    start, *rest = messages
    return httpx.Response(
        start["status"], headers=start["headers"], content=b"".join(each.get("body", b"") for each in rest)
    )


@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(["GET", "GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "x" * 300]),
    path=_paths,
    query=_queries,
    headers=_headers,
    as_north=st.booleans(),
)
@example(method="GET", path="/taxii2/\0/", query=b"", headers=[], as_north=True)
@example(
    method="DELETE", path="/taxii2/fraud-intel/collections/scratch/objects/\0/", query=b"", headers=[], as_north=True
)
@example(
    method="GET",
    path="/taxii2/fraud-intel/collections/scratch/objects/",
    query=b"match[id]=%ff",
    headers=[],
    as_north=True,
)
@example(
    method="GET", path="/taxii2/fraud-intel/collections/scratch/objects/", query=b"\xff", headers=[], as_north=True
)
async def test_whatever_is_asked_nothing_is_a_fault(
    exchange: Exchange,
    method: str,
    path: str,
    query: bytes,
    headers: list[tuple[bytes, bytes]],
    as_north: bool,
) -> None:
    """No path, query or header yields a 500, and under /taxii2/ every answer is TAXII's."""
    credentials = [(b"authorization", exchange.as_("north")["Authorization"].encode())] if as_north else []
    sent = "".join(
        quote(letter, safe="/") if ord(letter) < 0xD800 or ord(letter) > 0xDFFF else "%FF" for letter in path
    )
    answer = await ask(exchange, method, sent, query, [*credentials, *headers])

    assert answer.status_code < 500
    decoded = unquote(sent)
    if answer.status_code in {204, 304}:
        assert answer.content == b""
    elif decoded == "/taxii2" or decoded.startswith("/taxii2/"):
        assert answer.headers["content-type"] == TAXII
        if answer.status_code >= 400 and method != "HEAD":
            assert_error(answer, answer.status_code)


@settings(max_examples=100, suppress_health_check=list(HealthCheck))
@given(
    place=st.sampled_from(
        [
            "objects/",
            "manifest/",
            f"objects/{stix_id('malware', 5000)}/",
            f"objects/{stix_id('malware', 5000)}/versions/",
        ]
    ),
    query=_queries,
    method=st.sampled_from(["GET", "GET", "DELETE"]),
)
async def test_whatever_is_filtered_by_nothing_is_a_fault(
    exchange: Exchange, place: str, query: bytes, method: str
) -> None:
    """§3.4: any query string on any endpoint with filters is answered, or refused as malformed."""
    headers = [(name.lower().encode(), value.encode()) for name, value in exchange.as_("north").items()]
    answer = await ask(exchange, method, exchange.path(place, SCRATCH), query, headers)

    assert answer.status_code in {200, 400, 404, 405}
