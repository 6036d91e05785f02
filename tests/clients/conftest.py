"""A live server for each file's clients, on a port of its own that its URLs name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.clients.wire import Feed
from tests.taxii import laws
from tests.taxii.live import Live, live_server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls


@pytest.fixture(scope="module")
async def live(module_database_urls: DatabaseUrls) -> AsyncIterator[Live]:
    """The alliance of `tests.taxii.alliance`, over TCP."""
    async with live_server(module_database_urls) as running:
        running.http.event_hooks["response"].append(laws.hold)
        yield running


@pytest.fixture
async def feed(live: Live) -> Feed:
    """A collection of the test's own, empty at first."""
    return Feed.opened(live)
