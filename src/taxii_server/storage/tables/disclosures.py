"""Who was sent what. A row is never changed; docs/architecture.md has the columns."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Identity,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Uuid,
    func,
)

from taxii_server.storage.tables.base import instant, metadata

disclosures = Table(
    "disclosures",
    metadata,
    # no foreign keys: a collection may be removed and its ledger stays; members and clients are never deleted
    Column("collection_id", Uuid, nullable=False),
    Column("fork", BigInteger, nullable=False),
    Column("first_added", instant, nullable=False),
    Column("last_added", instant, nullable=False),
    Column("id", BigInteger, Identity(always=True), nullable=False),
    Column("sent_at", instant, nullable=False, server_default=func.now()),
    Column("member", Integer, nullable=False),
    Column("client", Integer, nullable=False),
    Column("way", SmallInteger, nullable=False),
    Column("number", Integer, nullable=False),
    Column("dates", LargeBinary, nullable=False),
    # the only index: one insertion a page is what a poll pays for it
    PrimaryKeyConstraint("collection_id", "fork", "first_added", "last_added", "id"),
    CheckConstraint("way BETWEEN 1 AND 4", name="way"),
    CheckConstraint("number > 0 AND first_added <= last_added", name="span"),
)
