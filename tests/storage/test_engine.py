"""What a transaction promises: what was answered after it is stored, or there was an error."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DataError

from taxii_server.storage.engine import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio


@pytest.fixture
async def database(database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """A pool of a single connection."""
    opened = Database(database_urls.server, connections=1)
    yield opened
    await opened.close()


async def test_a_failure_that_was_passed_over_is_no_success(database: Database) -> None:
    """PostgreSQL would answer COMMIT with a rollback and no word; the next transaction is none the worse."""

    async def pass_over() -> None:
        async with database.write() as connection:
            with suppress(DataError):
                await connection.execute(text("SELECT 1 / 0"))

    with pytest.raises(RuntimeError, match="nothing of this transaction would be stored"):
        await pass_over()

    async with database.write() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
