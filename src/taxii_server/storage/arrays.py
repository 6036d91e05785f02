"""Postgres array literals, for statements that take a thousand rows as a dozen arrays.

The driver writes such a list value by value, which for a large push holds up everything else in the process several
times longer than Postgres takes to read it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


def texts(values: Iterable[str]) -> str:
    """Write a `text[]`."""
    return "{" + ",".join(['"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for value in values]) + "}"


def numbers(values: Iterable[int]) -> str:
    """Write an array of a whole-number type."""
    return "{" + ",".join(map(str, values)) + "}"


def booleans(values: Iterable[bool]) -> str:
    """Write a `boolean[]`."""
    return "{" + ",".join(["t" if value else "f" for value in values]) + "}"


def instants(values: Iterable[datetime | None]) -> str:
    """Write a `timestamptz[]`."""
    return "{" + ",".join(["NULL" if value is None else f'"{value.isoformat()}"' for value in values]) + "}"


def octets(values: Iterable[bytes]) -> str:
    """Write a `bytea[]`."""
    return "{" + ",".join([rf'"\\x{value.hex()}"' for value in values]) + "}"
