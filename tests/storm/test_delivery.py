"""What counts as missed and as repeated, in storms and in measurements."""

from __future__ import annotations

from collections import Counter

from tests.storm.delivery import Delivery

ONE, TWO, THREE = ("indicator--1", "a"), ("indicator--1", "b"), ("ipv4-addr--3", "")


def test_each_version_exactly_once_is_neither_missed_nor_repeated() -> None:
    """Versions of one object are different ones."""
    there = Counter([ONE, TWO, THREE])

    delivery = Delivery(Counter([THREE, TWO, ONE]), there, there)

    assert (delivery.missed, delivery.repeated) == (Counter(), Counter())


def test_what_never_came_is_missed_and_what_came_twice_or_was_never_there_is_repeated() -> None:
    """One doesn't make up for the other."""
    delivery = Delivery(Counter([ONE, ONE, THREE]), Counter([ONE, TWO]), Counter([ONE, TWO]))

    assert delivery.missed == Counter([TWO])
    assert delivery.repeated == Counter([ONE, THREE])


def test_what_may_come_needn_t() -> None:
    """Twice at most, once at least."""
    least, most = Counter([ONE]), Counter([ONE, ONE, TWO])

    assert not Delivery(Counter([ONE]), least, most).missed
    assert not Delivery(Counter([ONE, ONE, TWO]), least, most).repeated
    assert Delivery(Counter([TWO]), least, most).missed == Counter([ONE])
