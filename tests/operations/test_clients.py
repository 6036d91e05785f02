"""Clients are issued narrow, rotated with overlap and revoked at once; members are suspended and resumed."""

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from taxii_server.auth.identify import Identifier
from taxii_server.domain.access import BOTH, Right
from taxii_server.domain.errors import NotAuthenticated, OperatorError
from taxii_server.operations import alliance, alliance_file, clients, members
from taxii_server.operations.clients import IssuedClient
from taxii_server.storage.embedded import DatabaseUrls
from taxii_server.storage.engine import Database

FILE = """
trust_groups:
  fraud-intel:
    title: Fraud intelligence
    collections:
      - {alias: one, title: First, grants: {north-bank: [read, write]}}
      - {alias: two, title: Second}
members:
  north-bank: {name: North Bank}
  harbour-bank: {name: Harbour Bank}
"""


@pytest.fixture
async def db(fresh_database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A database with a small alliance, for one test alone."""
    database = Database(fresh_database_urls.server)
    await alliance.apply(database, alliance_file.parse(FILE))
    yield database
    await database.close()


async def lets_in(db: Database, issued: IssuedClient) -> bool:
    try:
        await Identifier(db, "http://127.0.0.1").client(issued.client_id, issued.client_secret)
    except NotAuthenticated:
        return False
    return True


async def test_an_issued_client_is_let_in(db: Database) -> None:
    """The id can be read and typed; the secret works at once and is not in the list."""
    issued = await clients.issue(db, "north-bank", name="siem")

    (listed,) = await clients.clients(db)
    assert await lets_in(db, issued)
    assert issued.client_id.startswith("north-bank.siem.")
    assert ":" not in issued.client_id
    assert (listed.state, listed.rights, listed.collections, listed.secrets) == ("live", tuple(sorted(BOTH)), None, 1)
    assert issued.client_secret not in repr(listed) + repr(issued)


async def test_a_client_can_be_narrower_than_its_member(db: Database) -> None:
    """Rights, collections and time narrow the issue."""
    issued = await clients.issue(
        db,
        "north-bank",
        name="siem",
        rights=frozenset({Right.READ}),
        collections=["fraud-intel/one", "fraud-intel/one"],
        expires_in=timedelta(days=90),
    )

    (listed,) = await clients.clients(db)
    assert (listed.client_id, listed.rights, listed.collections) == (
        issued.client_id,
        (Right.READ,),
        ("fraud-intel/one",),
    )
    assert listed.expires_at is not None
    assert listed.expires_at - listed.created_at == timedelta(days=90)


@pytest.mark.parametrize(
    ("member", "name", "collections", "said"),
    [
        ("north-bnk", "siem", [], "did you mean 'north-bank'"),
        ("north-bank", "SIEM:1", [], "can't name a client"),
        ("north-bank", "siem", ["fraud-intel/oen"], "did you mean 'fraud-intel/one'"),
        ("north-bank", "siem", ["fraud-intel/two"], "has no grant for fraud-intel/two"),
        ("north-bank", "siem", ["nonsense"], "write trust-group/alias"),
        ("north-bank", "taken", [], "rotate it"),
    ],
)
async def test_nonsense_is_refused(db: Database, member: str, name: str, collections: list[str], said: str) -> None:
    """Each refusal says what to do, and no client comes of it."""
    await clients.issue(db, "north-bank", name="taken")

    with pytest.raises(OperatorError, match=said):
        await clients.issue(db, member, name=name, collections=collections)

    assert len(await clients.clients(db)) == 1


async def test_a_rotation_lets_both_secrets_in(db: Database) -> None:
    """The old secret goes on beside the new one; the list counts both."""
    old = await clients.issue(db, "north-bank", name="siem")

    new = await clients.rotate(db, old.client_id)

    assert new.client_id == old.client_id
    assert await lets_in(db, old)
    assert await lets_in(db, new)
    assert (await clients.clients(db))[0].secrets == 2


async def test_a_third_rotation_ends_the_oldest(db: Database) -> None:
    """There are never more than two live secrets."""
    first = await clients.issue(db, "north-bank", name="siem")
    second = await clients.rotate(db, first.client_id)

    third = await clients.rotate(db, first.client_id)

    assert [await lets_in(db, each) for each in (first, second, third)] == [False, True, True]


async def test_a_rotation_without_overlap_cuts_at_once(db: Database) -> None:
    """After a leak nothing but the new secret works."""
    old = await clients.issue(db, "north-bank", name="siem")
    older = await clients.rotate(db, old.client_id)

    new = await clients.rotate(db, old.client_id, overlap=timedelta())

    assert [await lets_in(db, each) for each in (old, older, new)] == [False, False, True]


async def test_an_overlap_never_prolongs_a_secret(db: Database) -> None:
    """Rotating again with a longer overlap leaves an end that is nearer."""
    old = await clients.issue(db, "north-bank", name="siem")
    await clients.rotate(db, old.client_id, overlap=timedelta(microseconds=1))

    await clients.rotate(db, old.client_id, overlap=timedelta(days=1))

    assert not await lets_in(db, old)


async def test_a_revoked_client_is_refused_for_good(db: Database) -> None:
    """Revoking twice is fine; rotating does not bring it back, and its name is free again."""
    issued = await clients.issue(db, "north-bank", name="siem")

    assert await clients.revoke(db, issued.client_id)
    assert not await clients.revoke(db, issued.client_id)
    assert not await lets_in(db, issued)
    with pytest.raises(OperatorError, match="is revoked"):
        await clients.rotate(db, issued.client_id)
    assert await lets_in(db, await clients.issue(db, "north-bank", name="siem"))


async def test_an_unknown_client_is_named(db: Database) -> None:
    """A typo is told with what may be meant."""
    issued = await clients.issue(db, "north-bank", name="siem")

    for act in (clients.rotate, clients.revoke):
        with pytest.raises(OperatorError, match=f"did you mean '{issued.client_id}'"):
            await act(db, issued.client_id + "0")


async def test_a_suspended_member_is_refused_until_resumed(db: Database) -> None:
    """All of its clients, from the next request on; nobody else's."""
    issued = await clients.issue(db, "north-bank", name="siem")
    other = await clients.issue(db, "harbour-bank", name="siem")

    assert await members.suspend(db, "north-bank")
    assert not await members.suspend(db, "north-bank")
    assert [await lets_in(db, issued), await lets_in(db, other)] == [False, True]
    assert [one.suspended_at is not None for one in await members.members(db)] == [False, True]
    assert await members.resume(db, "north-bank")
    assert not await members.resume(db, "north-bank")
    assert await lets_in(db, issued)


async def test_an_unknown_member_is_named(db: Database) -> None:
    """A typo is told with what may be meant."""
    with pytest.raises(OperatorError, match="did you mean 'north-bank'"):
        await members.suspend(db, "north-bak")
