"""The lateness of what is there, and the index that late arrivals are found by.

A few thousand rows at a time, each lot under its collection's clock, as everything that changes versions: writers wait for one
lot, readers for nothing. About a minute and a half for a million late arrivals. Interrupted, it is run again and goes on.
Building the index takes half a minute for ten million versions, in which nothing is added.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

LOT = 5_000
CLOCK = "SELECT FROM collection_clocks WHERE collection_id = %(place)s FOR NO KEY UPDATE"
TELL = """
    WITH lot AS (
        SELECT date_added FROM object_versions
         WHERE collection_id = %(place)s AND late_after IS NOT NULL AND date_added > %(position)s
         ORDER BY date_added, form LIMIT %(lot)s
    ), told AS (
        UPDATE object_versions AS late
           SET lateness = coalesce((
               SELECT min(n) FROM generate_series(0, 7) AS n WHERE late.date_added <= late.late_after + 16 ^ n * interval '1s'), 8)
          FROM lot
         WHERE late.collection_id = %(place)s AND late.date_added = lot.date_added AND late.lateness IS NULL
    )
    SELECT max(date_added)::text FROM lot
"""


def upgrade() -> None:
    with op.get_context().autocommit_block():
        connection = op.get_bind()
        for place in connection.exec_driver_sql("SELECT collection_id FROM collection_clocks").scalars().all():
            position: str | None = "-infinity"
            while position is not None:
                connection.exec_driver_sql("BEGIN")
                connection.exec_driver_sql(CLOCK, {"place": place})
                position = connection.exec_driver_sql(
                    TELL, {"place": place, "position": position, "lot": LOT}
                ).scalar_one()
                connection.exec_driver_sql("COMMIT")
    op.create_index(
        "ix_object_versions_lateness",
        "object_versions",
        ["collection_id", "lateness", "date_added", "late_after", "form", "level"],
        postgresql_where=sa.text("lateness IS NOT NULL"),
    )
