"""What was withdrawn, and what was let in again."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    Identity,
    Integer,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    func,
    text,
)

from taxii_server.storage.tables.base import instant, key, metadata

recalls = Table(
    "recalls",
    metadata,
    Column("collection_id", Uuid, nullable=False),
    Column("stix_id", key, nullable=False),
    # given out under the collection's lock, so it is the order of what happened, whatever clocks did
    Column("number", BigInteger, Identity(always=True), nullable=False),
    Column("act", Text, nullable=False),
    Column("at", instant, nullable=False, server_default=func.clock_timestamp()),
    # who brought it; null beside a lift
    Column("member", Integer),
    # null: the operator
    Column("client", Integer),
    Column("reason", Text),
    # of a recall: what became of the object, the lowest level at which it could be seen, which versions were withdrawn,
    # and which ones tell of it (the dates of both, and what the wire calls the latter)
    Column("outcome", Text),
    Column("level", SmallInteger),
    Column("withdrawn", ARRAY(instant)),
    Column("telling", ARRAY(instant)),
    Column("telling_versions", ARRAY(Text)),
    PrimaryKeyConstraint("collection_id", "stix_id", "number"),
    CheckConstraint("act IN ('recall', 'lift')", name="act"),
    CheckConstraint("outcome IN ('revoked', 'deleted')", name="outcome"),
    CheckConstraint(
        text("(act = 'recall') = (num_nulls(member, outcome, level, withdrawn, telling, telling_versions) = 0)"),
        name="whole",
    ),
)
