"""What must be true when a storm is over: what everybody was told, held against what the database holds."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from taxii_server.domain.disclosures import microseconds, unpack
from taxii_server.domain.timestamps import to_taxii
from tests.storm.actors import told
from tests.storm.delivery import Delivery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.storm.actors import Deletion, Envelope, Poller
    from tests.storm.delivery import Key

    Execute = Callable[..., Any]

_VERSIONS = """
    SELECT date_added, stix_id, stix_type, version, level, superseded_level, newer_form_level, status_id, true
      FROM object_versions WHERE collection_id = %s
    UNION ALL
    SELECT date_added, stix_id, stix_type, version, level, NULL, NULL, status_id, false
      FROM deleted_versions WHERE collection_id = %s
"""
_STATUSES = """
    SELECT id, total_count, success_count, failure_count, successes, failures FROM statuses WHERE collection_id = %s
"""
_DISCLOSED = """
    SELECT dates, first_added, last_added, number FROM disclosures WHERE client = %s AND collection_id = %s
"""


@dataclass(frozen=True)
class Row:
    """A version that was ever stored."""

    added: datetime
    of: str
    kind: str
    version: str
    level: int
    superseded: int | None
    newer_form: int | None
    status: UUID
    live: bool

    @property
    def shown(self) -> Key:
        """How its object tells which version it is."""
        return (self.of, "" if self.kind == "ipv4-addr" else self.version)

    @property
    def listed(self) -> Key:
        """How a manifest does."""
        return (self.of, to_taxii(self.added))


class Collection:
    """One collection as the database holds it."""

    def __init__(self, execute: Execute, number: object) -> None:
        """Read all that was ever stored in it, and what was told of that."""
        self.execute, self.number = execute, number
        self.rows = [Row(*row) for row in execute(_VERSIONS, number, number)]
        self.statuses = {row[0]: row[1:] for row in execute(_STATUSES, number)}

    def faults(
        self, sent: Sequence[Envelope], deletions: Sequence[Deletion], pollers: Sequence[Poller]
    ) -> Iterator[str]:
        """Tell what is not as it must be."""
        dates = [row.added for row in self.rows]
        if len(dates) != len(set(dates)):
            yield "a date was given out twice"
        yield from self._envelopes(sent)
        yield from self._deletions(deletions)
        for number, poller in enumerate(pollers):
            how = f"poller {number} ({poller.path.split('/')[-2]}, {poller.params}, clearance {poller.clearance}):"
            yield from (f"{how} {fault}" for fault in (*self._delivery(poller), *self._ledger(poller)))

    def _envelopes(self, sent: Sequence[Envelope]) -> Iterator[str]:
        """Each is wholly there with its status, or not at all; what a status says is so, whether it was received or not."""
        stored: defaultdict[object, set[Key]] = defaultdict(set)
        for row in self.rows:
            stored[row.status].add(row.shown)
        if lost := stored.keys() - self.statuses.keys():
            yield f"there are versions without their statuses: {lost}"
        ever = {row.shown for row in self.rows}
        sizes = {envelope.seal: envelope.size for envelope in sent}
        for status, (total, succeeded, failed, successes, failures) in self.statuses.items():
            said = {told(one) for one in json.loads(successes)}
            seal = next((of for of, version in said if not version), "")
            numbers = (len(json.loads(successes)), len(json.loads(failures)))
            if total != sizes.get(seal) or (succeeded, failed) != numbers:
                yield f"status {status} tells of {total}, {succeeded} and {failed}, and no envelope was like that"
            if not stored[status] <= said <= ever:
                yield f"status {status} tells of others than are stored"
        for envelope in sent:
            if envelope.status is not None:
                yield from self._acknowledged(envelope, envelope.status, ever)

    def _acknowledged(self, envelope: Envelope, status: dict[str, Any], ever: set[Key]) -> Iterator[str]:
        successes = status.get("successes", [])
        kept = self.statuses.get(UUID(status["id"]))
        if kept is None or kept[:2] != (envelope.size, len(successes)):
            yield f"status {status['id']} is not what was answered"
        if lost := [one for one in successes if told(one) not in ever]:
            yield f"acknowledged and lost: {lost[:3]}"

    def _deletions(self, deletions: Sequence[Deletion]) -> Iterator[str]:
        live = defaultdict(list)
        for row in self.rows:
            if row.live:
                live[row.of].append(row.added)
        for one in deletions:
            if any(added.timestamp() < one.asked for added in live[one.of]):
                yield f"{one.of} was removed, and what was there before still is"

    def _delivery(self, poller: Poller) -> Iterator[str]:
        """Each version that is there exactly once; each that was removed once at most; nothing else.

        What was removed and added again is another version, with a date of its own, and may have come both times. In the
        default view, a version that another superseded before it was polled never comes: the last ones must have, of objects
        of which nothing was removed, since a removal brings older ones back without a new date.
        """
        kinds = poller.params.get("match[type]", "").split(",")
        mine = [row for row in self.rows if row.level <= poller.clearance and (kinds == [""] or row.kind in kinds)]
        every = poller.params.get("match[version]") == "all"
        most: Counter[Key] = Counter()
        least: Counter[Key] = Counter()
        thinned = {row.of for row in self.rows if not row.live}
        for row in mine:
            key = row.listed if poller.of_manifest else row.shown
            most[key] += 1
            last = row.superseded is not None and row.superseded > poller.clearance
            if row.live and (every or (last and row.of not in thinned)):
                least[key] += 1
        delivery = Delivery(poller.counted, least, most)
        if missed := delivery.missed:
            yield f"missed {missed.total()} of {least.total()}: {sorted(missed)[:3]}"
        if repeated := delivery.repeated:
            yield f"got {repeated.total()} more than once or that were never there for it: {sorted(repeated)[:3]}"
        if poller.of_manifest:
            order = [date for page in poller.pages for _, date in page]
            if order != sorted(order):
                yield "got dates that lie before those it had"

    def _ledger(self, poller: Poller) -> Iterator[str]:
        """Each page that was received is in the ledger, as it was received."""
        by_date = {microseconds(row.added): row.listed if poller.of_manifest else row.shown for row in self.rows}
        entered = Counter(
            tuple(by_date[date] for date in unpack(bytes(dates), first, last, number))
            for dates, first, last, number in self.execute(_DISCLOSED, poller.client, self.number)
        )
        received = Counter(map(tuple, poller.pages))
        if lacking := received - entered:
            yield f"{lacking.total()} of {received.total()} pages are not in the ledger"
