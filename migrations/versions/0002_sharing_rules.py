"""What a collection asks of what is added to it: a ceiling, a rule for unmarked objects, whose objects, attribution.

Each column has a constant default, so no row is rewritten, and a server of the release before goes on without them.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("collections", sa.Column("unmarked_refused", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("collections", sa.Column("ceiling", sa.SmallInteger(), server_default=sa.text("4"), nullable=False))
    op.add_column("collections", sa.Column("owner_only", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("collections", sa.Column("attribution", sa.Text(), server_default=sa.text("'named'"), nullable=False))
    op.create_check_constraint("ck_collections_ceiling", "collections", "ceiling BETWEEN 0 AND 4")
    op.create_check_constraint("ck_collections_attribution", "collections", "attribution IN ('named', 'anonymous')")
