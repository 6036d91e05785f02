"""A server is ready where it can serve: also beside a newer one that has changed the schema already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from taxii_server.operations import health
from taxii_server.storage import migrations
from taxii_server.storage.engine import Database

if TYPE_CHECKING:
    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio


async def test_which_schemas_a_server_can_serve(module_database_urls: DatabaseUrls) -> None:
    """An upgrade runs while the servers of the release before go on: a load balancer must not take them all out at once."""
    database = Database(module_database_urls.server, connections=3)
    seen = {}
    try:
        with psycopg.connect(module_database_urls.owner.replace("+psycopg", ""), autocommit=True) as owner:
            for revision in (migrations.newest(), "9999", "0001"):
                owner.execute("UPDATE alembic_version SET version_num = %s", [revision])
                seen[revision] = (await health.readiness(database)).ready
            owner.execute("DELETE FROM alembic_version")
            nothing = (await health.readiness(database)).ready
            owner.execute("INSERT INTO alembic_version VALUES (%s)", [migrations.newest()])
    finally:
        await database.close()

    assert seen == {migrations.newest(): True, "9999": True, "0001": False}
    assert not nothing
