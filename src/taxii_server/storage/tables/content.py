"""What was shared. Only the columns of `object_versions` need words; docs/architecture.md has them."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)

from taxii_server.storage.tables.base import instant, key, metadata

collection_clocks = Table(
    "collection_clocks",
    metadata,
    Column("collection_id", ForeignKey("collections.id"), primary_key=True),
    Column("last_added", instant, nullable=False),
    Column("changes", BigInteger, nullable=False, server_default=text("0")),
)

object_versions = Table(
    "object_versions",
    metadata,
    Column("collection_id", ForeignKey("collections.id"), nullable=False),
    Column("date_added", instant, nullable=False),
    Column("stix_id", key, nullable=False),
    Column("form", SmallInteger, nullable=False),
    Column("version_at", instant, nullable=False),
    Column("version", Text, nullable=False),
    Column("stix_type", key, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("body_bytes", Integer, nullable=False),
    Column("level", SmallInteger, nullable=False),
    Column("marked", Boolean, nullable=False),
    Column("superseded_level", SmallInteger, nullable=False),
    Column("newer_form_level", SmallInteger, nullable=False),
    Column("late_after", instant),
    # a trigger's
    Column("lateness", SmallInteger),
    # members and clients are never deleted, and one statement writes all rows: no foreign key to check a thousand times
    Column("member", Integer, nullable=False),
    Column("client", Integer),
    Column("status_id", Uuid, nullable=False),
    Column("body", Text, nullable=False),
    PrimaryKeyConstraint("collection_id", "date_added"),
    UniqueConstraint("collection_id", "stix_id", "form", "version_at"),
    CheckConstraint("(late_after IS NULL) = (lateness IS NULL)", name="lateness"),
)

# A version is seen in the default view from its own level on, up to where another one supersedes it: nowhere, if that
# begins no higher. What comes last gives these indexes an order that no other has: statements ask for it.
_HIDDEN = text("least(superseded_level, newer_form_level)")
_LATEST = text("least(superseded_level, newer_form_level) > level")
_NEWEST_FORM = text("newer_form_level > level")
Index(
    "ix_object_versions_latest",
    object_versions.c.collection_id,
    object_versions.c.level,
    _HIDDEN,
    object_versions.c.date_added,
    object_versions.c.form,
    postgresql_where=_LATEST,
)
Index(
    "ix_object_versions_latest_of_type",
    object_versions.c.collection_id,
    object_versions.c.stix_type,
    object_versions.c.level,
    _HIDDEN,
    object_versions.c.date_added,
    object_versions.c.superseded_level,
    postgresql_where=_LATEST,
)
Index(
    "ix_object_versions_newest_form",
    object_versions.c.collection_id,
    object_versions.c.level,
    object_versions.c.newer_form_level,
    object_versions.c.date_added,
    object_versions.c.form,
    postgresql_where=_NEWEST_FORM,
)
Index(
    "ix_object_versions_newest_form_of_type",
    object_versions.c.collection_id,
    object_versions.c.stix_type,
    object_versions.c.level,
    object_versions.c.newer_form_level,
    object_versions.c.date_added,
    object_versions.c.superseded_level,
    postgresql_where=_NEWEST_FORM,
)
# What is in another form than most is found without passing over these.
Index(
    "ix_object_versions_older",
    object_versions.c.collection_id,
    object_versions.c.date_added,
    object_versions.c.form,
    object_versions.c.level,
    postgresql_where=text("form < 21"),
)
# Late arrivals. The first index is what the release before walks; the second one's last columns spare a look at versions that
# don't match.
Index(
    "ix_object_versions_late",
    object_versions.c.collection_id,
    object_versions.c.date_added,
    object_versions.c.form,
    postgresql_where=text("late_after IS NOT NULL"),
)
Index(
    "ix_object_versions_lateness",
    object_versions.c.collection_id,
    object_versions.c.lateness,
    object_versions.c.date_added,
    object_versions.c.late_after,
    object_versions.c.form,
    object_versions.c.level,
    postgresql_where=text("lateness IS NOT NULL"),
)

deleted_versions = Table(
    "deleted_versions",
    metadata,
    Column("collection_id", Uuid, nullable=False),
    Column("date_added", instant, nullable=False),
    Column("stix_id", key, nullable=False),
    Column("form", SmallInteger, nullable=False),
    Column("version_at", instant, nullable=False),
    Column("version", Text, nullable=False),
    Column("stix_type", key, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("body_bytes", Integer, nullable=False),
    Column("level", SmallInteger, nullable=False),
    Column("marked", Boolean, nullable=False),
    Column("member", Integer, nullable=False),
    Column("client", Integer),
    Column("status_id", Uuid, nullable=False),
    Column("deleted_at", instant, nullable=False, server_default=func.now()),
    Column("deleted_by_member", Integer),
    Column("deleted_by_client", Integer),
    Column("reason", Text, nullable=False),
    PrimaryKeyConstraint("collection_id", "date_added"),
    Index("ix_deleted_versions_stix_id", "collection_id", "stix_id"),
    CheckConstraint("reason IN ('delete', 'retention', 'prune', 'recall')", name="reason"),
)

statuses = Table(
    "statuses",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("trust_group_id", Uuid, nullable=False),
    Column("collection_id", Uuid, nullable=False),
    Column("member", Integer, nullable=False),
    Column("client", Integer),
    Column("requested_at", instant, nullable=False),
    Column("completed_at", instant, nullable=False, server_default=func.now(), index=True),
    Column("total_count", Integer, nullable=False),
    Column("success_count", Integer, nullable=False),
    Column("failure_count", Integer, nullable=False),
    # the two lists of status-details as the JSON text that goes out
    Column("successes", Text, nullable=False),
    Column("failures", Text, nullable=False),
)

# Kept by triggers on object_versions; the server can only read it.
stored_octets = Table(
    "stored_octets",
    metadata,
    Column("collection_id", ForeignKey("collections.id", ondelete="CASCADE"), nullable=False),
    Column("member", Integer, nullable=False, index=True),
    Column("versions", BigInteger, nullable=False),
    Column("octets", BigInteger, nullable=False),
    PrimaryKeyConstraint("collection_id", "member"),
)
