"""Run the migrations on the connection that `taxii_server.storage.migrations` hands over.

One migration at a time, whoever starts it: an advisory lock for the session. No statement waits long for a lock that
live traffic holds, so an upgrade fails and can be run again instead of stopping every poll behind it.
"""

from alembic import context

from taxii_server.storage.tables import metadata

TAKE_TURNS = 7_421_336_015  # any constant of our own

connection = context.config.attributes["connection"]
connection.exec_driver_sql(f"SELECT pg_advisory_lock({TAKE_TURNS})")
connection.exec_driver_sql("SET lock_timeout = '4s'")
connection.exec_driver_sql("SET statement_timeout = '15min'")
connection.commit()
try:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        transaction_per_migration=True,
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()
finally:
    connection.rollback()
    connection.exec_driver_sql(f"SELECT pg_advisory_unlock({TAKE_TURNS})")
    connection.commit()
