"""Clients, and what their credentials are checked with."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    func,
    text,
)

from taxii_server.storage.tables.base import instant, key, metadata

issuers = Table(
    "issuers",
    metadata,
    Column("slug", Text, primary_key=True),
    Column("issuer", key, nullable=False),
    # null: the issuer's own metadata names it
    Column("jwks_uri", Text),
    Column("audience", Text, nullable=False),
    Column("claim", Text, nullable=False),
    Column("algorithms", ARRAY(Text), nullable=False),
    Column("created_at", instant, nullable=False, server_default=func.now()),
    # its clients name it for good
    Column("removed_at", instant),
    Index("ix_issuers_issuer", "issuer", unique=True, postgresql_where=text("removed_at IS NULL")),
)

clients = Table(
    "clients",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("client_id", Text, nullable=False, unique=True),
    Column("member_id", ForeignKey("members.id"), nullable=False, index=True),
    Column("name", Text, nullable=False),
    Column("rights", ARRAY(Text), nullable=False),
    # null: every collection its member has a grant for
    Column("collections", ARRAY(Uuid)),
    Column("created_at", instant, nullable=False, server_default=func.now()),
    Column("expires_at", instant),
    Column("revoked_at", instant),
    # both or neither: an outside issuer vouches for this client, by this value of its claim
    Column("issuer", ForeignKey("issuers.slug")),
    Column("subject", Text),
    # what it must show with each request
    Column("authentication", Text, nullable=False, server_default=text("'any'")),
    CheckConstraint("authentication IN ('any', 'certificate', 'both')", name="authentication"),
    CheckConstraint("(issuer IS NULL) = (subject IS NULL)", name="issuer_and_subject"),
    Index("ix_clients_subject", "issuer", "subject", unique=True, postgresql_where=text("revoked_at IS NULL")),
    CheckConstraint("rights <@ ARRAY['read', 'write']", name="rights"),
)

client_secrets = Table(
    "client_secrets",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("client", ForeignKey("clients.id"), nullable=False, index=True),
    Column("digest", LargeBinary, nullable=False),
    Column("created_at", instant, nullable=False, server_default=func.now()),
    Column("expires_at", instant),
)

client_certificates = Table(
    "client_certificates",
    metadata,
    # SHA-256 of the DER; a certificate is one client's at most
    Column("thumbprint", LargeBinary, primary_key=True),
    Column("client", ForeignKey("clients.id"), nullable=False, index=True),
    Column("subject", Text, nullable=False),
    Column("not_before", instant, nullable=False),
    Column("not_after", instant, nullable=False),
    Column("added_at", instant, nullable=False, server_default=func.now()),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", Text, primary_key=True),
    Column("public_jwk", Text, nullable=False),
    Column("sealed_private_key", LargeBinary, nullable=False),
    Column("created_at", instant, nullable=False, server_default=func.now()),
    # from then on the key signs no more; from `verifies_until` on its tokens are refused
    Column("signs_until", instant, nullable=False),
    Column("verifies_until", instant, nullable=False),
)

revoked_tokens = Table(
    "revoked_tokens",
    metadata,
    Column("issuer", key, nullable=False),
    Column("jti", key, nullable=False),
    # maintain forgets it a while after that
    Column("expires_at", instant, nullable=False),
    Column("revoked_at", instant, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("issuer", "jti"),
)
