"""Import and export: whole files in and out of one collection, by the rules of every other addition and page."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final
from uuid import uuid4

import msgspec

from taxii_server.domain import permissions
from taxii_server.domain.access import Readable, Validation, Writable
from taxii_server.domain.audit import OPERATOR
from taxii_server.domain.errors import BadBody, OperatorError
from taxii_server.domain.filters import ALL_VERSIONS, Filter
from taxii_server.domain.statuses import Detail, Status
from taxii_server.domain.stix_objects import Form
from taxii_server.domain.words import did_you_mean
from taxii_server.operations import objects
from taxii_server.operations.bundles import Slices
from taxii_server.operations.members import unknown
from taxii_server.operations.validation import Accepted, Validators, Verdict
from taxii_server.storage import alliance, members, object_pages, stored_versions
from taxii_server.storage.alliance import NamedCollection
from taxii_server.storage.engine import Connection, Database
from taxii_server.storage.members import Member
from taxii_server.storage.object_pages import Bounds

BATCH: Final = 1_000
"""The most objects of one transaction."""
MOST_REFUSALS_TOLD: Final = 10_000
"""The rest is counted: a file can hold more than fits in memory."""

_BATCH_BYTES: Final = 16 * 1024 * 1024
_AHEAD: Final = 3
"""Batches that are judged while one is stored: enough that the validating processes never wait."""

_PAGE: Final = Bounds(limit=1_000, page_bytes=8 * 1024 * 1024)

# every form is named, because without forms only each object's latest one is meant
_ALL: Final = Filter(versions=ALL_VERSIONS, forms=tuple(Form))
_LATEST: Final = Filter()
_TEXTS: Final = msgspec.json.Decoder(list[msgspec.Raw])

Progress = Callable[[int, int], None]
"""Told now and then how many objects of the file are done, and how many of its octets were read."""


@dataclass(slots=True)
class Imported:
    """What became of the objects of an import; `refused_besides` is how many more were refused than are told of."""

    collection: str
    stored: int = 0
    already_there: int = 0
    refused: list[Detail] = field(default_factory=list)
    refused_besides: int = 0

    def add(self, status: Status) -> None:
        """Count what became of one batch."""
        stored = status.stored or 0
        self.stored += stored
        self.already_there += len(status.successes) - stored
        told = status.failures[: max(0, MOST_REFUSALS_TOLD - len(self.refused))]
        self.refused.extend(told)
        self.refused_besides += len(status.failures) - len(told)


async def import_objects(
    db: Database,
    validators: Validators,
    *,
    collection: str,
    member: str,
    file: BinaryIO,
    report: Imported | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Add the objects of a bundle or envelope in a member's name, each with its own verdict.

    The file is read as it is stored, in batches that are committed one after the other, each while the next ones are
    judged. Run again, it passes over what is there already; `report` is added to.

    Raises:
        OperatorError: if there is no such collection or member.
        BadBody: if the file turns out to be no bundle or envelope; what came before is stored.
    """
    async with db.read() as connection:
        where = await named_collection(connection, collection)
        owner = await members.find(connection, member)
        if owner is None:
            raise await unknown(connection, member)
    importing = _Import(db, validators, where, owner)
    report = report or Imported(where.name)
    slices = Slices(file)
    done = 0
    async with aclosing(_judged_ahead(_batches(slices), importing.judge)) as batches:
        async for judged in batches:
            report.already_there += judged.already_there
            if judged.verdicts:
                report.add(await importing.keep(judged))
            done += judged.already_there + len(judged.verdicts)
            if progress is not None:
                progress(done, slices.octets)
    return report


async def _judged_ahead(
    batches: Iterator[list[bytes]], judge: Callable[[list[bytes]], Coroutine[Any, Any, _Judged]]
) -> AsyncGenerator[_Judged, None]:
    """Give batch after batch as it is judged, while the next ones are read and judged already."""
    under_way: deque[asyncio.Task[_Judged]] = deque()
    broken: BadBody | None = None
    over = False
    try:
        while under_way or not over:
            if not over:
                batch = None
                try:
                    batch = await asyncio.to_thread(next, batches, None)
                except BadBody as error:
                    broken = error
                over = batch is None
                if batch is not None:
                    under_way.append(asyncio.create_task(judge(batch)))
            if under_way and (over or len(under_way) > _AHEAD):
                yield await under_way.popleft()
        if broken is not None:
            raise broken
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


def _batches(slices: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Split by count and by octets; an object is never split. What comes before a fault in the file comes before the fault."""
    batch: list[bytes] = []
    octets = 0
    left = iter(slices)
    while True:
        try:
            one = next(left, None)
        except BadBody:
            if batch:
                yield batch
            raise
        if batch and (one is None or len(batch) == BATCH or octets + len(one) > _BATCH_BYTES):
            yield batch
            batch, octets = [], 0
        if one is None:
            return
        batch.append(one)
        octets += len(one)


@dataclass(frozen=True, slots=True)
class _Judged:
    """A batch that was judged: what is to be decided on, and how many besides are there already."""

    requested_at: datetime
    verdicts: list[Verdict]
    already_there: int = 0


class _Import:
    """One file on its way into one collection, in one member's name."""

    def __init__(self, db: Database, validators: Validators, where: NamedCollection, owner: Member) -> None:
        self._db = db
        self._validators = validators
        self._group = where.collection.trust_group_id
        self._owner = owner
        self._target = permissions.operator_writable(where.collection, owner.id, owner.quota)
        self._meets_known = True

    async def judge(self, batch: list[bytes]) -> _Judged:
        """Judge a batch; as long as it is found there, which is where an import goes on that was stopped, only the rest of it.

        What is there was judged when it came. It is passed over if it is the same to the letter and nothing that
        can be said without judging it anew stands against it; all else is decided on as ever.
        """
        begun = datetime.now(UTC)
        validation = self._target.policy.validation
        if validation is Validation.STRUCTURAL or not self._meets_known:
            return _Judged(begun, await self._validators.judge(batch, validation))
        read = await self._validators.judge(batch, Validation.STRUCTURAL)
        known = await self._known(read)
        self._meets_known = any(known)
        rest = [one for one, there in zip(batch, known, strict=True) if not there]
        verdicts = await self._validators.judge(rest, validation) if rest else []
        return _Judged(begun, verdicts, len(batch) - len(rest))

    async def _known(self, verdicts: Sequence[Verdict]) -> list[bool]:
        ids = {one.columns.stix_id for one in verdicts if isinstance(one, Accepted)}
        where = permissions.operator_whole(self._target.collection_id)
        async with self._db.read(where) as connection:
            stored, recalled = await stored_versions.of_objects_and_recalls(
                connection, where.collection_id, ids | {one.lower() for one in ids}
            )
        there = {(one.stix_id, one.digest) for one in stored}

        def is_known(one: Verdict) -> bool:
            return (
                isinstance(one, Accepted)
                and (one.columns.stix_id, one.columns.digest) in there
                and not recalled.keys() & {one.columns.stix_id, one.columns.stix_id.lower()}
                and permissions.refusal(self._target, one.columns) is None
            )

        return [is_known(one) for one in verdicts]

    async def keep(self, judged: _Judged) -> Status:
        """Store what is good and new of a batch, by the rules of now."""
        return await objects.keep(
            self._db,
            self._target,
            self._group,
            judged.verdicts,
            requested_at=judged.requested_at,
            recheck=self._again,
            who=OPERATOR,
            told={"as": self._owner.slug},
        )

    async def _again(self, connection: Connection) -> Writable:
        # its rules may have changed since, and the member's quota
        named = await named_collection(connection, str(self._target.collection_id))
        now = await members.find(connection, self._owner.slug) or self._owner
        self._target = permissions.operator_writable(named.collection, self._owner.id, now.quota)
        return self._target


async def count(db: Database, *, collection: str) -> int:
    """Count the versions a collection holds.

    Raises:
        OperatorError: if there is no such collection.
    """
    async with db.read() as connection:
        named = await named_collection(connection, collection)
    where = permissions.operator_whole(named.collection.id)
    async with db.read(where) as connection:
        return await alliance.count_versions(connection, where)


async def export_objects(db: Database, *, collection: str, all_versions: bool) -> AsyncIterator[str]:
    """Give a collection as the text of a STIX bundle, page by page, each object exactly as it was posted.

    Pages are read one after the other, not in one snapshot: what is added meanwhile comes last.

    Raises:
        OperatorError: if there is no such collection.
    """
    async with db.read() as connection:
        where = permissions.operator_readable((await named_collection(connection, collection)).collection)
    yield f'{{"type":"bundle","id":"bundle--{uuid4()}","objects":['
    separator = "\n"
    async for bodies in _pages(db, where, _ALL if all_versions else _LATEST):
        for body in bodies:
            yield separator + body
            separator = ",\n"
    yield "\n]}\n"


async def _pages(db: Database, where: Readable, want: Filter) -> AsyncIterator[Iterator[str]]:
    position: datetime | None = None
    while True:
        async with db.read(where) as connection:
            page = await object_pages.page(connection, where, want, position, _PAGE)
        yield (bytes(one).decode() for one in _TEXTS.decode(b"[%b]" % b",".join(page.bodies)))
        if not page.more:
            return
        position = page.last


async def named_collection(connection: Connection, reference: str) -> NamedCollection:
    """Find a collection as operators call it.

    Raises:
        OperatorError: if there is none.
    """
    named = await alliance.collection_named(connection, reference)
    if named is None:
        hint = did_you_mean(reference, (await alliance.collection_names(connection)).values())
        message = f"There is no collection {reference!r}{hint or ': write trust-group/alias, or its id.'}"
        raise OperatorError(message)
    return named
