"""Tokens that are refused before their time."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "revoked_tokens",
        sa.Column("issuer", sa.Text(collation="C"), nullable=False),
        sa.Column("jti", sa.Text(collation="C"), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("revoked_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("issuer", "jti", name="pk_revoked_tokens"),
    )
    op.execute("GRANT SELECT, INSERT, DELETE ON revoked_tokens TO taxii_server")
