"""Lengths of time as operators write them: `15m`, `24h`, `90d`."""

from __future__ import annotations

import re
from datetime import timedelta

_DURATION = re.compile(r"(?P<count>[0-9]{1,9})(?P<unit>[smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST = timedelta(days=36_500)


class DurationError(ValueError):
    """The text is not a length of time; the message says what would be."""


def parse(text: str) -> timedelta:
    """Read a whole number with a unit.

    Raises:
        DurationError: for anything else, and beyond a hundred years.
    """
    parts = _DURATION.fullmatch(text.strip())
    if parts is None:
        message = f"{text!r} is not a length of time: write a whole number with s, m, h, d or w, like 90d"
        raise DurationError(message)
    try:
        duration = timedelta(**{_UNITS[parts["unit"]]: int(parts["count"])})
    except OverflowError:
        duration = timedelta.max
    if duration > _LONGEST:
        message = f"{text!r} is longer than a hundred years"
        raise DurationError(message)
    return duration


def write(duration: timedelta) -> str:
    """Write a length of time in the largest unit that divides it."""
    seconds = int(duration.total_seconds())
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def about(duration: timedelta) -> str:
    """Write a length of time for reading, in one unit, what is left over left out."""
    seconds = int(duration.total_seconds())
    for unit, length, least in (("days", 86_400, 172_800), ("h", 3_600, 3_600), ("min", 60, 60)):
        if seconds >= least:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"
