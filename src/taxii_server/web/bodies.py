"""Reading a request's body, never more of it than allowed."""

from __future__ import annotations

import asyncio
import re
import time
import zlib
from typing import TYPE_CHECKING, Final

from taxii_server.domain.errors import BadBody, BodyTooLarge, BodyTooSlow, InflatedTooLarge, UnsupportedMedia

if TYPE_CHECKING:
    from datetime import timedelta

    from starlette.requests import Request

LEAST_RATE: Final = 8_000
"""Octets a second, on the whole: a quarter of a line of 256 kbit/s, on which 10 MiB take under six minutes.

A body that came slower would hold a place among its client's requests for as long as its sender likes.
"""

_GZIP = 16 + zlib.MAX_WBITS
_PIECE = 8 * 1024
# zeros may fill up a gzip file
_NOT_PADDING = re.compile(rb"[^\0]")


async def read_body(request: Request, limit: int, patience: timedelta) -> bytes:
    """Read the body, unpacked if it came with `Content-Encoding: gzip`. Octets are counted as they arrive.

    `patience` is how long the sender may pause, and what it may be late on the whole.

    Raises:
        BodyTooLarge: if more than `limit` octets were announced or sent.
        InflatedTooLarge: if it unpacks to more than `limit` octets.
        BodyTooSlow: if the sender paused too long, or is slower than `LEAST_RATE`.
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
    pause = patience.total_seconds()
    begun = time.monotonic()
    while True:
        left = begun + time_for(len(body), pause) - time.monotonic()
        try:
            async with asyncio.timeout(min(pause, left)):
                chunk = await anext(chunks, None)
        except TimeoutError as error:
            raise _too_slow(len(body), pause, late=left < pause) from error
        if chunk is None:
            break
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    if "gzip" in coding:
        # zlib lets go of the interpreter, so other requests go on meanwhile
        return await asyncio.to_thread(_inflate, bytes(body), limit)
    return bytes(body)


def time_for(octets: int, patience: float) -> float:
    """Give the seconds within which the octet after so many has to arrive."""
    return patience + octets / LEAST_RATE


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


def _too_slow(octets: int, patience: float, *, late: bool) -> BodyTooSlow:
    if not late:
        return BodyTooSlow(f"Nothing more of the body arrived for {patience:.0f} seconds.")
    return BodyTooSlow(
        f"The body arrives too slowly, {octets} octets in {time_for(octets, patience):.0f} seconds: send at least "
        f"{LEAST_RATE} a second, or pack it with gzip."
    )


def _too_large(limit: int) -> BodyTooLarge:
    message = f"The body has more than max_content_length, {limit} octets: send fewer objects at a time."
    return BodyTooLarge(message)
