"""Tokens that are refused before their time; outside issuers, and the clients that they vouch for.

The new columns are null for every client there is, so no row is rewritten.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
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
    op.create_table(
        "issuers",
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("issuer", sa.Text(collation="C"), nullable=False),
        sa.Column("jwks_uri", sa.Text(), nullable=True),
        sa.Column("audience", sa.Text(), nullable=False),
        sa.Column("claim", sa.Text(), nullable=False),
        sa.Column("algorithms", sa.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("slug", name="pk_issuers"),
    )
    op.create_index(
        "ix_issuers_issuer", "issuers", ["issuer"], unique=True, postgresql_where=sa.text("removed_at IS NULL")
    )
    op.add_column("clients", sa.Column("issuer", sa.Text(), nullable=True))
    op.add_column("clients", sa.Column("subject", sa.Text(), nullable=True))
    op.create_foreign_key("fk_clients_issuer_issuers", "clients", "issuers", ["issuer"], ["slug"])
    op.create_check_constraint("ck_clients_issuer_and_subject", "clients", "(issuer IS NULL) = (subject IS NULL)")
    op.create_index(
        "ix_clients_subject",
        "clients",
        ["issuer", "subject"],
        unique=True,
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.execute("GRANT SELECT, INSERT, UPDATE ON issuers TO taxii_server")
    op.execute("GRANT SELECT, INSERT, DELETE ON revoked_tokens TO taxii_server")
