"""The demo alliance behind the application, in this process over ASGI."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.api.demo import Demo, demo_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls


@pytest.fixture(scope="module")
async def demo(module_database_urls: DatabaseUrls) -> AsyncIterator[Demo]:
    """The demo alliance, made once a module."""
    async with demo_on(module_database_urls) as running:
        yield running
