"""What came late before said how late: every version is read once, beside readers and writers."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE object_versions VALIDATE CONSTRAINT ck_object_versions_lateness")
