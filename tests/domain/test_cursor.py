"""Cursors: values that come back as they went out, and nothing else that looks like one (§3.5, D-15)."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxii_server.domain.cursor import Cursor, Endpoint, resume
from taxii_server.domain.errors import BadCursor
from taxii_server.domain.filters import ALL_VERSIONS, Exactly, Filter, Keyword
from taxii_server.domain.stix_objects import Form

HERE, ELSEWHERE = UUID("91a7b528-80eb-42ed-a74d-c6fbd5a26116"), UUID("0eaaaf1c-370b-483a-a26d-71e8e6c83ca4")
WHEN = datetime(2024, 5, 2, 8, 15, 30, 1, tzinfo=UTC)

instants = st.datetimes(timezones=st.just(UTC))
texts = st.lists(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), min_size=1, max_size=3
)
some_texts = st.none() | texts.map(tuple)
versions = st.just(ALL_VERSIONS) | st.lists(
    st.sampled_from([Keyword.FIRST, Keyword.LAST]) | instants.map(Exactly), min_size=1, max_size=3, unique=True
).map(tuple)
filters = st.builds(
    Filter,
    added_after=st.none() | instants,
    ids=some_texts,
    types=some_texts,
    versions=versions,
    forms=st.none()
    | st.lists(st.sampled_from([int(form) for form in Form]), min_size=1, max_size=2, unique=True).map(tuple),
)
cursors = st.builds(Cursor, st.sampled_from(Endpoint), st.uuids(version=4), filters, instants)


def pack(plain: Any) -> str:
    octets = json.dumps(plain, separators=(",", ":"), ensure_ascii=False).encode()
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def plain_of(cursor: Cursor) -> list[Any]:
    text = cursor.encode()
    plain: list[Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return plain


@given(cursors)
def test_a_cursor_comes_back_as_it_went_out(cursor: Cursor) -> None:
    """§3.5: whatever the filters; and its text needs no escaping in a URL."""
    text = cursor.encode()

    assert Cursor.decode(text) == cursor
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(cursors, st.data())
def test_one_spelling_only(cursor: Cursor, data: st.DataObject) -> None:
    """Appendix B: a text that decodes is, letter for letter, what this server would have written."""
    text = cursor.encode()
    at = data.draw(st.integers(0, len(text)))
    letter = data.draw(st.characters() | st.sampled_from("=+/ \nAg"))
    tampered = data.draw(
        st.sampled_from([text[:at] + letter + text[at:], text[:at] + letter + text[at + 1 :], text[:at]])
    )
    try:
        decoded = Cursor.decode(tampered)
    except BadCursor:
        return
    assert decoded.encode() == tampered


@given(st.text() | st.binary().map(lambda octets: base64.urlsafe_b64encode(octets).decode()))
def test_any_text_is_a_cursor_or_refused(text: str) -> None:
    """Appendix B: no text is a fault."""
    with pytest.raises(BadCursor):
        Cursor.decode(text)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@given(cursors, st.integers(0, 8), values)
def test_any_json_in_any_place_is_understood_or_refused(cursor: Cursor, place: int, value: Any) -> None:
    """Appendix B: forged from the inside, it is a question that could be asked, or it is refused."""
    plain = plain_of(cursor)
    plain[place] = value
    try:
        text = pack(plain)
    except UnicodeEncodeError:
        return
    try:
        decoded = Cursor.decode(text)
    except BadCursor:
        return
    assert decoded.want.ids != ()
    assert decoded.want.types != ()
    assert decoded.want.versions != ()
    assert decoded.position.tzinfo is UTC


@pytest.mark.parametrize(
    "spoil",
    [
        {0: 2},
        {0: True},
        {0: 1.0},
        {0: "1"},
        {1: "collections"},
        {1: []},
        {2: 5},
        {2: []},
        {2: {}},
        {2: None},
        {2: str(HERE)},
        {2: "{" + HERE.hex + "}"},
        {2: HERE.hex.upper()},
        {3: None},
        {3: 0},
        {3: "2024-05-02T08:15:30Z"},
        {3: "2024-05-02T08:15:30.000001+00:00"},
        {3: "0001-01-01T00:00:00.000000+01:00"},
        {4: "yesterday"},
        {5: []},
        {5: "id"},
        {5: ["a", 1]},
        {5: ["a\0b"]},
        {5: {"a": "b"}},
        {6: [None]},
        {7: []},
        {7: None},
        {7: "last"},
        {7: ["LAST"]},
        {7: [["last"]]},
        {8: [22]},
        {8: ["2.1"]},
        {8: [20.0]},
        {8: 21},
    ],
    ids=str,
)  # fmt: skip
def test_forgeries_are_refused(spoil: dict[int, Any]) -> None:
    """Appendix B: each of these has one wrong value in one place."""
    plain = plain_of(Cursor(Endpoint.OBJECTS, HERE, Filter(), WHEN))
    for place, value in spoil.items():
        plain[place] = value

    with pytest.raises(BadCursor):
        Cursor.decode(pack(plain))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A",
        "====",
        pack([]),
        pack({}),
        pack({str(place): place for place in range(9)}),
        pack(None),
        pack([1] * 8),
        pack([1] * 10),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
        base64.urlsafe_b64encode(b"1" * 10_000).decode(),
        base64.urlsafe_b64encode('["\N{SNOWMAN}"]'.encode("utf-16")).decode(),
        base64.urlsafe_b64encode(b'["\\ud800"]').decode(),
        "\N{SNOWMAN}",
        "\ud800",
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_odd_texts_are_refused(text: str) -> None:
    """Appendix B: too deep, too long, another encoding, no JSON, another shape."""
    with pytest.raises(BadCursor):
        Cursor.decode(text)


# Resuming

WANT = Filter(
    added_after=WHEN,
    ids=("a", "b"),
    types=("x", "y"),
    versions=(Keyword.FIRST, Keyword.LAST),
    forms=(20, 21),
)
TEXT = Cursor(Endpoint.OBJECTS, HERE, WANT, WHEN + timedelta(seconds=5)).encode()
NAMES = ("added_after", "ids", "types", "versions", "forms")


@pytest.mark.parametrize("given_names", [(), *((name,) for name in NAMES), NAMES])
def test_filters_may_be_repeated_or_dropped(given_names: tuple[str, ...]) -> None:
    """D-15: what the request spells out agrees; what it leaves out the cursor knows."""
    asked = Filter(**{name: getattr(WANT, name) for name in given_names})
    cursor = resume(TEXT, Endpoint.OBJECTS, HERE, asked, frozenset(given_names))

    assert cursor is not None
    assert cursor.want == WANT
    assert cursor.position == WHEN + timedelta(seconds=5)


def test_the_order_of_values_and_the_offset_do_not_matter() -> None:
    """D-15: equal sets and equal instants are the same filter."""
    asked = Filter(
        added_after=WHEN.astimezone(timezone(timedelta(hours=2))),
        ids=("b", "a", "b"),
        types=("y", "x"),
        versions=(Keyword.LAST, Keyword.FIRST),
        forms=(21, 20),
    )

    assert resume(TEXT, Endpoint.OBJECTS, HERE, asked, frozenset(NAMES)) is not None


@pytest.mark.parametrize(
    "asked",
    [
        Filter(ids=("a",)),
        Filter(ids=("a", "b", "c")),
        Filter(types=("x",)),
        Filter(versions=ALL_VERSIONS),
        Filter(versions=(Keyword.FIRST,)),
        Filter(forms=(20,)),
        Filter(forms=()),
    ],
)
def test_a_contradiction_is_refused_by_name(asked: Filter) -> None:
    """D-15: another value of a filter than the first request had; the client is told which field of its query it was."""
    [name] = [name for name in NAMES if getattr(asked, name) != getattr(Filter(), name)]
    spelled = {"ids": "id", "types": "type", "versions": "version", "forms": "spec_version"}[name]
    with pytest.raises(BadCursor, match=re.escape(f"another match[{spelled}]:")):
        resume(TEXT, Endpoint.OBJECTS, HERE, asked, frozenset([name]))


@pytest.mark.parametrize(
    ("begun", "later", "goes_on"),
    [(0, -1, False), (0, 1, True), (0, 5_000_000, True), (0, 5_000_001, False), (None, -1, True), (None, 0, True)],
)
def test_another_added_after_goes_on_or_begins_anew(begun: int | None, later: int, goes_on: bool) -> None:
    """D-15: what lies between the walk's beginning and the cursor's place was served; nothing else was."""
    position = WHEN + timedelta(seconds=5)
    want = Filter(added_after=None if begun is None else WHEN + timedelta(microseconds=begun))
    text = Cursor(Endpoint.OBJECTS, HERE, want, position).encode()
    asked = Filter(added_after=WHEN + timedelta(microseconds=later))
    resumed = resume(text, Endpoint.OBJECTS, HERE, asked, frozenset({"added_after"}))

    assert (resumed is not None) == goes_on
    if resumed is not None:
        assert (resumed.want, resumed.position) == (want, position)


@pytest.mark.parametrize("endpoint", [Endpoint.MANIFEST, Endpoint.OBJECT, Endpoint.VERSIONS])
@pytest.mark.parametrize("where", [HERE, ELSEWHERE])
def test_a_cursor_of_another_endpoint_is_refused(endpoint: Endpoint, where: UUID) -> None:
    """D-15: whichever collection it is of."""
    with pytest.raises(BadCursor, match="continues objects"):
        resume(TEXT, endpoint, where, Filter(), frozenset())


def test_a_cursor_of_another_collection_is_set_aside() -> None:
    """D-15: even if the request's filters are others: it is not looked at."""
    assert resume(TEXT, Endpoint.OBJECTS, ELSEWHERE, Filter(ids=("z",)), frozenset({"ids"})) is None
    with pytest.raises(BadCursor):
        resume(TEXT[:-1], Endpoint.OBJECTS, ELSEWHERE, Filter(), frozenset())
