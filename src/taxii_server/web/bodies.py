"""Reading a request's body, never more of it than allowed."""

from __future__ import annotations

import asyncio
import re
import zlib
from typing import TYPE_CHECKING

from taxii_server.domain.errors import BadBody, BodyTooLarge, BodyTooSlow, InflatedTooLarge, UnsupportedMedia

if TYPE_CHECKING:
    from datetime import timedelta

    from starlette.requests import Request

_GZIP = 16 + zlib.MAX_WBITS
_PIECE = 8 * 1024
# zeros may fill up a gzip file
_NOT_PADDING = re.compile(rb"[^\0]")


async def read_body(request: Request, limit: int, patience: timedelta) -> bytes:
    """Read the body, unpacked if it came with `Content-Encoding: gzip`. Octets are counted as they arrive.

    `patience` is how long the sender may pause.

    Raises:
        BodyTooLarge: if more than `limit` octets were announced or sent.
        InflatedTooLarge: if it unpacks to more than `limit` octets.
        BodyTooSlow: if the sender paused too long.
        UnsupportedMedia: if it is packed in another way.
        BadBody: if it isn't what gzip writes.
    """
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in {"identity", "", "gzip", "x-gzip"}:
        message = "Send the body as it is, or with Content-Encoding: gzip"
        raise UnsupportedMedia(message)
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > limit:
        raise _too_large(limit)
    body = bytearray()
    chunks = request.stream()
    while True:
        try:
            async with asyncio.timeout(patience.total_seconds()):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            message = f"Nothing more of the body arrived for {patience.total_seconds():.0f} seconds."
            raise BodyTooSlow(message) from error
        if chunk is None:
            break
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    if "gzip" in coding:
        # zlib lets go of the interpreter, so other requests go on meanwhile
        return await asyncio.to_thread(_inflate, bytes(body), limit)
    return bytes(body)


def _inflate(body: bytes, limit: int) -> bytes:
    whole = bytearray()
    # in pieces: what follows a member is copied at its end, and a body may hold a member every twenty octets
    rest = memoryview(body)
    try:
        while rest:
            member = zlib.decompressobj(_GZIP)
            while not member.eof:
                if not rest:
                    message = "The gzip body is cut short."
                    raise BadBody(message)
                piece, rest = rest[:_PIECE], rest[_PIECE:]
                whole += member.decompress(piece, limit + 1 - len(whole))
                if len(whole) > limit:
                    message = f"The body unpacks to more than max_content_length, {limit} octets: send fewer objects at a time."
                    raise InflatedTooLarge(message)
            follows = _NOT_PADDING.search(body, len(body) - len(rest) - len(member.unused_data))
            rest = memoryview(body)[follows.start() :] if follows else rest[:0]
    except zlib.error as error:
        message = "The body is announced as gzip but isn't."
        raise BadBody(message) from error
    if not body:
        message = "The gzip body is empty."
        raise BadBody(message)
    return bytes(whole)


def _too_large(limit: int) -> BodyTooLarge:
    message = f"The body has more than max_content_length, {limit} octets: send fewer objects at a time."
    return BodyTooLarge(message)
