"""Connections are shared out among workers: pollers keep few open, and one worker that held them all would work alone."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest

from tests.cli.processes import Process, accepted_by, taxii_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

WORKERS: Final = 3
EACH: Final = 6


def workers_of(said: str) -> set[int]:
    return {int(number) for number in re.findall(r"Started server process \[(\d+)\]", said)}


@contextmanager
def served(database_urls: DatabaseUrls, folder: Path, workers: int) -> Iterator[tuple[Process, str, set[int]]]:
    """Serve; give the process, where it listens and its workers."""
    settings = {
        "TAXII_DATABASE_URL": database_urls.server,
        "TAXII_SECRET_KEY": "k" * 32,
        "TAXII_METRICS_PORT": "0",
        "TAXII_DATA_DIR": str(folder),
        "TAXII_VALIDATOR_PROCESSES": "1",
    }
    command = ("serve", "--port", "0", "--workers", str(workers))
    with taxii_server(*command, cwd=folder, settings=settings) as process:
        said = process.wait_for("Application startup complete", times=workers)
        [url] = set(re.findall(r"http://127\.0\.0\.1:\d+", said))
        yield process, url, workers_of(said)


def connected(url: str, stack: ExitStack) -> socket.socket:
    """Open a connection that was answered, and keep it."""
    place = urlsplit(url)
    opened = stack.enter_context(socket.create_connection((place.hostname, place.port), timeout=60))
    opened.sendall(f"GET /healthz HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
    assert opened.recv(65_536).startswith(b"HTTP/1.1 200 ")
    return opened


def test_each_has_its_share(module_database_urls: DatabaseUrls, tmp_path: Path) -> None:
    """Of those that are opened at first, of those that follow when some were closed, and when a worker was replaced."""
    with served(module_database_urls, tmp_path, WORKERS) as (process, url, workers), ExitStack() as stack:

        def opened(count: int) -> dict[socket.socket, int]:
            made = [connected(url, stack) for _ in range(count)]
            return {one: accepted_by(one.getsockname()[1], workers) for one in made}

        held = opened(WORKERS * EACH)
        assert Counter(held.values()) == dict.fromkeys(workers, EACH)

        emptied = min(workers)
        for one in [one for one, worker in held.items() if worker == emptied]:
            one.close()
            del held[one]
        held |= opened(EACH)
        # it may be told of the last one's end only after the first of the new ones
        assert Counter(held.values())[emptied] >= EACH - 2
        assert sum(Counter(held.values()).values()) == WORKERS * EACH

        os.kill(emptied, signal.SIGKILL)
        started = workers_of(process.wait_for("Application startup complete", times=WORKERS + 1))
        [replacement] = started - workers
        workers.remove(emptied)
        workers.add(replacement)
        shares = Counter(opened(EACH).values())
        assert shares[replacement] >= EACH - 2


def test_without_descriptors_connections_wait(module_database_urls: DatabaseUrls, tmp_path: Path) -> None:
    """A worker that may open no more files takes the next connection when another has gone, and goes on meanwhile."""
    with served(module_database_urls, tmp_path, 2) as (process, url, workers), ExitStack() as stack:
        place = urlsplit(url)
        for worker in workers:
            used = len(list(Path(f"/proc/{worker}/fd").iterdir()))
            resource.prlimit(worker, resource.RLIMIT_NOFILE, (used + 8, used + 8))
        held = [
            stack.enter_context(socket.create_connection((place.hostname, place.port), timeout=60)) for _ in range(24)
        ]
        process.wait_for("connections_wait")
        for one in held:
            one.close()
        connected(url, stack)
        assert all(Path(f"/proc/{worker}").exists() for worker in workers)
