"""The disclosure ledger: a row for each page that left with versions, which the server can add and never change."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "disclosures",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("fork", sa.BigInteger(), nullable=False),
        sa.Column("first_added", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_added", sa.DateTime(timezone=True), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("sent_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("member", sa.Integer(), nullable=False),
        sa.Column("client", sa.Integer(), nullable=False),
        sa.Column("way", sa.SmallInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("dates", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("collection_id", "fork", "first_added", "last_added", "id", name="pk_disclosures"),
        sa.CheckConstraint("way BETWEEN 1 AND 4", name="ck_disclosures_way"),
        sa.CheckConstraint("number > 0 AND first_added <= last_added", name="ck_disclosures_span"),
    )
    # The packed dates of a common page stay in its row, and nobody tries to pack them once more.
    op.execute("ALTER TABLE disclosures ALTER COLUMN dates SET STORAGE EXTERNAL")
    op.execute("ALTER TABLE disclosures SET (toast_tuple_target = 8160)")
    op.execute("GRANT SELECT, INSERT ON disclosures TO taxii_server")
    op.create_index("ix_deleted_versions_stix_id", "deleted_versions", ["collection_id", "stix_id"])
