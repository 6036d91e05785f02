"""A small alliance in the database, made by plain rows, and a count of the statements a test causes."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from sqlalchemy import Engine, event
from sqlalchemy.engine import make_url

from taxii_server.auth import secrets
from taxii_server.storage import bounds, held
from taxii_server.storage.embedded import DatabaseUrls
from taxii_server.storage.engine import Connection, Database
from taxii_server.storage.hot import Step
from taxii_server.storage.lanes import Lane
from taxii_server.storage.pipeline import Rows

BOTH = ("read", "write")
_CONTROL = {bounds.BEGIN, bounds.HELD, bounds.COMMIT}


@dataclass(frozen=True, slots=True)
class Issued:
    """A client as it was issued: what its holder knows, and its row."""

    row: int
    client_id: str
    secret: str


@dataclass(slots=True)
class Alliance:
    """Writes what an operator would, as the owner's role."""

    connection: psycopg.Connection
    groups: dict[str, UUID] = field(default_factory=dict)
    members: dict[str, int] = field(default_factory=dict)
    collections: dict[str, UUID] = field(default_factory=dict)

    def group(self, slug: str) -> UUID:
        self.groups[slug] = uuid4()
        self.execute(
            "INSERT INTO trust_groups (id, slug, title, description) VALUES (%s, %s, %s, 'for tests')",
            self.groups[slug],
            slug,
            f"Title of {slug}",
        )
        return self.groups[slug]

    def collection(self, group: str, alias: str, validation: str = "strict", **rules: object) -> UUID:
        """Add a collection; `rules` are columns of its row, like `ceiling=2`."""
        made = self.collections[f"{group}/{alias}"] = uuid4()
        self.execute(
            "INSERT INTO collections (id, trust_group_id, alias, title, validation) VALUES (%s, %s, %s, %s, %s)",
            made,
            self.groups[group],
            alias,
            f"Title of {alias}",
            validation,
        )
        self.execute(
            "INSERT INTO collection_clocks (collection_id, last_added, changes) VALUES (%s, now(), 7)",
            made,
        )
        for name, value in rules.items():
            self.execute(f"UPDATE collections SET {name} = %s WHERE id = %s", value, made)  # noqa: S608 - our own names
        return made

    def member(self, slug: str, **grants: tuple[str, ...]) -> int:
        """Add a member; a grant for `fraud/feed` is given as `fraud_feed=("read",)`."""
        [(row,)] = self.execute(
            "INSERT INTO members (slug, name, kind) VALUES (%s, %s, 'bank') RETURNING id", slug, slug.title()
        )
        self.members[slug] = row
        for name, rights in grants.items():
            self.grant(slug, name.replace("_", "/"), rights)
        return int(row)

    def grant(self, member: str, collection: str, rights: tuple[str, ...], clearance: int = 4) -> None:
        self.execute(
            "INSERT INTO grants (member_id, collection_id, rights, clearance) VALUES (%s, %s, %s, %s)",
            self.members[member],
            self.collections[collection],
            list(rights),
            clearance,
        )

    def client(
        self,
        member: str,
        *,
        rights: tuple[str, ...] = BOTH,
        collections: list[UUID] | None = None,
        client_id: str | None = None,
    ) -> Issued:
        client_id = client_id or f"{member}-{uuid4().hex[:12]}"
        [(row,)] = self.execute(
            "INSERT INTO clients (client_id, member_id, name, rights, collections) VALUES (%s, %s, 'tool', %s, %s) "
            "RETURNING id",
            client_id,
            self.members[member],
            list(rights),
            collections,
        )
        return Issued(row, client_id, self.secret(row))

    def issuer(
        self,
        slug: str,
        issuer: str,
        *,
        jwks_uri: str | None = None,
        audience: str = "https://taxii.example.org",
        claim: str = "sub",
        algorithms: tuple[str, ...] = ("ES256", "RS256"),
    ) -> None:
        self.execute(
            "INSERT INTO issuers (slug, issuer, jwks_uri, audience, claim, algorithms) VALUES (%s, %s, %s, %s, %s, %s)",
            slug,
            issuer,
            jwks_uri,
            audience,
            claim,
            list(algorithms),
        )

    def tied(self, member: str, issuer: str, subject: str, *, rights: tuple[str, ...] = BOTH) -> str:
        """Add a client without a secret, and give its id."""
        client_id = f"{member}-{uuid4().hex[:12]}"
        self.execute(
            "INSERT INTO clients (client_id, member_id, name, rights, issuer, subject) VALUES (%s, %s, 'tool', %s, %s, %s)",
            client_id,
            self.members[member],
            list(rights),
            issuer,
            subject,
        )
        return client_id

    def certificate(self, client: int, certificate: x509.Certificate) -> None:
        """Make a certificate a client's."""
        self.execute(
            "INSERT INTO client_certificates (thumbprint, client, subject, not_before, not_after) "
            "VALUES (%s, %s, %s, %s, %s)",
            certificate.fingerprint(SHA256()),
            client,
            certificate.subject.rfc4514_string(),
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )

    def must_show(self, client: int, authentication: str) -> None:
        """Set what a client must show."""
        self.execute("UPDATE clients SET authentication = %s WHERE id = %s", authentication, client)

    def secret(self, client: int, *, expires_in: timedelta | None = None) -> str:
        made = secrets.generate()
        self.execute(
            "INSERT INTO client_secrets (client, digest, expires_at) VALUES (%s, %s, now() + %s::interval)",
            client,
            secrets.digest(made),
            expires_in,
        )
        return made

    def execute(self, statement: str, *values: object) -> list[Any]:
        cursor = self.connection.execute(statement.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def forget(self) -> None:
        """Take everything back."""
        for table in (
            "disclosures",
            "object_versions",
            "deleted_versions",
            "statuses",
            "grants",
            "client_secrets",
            "client_certificates",
            "clients",
            "collection_clocks",
            "collections",
            "issuers",
            "members",
            "trust_groups",
            "signing_keys",
            "revoked_tokens",
        ):
            self.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names


@contextmanager
def alliance_in(urls: DatabaseUrls, *, filled: bool = True) -> Iterator[Alliance]:
    """Two trust groups; North Bank may read and write in one, Harbour Bank read, the Police sees only the other.

    Empty unless `filled`.
    """
    plain = make_url(urls.owner).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        alliance = Alliance(connection)
        try:
            if not filled:
                yield alliance
                return
            alliance.group("fraud")
            alliance.group("police")
            alliance.collection("fraud", "indicators")
            alliance.collection("fraud", "reports")
            alliance.collection("police", "indicators")
            alliance.member("north", fraud_indicators=BOTH, fraud_reports=("read",))
            alliance.member("harbour", fraud_indicators=("read",))
            alliance.member("constabulary", police_indicators=BOTH)
            alliance.member("stranger")
            yield alliance
        finally:
            alliance.forget()


@contextmanager
def statements(db: Database | type[Engine]) -> Iterator[list[str]]:
    """Collect the SQL sent while the block runs, by one database or by all.

    Transaction control is counted apart: what begins a transaction says in the same message what it is held to.
    """
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if not statement.startswith("BEGIN "):
            sent.append(statement)

    def note_steps(connection: Connection, steps: Sequence[Step]) -> None:
        if not isinstance(db, Database) or connection.engine is db.engine:
            sent.extend(step.statement.text for step in steps if step.statement not in _CONTROL)

    async def run(connection: Connection, *steps: Step) -> Rows:
        note_steps(connection, steps)
        return await untold_run(connection, *steps)

    def later(connection: Connection, *steps: Step) -> None:
        note_steps(connection, steps)
        untold_later(connection, *steps)

    untold_run, untold_later = held.run, held.later
    held.run, held.later = run, later

    def send(lane: Lane, steps: Sequence[Step]) -> asyncio.Future[Rows]:
        sent.extend(step.statement.text for step in steps if step.statement not in _CONTROL)
        return untold_send(lane, steps)

    untold_send = Lane.send
    Lane.send = send  # type: ignore[assignment,method-assign]
    target = db.engine.sync_engine if isinstance(db, Database) else db
    event.listen(target, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(target, "before_cursor_execute", note)
        held.run, held.later = untold_run, untold_later
        Lane.send = untold_send  # type: ignore[method-assign]
