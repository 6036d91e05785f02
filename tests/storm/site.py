"""Where a storm rages: server processes on ports of their own, which are killed and started again, and PostgreSQL beside them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx

from tests.cli.processes import Process, descendants, taxii_server

if TYPE_CHECKING:
    from collections.abc import Mapping

_READY_WITHIN: Final = 60.0


class Node:
    """One `taxii-server serve`, always on the same port."""

    def __init__(self, folder: Path, workers: int, settings: Mapping[str, str]) -> None:
        """Choose the port; nothing runs yet."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self.workers = workers
        self._folder = folder
        self._settings = {
            "TAXII_SECRET_KEY": "k" * 32,
            "TAXII_METRICS_PORT": "0",
            "TAXII_VALIDATOR_PROCESSES": "1",
            "TAXII_PUBLIC_URL": "http://127.0.0.1:8000",
            "TAXII_CLIENT_RATE": "none",
            "TAXII_LOG_FORMAT": "json",
            "TAXII_LOG_LEVEL": "warning",
            "TAXII_DATABASE_CONNECTIONS": "6",
            **settings,
        }
        self._stack = ExitStack()
        self._process: Process | None = None
        self._said: list[str] = []

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        """All it ever logged."""
        return "".join([*self._said, "" if self._process is None else self._process.said])

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = ("serve", "--port", str(self.port), "--workers", str(self.workers))
        self._process = self._stack.enter_context(taxii_server(*command, cwd=self._folder, settings=self._settings))
        until = time.monotonic() + _READY_WITHIN
        while time.monotonic() < until:
            with suppress(httpx.TransportError):
                httpx.get(f"{self.url}/healthz", timeout=5)
                return
            if self._process.running.poll() is not None:
                break
            time.sleep(0.1)
        raise RuntimeError(f"it does not answer:\n{self.said}")

    def kill(self) -> None:
        """Kill it with all its processes, at once."""
        if self._process is not None:
            mine = self._process.running.pid
            for one in (mine, *descendants(mine)):
                with suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
            self._process.running.wait(_READY_WITHIN)
        self.stop()

    def kill_worker(self, number: int) -> None:
        """Kill one of its workers; it starts another one. Where there is but one, that is the server."""
        if self._process is None or self.workers == 1:
            self.kill()
            self.start()
            return
        command = ["ps", "-o", "pid=,args=", "--ppid", str(self._process.running.pid)]
        listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
        workers = [int(line.split()[0]) for line in listed if "spawn_main" in line]
        if workers:
            with suppress(ProcessLookupError):
                os.kill(workers[number % len(workers)], signal.SIGKILL)

    def stop(self) -> None:
        """Stop it in order, if it runs."""
        self._stack.close()
        if self._process is not None:
            self._said.append(self._process.said)
            self._process = None
