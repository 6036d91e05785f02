"""The application under test: in this process over ASGI, where a test needs no sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.taxii import laws, shelf
from tests.taxii.alliance import Exchange, exchange_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls


@pytest.fixture(scope="module")
async def exchange(module_database_urls: DatabaseUrls) -> AsyncIterator[Exchange]:
    """The alliance of `tests.taxii.alliance`, made once a module: tests use objects and clients of their own.

    Every answer is held to `tests.taxii.laws`.
    """
    async with exchange_on(module_database_urls) as running:
        running.http.event_hooks["response"].append(laws.hold)
        yield running


@pytest.fixture(scope="module")
async def filled(exchange: Exchange) -> shelf.Shelf:
    """The collection of `tests.taxii.shelf`, filled once a module and only read."""
    return await shelf.fill(exchange)
