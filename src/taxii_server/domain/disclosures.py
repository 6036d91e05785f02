"""Which versions a page told of, packed into a few octets, and where a page is kept so that it is found by any of them.

A page's versions are named by their `date_added`, which is unique in a collection and never given out twice. Beside the
first and the last stand the steps between them in microseconds, as MessagePack writes whole numbers: one octet up to 127,
five up to 71 minutes. A negative number says how often the step before it is repeated, because the objects of one push lie
a microsecond apart: a page of a thousand of them takes five octets.

A page spans the instants from its first to its last version. To find those that span one instant without looking at all
the others, each is kept under its *fork*: the roundest number of microseconds within its span, the one that is divisible by
the highest power of two. A span that holds an instant has one of about fifty forks, which follow from the instant alone (the
static form of an interval tree).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate, groupby
from operator import sub
from typing import TYPE_CHECKING, Final

import msgspec

from taxii_server.domain.cursor import Endpoint
from taxii_server.domain.timestamps import EPOCH, MICROSECOND, from_microseconds

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

_STEPS: Final = msgspec.msgpack.Decoder(list[int])
_LONGEST: Final = 60
"""Bits of the largest instant in microseconds since 1970 that there is, the year 9999, and to spare."""


class Way(IntEnum):
    """By which endpoint a version left; the ledger keeps the number."""

    OBJECTS = 1
    OBJECT = 2
    MANIFEST = 3
    VERSIONS = 4

    @property
    def whole(self) -> bool:
        """Whether the object's content left, and not only that there is such a version."""
        return self in {Way.OBJECTS, Way.OBJECT}


_WAYS: Final = {
    Endpoint.OBJECTS: Way.OBJECTS,
    Endpoint.OBJECT: Way.OBJECT,
    Endpoint.MANIFEST: Way.MANIFEST,
    Endpoint.VERSIONS: Way.VERSIONS,
}


class BadDates(ValueError):
    """Packed dates that were damaged, or never were any."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """The client that a page is sent to, and its member."""

    member: int
    client: int


@dataclass(frozen=True, slots=True)
class Disclosure:
    """That a page with these versions of a collection is being sent to a client."""

    collection_id: UUID
    recipient: Recipient
    way: Way
    first_added: datetime
    last_added: datetime
    number: int
    dates: bytes

    @classmethod
    def of(cls, collection_id: UUID, recipient: Recipient, endpoint: Endpoint, dates: Sequence[int]) -> Disclosure:
        """Put it together from the versions' dates, in microseconds since 1970.

        There is at least one, and each is later than the one before.
        """
        first, last = from_microseconds(dates[0]), from_microseconds(dates[-1])
        return cls(collection_id, recipient, _WAYS[endpoint], first, last, len(dates), pack(dates))

    @property
    def fork(self) -> int:
        """Under which number it is kept."""
        return fork(microseconds(self.first_added), microseconds(self.last_added))


def microseconds(instant: datetime) -> int:
    """Count the microseconds since 1970."""
    return (instant - EPOCH) // MICROSECOND


def pack(dates: Sequence[int]) -> bytes:
    """Write the steps between dates, each of which is later than the one before.

    Raises:
        ValueError: if one isn't.
    """
    packed: list[int] = []
    for step, equal in groupby(map(sub, dates[1:], dates)):
        if step <= 0:
            message = "dates must increase"
            raise ValueError(message)
        packed.append(step)
        repeats = len(list(equal)) - 1
        if repeats:
            packed.append(-repeats)
    return msgspec.msgpack.encode(packed)


def unpack(octets: bytes, first_added: datetime, last_added: datetime, number: int) -> list[int]:
    """Read dates again, as microseconds since 1970.

    Raises:
        BadDates: if they are not `number` increasing dates from the first to the last.
    """
    try:
        packed = _STEPS.decode(octets)
    except msgspec.DecodeError as error:
        message = "not a list of steps"
        raise BadDates(message) from error
    # counted before anything is spread out: damage must not fill the memory
    if 1 + sum(1 if one > 0 else -one for one in packed) != number:
        message = "not as many dates as there should be"
        raise BadDates(message)
    steps: list[int] = []
    for one in packed:
        if one > 0:
            steps.append(one)
        elif one < 0 and steps:
            steps.extend(steps[-1:] * -one)
        else:
            message = "a step that leads nowhere"
            raise BadDates(message)
    dates = list(accumulate(steps, initial=microseconds(first_added)))
    if dates[-1] != microseconds(last_added):
        message = "the last date is another one"
        raise BadDates(message)
    return dates


def fork(first: int, last: int) -> int:
    """Give the roundest number from `first` to `last`, both included: the one that the highest power of two divides."""
    differing = (first ^ last).bit_length()
    if differing == 0:
        return first
    return last >> (differing - 1) << (differing - 1)


def forks(instant: int) -> set[int]:
    """Give every number that a span which holds `instant` can be kept under."""
    return {instant} | {(instant >> bits | 1) << bits for bits in range(_LONGEST)}
