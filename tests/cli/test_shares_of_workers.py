"""Connections are shared out among workers: pollers keep few open, and one worker that held them all would work alone."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import pytest

from tests.cli.processes import accepted_by, taxii_server

if TYPE_CHECKING:
    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

WORKERS: Final = 3
EACH: Final = 6


def connected(url: str, stack: ExitStack) -> socket.socket:
    """Open a connection that was answered, and keep it."""
    place = urlsplit(url)
    opened = stack.enter_context(socket.create_connection((place.hostname, place.port), timeout=60))
    opened.sendall(f"GET /healthz HTTP/1.1\r\nHost: {place.netloc}\r\n\r\n".encode())
    assert opened.recv(65_536).startswith(b"HTTP/1.1 200 ")
    return opened


def test_each_has_its_share(module_database_urls: DatabaseUrls, tmp_path: Path) -> None:
    """Of those that are opened at first, of those that follow when some were closed, and when a worker was replaced."""
    settings = {
        "TAXII_DATABASE_URL": module_database_urls.server,
        "TAXII_SECRET_KEY": "k" * 32,
        "TAXII_METRICS_PORT": "0",
        "TAXII_DATA_DIR": str(tmp_path),
        "TAXII_VALIDATOR_PROCESSES": "1",
    }
    command = ("serve", "--port", "0", "--workers", str(WORKERS))
    with taxii_server(*command, cwd=tmp_path, settings=settings) as process, ExitStack() as stack:
        said = process.wait_for("Application startup complete", times=WORKERS)
        [url] = set(re.findall(r"http://127\.0\.0\.1:\d+", said))
        workers = {int(number) for number in re.findall(r"Started server process \[(\d+)\]", said)}

        def opened(count: int) -> dict[socket.socket, int]:
            made = [connected(url, stack) for _ in range(count)]
            return {one: accepted_by(one.getsockname()[1], workers) for one in made}

        held = opened(WORKERS * EACH)
        assert Counter(held.values()) == dict.fromkeys(workers, EACH)

        [emptied, *others] = sorted(workers)
        for one in [one for one, worker in held.items() if worker == emptied]:
            one.close()
            del held[one]
        held |= opened(EACH)
        # it may be told of the last one's end only after the first of the new ones
        assert Counter(held.values())[emptied] >= EACH - 2
        assert sum(Counter(held.values()).values()) == WORKERS * EACH

        os.kill(emptied, signal.SIGKILL)
        said = process.wait_for("Application startup complete", times=WORKERS + 1)
        workers = {int(number) for number in re.findall(r"Started server process \[(\d+)\]", said)} - {emptied}
        [replacement] = workers - set(others)
        shares = Counter(opened(EACH).values())
        assert shares[replacement] >= EACH - 2


def test_without_descriptors_connections_wait(module_database_urls: DatabaseUrls, tmp_path: Path) -> None:
    """A worker that may open no more files takes the next connection when another has gone, and goes on meanwhile."""
    settings = {
        "TAXII_DATABASE_URL": module_database_urls.server,
        "TAXII_SECRET_KEY": "k" * 32,
        "TAXII_METRICS_PORT": "0",
        "TAXII_DATA_DIR": str(tmp_path),
        "TAXII_VALIDATOR_PROCESSES": "1",
    }
    with (
        taxii_server("serve", "--port", "0", "--workers", "2", cwd=tmp_path, settings=settings) as process,
        ExitStack() as stack,
    ):
        said = process.wait_for("Application startup complete", times=2)
        [url] = set(re.findall(r"http://127\.0\.0\.1:\d+", said))
        place = urlsplit(url)
        workers = [int(number) for number in re.findall(r"Started server process \[(\d+)\]", said)]
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
