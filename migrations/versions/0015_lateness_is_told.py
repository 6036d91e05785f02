"""What came late says how late: else the pages that ask for late arrivals would pass it over, and nobody would know.

A trigger says it. Where triggers are off, whatever writes without it fails. The next migration looks at what is there.
"""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        ALTER TABLE object_versions
          ADD CONSTRAINT ck_object_versions_lateness CHECK ((late_after IS NULL) = (lateness IS NULL)) NOT VALID
    """)
