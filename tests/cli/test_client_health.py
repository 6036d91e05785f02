"""`client health`: what an operator sees of who polls."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx
import pytest

from taxii_server import settings
from taxii_server.app import create_app
from tests.factories import indicator
from tests.taxii.alliance import TAXII, basic

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

FEED = "/taxii2/fraud-intel/collections/indicators/objects/"
NAMES = {
    "client_id",
    "member",
    "collection",
    "clearance",
    "verdict",
    "words",
    "polls",
    "versions",
    "polled_at",
    "received_at",
    "reached",
    "manifest_reached",
    "ended",
    "filtered",
    "newest",
    "waiting",
    "more_waiting",
    "behind",
    "requests",
    "errors",
    "errors_in_row",
    "more_in_row",
    "failed_at",
    "failed_status",
    "refused_at",
    "refused_for",
    "expires_at",
    "certified_until",
}


def issued(run: Run, member: str) -> tuple[str, str]:
    made = run("client", "issue", member, "--name", "siem", "--json").json
    return made["client_id"], made["client_secret"]


async def served(north: tuple[str, str], harbour: tuple[str, str]) -> None:
    """North Bank adds two objects; Harbour Bank reads one."""
    app = create_app(settings.load())
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000", headers={"Accept": TAXII}) as http,
    ):
        envelope = {"objects": [indicator(id=f"indicator--{uuid4()}") for _ in range(2)]}
        added = await http.post(FEED, json=envelope, headers=basic(*north) | {"Content-Type": TAXII})
        assert added.json()["success_count"] == 2
        read = await http.get(FEED, params={"limit": 1}, headers=basic(*harbour))
        assert len(read.json()["objects"]) == 1


def test_what_was_polled_is_told(run: Run, alliance: Path) -> None:
    """A poll over HTTP, the server's end, and the operator sees it."""
    nothing = run("client", "health")
    north, harbour = issued(run, "north-bank"), issued(run, "harbour-bank")
    asyncio.run(served(north, harbour))
    listed = run("client", "health", "--json").json
    told = run("client", "health", "--behind-after", "0s")

    assert nothing.out == "No client may read anything yet.\n"
    assert [(one["client_id"], one["words"]) for one in listed] == [
        (harbour[0], "up to date"),
        (north[0], "never polled"),
    ]
    assert listed[0].keys() == NAMES
    assert (listed[0]["waiting"], listed[0]["versions"], listed[0]["verdict"]) == (1, 1, "up to date")
    assert listed[0]["behind"] > 0
    _, first, second = told.out.splitlines()
    assert first.startswith(f"{harbour[0]}  harbour-bank  fraud-intel/indicators  ")
    assert "  behind " in first
    assert "never polled" in second


def test_one_client_alone(run: Run, alliance: Path) -> None:
    """A revoked one is told of if it is named; an unknown one is refused."""
    north, _ = issued(run, "north-bank"), issued(run, "harbour-bank")
    run("client", "revoke", north[0])

    [one] = run("client", "health", north[0], "--json").json
    unknown = run("client", "health", "nobody")

    assert one["words"] == "refused: revoked"
    assert (unknown.code, unknown.out) == (1, "")
    assert "There is no client 'nobody'" in unknown.err


@pytest.mark.parametrize("option", ["--behind-after", "--silent-after"])
def test_times_are_lengths_of_time(run: Run, alliance: Path, option: str) -> None:
    assert run("client", "health", option, "soon").code == 2
