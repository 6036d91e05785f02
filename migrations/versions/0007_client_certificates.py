"""Client certificates, and what each client must show.

Every client there is goes on with what it has, so no row is rewritten.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("clients", sa.Column("authentication", sa.Text(), server_default=sa.text("'any'"), nullable=False))
    op.create_check_constraint(
        "ck_clients_authentication", "clients", "authentication IN ('any', 'certificate', 'both')"
    )
    op.create_table(
        "client_certificates",
        sa.Column("thumbprint", sa.LargeBinary(), nullable=False),
        sa.Column("client", sa.Integer(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("not_before", sa.DateTime(timezone=True), nullable=False),
        sa.Column("not_after", sa.DateTime(timezone=True), nullable=False),
        sa.Column("added_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.ForeignKeyConstraint(["client"], ["clients.id"], name="fk_client_certificates_client_clients"),
        sa.PrimaryKeyConstraint("thumbprint", name="pk_client_certificates"),
    )
    op.create_index("ix_client_certificates_client", "client_certificates", ["client"], unique=False)
    op.execute("GRANT SELECT, INSERT, DELETE ON client_certificates TO taxii_server")
