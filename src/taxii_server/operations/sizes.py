"""Amounts of octets as operators write them: `500MiB`, `10GiB`."""

from __future__ import annotations

import re
from typing import Final

_SIZE: Final = re.compile(r"(?P<count>[0-9]{1,9})(?P<unit>[KMGT]iB)")
_UNITS: Final = {"TiB": 1024**4, "GiB": 1024**3, "MiB": 1024**2, "KiB": 1024}
_LARGEST: Final = 1024**5


class SizeError(ValueError):
    """The text is no amount of octets; the message says what would be."""


def parse(text: str) -> int:
    """Read a whole number with a unit.

    Raises:
        SizeError: for anything else, for none, and beyond 1024 TiB.
    """
    parts = _SIZE.fullmatch(text.strip())
    if parts is None:
        message = f"{text!r} is not an amount: write a whole number with KiB, MiB, GiB or TiB, like 10GiB"
        raise SizeError(message)
    octets = int(parts["count"]) * _UNITS[parts["unit"]]
    if not 0 < octets <= _LARGEST:
        message = f"{text!r} must be more than nothing and at most 1024TiB"
        raise SizeError(message)
    return octets


def write(octets: int) -> str:
    """Write an amount in the largest unit that divides it."""
    for unit, size in _UNITS.items():
        if octets and octets % size == 0:
            return f"{octets // size}{unit}"
    return f"{octets} octets"


def about(octets: int) -> str:
    """Write an amount for reading, in a unit of which there are some."""
    for unit, size in _UNITS.items():
        if octets >= size:
            return f"{octets / size:.1f} {unit}"
    return f"{octets} octets"
