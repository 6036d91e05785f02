"""Cutting an envelope: the exact octets of each object, and a clear no to what is no envelope."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxii_server.domain.errors import BadBody, NotAnEnvelope
from taxii_server.operations import envelopes
from taxii_server.operations.envelopes import cut
from tests import factories, strategies
from tests.factories import Stix, envelope, stix_id


def test_the_octets_of_each_object_are_kept() -> None:
    """What was posted comes back byte for byte, number spelling, Unicode, escapes and whitespace included."""
    texts = [
        '{ "type" :"a",\t"n": 1.0e+2, "m": -0, "k": 1E400 }',
        '{"ü": "\\u00fc\\/ 🦊 \\ud83e\\udd8a", "type":"b"}',
        '{\n  "x": [ ],\r\n  "y": {}\n}',
        "1.50",
        '"objects"',
        "null",
    ]
    body = ('\n{ "objects" : [ ' + "\n , ".join(texts) + ' ] , "more": false}\r\n').encode()
    assert cut(body) == [text.encode() for text in texts]


@given(st.lists(strategies.json_objects, min_size=1, max_size=4), st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_any_envelope_is_cut_into_its_objects(objects: list[Stix], ascii_only: bool, indent: int | str | None) -> None:
    """Whatever the objects hold, members named `objects` included, each slice is one of them."""
    whole = {"type": "bundle", "id": stix_id("bundle"), "objects": objects, "next": '"objects"'}
    body = json.dumps(whole, ensure_ascii=ascii_only, indent=indent).encode()
    assert [json.loads(octets) for octets in cut(body)] == objects
    assert all(octets in body for octets in cut(body))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"objects": [{"a": 1}',
        b'{"objects": [{"a": 1,}]}',
        b'{"objects": [{}]} x',
        b'{"objects": [{}], "more": nul}',
        b'{"objects": [{}], "x": NaN}',
        b'{"objects": [{}], "x": "\xff"}',
        b'{"objects": [{"x": "\xed\xa0\x80"}]}',
        b'{"objects": [{"x": "\xc3"}]}',
        b'\xef\xbb\xbf{"objects": [{}]}',
        '{"objects": [{}]}'.encode("utf-16"),
        b'{"objects": [{"x": "\x01"}]}',
        b'{"objects": [{}], "x": "\\ud800"}',
        b'{"objects": [{}], "\\udc00": 1}',
        b"[1, 2,]",
        b'{"more": false,}',
        b'{"objects": [' + b"[" * 20_000 + b"]" * 20_000 + b"]}",
        b'{"objects": [{}], "x": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        b"[" * 20_000 + b"]" * 20_000,
    ],
    ids=lambda body: repr(body[:36]),
)
def test_what_is_not_json_is_a_bad_body(body: bytes) -> None:
    """Unparseable, truncated, non-UTF-8, holding lone surrogates or too deep to be cut: the whole body is refused."""
    with pytest.raises(BadBody) as caught:
        cut(body)
    assert not isinstance(caught.value, NotAnEnvelope)


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'[{"objects": [{}]}]',
        b'"objects"',
        b"null",
        b"1",
        b"{}",
        b'{"object": [{}]}',
        b'{"objects": []}',
        b'{"objects": {}}',
        b'{"objects": null}',
        b'{"objects": "[]"}',
        b'{"objects": [{}], "objects": [{}]}',
        b'{"objects": [{}], "objects": [{"objects": [{}]}]}',
        b'{"objects": [1], "objects": {}}',
        b'{"objects": [{"a": 1}], "\\u006fbjects": [{"a": 1}]}',
        b'{"\\u006f\\u0062jects": [1], "x": "[1]", "objects": [1]}',
        b'{"objects": [{}], "x": "' + b"x" * 70_000 + b'"}',
        b'{"objects": [' + b"0," * 200_000 + b"0]}",
    ],
    ids=lambda body: repr(body[:36]),
)
def test_what_is_json_but_no_envelope_says_so(body: bytes) -> None:
    """T-ADD-07, T-ADD-12: array or string as root, `objects` missing, empty, no list, or there twice."""
    with pytest.raises(NotAnEnvelope):
        cut(body)


def test_too_many_objects_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept for each object has to fit in memory."""
    monkeypatch.setattr(envelopes, "MOST_OBJECTS", 3)
    assert len(cut(envelope(*[factories.malware()] * 3))) == 3
    with pytest.raises(NotAnEnvelope, match="more than 3 objects"):
        cut(envelope(*[factories.malware()] * 4))
