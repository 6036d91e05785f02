"""What becomes of each object of an envelope: stored, known already, or refused (§5.5, D-07 in docs/rulings.md).

Decided here from what is stored, under the collection's lock; carried out by `storage.object_writes`.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from taxii_server.domain.stix_objects import SCO_TYPES
from taxii_server.domain.stix_versions import Version
from taxii_server.domain.timestamps import MICROSECOND, to_taxii
from taxii_server.domain.tlp import Level

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from taxii_server.domain.recalls import StandingRecall
    from taxii_server.domain.stix_objects import Columns


SMALL_ENVELOPE: Final = 128
_SMALL_OCTETS: Final = 512 * 1024
_NOBODYS = SCO_TYPES | {"marking-definition"}


@dataclass(frozen=True, slots=True)
class Known:
    """A version that is stored already, as far as this decision needs it."""

    place: Version
    version: str
    digest: bytes
    member: int


@dataclass(frozen=True, slots=True)
class Store:
    """Store the object under this date.

    `late_after` is the earliest `date_added` among the later versions that are there already, None if it is the last. A
    poller that asks with `added_after` at or past it has such a later version; to it this one is news all the same.
    """

    place: Version
    version: str
    late_after: datetime | None


@dataclass(frozen=True, slots=True)
class Repeat:
    """An exact duplicate: a success that stores nothing (§5.5)."""

    version: str


@dataclass(frozen=True, slots=True)
class Conflict:
    """The same version with other content: a failure; what is stored stays."""

    version: str


@dataclass(frozen=True, slots=True)
class NotYours:
    """A version of an object that another member brought first, where only that one may add to it: a failure."""

    version: str | None


@dataclass(frozen=True, slots=True)
class NoRoom:
    """What its member's quota has no room for: a failure. `left` is what it has room for, before this version."""

    version: str | None
    octets: int
    left: int


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """An object that was recalled, and that its sender may know of: a failure, were it stored already or not."""

    version: str | None
    recall: StandingRecall


Outcome = Store | Repeat | Conflict | NotYours | NoRoom | Withdrawn


def is_small(sizes: Sequence[int]) -> bool:
    """Whether objects of so many octets are so few that others wait no longer for what is done with all than for a thread."""
    return len(sizes) <= SMALL_ENVELOPE and sum(sizes) <= _SMALL_OCTETS


def decide(
    known: Iterable[Known],
    incoming: Sequence[tuple[Columns, Level]],
    base: datetime,
    *,
    member: int,
    owner_only: bool = False,
    clearance: Level = Level.RED,
    recalled: Mapping[str, Sequence[StandingRecall]] | None = None,
    octets: Sequence[int] = (),
    room: int | None = None,
) -> list[Outcome]:
    """Give the outcome of each incoming object, in order; new ones are dated `base` plus one microsecond each.

    `known` are all stored versions of the objects that come in, or those of a long history that have to do with them;
    `member` is who brings these. An object may occur several times in one envelope. With `owner_only`, versions of an
    object that another member brought first are refused, before it is looked at whether they are there already with
    other content.

    `recalled` are the recalls that stand, by the object's id. One that a writer of this clearance may know of comes
    before all else; of several the latest is told. An id that differs from a recalled one in capital letters alone is
    taken for it.

    With `room`, so many `octets` may be stored: each object, in order, is stored if it fits. What is there already needs
    none.
    """
    of_object: dict[str, list[Known]] = defaultdict(list)
    for one in known:
        of_object[one.place.stix_id].append(one)
    barred = _barred(incoming, clearance, of_object, recalled) if recalled else {}
    histories = {
        stix_id: _History(of_object.get(stix_id, ()))
        for stix_id, times in Counter(columns.stix_id for columns, _ in incoming).items()
        if times > 1 or stix_id in of_object or stix_id in barred or room is not None
    }
    outcomes: list[Outcome] = []
    date_added = base
    for index, (columns, level) in enumerate(incoming):
        history = histories.get(columns.stix_id)
        if history is None:
            # most of what is ever added: nothing of the kind is there, nor comes with it
            date_added += MICROSECOND
            place = Version(columns.stix_id, columns.form, columns.version_at or date_added, date_added, level)
            outcomes.append(Store(place, columns.version or to_taxii(date_added), None))
            continue
        outcome: Outcome | None = history.already_there(columns)
        recall = barred.get(columns.stix_id)
        if recall is not None and recall.stops(columns):
            outcome = Withdrawn(columns.version, recall)
        elif owner_only and not isinstance(outcome, Repeat) and not history.open_to(member, columns):
            outcome = NotYours(columns.version)
        if outcome is None and room is not None:
            if octets[index] > room:
                outcome = NoRoom(columns.version, octets[index], max(0, room))
            else:
                room -= octets[index]
        if outcome is None:
            date_added = history.free_date(columns, date_added + MICROSECOND)
            place = Version(columns.stix_id, columns.form, columns.version_at or date_added, date_added, level)
            version = columns.version or to_taxii(date_added)
            outcome = Store(place, version, history.late_after(place))
            history.learn(Known(place, version, columns.digest, member))
        outcomes.append(outcome)
    return outcomes


def _barred(
    incoming: Sequence[tuple[Columns, Level]],
    clearance: Level,
    of_object: Mapping[str, Sequence[Known]],
    recalled: Mapping[str, Sequence[StandingRecall]],
) -> dict[str, StandingRecall]:
    """Give the recall that each object has to do with, if any."""
    return {
        columns.stix_id: max(known_recalls, key=lambda recall: recall.at)
        for columns, _ in incoming
        for stix_id in (columns.stix_id, columns.stix_id.lower())
        if (
            known_recalls := [
                recall
                for recall in recalled.get(stix_id, ())
                if recall.is_known_to(clearance, (one.place for one in of_object.get(stix_id, ())))
            ]
        )
    }


class _History:
    """One object's versions in their order, so that ten thousand in one envelope cost no more each than ten."""

    def __init__(self, known: Sequence[Known]) -> None:
        self._owner = min(known, key=lambda one: one.place.date_added).member if known else None
        self._versioned = any(one.place.version_at != one.place.date_added for one in known)
        self._by_order = {one.place.order: one for one in known}
        self._by_digest = {one.digest: one for one in known}
        self._orders = sorted(self._by_order)
        # beside each order, the earliest date_added from there to the end
        dates = (self._by_order[order].place.date_added for order in reversed(self._orders))
        self._earliest = list(accumulate(dates, min))[::-1]

    def learn(self, new: Known) -> None:
        """Take in a version that was added after all others, so that no other's earliest date changes.

        Whose the object is need not be learned: an envelope is one member's, and what it adds to is open to it already.
        """
        order = new.place.order
        self._by_order[order] = self._by_digest[new.digest] = new
        at = bisect(self._orders, order)
        self._orders.insert(at, order)
        self._earliest.insert(at, self._earliest[at] if at < len(self._earliest) else new.place.date_added)

    def open_to(self, member: int, columns: Columns) -> bool:
        """Whether a member may add versions: to what nobody owns, what is new, and what it was the first to bring.

        Observables and marking-definitions are nobody's; nor is what has no timestamps in any version, this one included.
        """
        if columns.stix_type in _NOBODYS or not (self._versioned or columns.version_at is not None):
            return True
        return self._owner is None or self._owner == member

    def already_there(self, columns: Columns) -> Repeat | Conflict | None:
        if columns.version_at is None or columns.version is None:
            same = self._by_digest.get(columns.digest)
            return None if same is None else Repeat(same.version)
        same = self._by_order.get((columns.form, columns.version_at))
        if same is None:
            return None
        return Repeat(same.version) if same.digest == columns.digest else Conflict(columns.version)

    def free_date(self, columns: Columns, date_added: datetime) -> datetime:
        if columns.version_at is None:
            # its date is its version: step over an instant that a timestamped version of the same id already has
            while (columns.form, date_added) in self._by_order:
                date_added += MICROSECOND
        return date_added

    def late_after(self, new: Version) -> datetime | None:
        at = bisect(self._orders, new.order)
        return self._earliest[at] if at < len(self._earliest) else None
