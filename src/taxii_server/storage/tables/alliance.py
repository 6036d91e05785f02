"""Who shares what with whom."""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Integer,
    Interval,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)

from taxii_server.storage.tables.base import instant, metadata

trust_groups = Table(
    "trust_groups",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("slug", Text, nullable=False, unique=True),
    Column("title", Text, nullable=False),
    Column("description", Text),
    Column("created_at", instant, nullable=False, server_default=func.now()),
)

members = Table(
    "members",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("slug", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("suspended_at", instant),
    # a member that contributed is never forgotten: pruning it takes its grants and clients and sets this
    Column("removed_at", instant),
    Column("created_at", instant, nullable=False, server_default=func.now()),
    # the most octets it may store, in all collections together
    Column("quota", BigInteger),
    CheckConstraint("quota > 0", name="quota"),
)

collections = Table(
    "collections",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("trust_group_id", ForeignKey("trust_groups.id"), nullable=False),
    Column("alias", Text),
    Column("title", Text, nullable=False),
    Column("description", Text),
    Column("validation", Text, nullable=False),
    # the level of every stored version without a TLP marking, also of those from before such were refused
    Column("unmarked_level", SmallInteger, nullable=False, server_default=text("0")),
    Column("unmarked_refused", Boolean, nullable=False, server_default=text("false")),
    Column("ceiling", SmallInteger, nullable=False, server_default=text("4")),
    Column("owner_only", Boolean, nullable=False, server_default=text("false")),
    Column("attribution", Text, nullable=False, server_default=text("'named'")),
    Column("retention", Interval),
    Column("created_at", instant, nullable=False, server_default=func.now()),
    UniqueConstraint("trust_group_id", "alias"),
    UniqueConstraint("trust_group_id", "title"),
    CheckConstraint("validation IN ('strict', 'structural')", name="validation"),
    CheckConstraint("unmarked_level BETWEEN 0 AND 4", name="unmarked_level"),
    CheckConstraint("ceiling BETWEEN 0 AND 4", name="ceiling"),
    CheckConstraint("attribution IN ('named', 'anonymous')", name="attribution"),
)

# Whose versions are still told of in deleted_versions, and in the ledger.
removed_collections = Table(
    "removed_collections",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("removed_at", instant, nullable=False, server_default=func.now()),
)

grants = Table(
    "grants",
    metadata,
    Column("member_id", ForeignKey("members.id"), nullable=False),
    Column("collection_id", ForeignKey("collections.id"), nullable=False, index=True),
    Column("rights", ARRAY(Text), nullable=False),
    Column("clearance", SmallInteger, nullable=False, server_default=text("4")),
    PrimaryKeyConstraint("member_id", "collection_id"),
    CheckConstraint("rights <@ ARRAY['read', 'write']", name="rights"),
    CheckConstraint("clearance BETWEEN 0 AND 4", name="clearance"),
)
