"""Entity tags and If-None-Match (RFC 9110 §8.8.3, §13.1.2)."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxii_server.web.conditional import etag_of, has_it

TAG = b'W/"5d41402abc4b2a76"'
STRONG = TAG.removeprefix(b"W/")


@pytest.mark.parametrize(
    ("if_none_match", "has"),
    [
        (None, False),
        (TAG, True),
        (STRONG, True),
        (b"*", True),
        (b" \t* ", True),
        (b'"a", ' + TAG, True),
        (b'"a",' + STRONG + b',"b"', True),
        (b',, "a" , ' + TAG + b" ,", True),
        (b'"with,comma", ' + TAG, True),
        (b'"\xe4"', False),
        (b'"a", "b"', False),
        (b'""', False),
        # malformed as a whole, so ignored as a whole
        (b"", False),
        (b",", False),
        (STRONG.strip(b'"'), False),
        (b"w/" + STRONG, False),
        (b"W/ " + STRONG, False),
        (b'"a" ' + TAG, False),
        (TAG + b", *", False),
        (b"*, " + TAG, False),
        (TAG + b', "open', False),
        (TAG + b", open", False),
        (b'"' + TAG, False),
        (b'"a\x00", ' + TAG, False),
    ],
)
def test_a_tag_is_found_in_a_list(if_none_match: bytes | None, *, has: bool) -> None:
    """§13.1.2: compared weakly, in a list or alone, or by `*`."""
    assert has_it(if_none_match, TAG) == has
    assert has_it(if_none_match, STRONG) == has


@given(st.binary(max_size=200))
def test_no_header_is_a_fault(if_none_match: bytes) -> None:
    """Whatever was sent, there is an answer; without the tag in it, it's no."""
    assert not has_it(if_none_match, TAG) or if_none_match.strip() == b"*"


@pytest.mark.parametrize(
    "odd", [b'"' * 60_000, b'W/""' * 15_000, b",\t " * 20_000, b'"a", ' * 12_000 + b"x", b"W/" * 30_000]
)
def test_an_odd_header_takes_no_time(odd: bytes) -> None:
    """It is read once from left to right."""
    begun = time.perf_counter()

    assert not has_it(odd, TAG)
    assert time.perf_counter() - begun < 0.5


@given(st.binary(), st.binary())
def test_a_tag_stands_for_its_octets(one: bytes, other: bytes) -> None:
    """§8.8.3: weak, well formed, and equal for equal octets alone."""
    assert re.fullmatch(rb'W/"[0-9a-f]{32}"', etag_of(one))
    assert (etag_of(one) == etag_of(other)) == (one == other)
    assert has_it(etag_of(one), etag_of(one))
