"""What the server itself needs of an object, and the limits it sets on JSON."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taxii_server.domain import stix_objects
from taxii_server.domain.stix_objects import Columns, Form, NotJson, Refused, columns, parse
from taxii_server.domain.timestamps import from_stix
from tests import factories, strategies
from tests.factories import Stix, as_json, stix_id


def read(found: Stix | bytes) -> Columns:
    return columns(parse(found if isinstance(found, bytes) else as_json(found)))


def refusal(found: Stix | bytes) -> str:
    with pytest.raises(Refused) as caught:
        read(found)
    return str(caught.value)


def problems(octets: bytes) -> tuple[str, ...]:
    return parse(octets).problems


@given(strategies.objects)
def test_valid_objects_have_columns(found: Stix) -> None:
    """Id, type, form and version are read off; version is the object's own text."""
    got = read(found)
    assert (got.stix_id, got.stix_type) == (found["id"], found["type"])
    assert got.version == found.get("modified", found.get("created"))
    assert got.version_at == (None if got.version is None else from_stix(got.version))


@given(strategies.mutated() | strategies.json_objects)
def test_nothing_but_a_refusal_ever_comes_out(found: Stix) -> None:
    """Any JSON object has columns or is refused, in short printable words."""
    parsed = parse(as_json(found))
    try:
        columns(parsed)
    except Refused as refused:
        said = str(refused)
        assert said.isprintable()
        assert len(said) < 200
    for shown in (stix_objects.shown_id(parsed.value), stix_objects.shown_version(parsed.value)):
        assert shown is None or (shown.isprintable() and 0 < len(shown) <= 300)


@given(st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
@example(b'{"a": "\\ud800"}')
@example(b'{"\\udfff": 1}')
@example(b'{"a": "\xed\xa0\x80"}')
@example(b"NaN")
@example(b"[-Infinity]")
@example(b"\xef\xbb\xbf{}")
def test_octets_are_json_or_not(octets: bytes) -> None:
    """RFC 8259 and 7493: what isn't JSON, or can't be written as UTF-8 again, is NotJson and nothing else."""
    try:
        value = parse(octets).value
    except NotJson:
        return
    json.dumps(value, ensure_ascii=False).encode()


@pytest.mark.parametrize("octets", [b'{"a": "\\ud800"}', b'{"\\udc00": 1}', b"NaN", b"{'a': 1}", b"[1,]", b"", b"\xff"])
def test_what_is_not_json_says_so(octets: bytes) -> None:
    """Lone surrogates, constants of JavaScript and broken text."""
    with pytest.raises(NotJson):
        parse(octets)


def test_a_surrogate_pair_is_a_character() -> None:
    """An escaped pair is one character outside the first plane, and fine."""
    assert parse(b'{"a": "\\ud83e\\udd8a"}').value == {"a": "🦊"}


@given(strategies.json_objects)
def test_the_digest_is_of_the_content(found: Stix) -> None:
    """D-07: an exact repeat has an equal digest, whatever its whitespace, escapes and order of properties."""
    shuffled = dict(reversed(found.items()))
    assert parse(as_json(found)).digest == parse(json.dumps(shuffled, indent=3).encode()).digest
    assert parse(as_json({**found, "x_more": 1})).digest != parse(as_json({**found, "x_more": "1"})).digest


@pytest.mark.parametrize(
    ("octets", "problem"),
    [
        (b'{"a": 1, "a": 1}', "property a occurs twice in one JSON object"),
        (b'{"b": [{"a": 1, "\\u0061": 2}]}', "property a occurs twice in one JSON object"),
        (b'{"a": 9007199254740992}', "integer 9007199254740992 is beyond ±(2^53 - 1)"),
        (b'{"a": -9007199254740992}', "integer -9007199254740992 is beyond ±(2^53 - 1)"),
        (b'{"a": ' + b"9" * 10_000 + b"}", f"integer {'9' * 40}… is beyond ±(2^53 - 1)"),
        (b'{"a": 1e400}', "number 1e400 is beyond the range of a double"),
        (b'{"a": "x\\u0000"}', "holds the character NUL (\\u0000)"),
        (b'{"a\\u0000": 1}', "holds the character NUL (\\u0000)"),
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "nested more than 100 levels deep"),
        (b'{"a": ' + b'{"a": ' * 600 + b'"\\u0000"' + b"}" * 601, "nested more than 100 levels deep"),
        (b"[" * 100_000 + b"]" * 100_000, "nested more than 100 levels deep"),
        (b'{"\\u0000": 1, "\\u0000": 1}', "property � occurs twice in one JSON object"),
        (b'{"\\u202e": 1, "\\u202e": 1}', "property � occurs twice in one JSON object"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_json_allows_and_this_server_does_not(octets: bytes, problem: str) -> None:
    """Each is that object's failure, in words that Postgres and a log line can hold."""
    assert problems(octets)[0] == problem
    assert refusal(octets) == problem


@pytest.mark.parametrize(
    "octets",
    [
        b'{"a": 9007199254740991, "b": -9007199254740991, "c": 1e308, "d": -0, "e": 0.1}',
        b'{"a": ' + b"[" * 99 + b"]" * 99 + b"}",
        b'{"a": "\\\\u0000", "b": "[[[[{{{{' + b"[" * 200 + b'"}',
        b'{"a": [' + b"{}, " * 300 + b"{}]}",
        b'{"a": {"b": 1}, "b": {"a": 1}}',
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_stays_within_the_bounds(octets: bytes) -> None:
    """Bounds are met exactly, and what only looks like a breach is none."""
    assert problems(octets) == ()


@pytest.mark.parametrize(
    ("over", "form"),
    [
        ({}, Form.STIX_2_1),
        ({"spec_version": None}, Form.STIX_2_0),
        ({"spec_version": "2.0"}, Form.STIX_2_0),
        ({"type": "x-ours", "id": stix_id("x-ours"), "spec_version": None}, Form.STIX_2_0),
        ({"type": "x-ours", "id": stix_id("x-ours"), "spec_version": None, "created": None, "modified": None}, Form.STIX_2_1),
        ({"type": "file", "id": stix_id("file"), "spec_version": None, "created": None, "modified": None}, Form.STIX_2_1),
        ({"type": "file", "id": stix_id("file"), "spec_version": None}, Form.STIX_2_1),
    ],
)  # fmt: skip
def test_the_form_is_stated_or_follows(over: Stix, form: Form) -> None:
    """T-MSPEC-05: without `spec_version` observables count as STIX 2.1, all other objects as 2.0."""
    assert (
        read({name: value for name, value in {**factories.malware(), **over}.items() if value is not None}).form == form
    )


def test_the_version_is_modified_else_created_else_none() -> None:
    """§3.4.1, T-MVER-09 and -10."""
    assert read(factories.malware(created="2023-01-01T00:00:00Z")).version == factories.WHEN
    assert read(factories.marking()).version == factories.WHEN
    assert read(factories.ipv4()).version is None
    spelled = read(factories.malware(modified="2024-05-02T08:15:30.1Z"))
    assert spelled.version == "2024-05-02T08:15:30.1Z"
    assert spelled.version_at == read(factories.malware(modified="2024-05-02T08:15:30.100000Z")).version_at


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (b"[]", "is not a JSON object"),
        (b"null", "is not a JSON object"),
        (b"{}", "required property type is missing"),
        (b'{"type": 1}', "type must be a string"),
        (b'{"type": "bundle"}', "a bundle can't be stored: send its objects, or send the bundle itself as the envelope"),
        (factories.malware(type="Malware"), "type Malware is not a STIX type: a-z, 0-9 and hyphen, at most 250 characters"),
        (factories.malware(type="a" * 251), f"type {'a' * 40}… is not a STIX type: a-z, 0-9 and hyphen, at most 250 characters"),
        (factories.malware(id=None), "required property id is missing"),
        (factories.malware(id=7), "id must be a string"),
        (factories.malware(id="malware--7"), "id is not a STIX identifier: malware--, then a UUID"),
        (factories.malware(id=stix_id("malware") + "\n"), "id is not a STIX identifier: malware--, then a UUID"),
        (factories.malware(id=stix_id("tool")), "id begins with tool, but type is malware"),
        (factories.malware(created=None, modified=None), "required property modified is missing"),
        (factories.marking(created=None), "required property created is missing"),
        (factories.malware(modified=5), "modified must be a string with a timestamp like 2024-05-02T08:15:30.000Z"),
        ({**factories.ipv4(), "created": "x"}, "created must be a UTC timestamp like 2024-05-02T08:15:30.000Z"),
        (factories.malware(spec_version="2.2"), "spec_version must be one of 2.0, 2.1"),
        (factories.malware(spec_version=2.1), "spec_version must be one of 2.0, 2.1"),
        ({**factories.malware(), "spec_version": None}, "spec_version must be one of 2.0, 2.1"),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_what_is_refused_is_named(found: Stix | bytes, said: str) -> None:
    """The message tells the sender what to mend."""
    assert refusal(found) == said


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"id": "x\0y"}, "x�y"),
        ({"id": "x" * 400}, "x" * 300),
        ({"id": ""}, None),
        ({"id": 5}, None),
        ([], None),
        (None, None),
    ],
)
def test_what_a_refused_object_called_itself(value: Any, shown: str | None) -> None:
    """The status names a refused object by its own id as far as it has one, cut to a bearable length."""
    assert stix_objects.shown_id(value) == shown
