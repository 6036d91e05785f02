"""`next` of the question who received an object: where in the disclosure ledger its last answer ended.

Like every cursor here it is a value, not a state, and not signed: it says where to go on, and what may be told is judged anew.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from taxii_server.domain.disclosures import microseconds
from taxii_server.domain.errors import BadCursor
from taxii_server.domain.timestamps import EPOCH, MICROSECOND

_KIND: Final = "d1"
_LARGEST: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the ledger of a collection a walk stands: after this row."""

    fork: int
    first_added: datetime
    last_added: datetime
    id: int


@dataclass(frozen=True, slots=True)
class TraceCursor:
    """The versions of an object that were added up to `after` are done; of those that follow, the ledger up to `place`."""

    collection_id: UUID
    stix_id: str
    after: datetime | None
    place: Place | None

    def encode(self) -> str:
        """Write the cursor as the text of `next`."""
        place = self.place
        plain = [
            _KIND,
            self.collection_id.hex,
            self.stix_id,
            None if self.after is None else microseconds(self.after),
            None
            if place is None
            else [place.fork, microseconds(place.first_added), microseconds(place.last_added), place.id],
        ]
        octets = json.dumps(plain, separators=(",", ":"), ensure_ascii=False).encode()
        return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def resume(text: str, collection_id: UUID, stix_id: str) -> TraceCursor:
    """Read `next` for a question about this object.

    Raises:
        BadCursor: for anything this server would not have written letter for letter, and for another object's.
    """
    try:
        octets = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        kind, collection, of, after, place = json.loads(octets)
        cursor = TraceCursor(
            UUID(hex=str(collection)),
            of,
            None if after is None else _instant(after),
            None if place is None else _place(*place),
        )
        again = cursor.encode()
    except (ValueError, TypeError, RecursionError, OverflowError) as error:
        raise BadCursor from error
    if kind != _KIND or again != text:
        raise BadCursor
    if (cursor.collection_id, cursor.stix_id) != (collection_id, stix_id):
        message = "this next continues the answer about another object"
        raise BadCursor(message)
    return cursor


def _place(fork: Any, first: Any, last: Any, number: Any) -> Place:
    if not all(type(one) is int and 0 <= one <= _LARGEST for one in (fork, number)):
        raise ValueError
    return Place(fork, _instant(first), _instant(last), number)


def _instant(number: Any) -> datetime:
    if type(number) is not int or number < 0:
        raise ValueError
    return EPOCH + MICROSECOND * number
