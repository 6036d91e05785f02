"""What becomes of each object of an envelope, against a model that looks at everything each time (§5.5, D-07, D-17)."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxii_server.domain.additions import Conflict, Known, NotYours, Outcome, Repeat, Store, decide
from taxii_server.domain.stix_objects import Columns, Form
from taxii_server.domain.stix_versions import Version
from taxii_server.domain.timestamps import MICROSECOND, to_taxii
from taxii_server.domain.tlp import Level

BASE = datetime(2024, 5, 2, 8, 15, 30, tzinfo=UTC)
A, B = "x-thing--a", "x-thing--b"
MEMBER = 1


def columns(of: str, version_at: datetime | None, form: Form = Form.STIX_2_1, content: str = "") -> Columns:
    return Columns(
        stix_id=of,
        stix_type="x-thing",
        form=form,
        version=None if version_at is None else to_taxii(version_at),
        version_at=version_at,
        digest=sha256(f"{of} {version_at} {form} {content}".encode()).digest(),
        level=None,
    )


def model(known: list[Known], incoming: list[Columns], base: datetime) -> list[Outcome]:
    """Decide as the rule reads: look through all that is there, for each object anew."""
    there, date = list(known), base
    outcomes: list[Outcome] = []
    for one in incoming:
        mine = [each for each in there if each.place.stix_id == one.stix_id]
        outcome: Outcome | None = None
        if one.version_at is None:
            repeats = [each for each in mine if each.digest == one.digest]
            outcome = Repeat(repeats[0].version) if repeats else None
        else:
            at = [each for each in mine if each.place.order == (one.form, one.version_at)]
            if at:
                assert one.version is not None
                outcome = Repeat(at[0].version) if at[0].digest == one.digest else Conflict(one.version)
        if outcome is None:
            date += MICROSECOND
            while one.version_at is None and any(each.place.order == (one.form, date) for each in mine):
                date += MICROSECOND
            place = Version(one.stix_id, one.form, one.version_at or date, date, Level.CLEAR)
            later = [each.place.date_added for each in mine if each.place.order > place.order]
            outcome = Store(place, one.version or to_taxii(date), min(later, default=None))
            there.append(Known(place, outcome.version, one.digest, MEMBER))
        outcomes.append(outcome)
    return outcomes


# Instants around the dates that are going to be given, so that observables and versions collide.
instants = st.integers(-3, 8).map(lambda number: BASE + number * MICROSECOND)
incoming = st.lists(
    st.builds(
        columns,
        st.sampled_from([A, A, A, B]),
        st.none() | instants,
        st.sampled_from(Form),
        st.sampled_from("ab"),
    ),
    max_size=12,
)


@given(st.lists(incoming, min_size=1, max_size=4))
def test_outcomes_are_the_models(envelopes: list[list[Columns]]) -> None:
    """§5.5, D-06, D-07, D-17: envelope after envelope, the same outcomes, dates and late_after as the model's."""
    known: list[Known] = []
    base = BASE
    for envelope in envelopes:
        outcomes = decide(reversed(known), [(one, Level.CLEAR) for one in envelope], base, member=MEMBER)
        assert outcomes == model(known, envelope, base)
        for outcome, one in zip(outcomes, envelope, strict=True):
            if isinstance(outcome, Store):
                known.append(Known(outcome.place, outcome.version, one.digest, MEMBER))
                base = outcome.place.date_added

    dates = [one.place.date_added for one in known]
    assert dates == sorted(set(dates)), "dates are unique and increase in the order of the envelope"
    assert all(date > BASE for date in dates)
    keys = [(one.place.stix_id, one.place.order) for one in known]
    assert len(keys) == len(set(keys)), "one version of an object is stored once"


@given(incoming)
def test_the_same_envelope_again_stores_nothing(envelope: list[Columns]) -> None:
    """§5.5: what was a success is a success with the same version, what was a failure a failure again."""
    pairs = [(one, Level.CLEAR) for one in envelope]
    before = decide([], pairs, BASE, member=MEMBER)
    known = [
        Known(outcome.place, outcome.version, one.digest, MEMBER)
        for outcome, one in zip(before, envelope, strict=True)
        if isinstance(outcome, Store)
    ]

    for first, again in zip(before, decide(known, pairs, BASE + timedelta(hours=1), member=MEMBER), strict=True):
        assert again == (Repeat(first.version) if isinstance(first, Store) else first)


def test_late_after_is_the_earliest_addition_among_later_versions() -> None:
    """D-06: of what is later by version, the one that was added first."""
    day = [BASE - timedelta(days=10) + timedelta(days=number) for number in range(5)]
    envelope = [columns(A, day[number]) for number in (4, 3, 1, 2)]
    stored = decide([], [(one, Level.CLEAR) for one in envelope], BASE, member=MEMBER)
    first, second, third, fourth = [one for one in stored if isinstance(one, Store)]

    assert first.late_after is None
    assert second.late_after == first.place.date_added
    assert third.late_after == first.place.date_added
    assert fourth.late_after == first.place.date_added


def test_a_later_form_is_later_whatever_the_instant() -> None:
    """D-05: STIX 2.0 that comes after 2.1 is late, though modified later; the other way round it isn't."""
    newer, older = columns(A, BASE, Form.STIX_2_1), columns(A, BASE + timedelta(days=1), Form.STIX_2_0)
    late = decide([], [(newer, Level.CLEAR), (older, Level.CLEAR)], BASE, member=MEMBER)[1]
    fine = decide([], [(older, Level.CLEAR), (newer, Level.CLEAR)], BASE, member=MEMBER)[1]

    assert isinstance(late, Store)
    assert late.late_after == BASE + MICROSECOND
    assert isinstance(fine, Store)
    assert fine.late_after is None


def test_the_level_is_the_one_handed_in() -> None:
    """A stored version carries the level it was judged to have."""
    [stored] = decide([], [(columns(A, BASE), Level.AMBER)], BASE, member=MEMBER)

    assert isinstance(stored, Store)
    assert stored.place.level == Level.AMBER


def test_versions_told_are_the_objects_own_text() -> None:
    """§4.3.1: a repeat tells the stored spelling, a conflict the sent one, an observable its date."""
    sent = columns(A, BASE, content="a")
    respelled = replace(sent, version="2024-05-02T08:15:30Z")
    other = replace(columns(A, BASE, content="b"), version="2024-05-02T08:15:30.0Z")
    seen = columns(B, None)
    outcomes = decide([], [(one, Level.CLEAR) for one in (sent, respelled, other, seen, seen)], BASE, member=MEMBER)

    assert [one.version for one in outcomes] == [
        "2024-05-02T08:15:30.000000Z",
        "2024-05-02T08:15:30.000000Z",
        "2024-05-02T08:15:30.0Z",
        "2024-05-02T08:15:30.000002Z",
        "2024-05-02T08:15:30.000002Z",
    ]
    assert [type(one) for one in outcomes] == [Store, Repeat, Conflict, Store, Repeat]


@pytest.mark.parametrize(
    "order", [pytest.param(1, id="oldest first", marks=pytest.mark.slow), pytest.param(-1, id="newest first")]
)
def test_ten_thousand_versions_of_one_object_are_decided_in_a_moment(order: int) -> None:
    """An envelope of one object's whole history, in either order, does not hold the collection's lock for long."""
    envelope = [(columns(A, BASE + timedelta(seconds=number)), Level.CLEAR) for number in range(10_000)][::order]
    begun = time.perf_counter()
    outcomes = decide([], envelope, BASE, member=MEMBER)

    assert time.perf_counter() - begun < 5
    assert all(isinstance(one, Store) for one in outcomes)


@pytest.mark.parametrize("newest_first", [True, False])
def test_a_long_history_costs_in_proportion_to_its_length(newest_first: bool) -> None:
    """Deciding happens under the collection's lock: nobody shall be able to make it take minutes."""

    def seconds(count: int) -> float:
        order = range(count, 0, -1) if newest_first else range(1, count + 1)
        history = [
            Known(
                Version(A, Form.STIX_2_1, BASE + timedelta(seconds=version), BASE + MICROSECOND * added, Level.CLEAR),
                str(version),
                bytes([1]),
                MEMBER,
            )
            for added, version in enumerate(order)
        ]
        begun = time.process_time()
        decide(history, [(columns(A, BASE + timedelta(days=9)), Level.CLEAR)], BASE + timedelta(days=1), member=MEMBER)
        return time.process_time() - begun

    seconds(1000)

    assert seconds(40_000) < 2


OTHER = 2


def known(of: str, second: int, member: int, *, versioned: bool = True) -> Known:
    """A stored version that a member brought so many seconds after the beginning."""
    date = BASE + timedelta(seconds=second)
    return Known(
        Version(of, Form.STIX_2_1, BASE - timedelta(days=second) if versioned else date, date, Level.RED),
        "",
        b"",
        member,
    )


@pytest.mark.parametrize("owner_only", [True, False])
def test_where_only_owners_add_the_first_to_bring_it_is_the_owner(owner_only: bool) -> None:
    """By the date of addition, not by the version's instant, whatever the level; others' objects are others'."""
    there = [known(A, 2, MEMBER), known(A, 1, OTHER), known(B, 3, MEMBER)]
    new = columns(A, BASE), columns(B, BASE), columns("x-thing--c", BASE)
    outcomes = decide(there, [(one, Level.CLEAR) for one in new], BASE, member=MEMBER, owner_only=owner_only)

    assert [type(one) for one in outcomes] == [NotYours if owner_only else Store, Store, Store]


def test_a_conflict_with_anothers_object_is_told_as_anothers() -> None:
    """One thing is told of it, not two."""
    theirs = columns(A, BASE)
    there = [replace(known(A, 1, OTHER), place=Version(A, Form.STIX_2_1, BASE, BASE, Level.RED))]

    assert decide(there, [(theirs, Level.CLEAR)], BASE, member=MEMBER, owner_only=True) == [NotYours(theirs.version)]
    assert decide(there, [(theirs, Level.CLEAR)], BASE, member=OTHER, owner_only=True) == [
        Conflict(str(theirs.version))
    ]


def test_what_has_no_timestamps_at_all_is_nobodys() -> None:
    """Once a version of it has some, it is somebody's, and a version without them is a version like others."""
    bare = columns(A, None)

    def outcome(there: list[Known]) -> type[Outcome]:
        return type(decide(there, [(bare, Level.CLEAR)], BASE, member=MEMBER, owner_only=True)[0])

    assert outcome([known(A, 1, OTHER, versioned=False)]) is Store
    assert outcome([known(A, 1, OTHER, versioned=False), known(A, 2, MEMBER)]) is NotYours
    assert outcome([known(A, 1, MEMBER), known(A, 2, OTHER)]) is Store


def test_an_envelope_may_begin_an_object_and_go_on_with_it() -> None:
    """Its versions are all its sender's."""
    versions = [columns(A, BASE + timedelta(days=day)) for day in range(3)]
    outcomes = decide([], [(one, Level.CLEAR) for one in versions], BASE, member=MEMBER, owner_only=True)

    assert [type(one) for one in outcomes] == [Store] * 3
