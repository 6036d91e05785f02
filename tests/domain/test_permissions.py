"""Yes or no: the permission matrix (§5), and what narrows it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from taxii_server.domain import permissions
from taxii_server.domain.access import (
    BOTH,
    Attribution,
    Caller,
    Collection,
    Grant,
    Place,
    Policy,
    Principal,
    Right,
    TrustGroup,
    Validation,
)
from taxii_server.domain.errors import NotAllowed, NotFound
from taxii_server.domain.stix_objects import Columns, Form
from taxii_server.domain.tlp import Level

if TYPE_CHECKING:
    from collections.abc import Callable

NONE: frozenset[Right] = frozenset()
READ, WRITE = frozenset({Right.READ}), frozenset({Right.WRITE})
RIGHTS = [NONE, READ, WRITE, BOTH]
GROUP = TrustGroup(UUID(int=1), "fraud-intel", "Fraud", None)
POLICY = Policy(Validation.STRICT, unmarked_level=Level.GREEN)
FEED = Collection(UUID(int=2), GROUP.id, "feed", "Feed", None, POLICY)
NORTH = Principal(client=7, client_id="north-siem", member=3, member_slug="north")


def caller(
    granted: frozenset[Right] | None,
    credential: frozenset[Right] = BOTH,
    collections: frozenset[UUID] | None = None,
) -> Caller:
    """Make the answer of the caller statement; without a grant it knows neither collection nor grant."""
    principal = replace(NORTH, rights=credential, collections=collections)
    if granted is None:
        return Caller(principal, Place(GROUP))
    return Caller(principal, Place(GROUP, FEED, Grant(granted, Level.AMBER)))


def outcome(check: Callable[[Caller], object], who: Caller) -> int:
    """Say what came of a check, in the matrix's own numbers."""
    try:
        check(who)
    except NotFound:
        return 404
    except NotAllowed:
        return 403
    return 200


# §5: rows are endpoints; columns no right, read, write, both; and hidden
MATRIX: dict[Callable[[Caller], object], list[int]] = {
    permissions.visible: [200, 200, 200, 200, 404],
    permissions.readable: [403, 200, 403, 200, 404],
    permissions.writable: [403, 403, 200, 200, 404],
    permissions.erasable: [404, 403, 403, 200, 404],
}


@pytest.mark.parametrize("check", MATRIX, ids=lambda check: check.__name__)
@pytest.mark.parametrize("column", range(5))
def test_the_matrix(check: Callable[[Caller], object], column: int) -> None:
    """§5.2 to §5.8: hidden is 404; visible without the right is 403; DELETE as its own row says."""
    granted = [*RIGHTS, None][column]

    assert outcome(check, caller(granted)) == MATRIX[check][column]


@pytest.mark.parametrize(("granted", "credential"), list(product(RIGHTS, RIGHTS)))
def test_a_credential_only_narrows(granted: frozenset[Right], credential: frozenset[Right]) -> None:
    """§8.2.2: what is left is what both allow; each check answers as for a grant of just that."""
    who = caller(granted, credential)

    assert permissions.visible(who) == (FEED, granted & credential)
    for check in MATRIX:
        assert outcome(check, who) == outcome(check, caller(granted & credential))


@pytest.mark.parametrize("granted", RIGHTS)
@pytest.mark.parametrize("check", MATRIX, ids=lambda check: check.__name__)
def test_a_client_issued_for_other_collections_does_not_see_this_one(
    check: Callable[[Caller], object], granted: frozenset[Right]
) -> None:
    """§1.6.9: outside what it was issued for, a collection is absent, whatever its member may."""
    assert outcome(check, caller(granted, collections=frozenset({UUID(int=9)}))) == 404
    assert outcome(check, caller(granted, collections=frozenset())) == 404
    assert outcome(check, caller(granted, collections=frozenset({FEED.id}))) == outcome(check, caller(granted))


def test_what_a_check_hands_out_is_the_callers_own() -> None:
    """A checked thing names collection, clearance and who acts, so that nobody looks them up anew."""
    who = caller(BOTH)
    readable, writable, erasable = permissions.readable(who), permissions.writable(who), permissions.erasable(who)

    assert (readable.collection_id, readable.clearance) == (FEED.id, Level.AMBER)
    assert (writable.collection_id, writable.clearance) == (FEED.id, Level.AMBER)
    assert (writable.member, writable.client) == (3, 7)
    assert writable.policy == POLICY
    assert (erasable.collection_id, erasable.clearance) == (FEED.id, Level.AMBER)
    assert (erasable.member, erasable.client) == (3, 7)


def test_an_absent_trust_group_is_not_found() -> None:
    """§4.2: absent and hidden are one."""
    assert permissions.trust_group(caller(None)) == GROUP
    with pytest.raises(NotFound):
        permissions.trust_group(Caller(NORTH, Place()))


def test_a_collection_without_a_grant_is_not_found() -> None:
    """§5.2: should a collection ever arrive without its grant, it stays hidden."""
    for check in MATRIX:
        assert outcome(check, Caller(NORTH, Place(GROUP, FEED, None))) == 404


def test_the_operator_reads_and_adds_everywhere() -> None:
    """The operator runs the database anyway; what is added is still added in a member's name."""
    assert permissions.operator_readable(FEED).clearance is Level.RED
    writable = permissions.operator_writable(FEED, 5)
    assert (writable.member, writable.client, writable.clearance) == (5, None, Level.RED)
    assert writable.policy == POLICY


def brought(level: Level | None, *, names_creator: bool = False) -> Columns:
    """Make what is known of an object of this level."""
    return Columns("x-thing--a", "x-thing", Form.STIX_2_1, None, None, b"", level, names_creator)


@pytest.mark.parametrize(("ceiling", "clearance", "level"), list(product(Level, Level, Level)))
@pytest.mark.parametrize("marked", [True, False])
def test_what_is_added_stays_below_ceiling_and_clearance(
    ceiling: Level, clearance: Level, level: Level, marked: bool
) -> None:
    """Whether a marking says so or the collection's rule; the refusal says which of the two, the ceiling first."""
    policy = Policy(Validation.STRICT, ceiling, unmarked_level=Level.CLEAR if marked else level)
    target = replace(permissions.writable(caller(BOTH)), policy=policy, clearance=clearance)
    said = permissions.refusal(target, brought(level if marked else None))

    assert (said is None) == (level <= ceiling and level <= clearance)
    if said is not None:
        assert ("takes nothing above" in said) == (level > ceiling)
        assert ("your member is cleared for no more" in said) == (level <= ceiling)
        assert ("carries no TLP marking" in said) == (not marked)


def test_only_the_unmarked_are_refused_for_being_unmarked() -> None:
    """The level that they would have plays no part."""
    policy = Policy(Validation.STRICT, unmarked_refused=True)
    target = replace(permissions.writable(caller(BOTH)), policy=policy, clearance=Level.CLEAR)

    assert "carries no TLP marking" in str(permissions.refusal(target, brought(None)))
    assert permissions.refusal(target, brought(Level.CLEAR)) is None


def test_nothing_passes_for_anothers_object_by_capital_letters() -> None:
    """Stored ids are text; a UUID means the same in capitals. Where objects have owners, there is one spelling."""
    owned = replace(permissions.writable(caller(BOTH)), policy=replace(POLICY, owner_only=True))
    capitals = replace(brought(Level.CLEAR), stix_id="x-thing--A")

    assert "small letters" in str(permissions.refusal(owned, capitals))
    assert permissions.refusal(owned, brought(Level.CLEAR)) is None
    assert permissions.refusal(permissions.writable(caller(BOTH)), capitals) is None


def test_creators_are_named_where_that_is_allowed() -> None:
    """`attribution: anonymous` refuses created_by_ref, and nothing else."""
    named = permissions.writable(caller(BOTH))
    anonymous = replace(named, policy=replace(POLICY, attribution=Attribution.ANONYMOUS))

    assert permissions.refusal(named, brought(Level.CLEAR, names_creator=True)) is None
    assert "created_by_ref" in str(permissions.refusal(anonymous, brought(Level.CLEAR, names_creator=True)))
    assert permissions.refusal(anonymous, brought(Level.CLEAR)) is None
