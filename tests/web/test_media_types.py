"""Accept and Content-Type by HTTP's grammar, with TAXII's rules (§1.6.8, §3.1)."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxii_server.domain.errors import NotAcceptable, UnsupportedMedia
from taxii_server.web.media_types import TAXII, check_accept, check_content_type

ACCEPTED = [
    None,
    "",
    "  ",
    TAXII,
    "application/taxii+json",
    "*/*",
    "application/*",
    "application/json",
    "application/stix+json",
    "application/stix+json;version=2.0",
    # grammar: case, optional white space, quotes, empty items, weights
    "application/taxii+json; version=2.1",
    "application/taxii+json ;\tversion=2.1 ",
    'application/taxii+json;version="2.1"',
    'application/taxii+json;version="2\\.1"',
    "Application/TAXII+JSON;Version=2.1",
    "application/taxii+json;",
    "application/taxii+json;;version=2.1;",
    ", ,application/taxii+json",
    "application/taxii+json;version=2.1;q=0.001",
    "application/taxii+json;version=2.1;q=1.000",
    # several ranges: one that fits is enough
    f"{TAXII}, application/stix+json;version=2.1",
    "application/taxii+json;version=2.0, application/taxii+json;version=2.1",
    f"{TAXII};q=0.5, */*;q=0.1",
    'text/html;title="a, b;q=0", application/taxii+json',
    "text/html, application/foo;q=0.9, */*;q=0.1",
    "not a media type, application/taxii+json",
    # the most specific range decides
    f"*/*;q=0, {TAXII}",
    "application/*;q=0, application/taxii+json",
]
REFUSED = [
    "application/taxii+json;version=2.0",
    "application/taxii+json;version=3",
    "application/taxii+json;version=",
    "application/vnd.oasis.taxii+json",
    "application/vnd.oasis.taxii+json;version=2.0",
    "application/foo",
    "text/*",
    "text/html, application/xml",
    "rubbish",
    "*",
    "/",
    ",",
    "application/taxii+json;version=2.1;q=2",
    "application/taxii+json;version=2.1;q=0.0001",
    "application/taxii+json;version=2.1;q=x",
    "*/*;q=0",
    f"{TAXII};q=0",
    f"{TAXII};q=0, */*",
    f"{TAXII};q=0.000, application/*;q=1",
    "application/json;q=0",
    'application/taxii+json;version="2.1',
]


@pytest.mark.parametrize("header", ACCEPTED)
def test_accept_with_room_for_taxii_is_satisfied(header: str | None) -> None:
    """§3.1, D-02: a range that covers TAXII 2.1, however it is spelled, is never 406."""
    check_accept(header)


@pytest.mark.parametrize("header", REFUSED)
def test_accept_without_room_for_taxii_is_refused(header: str) -> None:
    """§3.1, D-02: neither a foreign type, nor another version alone, nor a weight of nought."""
    with pytest.raises(NotAcceptable):
        check_accept(header)


@pytest.mark.parametrize(
    "header",
    [
        TAXII,
        "application/taxii+json",
        "application/taxii+json; version=2.1",
        'APPLICATION/taxii+json;VERSION="2.1"',
        "application/taxii+json;version=2.1;charset=utf-8",
        "application/taxii+json; charset=UTF-8",
        "application/stix+json",
        "application/stix+json; version=2.1",
        "application/stix+json;version=2.0",
    ],
)
def test_content_type_of_taxii_and_stix_is_read(header: str) -> None:
    """§3.1, D-19: TAXII with its version or without, and STIX, which real clients post."""
    check_content_type(header)


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "application/json",
        "text/plain",
        "*/*",
        "application/taxii+json;version=2.0",
        "application/stix+json;version=1.2",
        "application/vnd.oasis.stix+json",
        "application/taxii+json;charset=latin-1",
        f"{TAXII}, {TAXII}",
        "rubbish",
    ],
)
def test_other_content_types_are_refused(header: str | None) -> None:
    """§3.1: a body of another type, version or charset is 415."""
    with pytest.raises(UnsupportedMedia):
        check_content_type(header)


@given(st.text(st.characters(max_codepoint=255), max_size=80) | st.text('a/*;=q", \\.01', max_size=40))
def test_any_header_gets_a_verdict(header: str) -> None:
    """§3.1: whatever stands in it, a header is satisfied or refused, and never fails the request."""
    for check, refusal in ((check_accept, NotAcceptable), (check_content_type, UnsupportedMedia)):
        with suppress(refusal):
            check(header)


@pytest.mark.parametrize(
    "header",
    [
        "a/a" + ";  " * 20_000 + "@",
        "a/a" + " ; a = b" * 8_000 + "@",
        "a/a" + " " * 60_000 + "@",
        "a" * 60_000,
        '"' + '\\"' * 30_000,
        '"' * 60_001 + "\\",
        'a/a;a="' + "\\\\" * 30_000,
        "*/*," * 15_000 + "@",
    ],
    ids=lambda header: header[:12],
)
def test_a_hostile_header_takes_no_longer_than_its_length_warrants(header: str) -> None:
    """One request can't hold the server up: 64 KiB of anything are looked through in a blink."""
    begun = time.perf_counter()
    for check, refusal in ((check_accept, NotAcceptable), (check_content_type, UnsupportedMedia)):
        with suppress(refusal):
            check(header)

    assert time.perf_counter() - begun < 2
