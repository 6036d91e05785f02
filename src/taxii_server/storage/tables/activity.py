"""What clients did lately, as workers saved it: for the operator alone."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)

from taxii_server.storage.tables.base import instant, metadata

# How far a client has read a collection, by endpoint. Goes with its collection.
client_readings = Table(
    "client_readings",
    metadata,
    Column("collection_id", ForeignKey("collections.id", ondelete="CASCADE"), nullable=False),
    Column("client", ForeignKey("clients.id", ondelete="CASCADE"), nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("polls", BigInteger, nullable=False),
    Column("versions", BigInteger, nullable=False),
    Column("polled_at", instant, nullable=False),
    # the last page that held something
    Column("received_at", instant),
    # of what the client asks for it has everything up to this date_added
    Column("reached", instant),
    # the last page after which there was no more
    Column("ended_at", instant),
    # the last page that was asked for with filters
    Column("filtered_at", instant),
    PrimaryKeyConstraint("collection_id", "client", "endpoint"),
    CheckConstraint("endpoint IN ('objects', 'manifest', 'object', 'versions')", name="endpoint"),
)

client_activity = Table(
    "client_activity",
    metadata,
    Column("client", ForeignKey("clients.id", ondelete="CASCADE"), primary_key=True),
    Column("requests", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("succeeded_at", instant),
    Column("failed_at", instant),
    Column("failed_status", SmallInteger),
    # when it was refused since its last success: the newest few of them
    Column("failures", ARRAY(instant), nullable=False, server_default=text("'{}'")),
    # its id was shown with credentials that don't hold, by whomever
    Column("refused_at", instant),
    Column("refused_for", Text),
)

# What each worker saved last, so that a batch whose answer was lost counts once. maintain forgets old workers.
activity_batches = Table(
    "activity_batches",
    metadata,
    Column("worker", Uuid, primary_key=True),
    Column("batch", BigInteger, nullable=False),
    Column("saved_at", instant, nullable=False),
)
