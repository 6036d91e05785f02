"""Recalls: what was withdrawn, by whom and why, and what was let in again; the record can only grow."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

REASONS = "('delete', 'retention', 'prune', 'recall')"


def upgrade() -> None:
    op.create_table(
        "recalls",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("stix_id", sa.Text(collation="C"), nullable=False),
        sa.Column("number", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), server_default=sa.text("clock_timestamp()"), nullable=False),
        sa.Column("member", sa.Integer(), nullable=True),
        sa.Column("client", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("level", sa.SmallInteger(), nullable=True),
        sa.Column("withdrawn", sa.ARRAY(sa.DateTime(timezone=True)), nullable=True),
        sa.Column("telling", sa.ARRAY(sa.DateTime(timezone=True)), nullable=True),
        sa.Column("telling_versions", sa.ARRAY(sa.Text()), nullable=True),
        sa.CheckConstraint("act IN ('recall', 'lift')", name="ck_recalls_act"),
        sa.CheckConstraint("outcome IN ('revoked', 'deleted')", name="ck_recalls_outcome"),
        sa.CheckConstraint(
            "(act = 'recall') = (num_nulls(member, outcome, level, withdrawn, telling, telling_versions) = 0)",
            name="ck_recalls_whole",
        ),
        sa.PrimaryKeyConstraint("collection_id", "stix_id", "number", name="pk_recalls"),
    )
    op.execute("ALTER TABLE deleted_versions DROP CONSTRAINT ck_deleted_versions_ck_deleted_versions_reason")
    op.execute(f"ALTER TABLE deleted_versions ADD CONSTRAINT ck_deleted_versions_reason CHECK (reason IN {REASONS})")
    op.execute("GRANT SELECT, INSERT ON recalls TO taxii_server")
    op.execute("ALTER TABLE recalls ENABLE ROW LEVEL SECURITY")
    op.execute(
        "CREATE POLICY of_one_collection ON recalls TO taxii_server"
        " USING (collection_id = (SELECT current_setting('taxii.collection')::uuid))"
    )
