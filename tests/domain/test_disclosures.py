"""Packed dates come back as they were, damage is refused, and a span is found by every instant it holds."""

from __future__ import annotations

from datetime import timedelta
from itertools import accumulate
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxii_server.domain.cursor import Endpoint
from taxii_server.domain.disclosures import (
    BadDates,
    Disclosure,
    Recipient,
    Way,
    fork,
    forks,
    microseconds,
    pack,
    unpack,
)
from taxii_server.domain.timestamps import EPOCH, MICROSECOND

COLLECTION = UUID(int=7)
steps = st.lists(
    # of one push; of some; of anything up to thirty years
    st.one_of(st.just(1), st.integers(1, 300), st.integers(1, 10**15)),
    max_size=60,
)
dates = st.builds(
    lambda first, some: list(accumulate(some, initial=first)),
    st.integers(0, 4 * 10**15),
    steps,
)
instants = st.integers(0, 2**58)


@given(dates)
def test_dates_come_back_as_they_were(some: list[int]) -> None:
    """Of one page: any number, any distances."""
    made = Disclosure.of(COLLECTION, Recipient(1, 2), Endpoint.OBJECTS, some)

    again = unpack(made.dates, made.first_added, made.last_added, made.number)

    assert again == some


def test_a_push_takes_a_few_octets_and_a_lone_version_hardly_more() -> None:
    """A page of one push is what most pages are of; one version a second is five octets each."""
    push = [10**15 + one for one in range(10_000)]
    apart = [1_000_000 * one + one * one for one in range(10_000)]

    assert len(pack(push)) <= 5
    assert len(pack(apart)) / len(apart) <= 5.01


@given(dates, st.data())
def test_damage_is_refused(some: list[int], data: st.DataObject) -> None:
    """A changed octet, a missing or an additional one: refused, unless it says the same in other octets."""
    made = Disclosure.of(COLLECTION, Recipient(1, 2), Endpoint.OBJECTS, some)
    right = unpack(made.dates, made.first_added, made.last_added, made.number)
    octets = bytearray(made.dates)
    place = data.draw(st.integers(0, len(octets) - 1))
    match data.draw(st.sampled_from(["change", "cut", "add"])):
        case "change":
            octets[place] ^= data.draw(st.integers(1, 255))
        case "cut":
            del octets[place:]
        case _:
            octets.insert(place, data.draw(st.integers(0, 255)))
    try:
        found = unpack(bytes(octets), made.first_added, made.last_added, made.number)
    except BadDates:
        return

    assert found == right


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"\x90\x90",
        b"\x91\xff",  # a repeat of nothing
        b"\x91\x00",
        b"\x92\x01\xd3\x80\x00\x00\x00\x00\x00\x00\x00",  # the step repeated 2^63 times
        b"\x91\xa1a",
        b"\xdd\xff\xff\xff\xff\x01",
    ],
)
def test_what_was_never_packed_is_refused(octets: bytes) -> None:
    """And fills no memory."""
    with pytest.raises(BadDates):
        unpack(octets, EPOCH, EPOCH + MICROSECOND, 2)


def test_dates_must_increase() -> None:
    """A page's versions are in order of addition, and no two have one date."""
    for later in (7, 6):
        with pytest.raises(ValueError, match="increase"):
            pack([7, later])


@given(instants, instants, st.floats(0, 1))
def test_a_span_is_found_by_every_instant_it_holds(one: int, other: int, where: float) -> None:
    """Its fork lies within it and is among those of the instant; and there are few of them."""
    first, last = sorted((one, other))
    instant = first + min(int((last - first) * where), last - first)

    assert first <= fork(first, last) <= last
    assert fork(first, last) in forks(instant)
    assert len(forks(instant)) <= 61


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40))
def test_spans_that_share_no_instant_share_few_forks(one: int, other: int, third: int) -> None:
    """Small numbers, where everything meets: a fork is kept for spans that hold the fork itself."""
    first, last = sorted((one, other))

    assert (fork(first, last) in forks(third)) or not first <= third <= last


def test_only_objects_and_one_object_hold_content() -> None:
    """Manifest and versions tell that there is a version, and no more."""
    made = [Disclosure.of(COLLECTION, Recipient(1, 2), one, [7]).way for one in Endpoint]

    assert {way.name for way in made} == {way.name for way in Way}
    assert [way for way in Way if way.whole] == [Way.OBJECTS, Way.OBJECT]
    assert microseconds(EPOCH + timedelta(days=1)) == 86_400_000_000
