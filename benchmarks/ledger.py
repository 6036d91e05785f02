"""What the disclosure ledger costs: the same server with and without it, by turns, in one run.

    python -m benchmarks.ledger [--clients 16] [--seconds 5] [--rounds 7] [--fill apart]

Two servers of one worker each stand on one PostgreSQL that commits to disk (the embedded one, in a temporary folder). In one
of them this script takes the ledger out, which no setting can. Clients fetch pages of 1,000 objects, first from one, then from
the other, round after round; told are pages a second, the ratio of each pair of rounds, and what commits there were.

`--fill apart` gives each object a date of its own instead of those of one push, so that rows are as long as they get.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from base64 import b64encode
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
from sqlalchemy.engine import make_url

from taxii_server.storage import embedded, migrations
from tests.auth.alliance import Alliance
from tests.factories import as_json, indicator

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT = Path(__file__).parent.parent
_SERVE = "from taxii_server.cli import main; import sys; sys.argv[1:] = ['serve', '--port', '0']; main()"
_WITHOUT = """
import taxii_server.operations.ledger as ledger

async def enter(self, disclosure):
    pass

ledger.Ledger.enter = enter
"""
_PAGE = 1_000
_FILL = """
    INSERT INTO object_versions (collection_id, date_added, stix_id, form, version_at, version, stix_type, digest, body_bytes,
                                 level, marked, superseded_level, newer_form_level, member, status_id, body)
    VALUES (%s, %s::timestamptz + %s * interval '1 microsecond', %s, 21, now(), 'v', 'indicator', '', %s, 0, false, 5, 5, %s,
            gen_random_uuid(), %s)
"""


@dataclass(slots=True)
class _Done:
    pages: int = 0
    seconds: float = 0.0
    """Of processors."""
    medians: list[float] = field(default_factory=list)


@contextmanager
def server(urls: embedded.DatabaseUrls, metrics: int, *, ledger: bool) -> Iterator[tuple[str, int]]:
    """Run a server as `serve` does; give its URL and its process."""
    settings = {
        "TAXII_DATABASE_URL": urls.server,
        "TAXII_SECRET_KEY": "k" * 40,
        "TAXII_METRICS_PORT": str(metrics),
        "TAXII_VALIDATOR_PROCESSES": "1",
        "TAXII_LOG_FORMAT": "json",
        "PYTHONPATH": f"{_ROOT / 'src'}",
    }
    script = _SERVE if ledger else _WITHOUT + _SERVE
    running = subprocess.Popen(
        [sys.executable, "-c", script], env=os.environ | settings, stderr=subprocess.PIPE, text=True
    )
    try:
        assert running.stderr is not None
        for line in running.stderr:
            if found := re.search(r'"url": "([^"]+)"', line):
                break
        else:
            sys.exit("The server didn't start.")
        # its log lines must go somewhere
        drain = subprocess.Popen(["grep", "-v", '"info"'], stdin=running.stderr)  # noqa: S607
        yield found[1], running.pid
        running.terminate()
        running.wait()
        drain.wait()
    finally:
        running.kill()


async def pull(url: str, path: str, credentials: str, seconds: float, times: list[float]) -> None:
    """Fetch one page after the other over one connection."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**22)
    head = f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {credentials}\r\nAccept-Encoding: identity\r\n\r\n"
    until = time.perf_counter() + seconds
    while (begun := time.perf_counter()) < until:
        writer.write(head.encode())
        answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200"), answer
        await reader.readexactly(int(answer.partition(b"content-length: ")[2].split(b"\r", 1)[0]))
        times.append(time.perf_counter() - begun)
    writer.close()


def measure(url: str, path: str, credentials: str, clients: int, seconds: float) -> list[float]:
    """Give how long each page took, of so many clients at once."""
    times: list[float] = []

    async def together() -> None:
        await asyncio.gather(*(pull(url, path, credentials, seconds, times) for _ in range(clients)))

    asyncio.run(together())
    return times


def used(processes: list[int]) -> float:
    """Give the processor's seconds that processes and their children have used so far."""
    ticks = 0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def backends(urls: embedded.DatabaseUrls) -> list[int]:
    """Give every process of PostgreSQL."""
    url = make_url(urls.owner).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT pid FROM pg_stat_activity WHERE pid <> pg_backend_pid()").fetchall()
    return [pid for (pid,) in rows]


def counted(metrics: int) -> tuple[float, float]:
    """Give how many pages were entered in the ledger, and with how many commits."""
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics}/metrics") as answer:
        text = answer.read().decode()

    def value(name: str) -> float:
        return float(text.partition(f"\n{name} ")[2].split("\n", 1)[0])

    return value("taxii_disclosures_total"), value("taxii_disclosures_of_a_commit_count")


def filled(urls: embedded.DatabaseUrls, apart: bool) -> tuple[str, str]:
    """Fill a collection; give the path of a page and a client's credentials."""
    url = make_url(urls.owner).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url, autocommit=True) as connection:
        alliance = Alliance(connection)
        alliance.group("fraud")
        collection = alliance.collection("fraud", "feed")
        member = alliance.member("north", fraud_feed=("read",))
        client = alliance.client("north")
        with connection.transaction(), connection.cursor() as cursor:
            rows = []
            for number in range(2 * _PAGE):
                body = as_json(indicator(id=f"indicator--{uuid4()}")).decode()
                step = 1_234_567 * number + number % 89 if apart else number
                rows.append((collection, "2026-01-01Z", step, json.loads(body)["id"], len(body), member, body))
            cursor.executemany(_FILL, rows)
        connection.execute("VACUUM ANALYZE object_versions")
    basic = b64encode(f"{client.client_id}:{client.secret}".encode()).decode()
    return f"/taxii2/fraud/collections/{collection}/objects/?limit={_PAGE}", f"Basic {basic}"


def main() -> None:
    """Measure and tell."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--clients", type=int, default=16)
    options.add_argument("--seconds", type=float, default=5)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--fill", choices=["push", "apart"], default="push")
    asked = options.parse_args()
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="taxii-bench-", ignore_cleanup_errors=True))
        )
        folder.chmod(0o755)
        urls = stack.enter_context(embedded.running(folder / "data"))
        migrations.upgrade(urls.owner)
        path, credentials = filled(urls, asked.fill == "apart")
        with_ledger = stack.enter_context(server(urls, 19464, ledger=True))
        without = stack.enter_context(server(urls, 19465, ledger=False))
        for clients in (asked.clients, 1):
            for url, _ in (with_ledger, without):
                measure(url, path, credentials, clients, 1)
            before = counted(19464)
            ratios: list[float] = []
            done = {with_ledger: _Done(), without: _Done()}
            for number in range(asked.rounds):
                speeds = {}
                for one in (with_ledger, without) if number % 2 else (without, with_ledger):
                    working = [one[1], *backends(urls)]
                    spent = used(working)
                    times = measure(one[0], path, credentials, clients, asked.seconds)
                    done[one].pages += len(times)
                    done[one].seconds += used(working) - spent
                    done[one].medians.append(statistics.median(times) * 1000)
                    speeds[one] = len(times) / asked.seconds
                ratios.append(speeds[with_ledger] / speeds[without])
            pages, commits = (now - then for now, then in zip(counted(19464), before, strict=True))
            cpu = {one: 1000 * what.seconds / what.pages for one, what in done.items()}
            wait = {one: statistics.median(what.medians) for one, what in done.items()}
            print(
                f"{clients} clients, {asked.rounds} pairs of {asked.seconds:g} s, {done[with_ledger].pages} pages with the ledger"
            )
            print(
                f"  throughput with/without: all pairs {done[with_ledger].pages / done[without].pages:.3f}, "
                f"median of pairs {statistics.median(ratios):.3f} ({min(ratios):.2f} to {max(ratios):.2f})"
            )
            print(
                f"  processor time of server and database a page: {cpu[with_ledger]:.2f} ms with, {cpu[without]:.2f} ms "
                f"without: {cpu[with_ledger] / cpu[without]:.3f}"
            )
            print(f"  a client waits for a page: {wait[with_ledger]:.1f} ms with, {wait[without]:.1f} ms without")
            print(f"  commits a page: {commits / pages:.2f}", flush=True)
        assert counted(19465) == (0, 0)


if __name__ == "__main__":
    main()
