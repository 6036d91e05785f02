"""A collection filled through the code under test, and the same collection as a plain list for the reference rule."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import msgspec
from sqlalchemy import insert

from taxii_server.domain.access import Policy, Readable, Validation, Whole, Writable
from taxii_server.domain.additions import Store
from taxii_server.domain.stix_objects import Columns, Form
from taxii_server.domain.timestamps import from_microseconds, to_taxii
from taxii_server.domain.tlp import Level
from taxii_server.storage import bounds, clocks, object_writes, removals, stored_versions, tables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from taxii_server.domain.additions import Outcome
    from taxii_server.domain.stix_versions import Version
    from taxii_server.storage.engine import Connection, Database
    from taxii_server.storage.object_pages import Page

MEMBER, CLIENT = 1, 1
BEGINNING = datetime(2020, 1, 1, tzinfo=UTC)
_POLICY = Policy(Validation.STRUCTURAL)


def served(page: Page) -> list[tuple[datetime, str]]:
    """Give each version of a page: when it was added, and its body."""
    bodies = msgspec.json.decode(b"[%b]" % b",".join(page.bodies), type=list[msgspec.Raw])
    return [(from_microseconds(date), bytes(body).decode()) for date, body in zip(page.dates, bodies, strict=True)]


def stix_id(number: int, stix_type: str = "indicator") -> str:
    """Make an id that is the same every time."""
    return f"{stix_type}--{UUID(int=number, version=4)}"


def columns(
    of: str,
    version: int | None,
    form: Form = Form.STIX_2_1,
    level: Level | None = None,
    content: str = "",
) -> Columns:
    """Make what is stored beside an object; `version` counts seconds, None makes an object without timestamps."""
    version_at = None if version is None else BEGINNING + timedelta(seconds=version)
    text = f"{of} {version} {form} {level} {content}"
    return Columns(
        stix_id=of,
        stix_type=of.partition("--")[0],
        form=form,
        version=None if version_at is None else to_taxii(version_at),
        version_at=version_at,
        digest=sha256(text.encode()).digest(),
        level=level,
    )


def body_of(one: Columns, size: int = 0) -> bytes:
    """Make a body that tells versions apart, at least `size` octets long."""
    return f'{{"id":"{one.stix_id}","digest":"{one.digest.hex()}","x":"{"-" * size}"}}'.encode()


@dataclass
class Feed:
    """One collection of a database, and its live versions as they ought to be."""

    database: Database
    collection_id: UUID = field(default_factory=uuid4)
    live: dict[datetime, Version] = field(default_factory=dict)
    bodies: dict[datetime, str] = field(default_factory=dict)
    policy: Policy = _POLICY

    async def create(self) -> Feed:
        """Make the collection, and a trust group around it."""
        group = uuid4()
        async with self.database.write() as connection:
            await connection.execute(insert(tables.trust_groups).values(id=group, slug=str(group), title="t"))
            await connection.execute(
                insert(tables.collections).values(
                    id=self.collection_id,
                    trust_group_id=group,
                    title="t",
                    validation="structural",
                ),
            )
            await connection.execute(
                insert(tables.collection_clocks).values(collection_id=self.collection_id, last_added=BEGINNING),
            )
        return self

    def readable(self, clearance: Level = Level.RED) -> Readable:
        """Pretend that the check was passed."""
        return Readable(self.collection_id, clearance)

    def writable(self, member: int = MEMBER) -> Writable:
        """Pretend that the check was passed, for a collection that asks for what `policy` says."""
        return Writable(self.collection_id, member, CLIENT, Level.RED, self.policy)

    def whole(self) -> Whole:
        """Pretend to be upkeep."""
        return Whole(self.collection_id)

    @asynccontextmanager
    async def writing_out_of_turn(self) -> AsyncIterator[Connection]:
        """Write to the collection as another process would: who wants to meanwhile waits for Postgres's lock."""
        async with self.database.write() as connection:
            await bounds.hold_to(connection, self.whole())
            yield connection

    async def add(self, incoming: Sequence[Columns], size: int = 0, member: int = MEMBER) -> list[Outcome]:
        """Add objects in one transaction."""
        target = self.writable(member)
        pairs = [(one, body_of(one, size)) for one in incoming]
        async with self.database.write(target) as connection:
            clock = await clocks.lock_clock(connection, self.collection_id)
            outcomes = await object_writes.add(connection, target, clock, uuid4(), pairs)
        for outcome, (_, body) in zip(outcomes, pairs, strict=True):
            if isinstance(outcome, Store):
                self.live[outcome.place.date_added] = outcome.place
                self.bodies[outcome.place.date_added] = body.decode()
        return outcomes

    async def remove(self, dates: Iterable[datetime]) -> None:
        """Remove versions in one transaction."""
        going = set(dates)
        ids = {self.live[date].stix_id for date in going}
        async with self.database.write(self.whole()) as connection:
            await clocks.lock_clock(connection, self.collection_id)
            stored = await stored_versions.of_objects(connection, self.collection_id, ids)
            chosen = [one for one in stored if one.date_added in going]
            await removals.remove(connection, self.collection_id, chosen, reason="delete", member=MEMBER, client=CLIENT)
        for date in going:
            del self.live[date], self.bodies[date]
