"""The first schema, and what the server's role may do with it."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SERVER_ROLE_EXISTS = """
DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'taxii_server') THEN
        RAISE EXCEPTION 'the role taxii_server, as which the server connects, does not exist'
            USING HINT = 'As a superuser: CREATE ROLE taxii_server LOGIN PASSWORD ''...'';';
    END IF;
END $$
"""

# The server owns nothing. What is stored stays as it was posted: only the kept levels of a version can be updated, and
# the record of what was deleted can only grow.
WHAT_THE_SERVER_MAY_DO = (
    "GRANT USAGE ON SCHEMA public TO taxii_server",
    "GRANT SELECT ON alembic_version TO taxii_server",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON trust_groups, members, collections, grants TO taxii_server",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON clients, client_secrets, signing_keys, collection_clocks TO taxii_server",
    "GRANT SELECT, INSERT, DELETE ON object_versions, statuses TO taxii_server",
    "GRANT UPDATE (level, superseded_level, newer_form_level) ON object_versions TO taxii_server",
    "GRANT SELECT, INSERT ON deleted_versions TO taxii_server",
)


def upgrade() -> None:
    op.create_table(
        "deleted_versions",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("date_added", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stix_id", sa.Text(collation="C"), nullable=False),
        sa.Column("form", sa.SmallInteger(), nullable=False),
        sa.Column("version_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("stix_type", sa.Text(collation="C"), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("body_bytes", sa.Integer(), nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("marked", sa.Boolean(), nullable=False),
        sa.Column("member", sa.Integer(), nullable=False),
        sa.Column("client", sa.Integer(), nullable=True),
        sa.Column("status_id", sa.Uuid(), nullable=False),
        sa.Column("deleted_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("deleted_by_member", sa.Integer(), nullable=True),
        sa.Column("deleted_by_client", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.CheckConstraint("reason IN ('delete', 'retention', 'prune')", name="ck_deleted_versions_reason"),
        sa.PrimaryKeyConstraint("collection_id", "date_added", name="pk_deleted_versions"),
    )
    op.create_table(
        "members",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("suspended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_members"),
        sa.UniqueConstraint("slug", name="uq_members_slug"),
    )
    op.create_table(
        "signing_keys",
        sa.Column("kid", sa.Text(), nullable=False),
        sa.Column("public_jwk", sa.Text(), nullable=False),
        sa.Column("sealed_private_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("signs_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("verifies_until", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kid", name="pk_signing_keys"),
    )
    op.create_table(
        "statuses",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("trust_group_id", sa.Uuid(), nullable=False),
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("member", sa.Integer(), nullable=False),
        sa.Column("client", sa.Integer(), nullable=True),
        sa.Column("requested_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("completed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("total_count", sa.Integer(), nullable=False),
        sa.Column("success_count", sa.Integer(), nullable=False),
        sa.Column("failure_count", sa.Integer(), nullable=False),
        sa.Column("successes", sa.Text(), nullable=False),
        sa.Column("failures", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_statuses"),
    )
    op.create_index("ix_statuses_completed_at", "statuses", ["completed_at"], unique=False)
    op.create_table(
        "trust_groups",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_trust_groups"),
        sa.UniqueConstraint("slug", name="uq_trust_groups_slug"),
    )
    op.create_table(
        "clients",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("client_id", sa.Text(), nullable=False),
        sa.Column("member_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("rights", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("collections", sa.ARRAY(sa.Uuid()), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("rights <@ ARRAY['read', 'write']", name="ck_clients_rights"),
        sa.ForeignKeyConstraint(["member_id"], ["members.id"], name="fk_clients_member_id_members"),
        sa.PrimaryKeyConstraint("id", name="pk_clients"),
        sa.UniqueConstraint("client_id", name="uq_clients_client_id"),
    )
    op.create_index("ix_clients_member_id", "clients", ["member_id"], unique=False)
    op.create_table(
        "collections",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("trust_group_id", sa.Uuid(), nullable=False),
        sa.Column("alias", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("validation", sa.Text(), nullable=False),
        sa.Column("unmarked_level", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("retention", sa.Interval(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.CheckConstraint("validation IN ('strict', 'structural')", name="ck_collections_validation"),
        sa.CheckConstraint("unmarked_level BETWEEN 0 AND 4", name="ck_collections_unmarked_level"),
        sa.ForeignKeyConstraint(
            ["trust_group_id"], ["trust_groups.id"], name="fk_collections_trust_group_id_trust_groups"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_collections"),
        sa.UniqueConstraint("trust_group_id", "alias", name="uq_collections_trust_group_id_alias"),
        sa.UniqueConstraint("trust_group_id", "title", name="uq_collections_trust_group_id_title"),
    )
    op.create_table(
        "client_secrets",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("client", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["client"], ["clients.id"], name="fk_client_secrets_client_clients"),
        sa.PrimaryKeyConstraint("id", name="pk_client_secrets"),
    )
    op.create_index("ix_client_secrets_client", "client_secrets", ["client"], unique=False)
    op.create_table(
        "collection_clocks",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("last_added", sa.DateTime(timezone=True), nullable=False),
        sa.Column("changes", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collections.id"], name="fk_collection_clocks_collection_id_collections"
        ),
        sa.PrimaryKeyConstraint("collection_id", name="pk_collection_clocks"),
    )
    op.create_table(
        "grants",
        sa.Column("member_id", sa.Integer(), nullable=False),
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("rights", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("clearance", sa.SmallInteger(), server_default=sa.text("4"), nullable=False),
        sa.CheckConstraint("rights <@ ARRAY['read', 'write']", name="ck_grants_rights"),
        sa.CheckConstraint("clearance BETWEEN 0 AND 4", name="ck_grants_clearance"),
        sa.ForeignKeyConstraint(["collection_id"], ["collections.id"], name="fk_grants_collection_id_collections"),
        sa.ForeignKeyConstraint(["member_id"], ["members.id"], name="fk_grants_member_id_members"),
        sa.PrimaryKeyConstraint("member_id", "collection_id", name="pk_grants"),
    )
    op.create_index("ix_grants_collection_id", "grants", ["collection_id"], unique=False)
    op.create_table(
        "object_versions",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("date_added", sa.DateTime(timezone=True), nullable=False),
        sa.Column("stix_id", sa.Text(collation="C"), nullable=False),
        sa.Column("form", sa.SmallInteger(), nullable=False),
        sa.Column("version_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("stix_type", sa.Text(collation="C"), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("body_bytes", sa.Integer(), nullable=False),
        sa.Column("level", sa.SmallInteger(), nullable=False),
        sa.Column("marked", sa.Boolean(), nullable=False),
        sa.Column("superseded_level", sa.SmallInteger(), nullable=False),
        sa.Column("newer_form_level", sa.SmallInteger(), nullable=False),
        sa.Column("late_after", sa.DateTime(timezone=True), nullable=True),
        sa.Column("member", sa.Integer(), nullable=False),
        sa.Column("client", sa.Integer(), nullable=True),
        sa.Column("status_id", sa.Uuid(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"], ["collections.id"], name="fk_object_versions_collection_id_collections"
        ),
        sa.PrimaryKeyConstraint("collection_id", "date_added", name="pk_object_versions"),
        sa.UniqueConstraint(
            "collection_id",
            "stix_id",
            "form",
            "version_at",
            name="uq_object_versions_collection_id_stix_id_form_version_at",
        ),
    )
    op.create_index(
        "ix_object_versions_late",
        "object_versions",
        ["collection_id", "date_added"],
        unique=False,
        postgresql_where=sa.text("late_after IS NOT NULL"),
    )
    op.create_index(
        "ix_object_versions_latest",
        "object_versions",
        ["collection_id", "level", "date_added"],
        unique=False,
        postgresql_where=sa.text("superseded_level > level AND newer_form_level > level"),
    )
    op.create_index(
        "ix_object_versions_latest_of_type",
        "object_versions",
        ["collection_id", "stix_type", "level", "date_added"],
        unique=False,
        postgresql_where=sa.text("superseded_level > level AND newer_form_level > level"),
    )
    op.create_index(
        "ix_object_versions_newest_form",
        "object_versions",
        ["collection_id", "level", "date_added"],
        unique=False,
        postgresql_where=sa.text("newer_form_level > level"),
    )
    op.create_index(
        "ix_object_versions_newest_form_of_type",
        "object_versions",
        ["collection_id", "stix_type", "level", "date_added"],
        unique=False,
        postgresql_where=sa.text("newer_form_level > level"),
    )
    op.execute(SERVER_ROLE_EXISTS)
    for statement in WHAT_THE_SERVER_MAY_DO:
        op.execute(statement)
