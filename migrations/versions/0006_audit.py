"""The audit: acts in chained streams, and the signed heads of its checkpoints. The server may add rows and read them.

Only new tables, so a server of the release before goes on without them; what that one does is not in the audit.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit_events",
        sa.Column("stream", sa.Text(collation="C"), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("act", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("stream", "seq", name="pk_audit_events"),
        sa.CheckConstraint("seq > 0", name="ck_audit_events_seq"),
        sa.CheckConstraint("octet_length(digest) = 32", name="ck_audit_events_digest"),
    )
    op.create_table(
        "audit_heads",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("signed", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit_heads"),
    )
    op.execute("GRANT SELECT, INSERT ON audit_events, audit_heads TO taxii_server")
