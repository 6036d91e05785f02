"""Who received what: the disclosure ledger, asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from taxii_server.domain import permissions
from taxii_server.domain.access import Traceable
from taxii_server.domain.disclosures import Recipient, microseconds, unpack
from taxii_server.domain.errors import OperatorError
from taxii_server.domain.stix_objects import Form
from taxii_server.domain.words import did_you_mean
from taxii_server.storage import alliance
from taxii_server.storage import disclosures as storage
from taxii_server.storage.disclosures import Entry, Version
from taxii_server.storage.engine import Database

_BATCH: Final = 100
"""The most versions that are traced at a time."""

_ROWS: Final = 5_000
_VERSIONS: Final = 1_000_000
"""The most rows of the ledger, and versions told of in them, that one statement reads."""


@dataclass(slots=True)
class Receipt:
    """How often a version, or with `whole` unset only the word that there is one, was sent to a client, and when."""

    first: datetime
    last: datetime
    times: int = 1

    def add(self, sent_at: datetime) -> None:
        """Count one more."""
        self.first, self.last, self.times = min(self.first, sent_at), max(self.last, sent_at), self.times + 1


@dataclass(frozen=True, slots=True)
class Received:
    """Which version went to which client, and whether with its content."""

    date_added: datetime
    recipient: Recipient
    whole: bool


Receipts = dict[Received, Receipt]


async def received(database: Database, where: Traceable, dates: Sequence[datetime]) -> Receipts:
    """Tell of some versions of a collection, by their `date_added`, to whom each was sent.

    The ledger is read a bounded part at a time; memory holds what is given back.
    """
    found: Receipts = {}
    for start in range(0, len(dates), _BATCH):
        some, place = dates[start : start + _BATCH], None
        while True:
            async with database.read(where) as connection:
                entries = await storage.spanning(connection, where, some, place, rows=_ROWS, versions=_VERSIONS)
            await asyncio.to_thread(_gather, found, some, entries.entries)
            if not entries.more:
                break
            place = entries.entries[-1].place
    return found


def _gather(found: Receipts, dates: Sequence[datetime], entries: Iterable[Entry]) -> None:
    wanted = {microseconds(date): date for date in dates}
    for entry in entries:
        place = entry.place
        for one in wanted.keys() & unpack(entry.dates, place.first_added, place.last_added, entry.number):
            what = Received(wanted[one], entry.recipient, entry.way.whole)
            if what in found:
                found[what].add(entry.sent_at)
            else:
                found[what] = Receipt(entry.sent_at, entry.sent_at)


@dataclass(frozen=True, slots=True)
class TracedReceipt:
    """One client that a version was sent to; `content` is False where it was only told that the version exists."""

    member: str
    client_id: str
    content: bool
    first: datetime
    last: datetime
    times: int


@dataclass(frozen=True, slots=True)
class TracedVersion:
    """One version of an object, and who received it. `removed`: it is there no more."""

    collection: str
    collection_id: UUID
    date_added: datetime
    version: str
    spec_version: str
    brought_by: str
    removed: bool
    received: list[TracedReceipt] = field(default_factory=list)


async def trace(database: Database, stix_id: str, *, collection: str | None = None) -> list[TracedVersion]:
    """Tell the operator of every version of an object, removed ones too, which clients received it.

    Raises:
        OperatorError: if there is no such collection, or never was a version of the object.
    """
    async with database.read() as connection:
        names = await alliance.collection_names(connection)
        ids = await storage.collections(connection)
    if collection is not None:
        ids = [_named(collection, names, ids)]
    traced: list[TracedVersion] = []
    for one in ids:
        traced += await _trace(database, permissions.operator_traceable(one), stix_id, names.get(one))
    if not traced:
        message = f"There is no version of {stix_id} here, and never was."
        raise OperatorError(message)
    return traced


def _named(reference: str, names: dict[UUID, str], ids: Sequence[UUID]) -> UUID:
    for one in ids:
        if reference in {str(one), names.get(one)}:
            return one
    hint = did_you_mean(reference, names.values())
    message = f"There is no collection {reference!r}{hint or ': write trust-group/alias, or its id.'}"
    raise OperatorError(message)


async def _trace(database: Database, where: Traceable, stix_id: str, name: str | None) -> list[TracedVersion]:
    versions: list[Version] = []
    while True:
        async with database.read(where) as connection:
            after = versions[-1].date_added if versions else None
            some = await storage.versions_of(connection, where, stix_id, after, limit=_ROWS)
        versions += some
        if len(some) < _ROWS:
            break
    receipts = await received(database, where, [version.date_added for version in versions])
    async with database.read() as connection:
        named = await storage.recipients(connection, list({what.recipient.client for what in receipts}))
        members = await storage.members(connection, list({version.member for version in versions}))
    traced = {
        version.date_added: TracedVersion(
            collection=name or f"{where.collection_id} (removed)",
            collection_id=where.collection_id,
            date_added=version.date_added,
            version=version.version,
            spec_version=Form(version.form).text,
            brought_by=members[version.member],
            removed=version.removed,
        )
        for version in versions
    }
    for what, receipt in receipts.items():
        to = named[what.recipient.client]
        traced[what.date_added].received.append(
            TracedReceipt(to.member, to.client_id, what.whole, receipt.first, receipt.last, receipt.times)
        )
    for version in traced.values():
        version.received.sort(key=lambda one: (one.member, one.client_id, not one.content))
    return list(traced.values())
