"""Import and export: whole files in and out of one collection, by the rules of every other addition and page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import uuid4

import msgspec

from taxii_server.domain import permissions
from taxii_server.domain.access import Readable, Writable
from taxii_server.domain.audit import OPERATOR
from taxii_server.domain.errors import OperatorError
from taxii_server.domain.filters import ALL_VERSIONS, Filter
from taxii_server.domain.statuses import Detail
from taxii_server.domain.stix_objects import Form
from taxii_server.domain.words import did_you_mean
from taxii_server.operations import objects
from taxii_server.operations.envelopes import cut
from taxii_server.operations.members import unknown
from taxii_server.operations.validation import Validators
from taxii_server.storage import alliance, members, object_pages
from taxii_server.storage.alliance import NamedCollection
from taxii_server.storage.engine import Connection, Database
from taxii_server.storage.object_pages import Bounds

BATCH: Final = 1_000
"""The most objects of one transaction."""

_BATCH_BYTES: Final = 16 * 1024 * 1024
_PAGE: Final = Bounds(limit=1_000, page_bytes=8 * 1024 * 1024)

# every form is named, because without forms only each object's latest one is meant
_ALL: Final = Filter(versions=ALL_VERSIONS, forms=tuple(Form))
_LATEST: Final = Filter()
_TEXTS: Final = msgspec.json.Decoder(list[msgspec.Raw])

Progress = Callable[[int, int], None]
"""Told now and then how many objects are done, of how many."""


@dataclass(slots=True)
class Imported:
    """What became of the objects of one import."""

    collection: str
    stored: int = 0
    already_there: int = 0
    refused: list[Detail] = field(default_factory=list)


async def import_objects(
    db: Database,
    validators: Validators,
    *,
    collection: str,
    member: str,
    body: bytes,
    report: Imported | None = None,
    progress: Progress | None = None,
) -> Imported:
    """Add the objects of a bundle or envelope in a member's name, each with its own verdict.

    Batches are committed one by one; run again, what is there already counts as such. `report` is added to.

    Raises:
        OperatorError: if there is no such collection or member.
        BadBody: if the body is no bundle or envelope.
    """
    async with db.read() as connection:
        where = await named_collection(connection, collection)
        owner = await members.find(connection, member)
        if owner is None:
            raise await unknown(connection, member)
    target = permissions.operator_writable(where.collection, owner.id, owner.quota)

    async def again(connection: Connection) -> Writable:
        # its rules may have changed since, and the member's quota
        named = await named_collection(connection, str(where.collection.id))
        now = await members.find(connection, member) or owner
        return permissions.operator_writable(named.collection, owner.id, now.quota)

    report = report or Imported(where.name)
    slices = cut(body)
    done = 0
    for batch in _batches(slices):
        status = await objects.store(
            db,
            validators,
            target,
            where.collection.trust_group_id,
            batch,
            recheck=again,
            who=OPERATOR,
            told={"as": member},
        )
        stored = status.stored or 0
        report.stored += stored
        report.already_there += len(status.successes) - stored
        report.refused.extend(status.failures)
        done += len(batch)
        if progress is not None:
            progress(done, len(slices))
    return report


def _batches(slices: Sequence[bytes]) -> list[Sequence[bytes]]:
    """Split by count and by octets; an object is never split."""
    batches: list[Sequence[bytes]] = []
    start, octets = 0, 0
    for index, one in enumerate(slices):
        if index > start and (index - start == BATCH or octets + len(one) > _BATCH_BYTES):
            batches.append(slices[start:index])
            start, octets = index, 0
        octets += len(one)
    if start < len(slices):
        batches.append(slices[start:])
    return batches


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
