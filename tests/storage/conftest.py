"""Databases as the storage tests use them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from taxii_server.storage.engine import Database

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls


@pytest.fixture
async def database(database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """This worker's database, as the server's role. Tests share it, each in a collection of its own."""
    opened = Database(database_urls.server, connections=8)
    yield opened
    await opened.close()
