"""What limits come to with several workers, one of them replaced: exactly what docs/operations.md says, and no more."""

from __future__ import annotations

import os
import re
import signal
from typing import TYPE_CHECKING, Final

import pytest

from taxii_server.auth import secrets
from taxii_server.operations import alliance, alliance_file, clients
from taxii_server.storage.engine import Database
from tests.auth.issuer import Issuer
from tests.cli.conftest import ALLIANCE
from tests.cli.processes import taxii_server
from tests.cli.test_refused_on_every_worker import Served, meet
from tests.taxii.alliance import basic

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = [pytest.mark.anyio, pytest.mark.slow, pytest.mark.timeout(180)]

WORKERS: Final = 2
OFTEN: Final = 5
MISTAKES: Final = 4


@pytest.fixture
def tried() -> Iterator[list[Served]]:
    """What was connected to, to be closed."""
    made: list[Served] = []
    yield made
    for one in made:
        for each in one.workers.values():
            each.close()


async def test_a_client_has_its_allowance_in_each_worker_and_once_more_in_a_new_one(
    fresh_database_urls: DatabaseUrls, tmp_path: Path, tried: list[Served]
) -> None:
    """So many requests, and so many failed logins of an address, in each; who has right credentials is let in throughout."""
    db = Database(fresh_database_urls.server, connections=2)
    await alliance.apply(db, alliance_file.parse(ALLIANCE))
    greedy, honest = [await clients.issue(db, "north-bank", name=name) for name in ("greedy", "honest")]
    await db.close()
    settings = {
        "TAXII_DATABASE_URL": fresh_database_urls.server,
        "TAXII_SECRET_KEY": "k" * 32,
        "TAXII_METRICS_PORT": "0",
        "TAXII_DATA_DIR": str(tmp_path),
        "TAXII_VALIDATOR_PROCESSES": "1",
        "TAXII_CLIENT_RATE": f"{OFTEN}/hour",
        "TAXII_FAILED_LOGINS": f"{MISTAKES}/hour",
    }

    def connected(url: str, processes: set[int]) -> Served:
        made = Served(url, db, Issuer(""))
        tried.append(made)
        meet(made, processes)
        return made

    def told(served: Served, worker: int) -> list[int]:
        """Ask one worker: in a loop, with mistakes, and as one should."""
        http = served.workers[worker]
        loop = [http.get("/taxii2/", headers=basic(greedy.client_id, greedy.client_secret)) for _ in range(OFTEN + 3)]
        wrong = [http.get("/taxii2/", headers=basic(honest.client_id, secrets.generate())) for _ in range(MISTAKES + 3)]
        right = http.get("/taxii2/", headers=basic(honest.client_id, honest.client_secret))
        assert 0 < int(loop[-1].headers["retry-after"]) <= 3600 / OFTEN
        assert 0 < int(wrong[-1].headers["retry-after"]) <= 3600 / MISTAKES
        assert right.status_code == 200
        return [answer.status_code for answer in (*loop, *wrong)]

    once = [200] * OFTEN + [429] * 3 + [401] * MISTAKES + [429] * 3
    used_up = [429] * (OFTEN + 3) + [429] * (MISTAKES + 3)
    with taxii_server("serve", "--port", "0", "--workers", str(WORKERS), cwd=tmp_path, settings=settings) as process:
        said = process.wait_for("Application startup complete", times=WORKERS)
        [url] = set(re.findall(r"http://127\.0\.0\.1:\d+", said))
        first, second = (int(number) for number in re.findall(r"Started server process \[(\d+)\]", said))
        served = connected(url, {first, second})

        assert [told(served, worker) for worker in (first, second)] == [once, once]

        os.kill(first, signal.SIGTERM)
        said = process.wait_for("Application startup complete", times=WORKERS + 1)
        third = int(re.findall(r"Started server process \[(\d+)\]", said)[-1])
        again = connected(url, {second, third})

        assert [told(again, worker) for worker in (second, third)] == [used_up, once]
