"""What a caller can find out about where it is: trust groups and collections (§4.1, §4.2, §5.1, §5.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from taxii_server.domain import permissions
from taxii_server.domain.access import Right
from taxii_server.storage import callers

if TYPE_CHECKING:
    from taxii_server.domain.access import Caller, Collection, Readable, TrustGroup
    from taxii_server.storage.engine import Database


@dataclass(frozen=True, slots=True)
class Seen:
    """A collection as one caller sees it."""

    collection: Collection
    can_read: bool
    can_write: bool


async def trust_groups(database: Database, caller: Caller) -> list[TrustGroup]:
    """List the trust groups in which the caller sees something, in a fixed order."""
    async with database.statement() as connection:
        return await callers.trust_groups(connection, caller.principal)


def trust_group(caller: Caller) -> TrustGroup:
    """Give the trust group the path names.

    Raises:
        NotFound: if it is absent or hidden.
    """
    return permissions.trust_group(caller)


async def collections(database: Database, caller: Caller) -> list[Seen]:
    """List the collections of the path's trust group that the caller sees, ascending by id.

    Raises:
        NotFound: if the trust group is absent or hidden.
    """
    group = permissions.trust_group(caller)
    async with database.statement() as connection:
        found = await callers.listing(connection, caller.principal, group.id)
    seen = []
    for collection, grant in found:
        rights = permissions.rights_of(caller.principal, grant, collection)
        if rights is not None:
            seen.append(Seen(collection, Right.READ in rights, Right.WRITE in rights))
    return seen


def collection(caller: Caller) -> Seen:
    """Give the collection the path names.

    Raises:
        NotFound: if it is absent or hidden.
    """
    found, rights = permissions.visible(caller)
    return Seen(found, Right.READ in rights, Right.WRITE in rights)


def readable(caller: Caller) -> Readable:
    """Give the path's collection for reading.

    Raises:
        NotFound: if it is absent or hidden.
        NotAllowed: if the caller may not read it.
    """
    return permissions.readable(caller)


def check_writable(caller: Caller) -> None:
    """Make sure that the caller may add to the path's collection, before its body is read.

    Raises:
        NotFound: if it is absent or hidden.
        NotAllowed: if the caller may not add to it.
    """
    permissions.writable(caller)


def check_recallable(caller: Caller) -> None:
    """Make sure that the caller may recall objects of the path's collection, before its body is read.

    Raises:
        NotFound: if it is absent or hidden.
        NotAllowed: if the caller may not.
    """
    permissions.recallable(caller)


def check_erasable(caller: Caller) -> None:
    """Make sure that the caller may remove from the path's collection.

    Raises:
        NotFound: if it is absent or hidden, or the caller has neither right.
        NotAllowed: if the caller has only one of the rights.
    """
    permissions.erasable(caller)
