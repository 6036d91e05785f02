"""The tables, as Postgres holds them; `migrations/` makes them and a test holds that both agree.

Only the columns of `object_versions` need words; docs/architecture.md has them. Every key of a large table begins with
the collection. Members and clients are numbered, because every stored version names both.
"""

from __future__ import annotations

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    Interval,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    func,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    },
)

_instant = DateTime(timezone=True)
# Keys compare by octets: faster, and no system upgrade can change their order under an index.
_key = Text(collation="C")

trust_groups = Table(
    "trust_groups",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("slug", Text, nullable=False, unique=True),
    Column("title", Text, nullable=False),
    Column("description", Text),
    Column("created_at", _instant, nullable=False, server_default=func.now()),
)

members = Table(
    "members",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("slug", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("suspended_at", _instant),
    # a member that contributed is never forgotten: pruning it takes its grants and clients and sets this
    Column("removed_at", _instant),
    Column("created_at", _instant, nullable=False, server_default=func.now()),
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
    Column("created_at", _instant, nullable=False, server_default=func.now()),
    UniqueConstraint("trust_group_id", "alias"),
    UniqueConstraint("trust_group_id", "title"),
    CheckConstraint("validation IN ('strict', 'structural')", name="validation"),
    CheckConstraint("unmarked_level BETWEEN 0 AND 4", name="unmarked_level"),
    CheckConstraint("ceiling BETWEEN 0 AND 4", name="ceiling"),
    CheckConstraint("attribution IN ('named', 'anonymous')", name="attribution"),
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

issuers = Table(
    "issuers",
    metadata,
    Column("slug", Text, primary_key=True),
    Column("issuer", _key, nullable=False),
    # null: the issuer's own metadata names it
    Column("jwks_uri", Text),
    Column("audience", Text, nullable=False),
    Column("claim", Text, nullable=False),
    Column("algorithms", ARRAY(Text), nullable=False),
    Column("created_at", _instant, nullable=False, server_default=func.now()),
    # its clients name it for good
    Column("removed_at", _instant),
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
    Column("created_at", _instant, nullable=False, server_default=func.now()),
    Column("expires_at", _instant),
    Column("revoked_at", _instant),
    # both or neither: an outside issuer vouches for this client, by this value of its claim
    Column("issuer", ForeignKey("issuers.slug")),
    Column("subject", Text),
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
    Column("created_at", _instant, nullable=False, server_default=func.now()),
    Column("expires_at", _instant),
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", Text, primary_key=True),
    Column("public_jwk", Text, nullable=False),
    Column("sealed_private_key", LargeBinary, nullable=False),
    Column("created_at", _instant, nullable=False, server_default=func.now()),
    # from then on the key signs no more; from `verifies_until` on its tokens are refused
    Column("signs_until", _instant, nullable=False),
    Column("verifies_until", _instant, nullable=False),
)

revoked_tokens = Table(
    "revoked_tokens",
    metadata,
    Column("issuer", _key, nullable=False),
    Column("jti", _key, nullable=False),
    # maintain forgets it a while after that
    Column("expires_at", _instant, nullable=False),
    Column("revoked_at", _instant, nullable=False, server_default=func.now()),
    PrimaryKeyConstraint("issuer", "jti"),
)

collection_clocks = Table(
    "collection_clocks",
    metadata,
    Column("collection_id", ForeignKey("collections.id"), primary_key=True),
    Column("last_added", _instant, nullable=False),
    Column("changes", BigInteger, nullable=False, server_default=text("0")),
)

object_versions = Table(
    "object_versions",
    metadata,
    Column("collection_id", ForeignKey("collections.id"), nullable=False),
    Column("date_added", _instant, nullable=False),
    Column("stix_id", _key, nullable=False),
    Column("form", SmallInteger, nullable=False),
    Column("version_at", _instant, nullable=False),
    Column("version", Text, nullable=False),
    Column("stix_type", _key, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("body_bytes", Integer, nullable=False),
    Column("level", SmallInteger, nullable=False),
    Column("marked", Boolean, nullable=False),
    Column("superseded_level", SmallInteger, nullable=False),
    Column("newer_form_level", SmallInteger, nullable=False),
    Column("late_after", _instant),
    # members and clients are never deleted, and one statement writes all rows: no foreign key to check a thousand times
    Column("member", Integer, nullable=False),
    Column("client", Integer),
    Column("status_id", Uuid, nullable=False),
    Column("body", Text, nullable=False),
    PrimaryKeyConstraint("collection_id", "date_added"),
    UniqueConstraint("collection_id", "stix_id", "form", "version_at"),
)

# A version that somebody sees in the default view has superseded_level and newer_form_level above its own level.
_LATEST = text("superseded_level > level AND newer_form_level > level")
_NEWEST_FORM = text("newer_form_level > level")
Index(
    "ix_object_versions_latest",
    object_versions.c.collection_id,
    object_versions.c.level,
    object_versions.c.date_added,
    postgresql_where=_LATEST,
)
Index(
    "ix_object_versions_latest_of_type",
    object_versions.c.collection_id,
    object_versions.c.stix_type,
    object_versions.c.level,
    object_versions.c.date_added,
    postgresql_where=_LATEST,
)
Index(
    "ix_object_versions_newest_form",
    object_versions.c.collection_id,
    object_versions.c.level,
    object_versions.c.date_added,
    postgresql_where=_NEWEST_FORM,
)
Index(
    "ix_object_versions_newest_form_of_type",
    object_versions.c.collection_id,
    object_versions.c.stix_type,
    object_versions.c.level,
    object_versions.c.date_added,
    postgresql_where=_NEWEST_FORM,
)
Index(
    "ix_object_versions_late",
    object_versions.c.collection_id,
    object_versions.c.date_added,
    postgresql_where=text("late_after IS NOT NULL"),
)

deleted_versions = Table(
    "deleted_versions",
    metadata,
    Column("collection_id", Uuid, nullable=False),
    Column("date_added", _instant, nullable=False),
    Column("stix_id", _key, nullable=False),
    Column("form", SmallInteger, nullable=False),
    Column("version_at", _instant, nullable=False),
    Column("version", Text, nullable=False),
    Column("stix_type", _key, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("body_bytes", Integer, nullable=False),
    Column("level", SmallInteger, nullable=False),
    Column("marked", Boolean, nullable=False),
    Column("member", Integer, nullable=False),
    Column("client", Integer),
    Column("status_id", Uuid, nullable=False),
    Column("deleted_at", _instant, nullable=False, server_default=func.now()),
    Column("deleted_by_member", Integer),
    Column("deleted_by_client", Integer),
    Column("reason", Text, nullable=False),
    PrimaryKeyConstraint("collection_id", "date_added"),
    CheckConstraint("reason IN ('delete', 'retention', 'prune')", name="reason"),
)

statuses = Table(
    "statuses",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("trust_group_id", Uuid, nullable=False),
    Column("collection_id", Uuid, nullable=False),
    Column("member", Integer, nullable=False),
    Column("client", Integer),
    Column("requested_at", _instant, nullable=False),
    Column("completed_at", _instant, nullable=False, server_default=func.now(), index=True),
    Column("total_count", Integer, nullable=False),
    Column("success_count", Integer, nullable=False),
    Column("failure_count", Integer, nullable=False),
    # the two lists of status-details as the JSON text that goes out
    Column("successes", Text, nullable=False),
    Column("failures", Text, nullable=False),
)
