"""The last step of every answer, by itself: what it adds, what it leaves alone."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.responses import Response, StreamingResponse

from taxii_server.web.cross_origin import CrossOrigin
from taxii_server.web.delivery import Delivery

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import Message

pytestmark = pytest.mark.anyio

TEXT = b"0123456789" * 1000


async def delivered(
    response: Response, path: str = "/x", method: str = "GET", *, https: bool = False, **headers: str
) -> httpx.Response:
    """Give what arrives of a response, as the web server gets it."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        await asyncio.Event().wait()  # nobody leaves
        raise AssertionError

    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    delivery = Delivery(https=https, cross_origin=CrossOrigin([]))
    await response(scope, receive, delivery.to(scope, send))
    start, *rest = sent
    assert start["type"] == "http.response.start"
    stream = httpx.ByteStream(b"".join(each["body"] for each in rest))
    return httpx.Response(start["status"], headers=start["headers"], stream=stream, extensions={"pieces": len(rest)})


def raw(answer: httpx.Response) -> bytes:
    """Give the body as it was sent, not unpacked."""
    return b"".join(answer.iter_raw())


def page(**headers: str) -> Response:
    """A page of text."""
    return Response(
        TEXT, headers={name.replace("_", "-"): value for name, value in headers.items()}, media_type="text/plain"
    )


async def test_a_stream_goes_out_as_it_comes() -> None:
    """What isn't there whole is neither tagged nor packed nor held back."""

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield TEXT

    answer = await delivered(StreamingResponse(pieces(), media_type="text/plain"), accept_encoding="gzip")

    assert raw(answer) == TEXT * 3
    assert answer.extensions["pieces"] > 3
    assert not {"etag", "content-encoding", "content-length"} & set(answer.headers)
    assert answer.headers["cache-control"] == "no-cache"


async def test_the_head_of_a_stream_has_no_body() -> None:
    """RFC 9110 §9.3.2: whoever answers, HEAD gets none."""

    async def pieces() -> AsyncIterator[bytes]:
        yield TEXT

    assert raw(await delivered(StreamingResponse(pieces()), method="HEAD")) == b""


async def test_the_head_of_a_file_is_not_taken_for_the_file() -> None:
    """An answer that tells a length and has no body to HEAD keeps what it tells, and gets no tag of nothing."""
    answer = await delivered(Response(headers={"Content-Length": "10000"}), method="HEAD", accept_encoding="gzip")

    assert answer.headers["content-length"] == "10000"
    assert not {"etag", "content-encoding"} & set(answer.headers)


async def test_what_the_answer_says_itself_counts() -> None:
    """Its own Cache-Control and ETag stand, once each."""
    answer = await delivered(page(cache_control="public, max-age=60", etag='"v1"'))

    assert answer.headers.get_list("cache-control") == ["public, max-age=60"]
    assert answer.headers.get_list("etag") == ['"v1"']
    assert answer.headers.get_list("x-content-type-options") == ["nosniff"]
    assert answer.headers["vary"] == "Accept-Encoding"


async def test_a_strong_tag_of_its_own_becomes_weak_when_packed() -> None:
    """RFC 9110 §8.8.1: a strong one would name octets that aren't sent; the caller's copy is found by it all the same."""
    packed = await delivered(page(etag='"v1"'), accept_encoding="gzip")

    assert packed.headers["etag"] == 'W/"v1"'
    assert gzip.decompress(raw(packed)) == TEXT
    assert (await delivered(page(etag='"v1"'), if_none_match='W/"v1"')).status_code == 304


@pytest.mark.parametrize("own", [{"content_encoding": "br"}, {"accept_ranges": "bytes"}])
async def test_what_is_packed_or_cut_by_others_is_left_alone(own: dict[str, str]) -> None:
    """RFC 9110 §14: ranges are of the plain octets."""
    answer = await delivered(page(**own), accept_encoding="gzip")

    assert raw(answer) == TEXT
    assert answer.headers.get("content-encoding", "br") == "br"


@pytest.mark.parametrize("path", ["/oauth2", "/oauth2/token"])
async def test_tokens_are_never_packed_and_never_kept(path: str) -> None:
    """RFC 6749 §5.1."""
    answer = await delivered(page(), path, accept_encoding="gzip, identity;q=0", if_none_match="*")

    assert (answer.status_code, raw(answer)) == (200, TEXT)
    assert answer.headers["cache-control"] == "no-store"
    assert not {"content-encoding", "etag", "vary"} & set(answer.headers)


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT"])
async def test_conditions_are_for_reading(method: str) -> None:
    """§13.1.2: nothing else has a tag here, so nothing else is refused by one."""
    answer = await delivered(page(), method=method, if_none_match="*")

    assert answer.status_code == 200
    assert "etag" not in answer.headers


async def test_errors_are_kept_by_nobody() -> None:
    """RFC 9111 §4.2.2: a 404 could be kept by its status alone."""
    for path, told in (("/taxii2/x", "private, no-store"), ("/x", "no-store"), ("/.well-known/x", "no-store")):
        answer = await delivered(Response(TEXT, 404, media_type="text/plain"), path, if_none_match="*")
        assert answer.status_code == 404
        assert answer.headers["cache-control"] == told
        assert "etag" not in answer.headers


@pytest.mark.parametrize("path", ["/taxii2", "/taxii2/", "/oauth2/token", "/.well-known/jwks.json", "/docs"])
async def test_only_tls_from_then_on(path: str) -> None:
    """RFC 6797: told where clients reach the server by TLS, and nowhere else; of this host alone."""
    assert (await delivered(page(), path, https=True)).headers["strict-transport-security"] == "max-age=31536000"
    assert "strict-transport-security" not in (await delivered(page(), path)).headers


@pytest.mark.parametrize("path", ["/taxii2x", "/taxii", "/taxii2.json"])
async def test_a_face_begins_at_its_prefix(path: str) -> None:
    """A name that begins alike is another place."""
    assert (await delivered(page(), path)).headers["vary"] == "Accept-Encoding"
