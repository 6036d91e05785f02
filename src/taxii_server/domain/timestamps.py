"""Timestamps, in and out.

Out, a TAXII timestamp always has six fractional digits and `Z` (§2). In, real clients cut trailing zeros or send
milliseconds, so anything RFC 3339 with up to nine fractional digits is understood; STIX content is held to STIX's own
rule (UTC with `Z`) and to the six digits that Postgres and TAXII can order.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
MILLISECOND = timedelta(milliseconds=1)

_RFC3339 = re.compile(
    r"(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})T(?P<time>[0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.(?P<fraction>[0-9]+))?"
    r"(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})",
)
_MOST_DIGITS_OF_A_PARAMETER = 9
_MOST_DIGITS_OF_STIX = 6


class BadTimestamp(ValueError):
    """The text is not a timestamp of the asked form; the message says why."""


class TooPrecise(BadTimestamp):
    """It is a timestamp, between two of the microseconds that this server can keep apart."""


def to_taxii(instant: datetime) -> str:
    """Write `instant` as TAXII does: UTC, exactly six fractional digits, `Z` (§2)."""
    # what ends it is +00:00
    return f"{instant.astimezone(UTC).isoformat(timespec='microseconds')[:-6]}Z"


def from_microseconds(count: int) -> datetime:
    """Give the instant that is so many microseconds after 1970."""
    return EPOCH + timedelta(microseconds=count)


def all_to_taxii(counts: Iterable[int]) -> Iterator[str]:
    """Write instants, counted in microseconds since 1970, as TAXII does; those of one push share all but the fraction."""
    second, written = None, ""
    for count in counts:
        whole, fraction = divmod(count, 1_000_000)
        if whole != second:
            second, written = whole, to_taxii(from_microseconds(whole * 1_000_000))[:-7]
        yield f"{written}{fraction:06}Z"


def to_stix(instant: datetime) -> str:
    """Write `instant` to the millisecond, as `created` and `modified` are written in every version of STIX."""
    return f"{to_taxii(instant)[:-4]}Z"


def from_parameter(text: str) -> datetime:
    """Read `added_after` leniently: 0 to 9 fractional digits, `Z` or an offset; digits past six are cut off.

    Raises:
        BadTimestamp: for everything else.
    """
    parts = _RFC3339.fullmatch(text)
    if parts is None:
        message = "not a timestamp like 2024-05-02T08:15:30.000001Z"
        raise BadTimestamp(message)
    if len(parts["fraction"] or "") > _MOST_DIGITS_OF_A_PARAMETER:
        message = "more than nine fractional digits"
        raise BadTimestamp(message)
    return _instant(parts)


def from_stix(text: object) -> datetime:
    """Read a STIX timestamp: UTC with `Z`, at most six fractional digits.

    Raises:
        BadTimestamp: for everything else, with words for the sender of the object; `TooPrecise` if it has more digits.
    """
    if not isinstance(text, str):
        message = "must be a string with a timestamp like 2024-05-02T08:15:30.000Z"
        raise BadTimestamp(message)
    parts = _RFC3339.fullmatch(text)
    if parts is None or parts["zone"] != "Z":
        message = "must be a UTC timestamp like 2024-05-02T08:15:30.000Z"
        raise BadTimestamp(message)
    if len(parts["fraction"] or "") > _MOST_DIGITS_OF_STIX:
        message = "has more than six fractional digits, which this server can't keep apart"
        raise TooPrecise(message)
    return _instant(parts)


def _instant(parts: re.Match[str]) -> datetime:
    fraction = (parts["fraction"] or "")[:6].ljust(6, "0")
    try:
        naive = datetime.fromisoformat(f"{parts['date']}T{parts['time']}.{fraction}")
        return naive.replace(tzinfo=_zone(parts["zone"])).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        message = "no such date or time of day"
        raise BadTimestamp(message) from error


def _zone(text: str) -> timezone:
    if text == "Z":
        return UTC
    hours, minutes = int(text[1:3]), int(text[4:6])
    if minutes > 59:  # noqa: PLR2004 - minutes of an hour
        message = "no such offset"
        raise ValueError(message)
    offset = timedelta(hours=hours, minutes=minutes)
    return timezone(-offset if text[0] == "-" else offset)
