"""Migrations: they make what the code's tables say, in turns, and nothing newer is touched."""

import os
import subprocess
import sys

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, text

from taxii_server.domain.errors import OperatorError
from taxii_server.storage import migrations
from taxii_server.storage.embedded import DatabaseUrls
from taxii_server.storage.tables import metadata

UPGRADE = "import sys; from taxii_server.storage import migrations; migrations.upgrade(sys.argv[1])"
ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_migrations_make_what_the_tables_say(database_urls: DatabaseUrls) -> None:
    """If this fails, a table changed without a migration, or the other way round."""
    engine = create_engine(database_urls.owner)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        differences = compare_metadata(context, metadata)
    engine.dispose()

    assert differences == []


@pytest.mark.slow
def test_upgrades_at_once_take_turns(fresh_database_urls: DatabaseUrls) -> None:
    """Nodes that start together each run `db upgrade`; from nothing and on a finished database alike."""
    engine = create_engine(fresh_database_urls.owner)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
        connection.execute(text("GRANT USAGE ON SCHEMA public TO PUBLIC"))
    nodes = [subprocess.Popen([sys.executable, "-c", UPGRADE, fresh_database_urls.owner], env=ENV) for _ in range(3)]
    ended = [node.wait(60) for node in nodes]
    with engine.connect() as connection:
        heads = MigrationContext.configure(connection).get_current_heads()
    engine.dispose()

    assert ended == [0, 0, 0]
    assert heads == (migrations.newest(),)


def test_a_newer_schema_is_refused(fresh_database_urls: DatabaseUrls) -> None:
    """A server that doesn't know the schema must not work on it."""
    engine = create_engine(fresh_database_urls.owner)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()

    with pytest.raises(OperatorError, match="newer taxii-server"):
        migrations.upgrade(fresh_database_urls.owner)
