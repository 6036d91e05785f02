"""Who received what: the disclosure ledger, asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from taxii_server.domain import permissions
from taxii_server.domain.access import Caller, Traceable
from taxii_server.domain.disclosures import Recipient, microseconds, unpack
from taxii_server.domain.errors import NotFound, OperatorError
from taxii_server.domain.stix_objects import Form
from taxii_server.domain.trace_cursor import TraceCursor
from taxii_server.domain.words import did_you_mean
from taxii_server.storage import alliance
from taxii_server.storage import disclosures as storage
from taxii_server.storage.disclosures import Entry, Version
from taxii_server.storage.engine import Database

_BATCH: Final = 100
"""The most versions that are traced at a time."""

_ROWS: Final = 5_000
_VERSIONS: Final = 1_000_000
"""The most rows of the ledger, and versions told of in them, that one statement reads for an operator."""

_ROWS_OF_AN_ANSWER: Final = 1_000
_VERSIONS_OF_AN_ANSWER: Final = 100_000
"""The same for a contributor, who gets no more than one statement's worth an answer."""

_STATEMENTS_OF_AN_ANSWER: Final = 10
"""How many of those go into what a contributor is told of a recall."""


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


@dataclass(slots=True)
class Effort:
    """How much of the ledger may be read for one question: rows and versions a statement, and statements."""

    rows: int = _ROWS
    versions: int = _VERSIONS
    statements: int = 2**62

    @classmethod
    def of_an_answer(cls) -> Effort:
        """What one answer to a contributor may cost."""
        return cls(_ROWS_OF_AN_ANSWER, _VERSIONS_OF_AN_ANSWER, _STATEMENTS_OF_AN_ANSWER)

    @property
    def spent(self) -> bool:
        """Whether no statement is left."""
        return self.statements <= 0


async def received(database: Database, where: Traceable, dates: Sequence[datetime], effort: Effort) -> Receipts:
    """Tell of some versions of a collection, by their `date_added`, to whom each was sent.

    The ledger is read a bounded part at a time; memory holds what is given back. Once `effort` is spent the rest is left
    unread.
    """
    found: Receipts = {}
    for start in range(0, len(dates), _BATCH):
        some, place = dates[start : start + _BATCH], None
        while not effort.spent:
            effort.statements -= 1
            async with database.read(where) as connection:
                entries = await storage.spanning(
                    connection, where, some, place, rows=effort.rows, versions=effort.versions
                )
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
    receipts = await received(database, where, [version.date_added for version in versions], Effort())
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


@dataclass(frozen=True, slots=True)
class ContributedReceipt:
    """A version that the caller's member brought, and a member that it was sent to, some of its clients or all.

    `content` is False where it was only told that the version exists.
    """

    date_added: datetime
    version: str
    form: int
    removed: bool
    member: str
    name: str
    content: bool
    first: datetime
    last: datetime
    times: int


@dataclass(frozen=True, slots=True)
class Contributed:
    """A part of who received an object; `next` is None on the last one."""

    receipts: list[ContributedReceipt]
    next: str | None


def traceable(caller: Caller) -> Traceable:
    """Give the path's collection for asking who received what the caller's member brought.

    Raises:
        NotFound: if it is absent or hidden.
        NotAllowed: if the caller may not ask.
    """
    return permissions.traceable(caller)


async def contributed(database: Database, where: Traceable, stix_id: str, cursor: TraceCursor | None) -> Contributed:
    """Tell a contributor which members its versions of an object were sent to.

    One answer reads a bounded part of the ledger, however often the object was sent. So a member may be on several answers,
    each with its own first, last and times.

    Raises:
        NotFound: if the caller's member brought no version of it that the caller may see; then nothing of the ledger is read.
    """
    after, place = (None, None) if cursor is None else (cursor.after, cursor.place)
    receipts: Receipts = {}
    async with database.read(where) as connection:
        versions = await storage.versions_of(connection, where, stix_id, after, limit=_BATCH + 1)
        if not versions:
            raise NotFound
        some = versions[:_BATCH]
        entries = await storage.spanning(
            connection,
            where,
            [version.date_added for version in some],
            place,
            rows=_ROWS_OF_AN_ANSWER,
            versions=_VERSIONS_OF_AN_ANSWER,
        )
        named = await storage.recipients(connection, list({one.recipient.client for one in entries.entries}))
    await asyncio.to_thread(_gather, receipts, [version.date_added for version in some], entries.entries)
    following = None
    if entries.more:
        following = TraceCursor(where.collection_id, stix_id, after, entries.entries[-1].place)
    elif len(versions) > len(some):
        following = TraceCursor(where.collection_id, stix_id, some[-1].date_added, None)
    told = await asyncio.to_thread(_by_member, some, receipts, named)
    return Contributed(told, None if following is None else following.encode())


def _by_member(
    versions: Sequence[Version], receipts: Receipts, named: dict[int, storage.Named]
) -> list[ContributedReceipt]:
    """Leave the clients out: which software a member uses, and how many, is its own business."""
    merged: dict[tuple[datetime, str, bool], tuple[str, Receipt]] = {}
    for what, receipt in receipts.items():
        member = named[what.recipient.client]
        key = (what.date_added, member.member, not what.whole)
        if key in merged:
            one = merged[key][1]
            one.first, one.last = min(one.first, receipt.first), max(one.last, receipt.last)
            one.times += receipt.times
        else:
            merged[key] = (member.name, receipt)
    by_date = {version.date_added: version for version in versions}
    return [
        ContributedReceipt(
            date_added=date_added,
            version=by_date[date_added].version,
            form=by_date[date_added].form,
            removed=by_date[date_added].removed,
            member=member,
            name=name,
            content=not listed,
            first=receipt.first,
            last=receipt.last,
            times=receipt.times,
        )
        for (date_added, member, listed), (name, receipt) in sorted(merged.items(), key=lambda one: one[0])
    ]
