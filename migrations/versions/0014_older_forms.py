"""An index of the versions in STIX 2.0, for those who ask for that form where there is little of it.

Building it takes about ten seconds for ten million versions, in which nothing is added.
"""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index(
        "ix_object_versions_older",
        "object_versions",
        ["collection_id", "date_added", "form", "level"],
        postgresql_where=sa.text("form < 21"),
    )
