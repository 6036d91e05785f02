"""Clients: issue, rotate, revoke, list. A secret leaves here once, and only its digest is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from secrets import token_hex
from uuid import UUID

import structlog

from taxii_server.auth import secrets
from taxii_server.domain import permissions
from taxii_server.domain.access import BOTH, Authentication, Collection, Principal, Right, TrustGroup
from taxii_server.domain.audit import OPERATOR, Act, Entry, of_member
from taxii_server.domain.errors import OperatorError
from taxii_server.domain.words import did_you_mean
from taxii_server.operations.alliance_file import SLUG
from taxii_server.operations.members import unknown
from taxii_server.storage import alliance, audit, callers, issuers, members
from taxii_server.storage import clients as storage
from taxii_server.storage.clients import Client, NewClient
from taxii_server.storage.engine import Connection, Database

log = structlog.get_logger(__name__)

_LONGEST_SUBJECT = 256

OVERLAP = timedelta(hours=24)
"""How long the old secret goes on after a rotation, unless said otherwise."""


@dataclass(frozen=True, slots=True)
class IssuedClient:
    """A client's id and a secret of its, to be told once."""

    client_id: str
    client_secret: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class TiedClient:
    """A client that an outside issuer vouches for: what its tokens must say. It has no secret."""

    client_id: str
    issuer: str
    audience: str
    claim: str
    subject: str


@dataclass(frozen=True, slots=True)
class ListedClient:
    """A client as a list shows it.

    `collections` names those it was narrowed to, None if it wasn't; `issuer` is the slug of who vouches for it;
    `authentication` is what it must show; `secrets` and `certificates` count those that hold, `certified_until` is when the
    last of its certificates ends.
    """

    client_id: str
    member: str
    name: str
    rights: tuple[Right, ...]
    collections: tuple[str, ...] | None
    state: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    secrets: int
    issuer: str | None
    subject: str | None
    authentication: Authentication
    certificates: int
    certified_until: datetime | None


@dataclass(frozen=True, slots=True)
class Reached:
    """A collection that a client sees, and what it may do there."""

    trust_group: TrustGroup
    collection: Collection
    rights: frozenset[Right]


@dataclass(frozen=True, slots=True)
class Reach:
    """Everything a client sees, by trust group and title; `suspended` while its member is."""

    member: str
    suspended: bool
    collections: tuple[Reached, ...]


async def issue(
    db: Database,
    member: str,
    *,
    name: str,
    rights: frozenset[Right] = BOTH,
    collections: Sequence[str] = (),
    expires_in: timedelta | None = None,
) -> IssuedClient:
    """Issue a client to a member, narrower than the member where rights or collections are named.

    Raises:
        OperatorError: if the member or a collection is unknown, the member has no grant for a named collection, or it
            has a live client of that name.
    """
    issued = IssuedClient(new_id(member, name), secrets.generate())
    async with db.write() as connection:
        wanted = NewClient(issued.client_id, name, rights, None, expires_in)
        client = await add_to(connection, member, wanted, collections)
        await storage.add_secret(connection, client, secrets.digest(issued.client_secret))
    log.info("client_issued", client_id=issued.client_id, member=member, rights=sorted(rights))
    return issued


async def tie(
    db: Database,
    member: str,
    *,
    name: str,
    issuer: str,
    subject: str,
    rights: frozenset[Right] = BOTH,
    collections: Sequence[str] = (),
    expires_in: timedelta | None = None,
) -> TiedClient:
    """Issue a client that authenticates by tokens of an outside issuer alone; otherwise as `issue`.

    Raises:
        OperatorError: as `issue`; or if there is no such issuer, or it vouches for another client by that subject.
    """
    if not subject or len(subject) > _LONGEST_SUBJECT or not subject.isprintable():
        raise OperatorError(
            f"A subject is 1 to {_LONGEST_SUBJECT} printable characters, exactly as the tokens have it."
        )
    async with db.write() as connection:
        # an apply under way may be about to give the issuer another name or claim, which it does only if nobody is tied
        await alliance.take_turn(connection)
        trusted = await issuers.lock(connection, issuer)
        if trusted is None:
            known = [one.slug for one in await issuers.read(connection) if not one.removed]
            hint = did_you_mean(issuer, known) or ": add it to the issuers of alliance.yaml and apply that first."
            raise OperatorError(f"There is no issuer {issuer!r}{hint}")
        same = await storage.tied(connection, issuer, subject)
        if same is not None:
            raise OperatorError(f"{issuer} vouches for {same} by that subject already: revoke that first.")
        client_id = new_id(member, name)
        await add_to(
            connection, member, NewClient(client_id, name, rights, None, expires_in, issuer, subject), collections
        )
    log.info("client_issued", client_id=client_id, member=member, rights=sorted(rights), issuer=issuer)
    return TiedClient(client_id, trusted.issuer, trusted.audience, trusted.claim, subject)


def new_id(member: str, name: str) -> str:
    """Make the id of a member's new client."""
    if not SLUG.fullmatch(name):
        message = f"{name!r} can't name a client: use 1 to 63 small letters, digits or '-', with no '-' at the ends."
        raise OperatorError(message)
    return f"{member}.{name}.{token_hex(4)}"


async def add_to(connection: Connection, member: str, client: NewClient, collections: Sequence[str]) -> int:
    """Add a client to a member, narrowed to collections if some are named."""
    if not client.rights:
        raise OperatorError("A client needs a right: read, write, or both.")
    if client.expires_in is not None and client.expires_in <= timedelta():
        raise OperatorError("A client that expires at once is of no use: name a longer time, like 90d.")
    owner = await members.lock(connection, member)
    if owner is None:
        raise await unknown(connection, member)
    same = await storage.live_of_name(connection, owner.id, client.name)
    if same is not None:
        message = (
            f"{member} has a client {client.name!r} already, {same}: "
            "rotate it for a new secret, revoke it, or choose another name."
        )
        raise OperatorError(message)
    narrowed = await _narrowed(connection, member, owner.id, collections) if collections else None
    added = await storage.add(connection, owner.id, replace(client, collections=narrowed))
    told = {
        "client": client.client_id,
        "rights": sorted(client.rights),
        "collections": None if narrowed is None else sorted(map(str, narrowed)),
        "expires_in": None if client.expires_in is None else client.expires_in.total_seconds(),
        "issuer": client.issuer,
        "subject": client.subject,
        "must_show": client.authentication.value,
    }
    await audit.append_locking(connection, Entry(of_member(member), Act.CLIENT_ISSUED, OPERATOR, told))
    return added


async def rotate(db: Database, client_id: str, *, overlap: timedelta = OVERLAP) -> IssuedClient:
    """Give a client a new secret; the one it had goes on for `overlap`, any older one ends now.

    Raises:
        OperatorError: if there is no such client, or it is revoked or expired.
    """
    issued = IssuedClient(client_id, secrets.generate())
    async with db.write() as connection:
        client = await _locked(connection, client_id)
        if client.revoked_at is not None or client.expired:
            ended = "revoked" if client.revoked_at is not None else "expired"
            message = (
                f"{client_id} is {ended}, for good: issue a new client with "
                f"taxii-server client issue {client.member} --name {client.name}"
            )
            raise OperatorError(message)
        if client.issuer is not None:
            message = (
                f"{client_id} has no secret: {client.issuer} vouches for it. What it signs in with is changed there."
            )
            raise OperatorError(message)
        if client.authentication is Authentication.CERTIFICATE:
            raise OperatorError(
                f"{client_id} has no secret, and must show its certificate: give it another with taxii-server client "
                "certificate add, or first let a secret do with taxii-server client require."
            )
        await storage.end_secrets(connection, client.id, overlap=overlap)
        await storage.add_secret(connection, client.id, secrets.digest(issued.client_secret))
        rotated = {"client": client_id, "overlap": overlap.total_seconds()}
        await audit.append_locking(connection, Entry(of_member(client.member), Act.CLIENT_ROTATED, OPERATOR, rotated))
    log.info("client_rotated", client_id=client_id, overlap=str(overlap))
    return issued


async def revoke(db: Database, client_id: str) -> bool:
    """Refuse a client from its next request on, for good; False if it was revoked already.

    Raises:
        OperatorError: if there is no such client.
    """
    async with db.write() as connection:
        client = await _locked(connection, client_id)
        if client.revoked_at is not None:
            return False
        await storage.revoke(connection, client.id)
        revoked = {"client": client_id}
        await audit.append_locking(connection, Entry(of_member(client.member), Act.CLIENT_REVOKED, OPERATOR, revoked))
    log.info("client_revoked", client_id=client_id, member=client.member)
    return True


async def clients(db: Database) -> list[ListedClient]:
    """List the clients of all members, the ended ones too."""
    async with db.read() as connection:
        names = await alliance.collection_names(connection)
        return [_listed(client, names) for client in await storage.listing(connection)]


async def reach(db: Database, client_id: str) -> Reach:
    """Say what a client sees and may do, by the rules that answer its requests.

    Raises:
        OperatorError: if there is no such client.
    """
    async with db.read() as connection:
        client = await storage.find(connection, client_id)
        if client is None:
            raise await no_client(connection, client_id)
        principal = Principal(
            client=client.id,
            client_id=client.client_id,
            member=client.member_id,
            member_slug=client.member,
            rights=client.rights,
            collections=None if client.collections is None else frozenset(client.collections),
        )
        reached = []
        for group in await callers.trust_groups(connection, principal):
            for collection, grant in await callers.listing(connection, principal, group.id):
                rights = permissions.rights_of(principal, grant, collection)
                if rights is not None:
                    reached.append(Reached(group, collection, rights))
    reached.sort(key=lambda one: (one.trust_group.slug, one.collection.title))
    return Reach(client.member, client.suspended, tuple(reached))


async def _locked(connection: Connection, client_id: str) -> Client:
    client = await storage.lock(connection, client_id)
    if client is None:
        raise await no_client(connection, client_id)
    return client


async def no_client(connection: Connection, client_id: str) -> OperatorError:
    """Say that there is no such client, and which one was perhaps meant."""
    hint = did_you_mean(client_id, [each.client_id for each in await storage.listing(connection)])
    return OperatorError(f"There is no client {client_id!r}{hint or '.'} taxii-server client list shows all.")


async def _narrowed(connection: Connection, member: str, member_id: int, references: Sequence[str]) -> tuple[UUID, ...]:
    granted = await storage.granted(connection, member_id)
    narrowed: list[UUID] = []
    for reference in references:
        named = await alliance.collection_named(connection, reference)
        if named is None:
            names = (await alliance.collection_names(connection)).values()
            hint = did_you_mean(reference, names) or ": write trust-group/alias, or its id."
            raise OperatorError(f"There is no collection {reference!r}{hint}")
        if named.collection.id not in granted:
            message = f"{member} has no grant for {named.name}: add one to alliance.yaml and apply it first."
            raise OperatorError(message)
        narrowed.append(named.collection.id)
    return tuple(dict.fromkeys(narrowed))


def _listed(client: Client, names: dict[UUID, str]) -> ListedClient:
    narrowed = None
    if client.collections is not None:
        narrowed = tuple(names.get(each, f"{each} (deleted)") for each in client.collections)
    return ListedClient(
        client_id=client.client_id,
        member=client.member,
        name=client.name,
        rights=tuple(sorted(client.rights)),
        collections=narrowed,
        state=_state(client),
        created_at=client.created_at,
        expires_at=client.expires_at,
        revoked_at=client.revoked_at,
        secrets=client.secrets,
        issuer=client.issuer,
        subject=client.subject,
        authentication=client.authentication,
        certificates=client.certificates,
        certified_until=client.certified_until,
    )


def _state(client: Client) -> str:
    """Say in one word how a client stands: what is for good comes before what can be taken back."""
    if client.revoked_at is not None:
        return "revoked"
    if client.expired:
        return "expired"
    return "suspended" if client.suspended else "live"
