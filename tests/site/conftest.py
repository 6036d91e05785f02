"""The application under test, and the statements that it sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.taxii.alliance import Exchange, exchange_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls


@pytest.fixture(scope="module")
async def exchange(module_database_urls: DatabaseUrls) -> AsyncIterator[Exchange]:
    """The alliance of the protocol tests."""
    async with exchange_on(module_database_urls) as running:
        yield running
