"""What clients did lately, saved in batches: how far each has read each collection, and what went wrong.

New tables only, which an older server doesn't know and needn't.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "client_readings",
        sa.Column("collection_id", sa.Uuid(), nullable=False),
        sa.Column("client", sa.Integer(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("polls", sa.BigInteger(), nullable=False),
        sa.Column("versions", sa.BigInteger(), nullable=False),
        sa.Column("polled_at", _INSTANT, nullable=False),
        sa.Column("received_at", _INSTANT, nullable=True),
        sa.Column("reached", _INSTANT, nullable=True),
        sa.Column("ended_at", _INSTANT, nullable=True),
        sa.Column("filtered_at", _INSTANT, nullable=True),
        sa.CheckConstraint(
            "endpoint IN ('objects', 'manifest', 'object', 'versions')", name="ck_client_readings_endpoint"
        ),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.id"],
            name="fk_client_readings_collection_id_collections",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["client"], ["clients.id"], name="fk_client_readings_client_clients", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("collection_id", "client", "endpoint", name="pk_client_readings"),
    )
    op.create_table(
        "client_activity",
        sa.Column("client", sa.Integer(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("succeeded_at", _INSTANT, nullable=True),
        sa.Column("failed_at", _INSTANT, nullable=True),
        sa.Column("failed_status", sa.SmallInteger(), nullable=True),
        sa.Column("failures", sa.ARRAY(_INSTANT), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("refused_at", _INSTANT, nullable=True),
        sa.Column("refused_for", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["client"], ["clients.id"], name="fk_client_activity_client_clients", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("client", name="pk_client_activity"),
    )
    op.create_table(
        "activity_batches",
        sa.Column("worker", sa.Uuid(), nullable=False),
        sa.Column("batch", sa.BigInteger(), nullable=False),
        sa.Column("saved_at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("worker", name="pk_activity_batches"),
    )
    op.execute(
        "GRANT SELECT, INSERT, UPDATE, DELETE ON client_readings, client_activity, activity_batches TO taxii_server"
    )
