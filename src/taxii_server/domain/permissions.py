"""The one place that says yes or no (§5, permission matrix).

The rule in words: a member may do with a collection what its grant says. The client's issue and the token's scope can
only take away. Without a grant, or outside the collections the client was issued for, the collection is absent; with a
grant but without the right, the caller is told so. Trust groups are visible through their visible collections.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from taxii_server.domain.access import (
    Attribution,
    Erasable,
    Readable,
    Recallable,
    Right,
    Submissions,
    Traceable,
    Whole,
    Writable,
)
from taxii_server.domain.errors import NotAllowed, NotFound
from taxii_server.domain.stix_objects import is_revocable
from taxii_server.domain.tlp import MARKING_LEVELS, Level

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from taxii_server.domain.access import Caller, Collection, Grant, Principal, TrustGroup
    from taxii_server.domain.stix_objects import Columns


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
    collection, _ = _visible_for(caller, Right.READ, or_else="You may not read this collection.")
    return Readable(collection.id, _clearance(caller), caller.place.changes)


def writable(caller: Caller) -> Writable:
    """Let the caller add to the collection the path names.

    Raises:
        NotFound: if it is absent or hidden.
        NotAllowed: if it is visible, but not for writing.
    """
    collection, _ = _visible_for(caller, Right.WRITE, or_else="You may not add to this collection.")
    return Writable(
        collection_id=collection.id,
        member=caller.principal.member,
        client=caller.principal.client,
        clearance=_clearance(caller),
        policy=collection.policy,
        quota=caller.principal.quota,
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


def traceable(caller: Caller) -> Traceable:
    """Let the caller ask who received what its member brought to the collection the path names: needs the right to write.

    It is a contributor's question: a client that was issued for reading alone, as those of a SIEM are, has no business
    knowing who else reads.

    Raises:
        NotFound: if it is absent or hidden.
        NotAllowed: if it is visible, but not for writing.
    """
    collection, _ = _visible_for(
        caller,
        Right.WRITE,
        or_else="Who received an object is told to those who may add to this collection, about their own objects.",
    )
    return Traceable(collection.id, caller.principal.member, _clearance(caller))


def operator_traceable(collection_id: UUID) -> Traceable:
    """Let the operator ask who received what, also in a collection that was removed."""
    return Traceable(collection_id, None, Level.RED)


def recallable(caller: Caller) -> Recallable:
    """Let the caller recall its member's objects in the collection the path names: needs the right to write.

    Raises:
        NotFound: if it is absent or hidden.
        NotAllowed: if it is visible, but not for writing.
    """
    collection, rights = _visible_for(caller, Right.WRITE, or_else="Recalling objects takes the right to write.")
    return Recallable(
        collection_id=collection.id,
        member=caller.principal.member,
        client=caller.principal.client,
        clearance=_clearance(caller),
        policy=collection.policy,
        sees_others=Right.READ in rights,
    )


def check_recall(target: Recallable, stix_id: str, brought_by: Sequence[int]) -> None:
    """Make sure that an object is the caller's to recall; `brought_by` are the members of the versions it can see.

    In the order in which they were added, at least one. Every one of them has to be its own. Where only owners add, an
    object is its owner's, whoever added to it before that rule.

    Raises:
        NotAllowed: if another member brought one of them, or it is one of TLP's own markings.
        NotFound: if none is the caller's, and it may not read what others brought.
    """
    if stix_id.lower() in MARKING_LEVELS:
        message = (
            "TLP's own marking-definitions are nobody's: everybody's objects name them, so they can't be recalled."
        )
        raise NotAllowed(message)
    owned = target.policy.owner_only and is_revocable(stix_id.rpartition("--")[0])
    if target.member is None or {*(brought_by[:1] if owned else brought_by)} == {target.member}:
        return
    if target.member not in brought_by and not target.sees_others:
        raise NotFound
    message = "Another member brought this object, or versions of it; nothing was recalled."
    raise NotAllowed(message)


def telling(target: Recallable, member: int) -> Writable:
    """Let the versions that tell of a recall be added in a member's name, though the collection's rules changed since."""
    return Writable(
        collection_id=target.collection_id,
        member=member,
        client=target.client,
        clearance=target.clearance,
        policy=replace(target.policy, owner_only=False),
    )


def operator_recallable(collection: Collection, member: int | None) -> Recallable:
    """Let the operator recall any object of any collection; in a member's name what that member brought."""
    return Recallable(
        collection_id=collection.id,
        member=member,
        client=None,
        clearance=Level.RED,
        policy=collection.policy,
        sees_others=True,
    )


def operator_readable(collection: Collection) -> Readable:
    """Let the operator, who runs the server and its database, read any collection whole."""
    return Readable(collection.id, Level.RED)


def operator_writable(collection: Collection, member: int, quota: int | None = None) -> Writable:
    """Let the operator add to any collection in a member's name, by the same rules for what is added."""
    return Writable(
        collection_id=collection.id,
        member=member,
        client=None,
        clearance=Level.RED,
        policy=collection.policy,
        quota=quota,
    )


def operator_whole(collection_id: UUID) -> Whole:
    """Let the operator, and upkeep, see and change all that a collection holds."""
    return Whole(collection_id)


def submissions(caller: Caller) -> Submissions:
    """Let the caller ask what became of its own member's add requests."""
    return Submissions(caller.principal.member)


def operator_submissions(member: int) -> Submissions:
    """Let upkeep at what is noted of a member's add requests."""
    return Submissions(member)


def refusal(target: Writable, columns: Columns) -> str | None:
    """Say why an object may not be added here, and what to do; None if it may.

    It is judged by what it says itself and nothing that is stored, so that the answer tells of nothing that is.
    """
    policy = target.policy
    if columns.level is None and policy.unmarked_refused:
        return (
            "carries no TLP marking, and this collection takes none such: name one of TLP's own marking-definitions in "
            "object_marking_refs (a marking of another kind doesn't count)"
        )
    level = policy.unmarked_level if columns.level is None else columns.level
    is_so = f"carries no TLP marking, which counts as TLP:{level.text} here"
    if columns.level is not None:
        is_so = f"is marked TLP:{level.text}"
    if level > policy.ceiling:
        return (
            f"{is_so}: this collection takes nothing above TLP:{policy.ceiling.text}. Share it in a collection for "
            f"TLP:{level.text}, or lower its marking if it is yours to lower"
        )
    if level > target.clearance:
        return (
            f"{is_so}: your member is cleared for no more than TLP:{target.clearance.text} in this collection, and so "
            "can't add what it couldn't read. Ask the operator for a higher clearance, or lower the marking if it is "
            "yours to lower"
        )
    if policy.owner_only and columns.stix_id != columns.stix_id.lower():
        return (
            "has capital letters in its id, and could pass for another member's object with the same id in small ones: "
            "write its UUID in small letters"
        )
    if columns.names_creator and policy.attribution is Attribution.ANONYMOUS:
        return (
            "names its creator, and in this collection nobody is to learn who brought what: leave created_by_ref out "
            "(what is posted is never rewritten)"
        )
    return None


def _visible_for(caller: Caller, right: Right, *, or_else: str) -> tuple[Collection, frozenset[Right]]:
    collection, rights = visible(caller)
    if right not in rights:
        raise NotAllowed(or_else)
    return collection, rights


def _clearance(caller: Caller) -> Level:
    if caller.place.grant is None:
        raise NotFound
    return caller.place.grant.clearance
