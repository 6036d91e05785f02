"""The one place that says yes or no (§5, permission matrix).

The rule in words: a member may do with a collection what its grant says. The client's issue and the token's scope can
only take away. Without a grant, or outside the collections the client was issued for, the collection is absent; with a
grant but without the right, the caller is told so. Trust groups are visible through their visible collections.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taxii_server.domain.access import Erasable, Readable, Right, Writable
from taxii_server.domain.errors import NotAllowed, NotFound
from taxii_server.domain.tlp import Level

if TYPE_CHECKING:
    from taxii_server.domain.access import Caller, Collection, Grant, Principal, TrustGroup


def rights_of(principal: Principal, grant: Grant, collection: Collection) -> frozenset[Right] | None:
    """Give what is left of a grant for this client and token; None if the collection is not for this client at all."""
    if principal.collections is not None and collection.id not in principal.collections:
        return None
    return grant.rights & principal.rights


def trust_group(caller: Caller) -> TrustGroup:
    """Give the trust group the path names.

    Raises:
        NotFound: if it is absent or hidden.
    """
    if caller.place.trust_group is None:
        raise NotFound
    return caller.place.trust_group


def visible(caller: Caller) -> tuple[Collection, frozenset[Right]]:
    """Give the collection the path names and what the caller may do with it.

    Raises:
        NotFound: if it is absent or hidden.
    """
    place = caller.place
    if place.collection is None or place.grant is None:
        raise NotFound
    rights = rights_of(caller.principal, place.grant, place.collection)
    if rights is None:
        raise NotFound
    return place.collection, rights


def readable(caller: Caller) -> Readable:
    """Let the caller read the collection the path names.

    Raises:
        NotFound: if it is absent or hidden.
        NotAllowed: if it is visible, but not for reading.
    """
    collection, rights = visible(caller)
    if Right.READ not in rights:
        message = "You may not read this collection."
        raise NotAllowed(message)
    return Readable(collection.id, _clearance(caller))


def writable(caller: Caller) -> Writable:
    """Let the caller add to the collection the path names.

    Raises:
        NotFound: if it is absent or hidden.
        NotAllowed: if it is visible, but not for writing.
    """
    collection, rights = visible(caller)
    if Right.WRITE not in rights:
        message = "You may not add to this collection."
        raise NotAllowed(message)
    return Writable(
        collection_id=collection.id,
        member=caller.principal.member,
        client=caller.principal.client,
        clearance=_clearance(caller),
        validation=collection.validation,
        unmarked_level=collection.unmarked_level,
    )


def erasable(caller: Caller) -> Erasable:
    """Let the caller remove its member's objects from the collection the path names: needs both rights (§5.7).

    Raises:
        NotFound: if it is absent or hidden, or the caller has neither right.
        NotAllowed: if the caller has only one of the rights.
    """
    collection, rights = visible(caller)
    if not rights:
        raise NotFound
    if rights != frozenset(Right):
        message = "Removing objects takes both the right to read and the right to write."
        raise NotAllowed(message)
    return Erasable(
        collection_id=collection.id,
        member=caller.principal.member,
        client=caller.principal.client,
        clearance=_clearance(caller),
    )


def operator_readable(collection: Collection) -> Readable:
    """Let the operator, who runs the server and its database, read any collection whole."""
    return Readable(collection.id, Level.RED)


def operator_writable(collection: Collection, member: int) -> Writable:
    """Let the operator add to any collection in a member's name, by the same rules for what is added."""
    return Writable(
        collection_id=collection.id,
        member=member,
        client=None,
        clearance=Level.RED,
        validation=collection.validation,
        unmarked_level=collection.unmarked_level,
    )


def _clearance(caller: Caller) -> Level:
    if caller.place.grant is None:
        raise NotFound
    return caller.place.grant.clearance
