"""How late a late arrival came, so that those of one instant are found however many there are of others.

`lateness` is the least n for which a version came at most 16^n seconds late. A trigger gives it, so that servers of the release
before can go on; the next migration gives it to what is there.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TELL = """
    CREATE FUNCTION tell_lateness() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        NEW.lateness := coalesce((
            SELECT min(n) FROM generate_series(0, 7) AS n WHERE NEW.date_added <= NEW.late_after + 16 ^ n * interval '1s'), 8);
        RETURN NEW;
    END
    $$
"""


def upgrade() -> None:
    op.add_column("object_versions", sa.Column("lateness", sa.SmallInteger(), nullable=True))
    op.execute(TELL)
    op.execute("REVOKE ALL ON FUNCTION tell_lateness() FROM PUBLIC")
    op.execute("""
        CREATE TRIGGER tell_lateness BEFORE INSERT ON object_versions FOR EACH ROW
        WHEN (NEW.late_after IS NOT NULL) EXECUTE FUNCTION tell_lateness()
    """)
