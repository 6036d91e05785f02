"""Row-level security: a transaction of the server reaches what it was opened for, even if a statement forgets to say so.

Three settings say what that is (`storage/bounds.py`). They are read without `missing_ok`: where one is absent or empty, the
statement fails. Each stands in a sub-select, which is worked out once a statement and not for each row. The operators
are leakproof, so conditions of the statements themselves still reach the indexes.

The owner is not bound: migrations and backups see everything. A server of the release before sets nothing, so its
statements on these tables fail: stop it first.

What was removed can't be listed from deleted_versions any more, so removed collections get a list of their own.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

COLLECTION = "collection_id = (SELECT current_setting('taxii.collection')::uuid)"
CLEARANCE = "level <= (SELECT current_setting('taxii.clearance')::smallint)"
MEMBER = "member = (SELECT current_setting('taxii.member')::integer)"
POLICIES = (
    f"CREATE POLICY of_one_collection ON object_versions TO taxii_server USING ({COLLECTION} AND {CLEARANCE})",
    f"CREATE POLICY of_one_collection ON deleted_versions TO taxii_server USING ({COLLECTION} AND {CLEARANCE})",
    f"CREATE POLICY of_one_member ON statuses TO taxii_server USING ({MEMBER})",
    # a worker writes what its clients were sent all at once, whatever the collections
    "CREATE POLICY of_any_collection ON disclosures FOR INSERT TO taxii_server WITH CHECK (true)",
    f"CREATE POLICY of_one_collection ON disclosures FOR SELECT TO taxii_server USING ({COLLECTION})",
)


def upgrade() -> None:
    op.create_table(
        "removed_collections",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_removed_collections"),
    )
    op.execute(
        "INSERT INTO removed_collections (id, removed_at) SELECT collection_id, max(deleted_at) FROM deleted_versions"
        " WHERE collection_id NOT IN (SELECT id FROM collections) GROUP BY collection_id"
    )
    op.execute("GRANT SELECT, INSERT ON removed_collections TO taxii_server")
    for table in ("object_versions", "deleted_versions", "statuses", "disclosures"):
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    for policy in POLICIES:
        op.execute(policy)
