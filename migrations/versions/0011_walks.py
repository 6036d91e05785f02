"""The indexes that pages walk, by the level up to which a version is seen, and in an order that no other index has.

A walk then meets nothing that it must pass over, however many versions are superseded above the caller's clearance, and Postgres
has no second index to choose. Building them takes about a minute for ten million versions, in which nothing is added; the
release before reads without them, slowly, until it is replaced.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

HIDDEN = "least(superseded_level, newer_form_level)"
NEWER = "newer_form_level"
ORDER = ["date_added", "form"]
ORDER_OF_TYPE = ["date_added", "superseded_level"]
INDEXES: tuple[tuple[str, list[str | sa.TextClause], str], ...] = (
    ("latest", ["collection_id", "level", sa.text(HIDDEN), *ORDER], f"{HIDDEN} > level"),
    ("latest_of_type", ["collection_id", "stix_type", "level", sa.text(HIDDEN), *ORDER_OF_TYPE], f"{HIDDEN} > level"),
    ("newest_form", ["collection_id", "level", NEWER, *ORDER], f"{NEWER} > level"),
    ("newest_form_of_type", ["collection_id", "stix_type", "level", NEWER, *ORDER_OF_TYPE], f"{NEWER} > level"),
    ("late", ["collection_id", *ORDER], "late_after IS NOT NULL"),
)


def upgrade() -> None:
    for name, columns, where in INDEXES:
        op.drop_index(f"ix_object_versions_{name}", "object_versions")
        op.create_index(f"ix_object_versions_{name}", "object_versions", columns, postgresql_where=sa.text(where))
