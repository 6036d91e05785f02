"""What was done, chained; docs/architecture.md says how."""

from __future__ import annotations

from sqlalchemy import BigInteger, CheckConstraint, Column, LargeBinary, PrimaryKeyConstraint, Table, Text

from taxii_server.storage.tables.base import instant, key, metadata

audit_events = Table(
    "audit_events",
    metadata,
    Column("stream", key, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("at", instant, nullable=False),
    Column("act", Text, nullable=False),
    Column("who", Text, nullable=False),
    # the canonical JSON that the digest is over, so never jsonb
    Column("details", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    PrimaryKeyConstraint("stream", "seq"),
    CheckConstraint("seq > 0", name="seq"),
    CheckConstraint("octet_length(digest) = 32", name="digest"),
)

# the signed head of each checkpoint, by its number in the stream of checkpoints
audit_heads = Table(
    "audit_heads",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("signed", Text, nullable=False),
)
