"""What is measured, set up as an operator sets it up: PostgreSQL that commits to disk, an alliance, a server with a worker a core."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING
from urllib.parse import quote

import psycopg
from sqlalchemy.engine import make_url

from benchmarks.load import Target, connected
from taxii_server.domain.access import BOTH
from taxii_server.operations import clients
from taxii_server.storage import embedded, migrations
from taxii_server.storage.engine import Database
from taxii_server.web import logs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from taxii_server.storage.embedded import DatabaseUrls

_ROOT = Path(__file__).parent.parent
_MEMBERS = 16
COLLECTIONS = {"strict": "11111111-0000-4000-8000-000000000001", "structural": "11111111-0000-4000-8000-000000000002"}


@dataclass(frozen=True)
class Site:
    """A running server."""

    target: Target
    database: str
    """As the tables' owner, for psycopg."""
    administration: str
    """As PostgreSQL's superuser."""
    pid: int
    postmaster: int
    credentials: list[tuple[str, str]]
    """Client ids and secrets, of members by turns."""
    environment: dict[str, str]
    """What commands run with."""

    def path(self, validation: str) -> str:
        """Give the path of one of the two collections' objects."""
        return f"/taxii2/fraud/collections/{COLLECTIONS[validation]}/objects/"

    def basic(self, number: int) -> str:
        """Give what a client sends as `Authorization`."""
        return basic(*self.credentials[number % len(self.credentials)])

    async def tokens(self) -> list[str]:
        """Get an access token for each client; give what it sends as `Authorization`."""
        got = []
        async with connected(self.target.url) as connection:
            for client, secret in self.credentials:
                body = f"grant_type=client_credentials&client_id={quote(client)}&client_secret={quote(secret)}".encode()
                answer = await connection.ask(
                    self.target.post("/oauth2/token", body, "application/x-www-form-urlencoded")
                )
                got.append("Bearer " + json.loads(answer.body)["access_token"])
        return got


@contextmanager
def running(
    workers: int,
    members: int = _MEMBERS,
    *,
    kept_in: Path | None = None,
    postgres: Mapping[str, str] | None = None,
    more: int = 0,
    **settings: str,
) -> Iterator[Site]:
    """Start everything; stop it on leaving.

    Data goes with it, unless it is `kept_in` a folder. `postgres` are parameters of PostgreSQL, `more` is how many
    collections there are besides the two.
    """
    with ExitStack() as stack:
        folder = kept_in or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="taxii-bench-", ignore_cleanup_errors=True))
        )
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        if postgres:
            # some count from the next start on
            with embedded.running(folder / "data") as urls, psycopg.connect(_superuser(urls), autocommit=True) as admin:
                for name, value in postgres.items():
                    admin.execute(f"ALTER SYSTEM SET {name} = '{value}'")
        urls = stack.enter_context(embedded.running(folder / "data"))
        migrations.upgrade(urls.owner)
        environment = os.environ | {
            "TAXII_DATABASE_URL": urls.server,
            "TAXII_MIGRATION_DATABASE_URL": urls.owner,
            "TAXII_SECRET_KEY": "k" * 40,
            "TAXII_METRICS_PORT": "0",
            "TAXII_LOG_LEVEL": "info",
            # counted as ever, but one client here asks for a whole alliance
            "TAXII_CLIENT_RATE": "9000000/minute",
            "PYTHONPATH": f"{_ROOT / 'src'}",
        }
        environment |= settings
        (folder / "alliance.yaml").write_text(_alliance(members, more))
        subprocess.run(
            [*_CLI, "apply", folder / "alliance.yaml"], env=environment, check=True, stdout=subprocess.DEVNULL
        )
        owner = make_url(urls.owner).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(owner) as connection:
            # those of an earlier run in the same folder, whose secrets nobody has any more
            connection.execute("UPDATE clients SET revoked_at = now() WHERE revoked_at IS NULL")
        issued = asyncio.run(_issue(urls.server, members))
        url, pid = stack.enter_context(
            _serving([*_CLI, "serve", "--port", "0", "--workers", str(workers)], environment)
        )
        with psycopg.connect(owner) as connection:
            started_by = _parent(connection.info.backend_pid)
        yield Site(Target(url), owner, _superuser(urls), pid, started_by, issued, environment)


def versions(here: Site) -> dict[str, str]:
    """Tell what was measured."""
    with psycopg.connect(here.database) as connection:
        [postgres] = connection.execute("SHOW server_version").fetchone() or [""]
    return {"server": metadata.version("taxii-server"), "PostgreSQL": postgres}


@contextmanager
def bare(database: str, workers: int) -> Iterator[str]:
    """Serve the bare route; give its URL."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks.bare:app", "--port", str(port), "--workers", str(workers)]
    environment = os.environ | {"DATABASE": database}
    with process([*command, "--no-access-log"], environment, r"Application startup complete") as _:
        wait(port)  # it says so before it listens
        yield f"http://127.0.0.1:{port}"


def basic(name: str, password: str) -> str:
    """Write Basic credentials."""
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait(port: int) -> None:
    """Wait until somebody listens."""
    for _ in range(400):
        with socket.socket() as trial:
            if trial.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    sys.exit("It doesn't listen.")


_CLI = [sys.executable, "-m", "taxii_server.cli"]


@contextmanager
def _serving(command: list[str], environment: dict[str, str]) -> Iterator[tuple[str, int]]:
    with process(command, environment, r"(http://127\.0\.0\.1:\d+)") as (found, pid):
        yield found, pid


@contextmanager
def process(command: list[str], environment: dict[str, str], ready: str) -> Iterator[tuple[str, int]]:
    """Run a program until it says on standard error what matches `ready`; give that and its process."""
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, env=environment, cwd=_ROOT, stderr=subprocess.PIPE, stdout=log, text=True) as running,
    ):
        try:
            assert running.stderr is not None
            told = []
            for line in running.stderr:
                told.append(line)
                if found := re.search(ready, line):
                    break
            else:
                sys.exit("It did not start:\n" + "".join(told))
            # what it logs goes on to be read by somebody, as it would be
            drain = subprocess.Popen(["cat"], stdin=running.stderr, stdout=log)  # noqa: S607
            yield found[0], running.pid
        finally:
            # in order, so that its own processes end with it
            running.terminate()
            running.wait(60)
        drain.wait(30)


def more_collection(number: int) -> str:
    """Give the id of one of those besides the two."""
    return f"22222222-0000-4000-8000-{number:012}"


def _superuser(urls: DatabaseUrls) -> str:
    return make_url(urls.owner).set(drivername="postgresql", username="postgres").render_as_string(hide_password=False)


def _alliance(members: int, more: int) -> str:
    grants = ", ".join(f"bank-{number}: [read, write]" for number in range(members))
    collections = "".join(
        f"      - {{alias: {alias}, id: {place}, title: {alias}, validation: {alias}, grants: {{{grants}}}}}\n"
        for alias, place in COLLECTIONS.items()
    ) + "".join(
        f"      - {{alias: more-{number}, id: {more_collection(number)}, title: More {number}, "
        "validation: structural, grants: {bank-0: [read, write], bank-1: [read, write]}}\n"
        for number in range(more)
    )
    banks = "".join(f"  bank-{number}: {{name: Bank {number}, kind: bank}}\n" for number in range(members))
    return f"trust_groups:\n  fraud:\n    title: Fraud\n    collections:\n{collections}members:\n{banks}"


async def _issue(url: str, members: int) -> list[tuple[str, str]]:
    logs.configure("json", "warning")
    run = token_hex(3)  # data that is kept has the clients of runs before
    database = Database(url)
    try:
        issued = [
            await clients.issue(database, member=f"bank-{number % members}", name=f"siem-{number}-{run}", rights=BOTH)
            for number in range(64)
        ]
    finally:
        await database.close()
    return [(one.client_id, one.client_secret) for one in issued]


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
