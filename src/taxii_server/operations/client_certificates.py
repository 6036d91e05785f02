"""Certificates of clients: whose one is, what a client must show, and how one is exchanged for another without a gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

import structlog

from taxii_server.auth import secrets
from taxii_server.auth.certificates import Certificate
from taxii_server.domain.access import BOTH, Authentication, Right
from taxii_server.domain.audit import OPERATOR, Act, Entry, of_member
from taxii_server.domain.errors import OperatorError
from taxii_server.operations.clients import add_to, new_id, no_client
from taxii_server.storage import audit
from taxii_server.storage import client_certificates as storage
from taxii_server.storage import clients as stored_clients
from taxii_server.storage.clients import Client, NewClient
from taxii_server.storage.engine import Connection, Database

log = structlog.get_logger(__name__)

_MOST: Final = 16


@dataclass(frozen=True, slots=True)
class CertifiedClient:
    """A client that must show its certificate, and its secret, to be told once, if it must show that too."""

    client_id: str
    client_secret: str | None = field(repr=False)
    thumbprints: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ListedCertificate:
    """A certificate as a list shows it."""

    thumbprint: str
    client_id: str
    subject: str
    not_before: datetime
    not_after: datetime
    state: str
    added_at: datetime


async def issue(
    db: Database,
    member: str,
    certificates: Sequence[Certificate],
    *,
    name: str,
    rights: frozenset[Right] = BOTH,
    collections: Sequence[str] = (),
    expires_in: timedelta | None = None,
    and_secret: bool = False,
) -> CertifiedClient:
    """Issue a client that authenticates by a certificate, and has a secret only where it must show both.

    Raises:
        OperatorError: as `clients.issue`; or if a certificate is another client's.
    """
    client_id = new_id(member, name)
    secret = secrets.generate() if and_secret else None
    must = Authentication.BOTH if and_secret else Authentication.CERTIFICATE
    async with db.write() as connection:
        wanted = NewClient(client_id, name, rights, None, expires_in)
        number = await add_to(connection, member, replace(wanted, authentication=must), collections)
        if secret is not None:
            await stored_clients.add_secret(connection, number, secrets.digest(secret))
        client = await _locked(connection, client_id)
        for certificate in certificates:
            await _give(connection, client, certificate)
    log.info("client_issued", client_id=client_id, member=member, rights=sorted(rights), must_show=must.value)
    return CertifiedClient(client_id, secret, tuple(one.thumbprint.hex() for one in certificates))


async def add(db: Database, client_id: str, certificate: Certificate) -> bool:
    """Let a client in with this certificate as well; False if it is its own already.

    Raises:
        OperatorError: if there is no such client, it has ended or an issuer vouches for it, or the certificate is another's.
    """
    async with db.write() as connection:
        client = await _locked(connection, client_id)
        _hold_live(client)
        if not await _give(connection, client, certificate):
            return False
    log.info("client_certificate_added", client_id=client_id, thumbprint=certificate.thumbprint.hex())
    return True


async def remove(db: Database, client_id: str, thumbprint: bytes) -> Client:
    """Take a certificate from a client, and with it the tokens that are bound to it; give how the client stands then.

    Raises:
        OperatorError: if there is no such client, or it has no such certificate.
    """
    async with db.write() as connection:
        client = await _locked(connection, client_id)
        if not await storage.remove(connection, client.id, thumbprint):
            raise OperatorError(
                f"{client_id} has no certificate {thumbprint.hex()}: taxii-server client certificate list shows all."
            )
        await _tell(connection, client, Act.CERTIFICATE_REMOVED, thumbprint=thumbprint.hex())
        left = await _locked(connection, client_id)
    log.info("client_certificate_removed", client_id=client_id, thumbprint=thumbprint.hex())
    return left


async def listing(db: Database, client_id: str | None = None) -> list[ListedCertificate]:
    """List the certificates of a client, or of all.

    Raises:
        OperatorError: if there is no such client.
    """
    async with db.read() as connection:
        client = None if client_id is None else await stored_clients.find(connection, client_id)
        if client_id is not None and client is None:
            raise await no_client(connection, client_id)
        found = await storage.listing(connection, None if client is None else client.id)
    return [
        ListedCertificate(
            thumbprint=one.thumbprint.hex(),
            client_id=one.client_id,
            subject=one.subject,
            not_before=one.not_before,
            not_after=one.not_after,
            state="expired" if one.expired else "live" if one.begun else "not yet valid",
            added_at=one.added_at,
        )
        for one in found
    ]


async def require(db: Database, client_id: str, must: Authentication) -> bool:
    """Set what a client must show from its next request on; False if it is so already.

    One that must show a certificate alone loses its secrets, so that going back revives none.

    Raises:
        OperatorError: if there is no such client, it has ended or an issuer vouches for it, or it lacks what it must show.
    """
    async with db.write() as connection:
        client = await _locked(connection, client_id)
        _hold_live(client)
        if client.authentication is must:
            return False
        if must is not Authentication.ANY and not client.certificates:
            raise OperatorError(
                f"{client_id} has no certificate that holds: taxii-server client certificate add {client_id} FILE"
            )
        if must is Authentication.BOTH and not client.secrets:
            raise OperatorError(
                f"{client_id} has no secret: let it be any, give it one with taxii-server client rotate, and then both."
            )
        if must is Authentication.CERTIFICATE:
            await stored_clients.end_secrets(connection, client.id, overlap=timedelta())
        await stored_clients.require(connection, client.id, must)
        await _tell(connection, client, Act.CLIENT_CHANGED, must_show=must.value)
    log.info("client_changed", client_id=client_id, must_show=must.value)
    return True


async def _locked(connection: Connection, client_id: str) -> Client:
    client = await stored_clients.lock(connection, client_id)
    if client is None:
        raise await no_client(connection, client_id)
    return client


def _hold_live(client: Client) -> None:
    if client.revoked_at is not None or client.expired:
        ended = "revoked" if client.revoked_at is not None else "expired"
        raise OperatorError(f"{client.client_id} is {ended}, for good: issue a new client with its certificate.")
    if client.issuer is not None:
        raise OperatorError(
            f"{client.issuer} vouches for {client.client_id}: it is for that issuer to bind tokens to certificates."
        )


async def _give(connection: Connection, client: Client, certificate: Certificate) -> bool:
    added = await storage.add(
        connection,
        client.id,
        thumbprint=certificate.thumbprint,
        subject=certificate.subject,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
    )
    if not added:
        holder = await storage.find(connection, certificate.thumbprint)
        if holder is not None and holder.client_id == client.client_id:
            return False
        whose = "another client's" if holder is None else f"{holder.client_id}'s"
        raise OperatorError(
            f"This certificate is {whose} already, and says of a request whose it is: use another, or remove it there."
        )
    if len(await storage.listing(connection, client.id)) > _MOST:
        raise OperatorError(f"{client.client_id} has {_MOST} certificates: remove those that it no longer needs.")
    await _tell(connection, client, Act.CERTIFICATE_ADDED, thumbprint=certificate.thumbprint.hex())
    return True


async def _tell(connection: Connection, client: Client, act: Act, **details: str) -> None:
    entry = Entry(of_member(client.member), act, OPERATOR, {"client": client.client_id, **details})
    await audit.append_locking(connection, entry)
