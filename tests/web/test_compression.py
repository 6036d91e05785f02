"""Who gets gzip, and that it is what was there."""

from __future__ import annotations

import asyncio
import gzip
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxii_server.web import compression
from taxii_server.web.compression import LONGEST_ON_THE_LOOP, SMALLEST, pack, packable, wants_gzip


@pytest.mark.parametrize(
    ("accept_encoding", "wanted"),
    [
        (None, False),
        (b"", False),
        (b"gzip", True),
        (b"GZip", True),
        (b"x-gzip", True),
        (b"gzip, deflate, br, zstd", True),
        (b"deflate, gzip;q=1.0, *;q=0.5", True),
        (b"gzip ; q=0.001", True),
        (b"*", True),
        (b"br, *;q=0.1", True),
        (b"identity;q=0.5, *;q=0.7", True),
        (b"identity", False),
        (b"br, deflate", False),
        (b"gzip;q=0", False),
        (b"gzip;q=0.000, *", False),
        (b"x-gzip;q=0, *", False),
        (b"*;q=0", False),
        (b"gzip;q=0.5, identity", False),
        (b"gzip;q=0.5, identity;q=0.5", True),
        (b"identity;q=0", False),
        (b"identity;q=0, gzip;q=0", False),
        # what is malformed counts for nothing, what stands beside it does
        (b"gzip;q=1.001", False),
        (b"gzip;q=-1", False),
        (b"gzip;level=9", False),
        (b"gzip gzip", False),
        (b";;;,,, gzip;q=x, x-gzip", True),
        (b"\xff\x00, gzip", True),
        (b"gzip" + b", br" * 1000, False),
    ],
)
def test_gzip_is_for_who_takes_it(accept_encoding: bytes | None, *, wanted: bool) -> None:
    """RFC 9110 §12.5.3: by weight, by wildcard, and never unasked."""
    assert wants_gzip(accept_encoding, SMALLEST) == wanted


@pytest.mark.parametrize(
    ("accept_encoding", "octets", "wanted"),
    [
        (b"gzip", SMALLEST - 1, False),
        (b"*", 1, False),
        (b"gzip, identity;q=0", 1, True),
        (b"gzip, *;q=0", 1, True),
        (b"gzip, identity;q=0", 0, False),
    ],
)
def test_what_is_short_stays_as_it_is_unless_that_is_refused(
    accept_encoding: bytes, octets: int, *, wanted: bool
) -> None:
    """RFC 9110 §12.5.3: `identity;q=0` refuses even a short answer as it is."""
    assert wants_gzip(accept_encoding, octets) == wanted


@given(st.binary(max_size=600), st.integers(0, 10_000))
def test_no_header_is_a_fault(accept_encoding: bytes, octets: int) -> None:
    """Whatever was sent, there is an answer."""
    assert wants_gzip(accept_encoding, octets) in {True, False}


@pytest.mark.parametrize("odd", [b"gzip;q=" + b" " * 250, b"a" * 512, b";q=0" * 128, b"\t" * 512, b"gzip ;" * 85])
def test_an_odd_header_takes_no_time(odd: bytes) -> None:
    """It is read once from left to right."""
    begun = time.perf_counter()
    for number in range(200):
        wants_gzip(odd[:-3] + b"%03d" % number, SMALLEST)

    assert time.perf_counter() - begun < 1


@pytest.mark.parametrize(
    ("media_type", "packed"),
    [
        (b"application/taxii+json;version=2.1", True),
        (b"application/json", True),
        (b"application/problem+json", True),
        (b"text/html; charset=utf-8", True),
        (b"text/javascript", True),
        (b"image/svg+xml", True),
        (b"application/yaml", True),
        (b"image/png", False),
        (b"font/woff2", False),
        (b"application/octet-stream; about=json", False),
        (b"", False),
    ],
)
def test_text_is_packed(media_type: bytes, *, packed: bool) -> None:
    """What is packed by its nature would only grow."""
    assert packable(media_type) == packed


@pytest.mark.anyio
@pytest.mark.parametrize("octets", [1, 1000, LONGEST_ON_THE_LOOP, LONGEST_ON_THE_LOOP + 1, 3_000_000])
async def test_what_was_packed_is_there_again(octets: int) -> None:
    """RFC 1952: the standard library reads it; and it is the same each time, so HEAD can tell its length."""
    plain = (b'{"id":"indicator--%d"},' * (octets // 22 + 1) % tuple(range(octets // 22 + 1)))[:octets]

    packed = await pack(plain)

    assert gzip.decompress(packed) == plain
    assert packed == await pack(plain)
    assert octets < 1000 or len(packed) < octets / 2


@pytest.mark.anyio
async def test_a_large_answer_is_packed_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Others are served meanwhile; a short one isn't worth a thread."""
    packed_by = []
    plainly = compression._pack

    def noting(octets: bytes) -> bytes:
        packed_by.append(threading.current_thread())
        return plainly(octets)

    monkeypatch.setattr(compression, "_pack", noting)
    await pack(b"x" * LONGEST_ON_THE_LOOP)
    await pack(b"x" * (LONGEST_ON_THE_LOOP + 1))

    here = threading.current_thread()
    assert [thread is here for thread in packed_by] == [True, False]


@pytest.mark.anyio
async def test_the_interpreter_goes_on_while_a_page_is_packed() -> None:
    """ISA-L lets go of it: the loop turns while a thread packs what takes it a tenth of a second and more."""
    page = bytes(range(256)) * 4096 * 48
    turns, waiting = 0, asyncio.create_task(pack(page))
    while not waiting.done():
        await asyncio.sleep(0)
        turns += 1
    await waiting

    assert turns > 100
