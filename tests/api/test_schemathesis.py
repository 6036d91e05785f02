"""schemathesis reads the documents that the server gives out, and asks it whatever they allow and forbid.

A longer hunt by hand: SCHEMATHESIS_EXAMPLES=2000 SCHEMATHESIS_SEED=7 pytest -m slow tests/api/test_schemathesis.py
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from taxii_server.web.request_log import REQUESTS
from tests.api import schemathesis_hooks
from tests.api.demo import Demo, serving
from tests.api.document import operations

if TYPE_CHECKING:
    from collections.abc import Mapping

HERE = Path(__file__).parent
EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "0"))
SEED = os.environ.get("SCHEMATHESIS_SEED", "1")
ROUTES = {(one.method.upper(), one.path) for one in operations() if one.path.startswith("/taxii2/")}

# The hunts take one to two minutes on two idle cores; a busy machine may take its time.
pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(600 + 2 * EXAMPLES)]

Tally = Counter[tuple[str, str, int]]


async def _hunt(
    demo: Demo, document: str, headers: Mapping[str, str], examples: int, tmp_path: Path, *phases: str
) -> Tally:
    """Have schemathesis try everything it knows, and count what was answered by method, route and status."""
    before = _tally()
    async with serving(demo) as url:
        command: list[str | Path] = [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "schemathesis.toml"),
            *("run", f"{url}{document}", "--seed", SEED, "--max-examples", str(EXAMPLES or examples), "--no-color"),
            *(("--phases", ",".join(phases)) if phases and not EXAMPLES else ()),
            *(part for name, value in headers.items() for part in ("--header", f"{name}: {value}")),
        ]
        hooks = {"SCHEMATHESIS_HOOKS": schemathesis_hooks.__name__, "PYTHONPATH": str(HERE.parents[1])}
        # thousands of log lines tell nothing
        with capture_logs():
            process = await asyncio.create_subprocess_exec(
                *command,
                env=os.environ | hooks,
                cwd=tmp_path,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await process.communicate()

    told = output.decode()
    assert process.returncode == 0, told
    # nothing was passed over in silence
    assert "error" not in told.lower().partition("summary")[2], told
    return _tally() - before


def _tally() -> Tally:
    found: Tally = Counter()
    for family in REQUESTS.collect():
        for sample in family.samples:
            if sample.name == "taxii_requests_total":
                labels = sample.labels
                found[labels["method"], labels["route"], int(labels["status"])] += int(sample.value)
    return found


def _answers(tally: Tally, method: str, route: str) -> set[int]:
    return {status for (of, at, status), times in tally.items() if (of, at) == (method, route) and times}


async def test_who_may_do_everything(demo: Demo, tmp_path: Path) -> None:
    """No fault, no status, header, type or body that isn't documented; nothing bad taken, nothing good refused."""
    tally = await _hunt(demo, "/openapi.json", demo.as_("north"), 30, tmp_path)

    # a hunt that met nothing but closed doors proves nothing
    lacking = {route for route in ROUTES if not _answers(tally, *route) & {200, 202}}
    assert lacking == set()
    assert {400, 401, 404} <= {status for _, _, status in tally}


async def test_who_may_read(demo: Demo, tmp_path: Path) -> None:
    """The same by token, for a client that may not write."""
    token = await demo.http.post(
        "/oauth2/token", data={"grant_type": "client_credentials"}, headers=demo.as_("harbour")
    )
    bearer = {"Authorization": f"Bearer {token.json()['access_token']}"}
    tally = await _hunt(demo, "/openapi.json", bearer, 8, tmp_path, "examples", "coverage", "fuzzing")

    # who received an object, and how its recall stands, is told to those who may add
    for_reading = {one for one in ROUTES if one[0] == "GET" and not one[1].endswith(("/disclosures/", "/recall/"))}
    assert {
        route for route in for_reading if "status_id" not in route[1] and 200 not in _answers(tally, *route)
    } == set()
    for method, route in ROUTES:
        if (method, route) not in for_reading:
            assert _answers(tally, method, route) <= {401, 403, 404}
            assert 403 in _answers(tally, method, route)


async def test_who_was_granted_nothing(demo: Demo, tmp_path: Path) -> None:
    """Whatever is asked, of what a client may not see it learns nothing: it is not there, or the client isn't known."""
    tally = await _hunt(demo, "/openapi.json", demo.as_("stranger"), 8, tmp_path, "coverage", "fuzzing")

    told = {status for method, route, status in tally if "{trust_group}" in route and method != "other"}
    assert told <= {401, 404, 405, 204}
    assert 404 in told


async def test_operators(demo: Demo, tmp_path: Path) -> None:
    """The operators' document takes no credentials."""
    tally = await _hunt(demo, "/openapi-operators.json", {}, 30, tmp_path)

    assert _answers(tally, "GET", "/healthz") == _answers(tally, "GET", "/readyz") == {200}
