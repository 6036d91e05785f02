"""Reading a page of what a collection holds (§5.3, §5.4, §5.6, §5.8)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from taxii_server.domain.cursor import Cursor, Endpoint
from taxii_server.domain.disclosures import Disclosure
from taxii_server.domain.errors import NotFound
from taxii_server.operations.company import Company
from taxii_server.operations.joint_reads import JointReads
from taxii_server.storage import object_pages
from taxii_server.storage.object_pages import Page

if TYPE_CHECKING:
    from datetime import datetime

    from taxii_server.domain.access import Readable
    from taxii_server.domain.disclosures import Recipient
    from taxii_server.domain.filters import Filter
    from taxii_server.operations.ledger import Ledger
    from taxii_server.storage.engine import Connection, Database
    from taxii_server.storage.object_pages import Bounds
    from taxii_server.storage.replicas import Replicas

_WITH_BODIES = frozenset({Endpoint.OBJECTS, Endpoint.OBJECT})
_OF_ONE_OBJECT = frozenset({Endpoint.OBJECT, Endpoint.VERSIONS})
_LISTS = frozenset({Endpoint.OBJECTS, Endpoint.MANIFEST, Endpoint.VERSIONS})


@dataclass(frozen=True, slots=True)
class Asked:
    """One page as it was asked for: from which endpoint, what of it, and from where on."""

    endpoint: Endpoint
    want: Filter
    position: datetime | None
    bounds: Bounds

    def begins_after(self, last_added: datetime | None) -> bool:
        """Tell whether the page can't hold anything, because it begins where the collection ends.

        `last_added` is the last date that the collection's clock had given out; None if that isn't known.
        """
        if last_added is None or self.endpoint in _OF_ONE_OBJECT:
            return False
        return any(instant is not None and instant >= last_added for instant in (self.position, self.want.added_after))


@dataclass(frozen=True, slots=True)
class Answer:
    """One page as it is answered: `next` is None on the last one."""

    page: Page
    next: str | None


class Reader:
    """Reads pages, and enters them in the disclosure ledger. Make one per process."""

    def __init__(
        self, database: Database, ledger: Ledger, replicas: Replicas | None = None, reading: Company | None = None
    ) -> None:
        """Take where to read: lists may be read from one of the replicas, and are the primary's answer all the same.

        `reading` is whom the ledger waits for: who reads.
        """
        self._database = database
        self._ledger = ledger
        self._replicas = replicas
        self._reading = reading or Company()
        self.asking = Company()
        """Who is about to ask for a page, while it is found out who that is."""
        self._pages = JointReads[Page](company=self.asking)

    async def read(
        self, where: Readable, asked: Asked, recipient: Recipient | None, *, last_added: datetime | None = None
    ) -> Answer:
        """Read one page, which is in the disclosure ledger when it is given back: it may be sent to `recipient`.

        `recipient` is None where only the head of the answer is sent, which tells of no version. `last_added` is the last date
        that the collection's clock had given out when the caller was looked up: what was added up to then is all that the page
        need hold.

        Raises:
            NotFound: if one object was asked for and the caller sees no version of it.
            Unavailable: if the page can't be read, or not be recorded; it must not be sent.
        """
        nothing = asked.want.matches_nothing and asked.endpoint not in _OF_ONE_OBJECT
        if nothing or asked.begins_after(last_added):
            return Answer(Page(()), None)
        # a replica has to have had as many changes as whoever is given the page was told of
        with self._reading.on_the_way():
            page = await self._pages.answer((where, where.changes, asked), partial(self._page, where, asked))
        if asked.endpoint in _OF_ONE_OBJECT and not page.known:
            raise NotFound
        if page.dates and recipient is not None:
            await self._ledger.enter(Disclosure.of(where.collection_id, recipient, asked.endpoint, page.dates))
        if not page.more or page.last is None:
            return Answer(page, None)
        return Answer(page, Cursor(asked.endpoint, where.collection_id, asked.want, page.last).encode())

    async def _page(self, where: Readable, asked: Asked) -> Page:
        async def read(through: Connection | Database) -> Page:
            return await object_pages.page(
                through,
                where,
                asked.want,
                asked.position,
                asked.bounds,
                bodies=asked.endpoint in _WITH_BODIES,
            )

        if self._replicas is not None and asked.endpoint in _LISTS:
            page = await self._replicas.read(where, read)
            if page is not None:
                return page
        if object_pages.walks(asked.want):
            return await read(self._database)
        async with self._database.read(where) as connection:
            return await read(connection)
