"""mcp-taxii, unmodified, as the MCP server that it is: from its own environment, over stdio, as an assistant runs it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.factories import indicator, malware, stix_id
from tests.parts import need

if TYPE_CHECKING:
    from tests.clients.wire import Feed
    from tests.taxii.live import Live

pytestmark = [pytest.mark.anyio, pytest.mark.client("mcp-taxii"), pytest.mark.slow]

SCRIPTS = Path(__file__).parents[2] / ".venv-clients/bin"
SESSION = Path(__file__).with_name("mcp_session.py")


async def session(
    live: Live, *calls: tuple[str, dict[str, Any]], member: str = "north", secret: str = ""
) -> list[dict[str, str]]:
    """Start it, connect it, call its tools; give what each said."""
    program = SCRIPTS / "mcp-taxii"
    need(program.exists(), "mcp-taxii in .venv-clients, which `make test-all` makes")
    given = live.clients[member]
    connect = {
        "url": f"{live.base_url}/taxii2/",
        "username": given.client_id,
        "password": secret or given.secret,
    }
    running = await asyncio.create_subprocess_exec(
        SCRIPTS / "python",
        SESSION,
        program,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    told, errors = await running.communicate(json.dumps([("initialize_taxii", connect), *calls]).encode())
    assert running.returncode == 0, errors.decode()
    return list(json.loads(told))


async def test_an_assistant_lists_reads_and_adds(feed: Feed) -> None:
    """Connecting, listing, a first page of objects and of the manifest, adding with its verdict, an empty answer."""
    await feed.add(130)
    new = indicator(id=stix_id("indicator", 9))
    here = {"collection_id": feed.id}
    told = await session(
        feed.live,
        ("get_collections", {}),
        ("get_collections", {"api_root": feed.root}),
        ("get_collection_objects", here),
        ("get_object_manifest", here | {"limit": 3, "api_root": feed.root}),
        ("get_collection_objects", here | {"added_after": "2999-01-01T00:00:00Z"}),
        ("add_objects", here | {"objects": [new]}),
    )
    connected, *answers = (one["value"] for one in told)
    listed, listed_in_root, objects, records, nothing, status = map(json.loads, answers)

    assert connected == f"Successfully initialized TAXII 2.1 client for {feed.live.base_url}/taxii2/"
    assert listed == listed_in_root
    assert {"id": feed.id, "title": feed.title, "can_write": True}.items() <= next(
        one for one in listed if one["id"] == feed.id
    ).items()
    assert objects["objects"] == feed.stored[:100]
    assert (objects["more"], bool(objects["next"])) == (True, True)
    assert [record["id"] for record in records["objects"]] == [one["id"] for one in feed.stored[:3]]
    assert nothing == {"more": False, "objects": []}
    assert (status["status"], status["success_count"], status["failures"]) == ("complete", 1, [])


async def test_what_it_cannot_do_at_any_server(feed: Feed) -> None:
    """Its own faults: it can't send `next`, sends `match[match[type]]`, which no server knows, and stumbles over `default`.

    The server's part is that none of it is a fault here: unknown fields are ignored (D-04).
    """
    await feed.put(indicator(), malware())
    _, discovery, filtered = await session(
        feed.live,
        ("get_discovery", {}),
        ("get_collection_objects", {"collection_id": feed.id, "match_type": "malware"}),
    )

    assert "Unable to serialize" in discovery["error"]
    assert json.loads(filtered["value"])["objects"] == feed.stored


async def test_a_wrong_secret_is_told_to_the_assistant(live: Live) -> None:
    """As the 401 that it was."""
    [told] = await session(live, secret="wrong")

    assert "401 Client Error: Unauthorized" in told["error"]
