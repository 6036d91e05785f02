"""Allowances refill evenly, tell the truth about waiting, and remember no more than they are told to."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxii_server.domain.allowances import Allowances, Rate, Tellings


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@given(
    amount=st.integers(1, 50),
    seconds=st.sampled_from([1, 60, 3600]),
    pauses=st.lists(st.floats(0, 100), max_size=100),
)
def test_who_waits_as_told_gets_through(amount: int, seconds: int, pauses: list[float]) -> None:
    """And nobody gets more than the bucket and what it gained meanwhile."""
    clock = Clock()
    allowances = Allowances(Rate(amount, seconds), most=1, clock=clock)
    begun, taken = clock.now, 0
    for pause in pauses:
        clock.now += pause
        wait = allowances.take("north")
        taken += not wait
        if wait:
            clock.now += math.ceil(wait)
            assert allowances.wait("north") == 0
            assert allowances.take("north") == 0
            taken += 1

    assert taken <= amount + (clock.now - begun) * amount / seconds + 0.01


def test_a_whole_allowance_can_be_used_at_once() -> None:
    """12000/minute is 12,000 at once after a quiet minute, then 200 a second."""
    clock = Clock()
    allowances = Allowances(Rate.parse("12000/minute"), most=1, clock=clock)

    at_once = sum(not allowances.take("north") for _ in range(13_000))
    clock.now += 1
    a_second_later = sum(not allowances.take("north") for _ in range(300))

    assert (at_once, a_second_later) == (12_000, 200)


def test_what_is_refused_takes_nothing_and_what_is_given_back_is_there() -> None:
    """So a client that hammers doesn't keep itself out."""
    clock = Clock()
    allowances = Allowances(Rate(2, 60), most=9, clock=clock)
    for _ in range(10):
        allowances.take("north")
    clock.now += 30

    assert [bool(allowances.take("north")) for _ in range(2)] == [False, True]
    allowances.give_back("north")
    assert allowances.take("north") == 0
    assert allowances.take("harbour") == 0


def test_no_more_is_remembered_than_was_said() -> None:
    """Those used longest ago are forgotten; what is full again isn't kept at all."""
    allowances, tellings = Allowances(Rate(1, 60), most=100, clock=Clock()), Tellings(most=100)
    for number in range(100_000):
        allowances.take(number)
        tellings.count(number)

    assert len(allowances) == 100
    assert len(tellings) == 100
    assert allowances.take(99_999) > 0
    assert allowances.take(0) == 0
    allowances.give_back(0)
    assert len(allowances) == 99


def test_what_happens_again_and_again_is_told_once_a_minute() -> None:
    """At once, and then with how often it was."""
    clock = Clock()
    tellings = Tellings(most=10, clock=clock)

    first = [tellings.count("x") for _ in range(5)]
    clock.now += 60

    assert first == [1, None, None, None, None]
    assert tellings.count("x") == 5
    assert tellings.count("x") is None


@pytest.mark.parametrize(
    "text", ["", "12000", "12000/day", "-1/minute", "0/minute", "1.5/second", "12000/minutes", "x"]
)
def test_what_is_no_rate_is_refused(text: str) -> None:
    """With what would be right."""
    with pytest.raises(ValueError, match="like 12000/minute"):
        Rate.parse(text)
