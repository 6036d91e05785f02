"""Row-level security: a transaction of the server reaches what it was opened for, even if a statement forgets to say so.

Three settings say what that is (`storage/bounds.py`). They are read without `missing_ok`: where one is absent or empty, the
statement fails. Each stands in a sub-select, which is worked out once a statement and not for each row. The operators
are leakproof, so conditions of the statements themselves still reach the indexes.

The owner is not bound: migrations and backups see everything. A server of the release before sets nothing, so its
statements on these tables fail: stop it first.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

OF_ONE_COLLECTION = """
    collection_id = (SELECT current_setting('taxii.collection')::uuid)
    AND level <= (SELECT current_setting('taxii.clearance')::smallint)
"""
OF_ONE_MEMBER = "member = (SELECT current_setting('taxii.member')::integer)"
POLICIES = {
    "object_versions": ("of_one_collection", OF_ONE_COLLECTION),
    "deleted_versions": ("of_one_collection", OF_ONE_COLLECTION),
    "statuses": ("of_one_member", OF_ONE_MEMBER),
}


def upgrade() -> None:
    for table, (policy, condition) in POLICIES.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY {policy} ON {table} TO taxii_server USING ({condition}) WITH CHECK ({condition})")
