"""Acts are chained: whatever is changed, taken out, put in another order or cut off is found, and its place named."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taxii_server.domain import audit
from taxii_server.domain.audit import Act, Content, Entry, Written
from taxii_server.domain.audit_chain import (
    Chains,
    Flaw,
    Head,
    checkpoints,
    hold_against,
    read_checkpoint,
)
from taxii_server.domain.timestamps import EPOCH

JSON = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5)
INSTANTS = st.integers(0, 2**52).map(lambda micros: EPOCH + timedelta(microseconds=micros))


@st.composite
def entries(draw: st.DrawFn, stream: str | None = None) -> Entry:
    """An act of any stream with any details."""
    return Entry(
        stream or draw(st.sampled_from(["alliance", "keys", "member:north", "member:harbour"])),
        draw(st.sampled_from(Act)),
        draw(st.sampled_from(["operator", "north/north.siem.0a1b2c3d", ""]) | st.text(max_size=5)),
        draw(st.dictionaries(st.text(max_size=5), JSON, max_size=2)),
    )


def written(stream: str, acts: list[Entry], instants: list[datetime]) -> list[Written]:
    """The rows that these acts become in a stream."""
    rows, previous = [], audit.START
    for seq, (act, at) in enumerate(zip(acts, instants, strict=True), 1):
        entry = replace(act, stream=stream)
        previous = audit.link(previous, seq, at, entry.body)
        rows.append(Written(stream, seq, at, entry.act.value, entry.who, entry.text, previous))
    return rows


@st.composite
def streams(draw: st.DrawFn, at_least: int = 2) -> list[Written]:
    """One stream, some acts long."""
    acts = draw(st.lists(entries(), min_size=at_least, max_size=5))
    return written("member:north", acts, [draw(INSTANTS) for _ in acts])


def flaws(rows: list[Written]) -> list[Flaw]:
    chains = Chains()
    return [flaw for row in rows for flaw in chains.follow(row)]


def head_of(row: Written) -> Head:
    return Head(row.stream, row.seq, row.digest)


def against(heads: list[Head], rows: list[Written]) -> list[Flaw]:
    ends = {row.stream: row.seq for row in rows}
    return list(hold_against(heads, {(row.stream, row.seq): row.digest for row in rows}, ends))


@settings(max_examples=40)
@given(streams(at_least=1))
def test_what_was_written_is_sound(rows: list[Written]) -> None:
    """No flaw is found where nothing was done, and every head is found again."""
    assert flaws(rows) == []
    assert against([head_of(row) for row in rows], rows) == []


@settings(max_examples=40)
@given(streams(), st.data())
def test_a_change_of_any_column_is_found_where_it_is(rows: list[Written], data: st.DataObject) -> None:
    """Instant, act, who, details or digest of one act: that act is named and no other."""
    place = data.draw(st.integers(0, len(rows) - 1))
    column, value = data.draw(
        st.sampled_from(
            [
                ("at", rows[place].at + timedelta(microseconds=1)),
                ("act", rows[place].act + "x"),
                ("who", rows[place].who[:-1] if rows[place].who else "x"),
                ("details", rows[place].details.replace("{", "[", 1)),
                ("digest", bytes([rows[place].digest[0] ^ 1]) + rows[place].digest[1:]),
            ]
        )
    )
    changed: Any = {column: value}
    rows[place] = replace(rows[place], **changed)

    assert [(flaw.stream, flaw.seq) for flaw in flaws(rows)] == [("member:north", place + 1)]


@settings(max_examples=40)
@given(streams(), st.data())
def test_an_act_taken_out_is_found(rows: list[Written], data: st.DataObject) -> None:
    """In the middle by the numbers, at the end by a head that somebody kept."""
    kept = [head_of(rows[-1])]
    place = data.draw(st.integers(0, len(rows) - 1))
    del rows[place]

    found = flaws(rows) + against(kept, rows)

    assert {flaw.seq for flaw in found} == {place + 1}
    assert {flaw.what for flaw in found} == {"is missing"}


@settings(max_examples=40)
@given(streams(at_least=3), st.data())
def test_acts_in_another_order_are_found(rows: list[Written], data: st.DataObject) -> None:
    """Two acts that swap their numbers are both named, and nothing else but what was chained to them."""
    one, other = sorted(data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=2, max_size=2)))
    first, second = rows[one], rows[other]
    rows[one], rows[other] = replace(second, seq=first.seq), replace(first, seq=second.seq)

    found = {flaw.seq for flaw in flaws(rows)}
    assert {one + 1, other + 1} <= found <= {one + 1, one + 2, other + 1, other + 2}


@settings(max_examples=40)
@given(streams(), st.integers(0, 5), entries())
def test_a_rewritten_end_is_found_by_a_head_from_before(rows: list[Written], place: int, other: Entry) -> None:
    """A chain made anew is sound in itself; a head that somebody kept says that it is another one."""
    place %= len(rows)
    head = head_of(rows[-1])
    acts = [Entry(row.stream, Act(row.act), row.who, json.loads(row.details)) for row in rows]
    acts[place] = replace(other, who="somebody else")
    forged = written("member:north", acts, [row.at for row in rows])

    assert flaws(forged) == []
    assert [(flaw.stream, flaw.seq) for flaw in against([head], forged)] == [("member:north", len(rows))]


@settings(max_examples=40)
@given(streams(), st.integers(1, 6))
def test_a_cut_off_end_and_a_dropped_stream_are_found(rows: list[Written], cut: int) -> None:
    """How much of it is gone is told as far as the head knows."""
    cut = min(cut, len(rows))
    left = rows[:-cut]
    [flaw] = against([head_of(rows[-1])], left)

    assert flaw.seq == (len(left) + 1 if left else None)
    assert ("gone" in flaw.what) == (not left)


def test_each_stream_begins_anew() -> None:
    """Another stream is chained to nothing of the one before it."""
    acts = [Entry("", Act.MEMBER_SUSPENDED, "operator"), Entry("", Act.MEMBER_RESUMED, "operator")]
    rows = written("member:a", acts, [EPOCH, EPOCH]) + written("member:b", acts, [EPOCH, EPOCH])

    assert flaws(rows) == []
    assert [flaw.stream for flaw in flaws([replace(row, stream="member:a") for row in rows[2:]])] == ["member:a"] * 2


@given(st.lists(st.text(max_size=4), max_size=4), st.lists(st.text(max_size=4), max_size=4))
def test_no_two_lists_of_fields_look_alike(one: list[str], other: list[str]) -> None:
    """What stands in one field can't be moved to the next."""
    assert (audit.pack(*one) == audit.pack(*other)) == (one == other)


@given(entries(), entries())
def test_acts_that_differ_have_different_digests(one: Entry, other: Entry) -> None:
    """Every part of an act is covered."""
    same = (one.stream, one.act, one.who, one.text) == (other.stream, other.act, other.who, other.text)

    assert (one.body == other.body) == same


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.binary(min_size=32, max_size=32)), max_size=9))
def test_checkpoints_are_read_as_they_were_written(heads: list[tuple[str, int, bytes]]) -> None:
    """In however many parts; the last of them is known as such, and an empty one is one part."""
    wanted = [Head(*one) for one in heads]
    parts = checkpoints(wanted, whole=True, most=4)

    read = [read_checkpoint(audit.canonical(part.details)) for part in parts]

    assert read == parts
    assert [head for part in read for head in part.heads] == wanted
    assert [part.last for part in read] == [False] * (len(parts) - 1) + [True]


@pytest.mark.parametrize(
    "details",
    ["", "{}", "[]", "null", '{"heads":[["a",1]],"part":1,"parts":1,"whole":false}', '{"heads":[["a",1,"AA"]]}'],
)
def test_what_is_no_checkpoint_is_told(details: str) -> None:
    """Never taken for an empty one."""
    with pytest.raises(ValueError, match=r"\S"):
        read_checkpoint(details)


def test_the_digest_of_content_tells_versions_apart() -> None:
    """By date, id, form, version, content and member; not by the order in which they are told."""
    one = Content(EPOCH, "indicator--1", 21, "2024", b"\x01", 1)
    two = replace(one, date_added=EPOCH + timedelta(microseconds=1))
    others = [
        replace(one, date_added=EPOCH - timedelta(microseconds=1)),
        replace(one, stix_id="indicator--2"),
        replace(one, form=20),
        replace(one, version="2025"),
        replace(one, digest=b"\x02"),
        replace(one, member=2),
    ]

    assert audit.digest_of([one, two]) == audit.digest_of([two, one])
    assert len({audit.digest_of([each, two]) for each in [one, *others]}) == len(others) + 1


@pytest.mark.parametrize("seq", ["0", "-1", "9223372036854775808", "1.0", "true", '"1"', "1e999"])
def test_a_checkpoint_names_acts_by_numbers_that_acts_have(seq: str) -> None:
    """Anything else was not written by us, and couldn't be asked of the database."""
    with pytest.raises(ValueError, match="no "):
        read_checkpoint(f'{{"heads":[["alliance",{seq},"{"A" * 43}"]],"part":1,"parts":1,"whole":true}}')
