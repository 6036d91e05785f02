"""Cutting a file of any size, piece by piece: the very objects that `envelopes.cut` finds, and no more in memory than one."""

import json
import random
import tracemalloc
from collections.abc import Callable
from io import BytesIO

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taxii_server.domain import stix_objects
from taxii_server.domain.errors import BadBody, NotAnEnvelope
from taxii_server.domain.stix_objects import NotJson
from taxii_server.operations import bundles
from taxii_server.operations.bundles import Slices
from taxii_server.operations.envelopes import cut
from tests import strategies
from tests.factories import Stix, stix_id


class Trickle(BytesIO):
    """A file that is read a few octets at a time, whatever is asked for."""

    def __init__(self, body: bytes, octets: int) -> None:
        super().__init__(body)
        self.octets = octets

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(self.octets)


def sliced(body: bytes, octets: int) -> list[bytes]:
    return list(Slices(Trickle(body, octets)))


@given(
    st.lists(strategies.json_objects, min_size=1, max_size=4),
    st.booleans(),
    st.sampled_from([None, 1, "\t"]),
    st.integers(1, 40),
)
def test_a_file_is_cut_as_an_envelope_is(
    objects: list[Stix], ascii_only: bool, indent: int | str | None, octets: int
) -> None:
    """Wherever the pieces end: within a character, an escape, a number or a name."""
    whole = {"type": "bundle", "id": stix_id("bundle"), "objects": objects, "next": '"objects"'}
    body = json.dumps(whole, ensure_ascii=ascii_only, indent=indent).encode()

    assert sliced(body, octets) == cut(body)


@given(strategies.json_objects, st.randoms(use_true_random=False), st.integers(1, 40))
@example({}, random.Random(1), 1)
def test_what_is_no_envelope_is_refused_by_both(one: Stix, draw: random.Random, octets: int) -> None:
    """A file with octets taken out, put in or changed is read the same way, or refused, by the one and the other."""
    body = bytearray(json.dumps({"more": 1.5e3, "objects": [one, 12, [one]], "x": [{"objects": 1}]}).encode())
    for _ in range(draw.randrange(1, 4)):
        at = draw.randrange(len(body))
        body[at : at + draw.randrange(2)] = draw.choice([b"", b"{", b"}", b"]", b",", b'"', b"\\", b"\xff", b"1", b" "])

    def read(cut_up: Callable[[bytes], list[bytes]]) -> list[bytes] | None:
        try:
            found = cut_up(bytes(body))
            for each in found:
                # half a character is told of when an object is looked at; `cut` tells of it at once
                stix_objects.parse(each)
        except (BadBody, NotJson):
            return None
        return found

    assert read(lambda octets_of: sliced(octets_of, octets)) == read(cut)


@pytest.mark.parametrize(
    ("body", "refused"),
    [
        (b"", NotAnEnvelope),
        (b"[]", NotAnEnvelope),
        (b"{}", NotAnEnvelope),
        (b'{"objects": []}', NotAnEnvelope),
        (b'{"objects": 1}', NotAnEnvelope),
        (b'{"objects": [1], "objects": [2]}', NotAnEnvelope),
        (b'{"objects": [1], "obj\\u0065cts": [2]}', NotAnEnvelope),
        (b'{"x": "' + b"x" * 70_000 + b'", "objects": [1]}', NotAnEnvelope),
        (b'{"objects": [1] "x": 1}', BadBody),
        (b'{"objects": [1 2]}', BadBody),
        (b'{"objects": [1,]}', BadBody),
        (b'{"objects": [{"x": NaN}]}', BadBody),
        (b'{"objects": [1]', BadBody),
        (b'{"objects": [1]} x', BadBody),
        (b'{"objects": [1], "x": "\\ud800"}', BadBody),
        (b'{"objects": [{"x": "\xed\xa0\x80"}]}', BadBody),
        (b'{"objects": [{"x": "\xc3', BadBody),
        (b'{"objects": [' + b"[" * 100_000 + b"]" * 100_000 + b"]}", BadBody),
    ],
)
@pytest.mark.parametrize("octets", [1000, 1 << 20])
def test_what_is_no_envelope(body: bytes, refused: type[BadBody], octets: int) -> None:
    """It is told as soon as it is seen."""
    with pytest.raises(BadBody) as told:
        sliced(body, octets)
    assert told.type is refused


def test_what_comes_before_a_fault_is_given() -> None:
    """A file of gigabytes that was cut short has told of most of its objects by then."""
    slices = Slices(BytesIO(b'{"objects": [{"a": 1}, {"b": 2}, {"c": '))
    given = []
    with pytest.raises(BadBody, match="octet"):
        given.extend(one for one in slices if given.append(one) is None)  # type: ignore[func-returns-value]
    assert given[:1] == [b'{"a": 1}']


def test_a_broken_object_is_told_without_reading_on() -> None:
    """Nobody looks for its end in the rest of a large file."""
    file = BytesIO(b'{"objects": [{"a": 1}, {"b": nonsense}, ' + b'{"c": 1}, ' * 3_000_000)
    with pytest.raises(BadBody, match="not JSON from about octet"):
        list(Slices(file))
    assert file.tell() < 2 * bundles._PIECE


class Endless(BytesIO):
    """A bundle of so many objects of 10,000 octets, made as it is read."""

    def __init__(self, objects: int) -> None:
        super().__init__()
        self.left = objects
        self.begun = False

    def read(self, size: int | None = -1, /) -> bytes:
        if not self.begun:
            self.begun = True
            return b'{"objects": [{}'
        if self.left == 0:
            self.left = -1
            return b"]}"
        some = max(0, min(self.left, (size or 1) // 10_000))
        self.left -= some
        return (b',{"x":"' + b"x" * 9_990 + b'"}') * some


def test_memory_doesnt_grow_with_the_file() -> None:
    """64 MB are read with a few."""
    tracemalloc.start()
    try:
        count = sum(1 for _ in Slices(Endless(6_400)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 6_401
    assert peak < 8 * 1024 * 1024
