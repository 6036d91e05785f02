"""The order of versions and which of them a request selects (§3.4.1, D-05, D-06), by small examples."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxii_server.domain.filters import ALL_VERSIONS, LAST_ONLY, Exactly, Filter, Keyword
from taxii_server.domain.stix_versions import Version, selected, standings
from taxii_server.domain.tlp import NEVER, Level

BEGINNING = datetime(2024, 1, 1, tzinfo=UTC)
A, B = "indicator--a", "malware--b"
FIRST_ONLY = (Keyword.FIRST,)


def at(second: int) -> datetime:
    return BEGINNING + timedelta(seconds=second)


def version(added: int, modified: int, form: int = 21, level: int = 0, of: str = A) -> Version:
    return Version(of, form, at(modified), at(added), level)


def dates(versions: list[Version], want: Filter, clearance: int = 4) -> list[int]:
    return [int((one.date_added - BEGINNING).total_seconds()) for one in selected(versions, clearance, want)]


OUT_OF_ORDER = [version(1, 10), version(2, 30), version(3, 20), version(4, 5, of=B)]


@pytest.mark.parametrize(
    ("want", "expected"),
    [
        (Filter(), [2, 4]),
        (Filter(versions=LAST_ONLY), [2, 4]),
        (Filter(versions=FIRST_ONLY), [1, 4]),
        (Filter(versions=ALL_VERSIONS), [1, 2, 3, 4]),
        (Filter(versions=(Keyword.FIRST, Keyword.LAST)), [1, 2, 4]),
        (Filter(versions=(Exactly(at(20)),)), [3]),
        (Filter(versions=(Keyword.LAST, Exactly(at(20)))), [2, 3, 4]),
        (Filter(ids=(B,)), [4]),
        (Filter(types=("indicator",)), [2]),
        (Filter(types=("indicator",), ids=(B,)), []),
    ],
)
def test_latest_and_earliest_go_by_version_not_by_addition(want: Filter, expected: list[int]) -> None:
    """§3.4.1, §3.3: chosen by version, listed by addition, each once."""
    assert dates(OUT_OF_ORDER, want) == expected


@pytest.mark.parametrize(
    ("after", "versions", "expected"),
    [
        (1, LAST_ONLY, [2, 4]),
        # the late arrival, once its successor is no longer in question
        (2, LAST_ONLY, [3, 4]),
        (2, ALL_VERSIONS, [3, 4]),
        (1, FIRST_ONLY, [3, 4]),
        (3, LAST_ONLY, [4]),
        (4, LAST_ONLY, []),
    ],
)
def test_added_after_comes_before_the_choice_of_version(
    after: int, versions: tuple[Keyword, ...], expected: list[int]
) -> None:
    """D-06: what was added up to the instant is out of the question, for the choice too."""
    assert dates(OUT_OF_ORDER, Filter(added_after=at(after), versions=versions)) == expected


# held as 2.1, then modified later as 2.0
TWO_FORMS = [version(1, 10, 21), version(2, 20, 20), version(3, 5, 20), version(4, 1, 20, of=B)]


@pytest.mark.parametrize(
    ("want", "expected"),
    [
        (Filter(), [1, 4]),
        (Filter(versions=ALL_VERSIONS), [1, 4]),
        (Filter(versions=FIRST_ONLY), [1, 4]),
        (Filter(forms=(20,)), [2, 4]),
        (Filter(forms=(20,), versions=ALL_VERSIONS), [2, 3, 4]),
        (Filter(forms=(20,), versions=FIRST_ONLY), [3, 4]),
        (Filter(forms=(21,)), [1]),
        (Filter(forms=()), []),
        # several forms named: one order, a later form after all of an earlier one
        (Filter(forms=(20, 21)), [1, 4]),
        (Filter(forms=(20, 21), versions=FIRST_ONLY), [3, 4]),
        (Filter(forms=(20, 21), versions=ALL_VERSIONS), [1, 2, 3, 4]),
        # exact instants leave the older form alone, so it is the latest of what is left
        (Filter(versions=(Exactly(at(20)),)), [2]),
        (Filter(versions=(Exactly(at(20)), Exactly(at(10)))), [1, 2]),
        (Filter(versions=(Exactly(at(20)), Keyword.LAST)), [1, 2, 4]),
        (Filter(versions=(Exactly(at(20)),), forms=(21,)), []),
        # and so does added_after
        (Filter(added_after=at(1)), [2, 4]),
        (Filter(added_after=at(2)), [3, 4]),
    ],
)
def test_the_latest_form_is_chosen_first(want: Filter, expected: list[int]) -> None:
    """D-05: of what all other filters leave, each object's latest form; then the version within it."""
    assert dates(TWO_FORMS, want) == expected


LEVELS = [
    version(1, 10, level=Level.GREEN),
    version(2, 20, level=Level.RED),
    version(3, 30, level=Level.AMBER),
    version(4, 1, 20, level=Level.CLEAR, of=B),
    version(5, 1, 21, level=Level.RED, of=B),
]


@pytest.mark.parametrize(
    ("clearance", "latest", "every"),
    [
        (Level.CLEAR, [4], [4]),
        (Level.GREEN, [1, 4], [1, 4]),
        (Level.AMBER, [3, 4], [1, 3, 4]),
        (Level.AMBER_STRICT, [3, 4], [1, 3, 4]),
        (Level.RED, [3, 5], [1, 2, 3, 5]),
    ],
)
def test_what_is_above_the_clearance_is_out_of_the_question(
    clearance: Level, latest: list[int], every: list[int]
) -> None:
    """§1.6.9: neither shown, nor superseding, nor hiding an older form."""
    assert dates(LEVELS, Filter(), clearance) == latest
    assert dates(LEVELS, Filter(versions=ALL_VERSIONS), clearance) == every


def test_standings_are_the_lowest_levels_of_what_follows() -> None:
    """The kept levels: later versions of the same form; versions of a later form."""
    found = standings([*LEVELS[:3], version(6, 0, 20, level=Level.CLEAR)])
    kept = {date: (one.superseded_level, one.newer_form_level) for date, one in found.items()}

    assert kept == {
        at(1): (Level.AMBER, NEVER),
        at(2): (Level.AMBER, NEVER),
        at(3): (NEVER, NEVER),
        at(6): (NEVER, Level.GREEN),
    }


versions_of_one = st.lists(
    st.tuples(st.integers(0, 6), st.sampled_from([20, 21]), st.integers(0, 4)),
    max_size=10,
    unique_by=lambda one: one[:2],
).map(lambda some: [version(added, modified, form, level) for added, (modified, form, level) in enumerate(some)])


@given(versions_of_one, st.integers(0, 4))
def test_the_views_can_be_read_off_the_standings(versions: list[Version], clearance: int) -> None:
    """What a caller sees by default, by all, and of one form, from the kept levels of each row alone."""
    kept = standings(versions)

    def seen(*, last: bool, form: int | None) -> list[int]:
        return [
            int((one.date_added - BEGINNING).total_seconds())
            for one in versions
            if one.level <= clearance
            and (form is None or one.form == form)
            and (not last or kept[one.date_added].superseded_level > clearance)
            and (form is not None or kept[one.date_added].newer_form_level > clearance)
        ]

    assert dates(versions, Filter(), clearance) == seen(last=True, form=None)
    assert dates(versions, Filter(versions=ALL_VERSIONS), clearance) == seen(last=False, form=None)
    for form in (20, 21):
        assert dates(versions, Filter(forms=(form,)), clearance) == seen(last=True, form=form)
        assert dates(versions, Filter(forms=(form,), versions=ALL_VERSIONS), clearance) == seen(last=False, form=form)
