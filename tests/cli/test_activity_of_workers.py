"""What real worker processes note of clients comes together, and a killed one takes along only its own last interval."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.cli.processes import PATIENCE, descendants, taxii_server
from tests.taxii.alliance import TAXII, basic

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

pytestmark = pytest.mark.slow

FEED = "/taxii2/fraud-intel/collections/indicators/objects/"
POLLS = 40


def url_of(said: str) -> str:
    return str(next(json.loads(line)["url"] for line in said.splitlines() if '"serving"' in line))


def poll(url: str, credentials: dict[str, str], times: int) -> None:
    """Poll, each time over another connection, so that every worker gets some."""
    headers = credentials | {"Accept": TAXII, "Connection": "close"}
    with httpx.Client(headers=headers, timeout=PATIENCE) as http:
        for _ in range(times):
            assert http.get(url + FEED).status_code == 200


def poll_once_served(url: str, credentials: dict[str, str]) -> None:
    """Poll once workers are back."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        try:
            poll(url, credentials, 1)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("no worker came back")


def test_workers_add_up_and_the_killed_take_nothing_of_others_along(
    run: Run, alliance: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    """With an interval that never ends, all that is known was saved when workers ended; the killed saved nothing."""
    client = run("client", "issue", "harbour-bank", "--name", "siem", "--json").json
    credentials = basic(client["client_id"], client["client_secret"])
    settings = environment | {"TAXII_ACTIVITY_INTERVAL": "PT10M", "TAXII_LOG_FORMAT": "json"}

    def known() -> int:
        [one] = run("client", "health", "--json").json
        return int(one["polls"])

    with taxii_server("serve", "--port", "0", "--workers", "2", cwd=tmp_path, settings=settings) as process:
        url = url_of(process.wait_for('"serving"'))
        poll_once_served(url, credentials)
        poll(url, credentials, POLLS - 1)
        assert known() == 0
        process.stop(signal.SIGTERM)
    assert known() == POLLS

    with taxii_server("serve", "--port", "0", "--workers", "2", cwd=tmp_path, settings=settings) as process:
        url = url_of(process.wait_for('"serving"'))
        poll_once_served(url, credentials)
        poll(url, credentials, POLLS)
        for each in descendants(process.running.pid):
            os.kill(each, signal.SIGKILL)
        # a worker that was just killed may still hold the line for a moment: what counts is who answers
        poll_once_served(url, credentials)
        process.stop(signal.SIGTERM)
    assert known() == POLLS + 1


def test_a_worker_saves_while_it_serves(run: Run, alliance: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """Killed later, what it had saved stays."""
    client = run("client", "issue", "harbour-bank", "--name", "siem", "--json").json
    credentials = basic(client["client_id"], client["client_secret"])
    settings = environment | {"TAXII_ACTIVITY_INTERVAL": "PT1S", "TAXII_LOG_FORMAT": "json"}
    with taxii_server("serve", "--port", "0", cwd=tmp_path, settings=settings) as process:
        url = url_of(process.wait_for('"serving"'))
        poll_once_served(url, credentials)
        until = time.monotonic() + PATIENCE
        while run("client", "health", "--json").json[0]["polls"] < 1:
            assert time.monotonic() < until, re.sub(r"\s+", " ", process.said)
            time.sleep(0.05)
        process.stop(signal.SIGKILL)

    assert run("client", "health", "--json").json[0]["words"] == "up to date"
