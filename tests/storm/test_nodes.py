"""Two servers on ports of their own and one database: what is done at one holds at the other from the next request on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from taxii_server.operations import alliance, alliance_file, clients
from taxii_server.storage.engine import Database
from tests.cli.conftest import ALLIANCE
from tests.factories import indicator, stix_id
from tests.storm.site import Node
from tests.taxii.alliance import TAXII, basic

if TYPE_CHECKING:
    from pathlib import Path

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

OBJECTS = "/taxii2/fraud-intel/collections/indicators/objects/"


async def test_what_is_done_at_one_node_holds_at_the_other(fresh_database_urls: DatabaseUrls, tmp_path: Path) -> None:
    """An addition is there, a deletion isn't, a token counts; taken back, withdrawn and revoked it doesn't any more."""
    database = Database(fresh_database_urls.server, connections=2)
    await alliance.apply(database, alliance_file.parse(ALLIANCE))
    client = await clients.issue(database, "north-bank", name="tool")
    one, other = nodes = [Node(tmp_path, 1, {"TAXII_DATABASE_URL": fresh_database_urls.server}) for _ in range(2)]
    secret = basic(client.client_id, client.client_secret)

    def ask(node: Node, method: str, path: str, headers: dict[str, str], **how: Any) -> httpx.Response:
        return httpx.request(method, f"{node.url}{path}", headers={"Accept": TAXII} | headers, timeout=60, **how)

    def push(node: Node, number: int, headers: dict[str, str]) -> int:
        envelope = {"objects": [indicator(id=stix_id("indicator", number))]}
        return ask(node, "POST", OBJECTS, headers | {"Content-Type": TAXII}, json=envelope).status_code

    def there(node: Node) -> int:
        return len(ask(node, "GET", OBJECTS, secret).json().get("objects", []))

    try:
        await asyncio.gather(*(asyncio.to_thread(node.start) for node in nodes))
        for turn, (here, there_) in enumerate([(one, other), (other, one)] * 3):
            assert push(here, turn, secret) == 202
            assert there(there_) == turn + 1
        assert ask(one, "DELETE", f"{OBJECTS}{stix_id('indicator', 0)}/", secret).status_code == 200
        assert there(other) == 5

        form = {"grant_type": "client_credentials"}
        token = ask(one, "POST", "/oauth2/token", secret, data=form).json()["access_token"]
        bearer = {"Authorization": f"Bearer {token}"}
        assert {ask(node, "GET", OBJECTS, bearer).status_code for node in nodes} == {200}
        assert ask(one, "POST", "/oauth2/revoke", secret, data={"token": token}).status_code == 200
        assert {ask(node, "GET", OBJECTS, bearer).status_code for node in nodes} == {401}

        reading = ALLIANCE.replace("north-bank: [read, write]", "north-bank: [read]")
        await alliance.apply(database, alliance_file.parse(reading))
        assert {push(node, 9, secret) for node in nodes} == {403}
        assert await clients.revoke(database, client.client_id)
        assert {ask(node, "GET", OBJECTS, secret).status_code for node in nodes} == {401}
    finally:
        for node in nodes:
            node.stop()
        await database.close()
