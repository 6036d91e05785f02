"""What a check found, as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """How a check ended."""

    GOOD = "good"
    WARNING = "warning"
    FAULT = "fault"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a check saw, and what to do about it."""

    outcome: Outcome
    seen: str
    remedy: str | None = None
    about: str | None = None
    """Which API Root or collection, where a check looks at several."""


@dataclass(frozen=True, slots=True)
class Result:
    """A finding under the name of its check: `check` is stable, for programs; `group` and `title` are for people."""

    check: str
    group: str
    title: str
    outcome: Outcome
    about: str | None
    seen: str
    remedy: str | None
    because: str | None = None
    """The check that had to go well before this one could be asked, and didn't."""


@dataclass(frozen=True, slots=True)
class Summary:
    """How many results ended which way."""

    good: int
    warnings: int
    faults: int
    skipped: int

    @property
    def all_well(self) -> bool:
        """Nothing is wrong; there may be warnings."""
        return not self.faults


def good(seen: str, about: str | None = None) -> Finding:
    """As it should be."""
    return Finding(Outcome.GOOD, seen, None, about)


def warning(seen: str, remedy: str, about: str | None = None) -> Finding:
    """Not wrong, but somebody should know."""
    return Finding(Outcome.WARNING, seen, remedy, about)


def fault(seen: str, remedy: str, about: str | None = None) -> Finding:
    """Wrong: a client will fail, lose something or be unsafe."""
    return Finding(Outcome.FAULT, seen, remedy, about)


def skipped(why: str, about: str | None = None) -> Finding:
    """Not looked at."""
    return Finding(Outcome.SKIPPED, why, None, about)


def summary(results: Sequence[Result]) -> Summary:
    """Count."""

    def count(outcome: Outcome) -> int:
        return sum(1 for result in results if result.outcome is outcome)

    return Summary(count(Outcome.GOOD), count(Outcome.WARNING), count(Outcome.FAULT), count(Outcome.SKIPPED))
