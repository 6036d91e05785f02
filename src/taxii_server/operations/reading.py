"""Reading a page of what a collection holds (§5.3, §5.4, §5.6, §5.8)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from taxii_server.domain.cursor import Cursor, Endpoint
from taxii_server.domain.disclosures import Disclosure
from taxii_server.domain.errors import NotFound
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


async def read_objects(
    database: Database,
    ledger: Ledger,
    where: Readable,
    asked: Asked,
    recipient: Recipient | None,
    *,
    last_added: datetime | None = None,
    replicas: Replicas | None = None,
) -> Answer:
    """Read one page, which is in the disclosure ledger when it is given back: it may be sent to `recipient`.

    `recipient` is None where only the head of the answer is sent, which tells of no version. `last_added` is the last date that
    the collection's clock had given out when the caller was looked up: what was added up to then is all that the page need hold.
    A list may be read from one of the replicas; it is the primary's answer all the same, and the ledger is the primary's.

    Raises:
        NotFound: if one object was asked for and the caller sees no version of it.
        Unavailable: if the page can't be read, or not be recorded; it must not be sent.
    """
    nothing = asked.want.matches_nothing and asked.endpoint not in _OF_ONE_OBJECT
    if nothing or asked.begins_after(last_added):
        return Answer(Page(()), None)

    async def read(through: Connection | Database) -> Page:
        return await object_pages.page(
            through,
            where,
            asked.want,
            asked.position,
            asked.bounds,
            bodies=asked.endpoint in _WITH_BODIES,
        )

    page = await replicas.read(where, read) if replicas is not None and asked.endpoint in _LISTS else None
    if page is None and object_pages.walks(asked.want):
        page = await read(database)
    elif page is None:
        async with database.read(where) as connection:
            page = await read(connection)
    if asked.endpoint in _OF_ONE_OBJECT and not page.known:
        raise NotFound
    if page.dates and recipient is not None:
        await ledger.enter(Disclosure.of(where.collection_id, recipient, asked.endpoint, page.dates))
    if not page.more or page.last is None:
        return Answer(page, None)
    return Answer(page, Cursor(asked.endpoint, where.collection_id, asked.want, page.last).encode())
