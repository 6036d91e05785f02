"""Bodies are read to a limit and no further, in whatever pieces they arrive, and unpacked to the same limit."""

from __future__ import annotations

import asyncio
import gzip
import time
import tracemalloc
import zlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request

from taxii_server.domain.errors import BadBody, BodyTooLarge, BodyTooSlow, InflatedTooLarge, UnsupportedMedia
from taxii_server.web.bodies import LEAST_RATE, read_body, time_for

if TYPE_CHECKING:
    from collections.abc import Iterable

pytestmark = pytest.mark.anyio

LIMIT = 1000
EMPTY_MEMBER = gzip.compress(b"", mtime=0)


class Sender:
    """A client that sends `pieces`, and then stops, pauses or leaves; counts what was taken of it."""

    def __init__(self, pieces: Iterable[bytes], *, then: str = "end") -> None:
        self.pieces = iter(pieces)
        self.then = then
        self.taken = 0

    async def receive(self) -> dict[str, Any]:
        piece = next(self.pieces, None)
        if piece is not None:
            self.taken += len(piece)
            return {"type": "http.request", "body": piece, "more_body": True}
        if self.then == "pause":
            await asyncio.sleep(60)
        if self.then == "leave":
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def read(self, *, limit: int = LIMIT, patience: float = 5, **headers: str) -> bytes:
        raw = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
        request = Request({"type": "http", "method": "POST", "path": "/", "headers": raw}, self.receive)
        return await read_body(request, limit, timedelta(seconds=patience))


async def read(body: bytes, **options: Any) -> bytes:
    return await Sender([body]).read(**options)


@given(pieces=st.lists(st.binary(max_size=400), max_size=8))
async def test_what_fits_is_given_whole_and_what_does_not_is_refused(pieces: list[bytes]) -> None:
    """§4.2.1: the limit counts all octets, however they are cut; a body of exactly the limit fits."""
    whole = b"".join(pieces)
    if len(whole) <= LIMIT:
        assert await Sender(pieces).read() == whole
    else:
        with pytest.raises(BodyTooLarge):
            await Sender(pieces).read()


@pytest.mark.parametrize("size", [LIMIT - 1, LIMIT])
async def test_up_to_the_limit_nothing_is_too_large(size: int) -> None:
    """§4.2.1: a body no larger than max_content_length is never refused for its size."""
    assert await read(b"x" * size, content_length=str(size)) == b"x" * size


@pytest.mark.parametrize("announced", [str(LIMIT + 1), "9" * 30, "00000000000000001001"])
async def test_an_announced_size_is_believed_before_anything_is_read(announced: str) -> None:
    """§5.5: 413 at once."""
    sender = Sender([b"x"])
    with pytest.raises(BodyTooLarge):
        await sender.read(content_length=announced)
    assert sender.taken == 0


@pytest.mark.parametrize("announced", ["", "-1", "many", "1e3", "٣", "0"])
async def test_an_announcement_that_says_nothing_doesnt_matter(announced: str) -> None:
    """Octets are counted as they come, whatever was announced."""
    headers = {} if announced == "٣" else {"content_length": announced}
    assert await read(b"x" * LIMIT, **headers) == b"x" * LIMIT
    with pytest.raises(BodyTooLarge):
        await read(b"x" * (LIMIT + 1), **headers)


async def test_no_more_is_read_than_shows_that_it_is_too_much() -> None:
    """An endless body is given up at the limit; memory stays within it."""

    def endless() -> Iterable[bytes]:
        while True:
            yield b"x" * 65_536

    sender = Sender(endless())
    limit = 4 * 1024 * 1024
    tracemalloc.start()
    try:
        with pytest.raises(BodyTooLarge):
            await sender.read(limit=limit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sender.taken <= limit + 65_536
    assert peak < 3 * limit


async def test_a_sender_that_pauses_is_given_up() -> None:
    """The patience is for each piece: slow is fine, silent is not."""
    with pytest.raises(BodyTooSlow):
        await Sender([b"x"], then="pause").read(patience=0.05)


def slowly(piece: bytes, pieces: int) -> Sender:
    """A sender of so many pieces, fifty a second."""
    sender = Sender([])

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.02)
        sender.taken += 1
        return {"type": "http.request", "body": piece, "more_body": sender.taken < pieces}

    sender.receive = receive  # type: ignore[method-assign]
    return sender


async def test_a_sender_that_is_slow_is_waited_for() -> None:
    """Each piece within the patience, though not all of them together, and no slower on the whole than is allowed."""
    piece = b"x" * LEAST_RATE
    assert await slowly(piece, 15).read(patience=0.2, limit=15 * LEAST_RATE) == piece * 15


async def test_a_sender_that_trickles_is_given_up() -> None:
    """An octet now and then, always within the patience: the body as a whole has its time as well."""
    sender = slowly(b"x", 10_000)
    with pytest.raises(BodyTooSlow, match="too slowly"):
        await sender.read(patience=0.2, limit=10_000)
    assert sender.taken <= 0.2 / 0.02


@pytest.mark.parametrize("mebibytes", [1, 10, 256])
def test_a_line_of_256_kbit_is_fast_enough(mebibytes: int) -> None:
    """The largest body by default, and the largest that can be set; three of them share the line, packets cost a tenth."""
    octets = mebibytes * 1024 * 1024
    assert octets / (256_000 / 8 * 0.9 / 3) < time_for(octets, 60)


async def test_a_sender_that_leaves_is_no_fault() -> None:
    """The caller learns that nobody waits for an answer."""
    with pytest.raises(ClientDisconnect):
        await Sender([b"x"], then="leave").read()


# gzip


@pytest.mark.parametrize("coding", ["gzip", "GZip", " gzip ", "x-gzip"])
async def test_gzip_is_unpacked(coding: str) -> None:
    """RFC 9110 §8.4.1: codings are named without regard to case, and x-gzip is gzip."""
    assert await read(gzip.compress(b"packed"), content_encoding=coding) == b"packed"


@pytest.mark.parametrize("coding", ["identity", "", "Identity"])
async def test_identity_is_no_coding(coding: str) -> None:
    assert await read(b"plain", content_encoding=coding) == b"plain"


@pytest.mark.parametrize("coding", ["br", "deflate", "zstd", "compress", "gzip, gzip", "gzip, br", "x"])
async def test_other_codings_are_refused_before_anything_is_read(coding: str) -> None:
    """415: how to send it instead is said."""
    sender = Sender([b"x"])
    with pytest.raises(UnsupportedMedia, match="gzip"):
        await sender.read(content_encoding=coding)
    assert sender.taken == 0


@given(parts=st.lists(st.binary(max_size=200), min_size=1, max_size=5), padding=st.integers(0, 30))
async def test_several_members_are_one_body(parts: list[bytes], padding: int) -> None:
    """RFC 1952 §2.2: members follow one another; zeros may fill up the end."""
    packed = b"".join(map(gzip.compress, parts)) + b"\0" * padding

    assert await read(packed, limit=100_000, content_encoding="gzip") == b"".join(parts)


@given(kept=st.floats(0, 1, exclude_max=True), body=st.binary(max_size=300))
async def test_a_gzip_body_cut_anywhere_is_refused(kept: float, body: bytes) -> None:
    """400: a part of a body is never taken for the whole."""
    packed = gzip.compress(body)
    with pytest.raises(BadBody) as refusal:
        await read(packed[: int(len(packed) * kept)], content_encoding="gzip")
    assert not isinstance(refusal.value, BodyTooLarge | InflatedTooLarge)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"\0\0\0\0",
        b"\x1f\x8b",
        gzip.compress(b"x", mtime=0) + b"rubbish",
        zlib.compress(b"x"),
        gzip.compress(b"x", mtime=0)[:-8] + b"\0" * 8,
        b"PK\x03\x04",
    ],
)
async def test_what_is_no_gzip_is_refused(body: bytes) -> None:
    """400: rubbish, rubbish after a member, a wrong checksum, other formats."""
    with pytest.raises(BadBody) as refusal:
        await read(body, content_encoding="gzip")
    assert type(refusal.value) is BadBody


@pytest.mark.parametrize("size", [LIMIT, LIMIT + 1])
async def test_the_limit_holds_for_what_it_unpacks_to(size: int) -> None:
    """422 for the unpacked size: 413 is for what was sent."""
    for packed in (gzip.compress(b"x" * size), gzip.compress(b"x" * 600) + gzip.compress(b"x" * (size - 600))):
        if size <= LIMIT:
            assert len(await read(packed, content_encoding="gzip")) == size
        else:
            with pytest.raises(InflatedTooLarge):
                await read(packed, content_encoding="gzip")


async def test_what_was_sent_packed_is_counted_too() -> None:
    """413 for octets on the wire, though they would unpack to few."""
    with pytest.raises(BodyTooLarge):
        await read(EMPTY_MEMBER * 60, content_encoding="gzip")


async def test_a_bomb_is_given_up_at_the_limit() -> None:
    """64 MB of zeros in 64 kB: no more of them come to be than the limit."""
    bomb = gzip.compress(b"\0" * (64 << 20))
    limit = 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(InflatedTooLarge):
            await read(bomb, limit=limit, content_encoding="gzip")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6 * limit


async def test_members_without_number_cost_no_more_than_their_octets() -> None:
    """A member every twenty octets: the cost grows with the body, not with its square."""
    body = EMPTY_MEMBER * (2_000_000 // len(EMPTY_MEMBER)) + gzip.compress(b"end")
    begun = time.process_time()

    assert await read(body, limit=len(body), content_encoding="gzip") == b"end"
    assert time.process_time() - begun < 3
