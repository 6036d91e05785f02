"""The disclosure ledger over HTTP: what is entered, when, and what happens if it can't be."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from taxii_server.storage.engine import Database
from tests.auth.alliance import statements
from tests.factories import indicator
from tests.taxii.alliance import Exchange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls

SCRATCH = "fraud-intel/scratch"
ROWS = "SELECT member, client, way, number FROM disclosures ORDER BY id"


def another(**over: Any) -> dict[str, Any]:
    """An object nobody has seen."""
    return indicator(**{"id": f"indicator--{uuid4()}", **over})


@pytest.fixture
def entered(exchange: Exchange) -> Any:
    """What the ledger got since the test began."""
    exchange.alliance.execute("DELETE FROM disclosures")
    return lambda: exchange.alliance.execute(ROWS)


@pytest.fixture
async def database(module_database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    """The server's role."""
    made = Database(module_database_urls.server, connections=2)
    yield made
    await made.close()


def who(exchange: Exchange, member: str) -> tuple[int, int]:
    """A member's number, and its client's."""
    return exchange.alliance.members[member], exchange.clients[member].row


async def test_each_page_with_versions_is_entered_by_its_endpoint(exchange: Exchange, entered: Any) -> None:
    """Objects and one object leave with content; manifest and versions tell that there is something. Plain or packed."""
    one = another()
    await exchange.add(one, another())
    for rest in ("objects/", f"objects/{one['id']}/", "manifest/", f"objects/{one['id']}/versions/"):
        packed = {"Accept-Encoding": "gzip" if rest == "objects/" else "identity"}
        answer = await exchange.get(exchange.path(f"{rest}?limit=1", SCRATCH), "harbour", headers=packed)
        assert answer.status_code == 200

    assert entered() == [(*who(exchange, "harbour"), way, 1) for way in (1, 2, 3, 4)]


async def test_what_tells_of_no_version_is_not_entered(exchange: Exchange, entered: Any) -> None:
    """Empty pages, refusals, heads, what is told of collections: no row, and no statement that could write one."""
    one = another()
    await exchange.add(one)
    with statements(Engine) as sent:
        for rest in ("objects/?added_after=2099-01-01T00:00:00Z", "manifest/?match[type]=campaign", "objects/?limit=0"):
            await exchange.get(exchange.path(rest, SCRATCH))
        await exchange.get(exchange.path(f"objects/{another()['id']}/versions/", SCRATCH))
        await exchange.get(exchange.path("", SCRATCH))
        for rest in ("objects/", f"objects/{one['id']}/", "manifest/"):
            headers = exchange.as_("harbour")
            assert (await exchange.http.head(exchange.path(rest, SCRATCH), headers=headers)).status_code == 200

    assert entered() == []
    assert [one for one in sent if "INSERT" in one] == []
