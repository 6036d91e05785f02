"""The examples as processes of their own, against `serve` as a process of its own, with faults in between."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from taxii_server.operations import alliance, alliance_file, clients
from taxii_server.storage.engine import Database
from tests.cli.processes import taxii_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taxii_server.operations.clients import IssuedClient
    from taxii_server.storage.embedded import DatabaseUrls

EXAMPLES = Path(__file__).parents[2] / "examples"
FEEDS = 30
MAX_CONTENT_LENGTH = 20_000
ALLIANCE = """\
trust_groups:
  fraud-intel:
    title: Fraud intelligence
    collections:
{collections}
members:
  north-bank: {{name: North Bank}}
"""
COLLECTION = "{{alias: {alias}, title: {alias}, validation: structural, grants: {{north-bank: [read, write]}}}}"


@dataclass
class Site:
    """A database with collections, one of them a test's, a client, and a server that can be started and ended."""

    settings: dict[str, str]
    folder: Path
    client: IssuedClient
    port: int
    alias: str = "feed-0"

    @property
    def collection(self) -> str:
        """The collection's URL."""
        return f"http://127.0.0.1:{self.port}/taxii2/fraud-intel/collections/{self.alias}/"

    @property
    def auth(self) -> tuple[str, str]:
        """The client's id and secret."""
        return self.client.client_id, self.client.client_secret

    @contextmanager
    def serving(self, **over: str) -> Iterator[subprocess.Popen[str]]:
        """Serve, always on the same port."""
        arguments = ("serve", "--port", str(self.port))
        with taxii_server(*arguments, cwd=self.folder, settings=self.settings | over) as process:
            process.wait_for('"serving"')
            yield process.running

    def versions(self) -> list[dict[str, Any]]:
        """Every version in the collection, in its order, in one page."""
        asked: dict[str, str | int] = {"match[version]": "all", "limit": 10_000}
        answer = httpx.get(f"{self.collection}objects/", params=asked, auth=self.auth, timeout=60).json()
        assert answer.get("more", False) is False
        return list(answer.get("objects", []))

    def environment(self, **over: str) -> dict[str, str]:
        """The environment of an example: its credentials, and no other TAXII_* variable."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("TAXII_")}
        return own | {"TAXII_CLIENT_ID": self.auth[0], "TAXII_CLIENT_SECRET": self.auth[1]} | over

    def run(
        self, script: str, *arguments: str, text: str | None = None, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run an example to its end."""
        return subprocess.run(
            [sys.executable, str(EXAMPLES / script), *arguments],
            input=text,
            env=self.environment(**(env or {})),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )


Answer = tuple[int, dict[str, str], bytes]
Fault = Answer | str | None


def answer(status: int, body: object = None, **headers: str) -> Answer:
    """Make an answer that the server didn't give; a name's underscores stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"Content-Type": "application/taxii+json;version=2.1"} | named, json.dumps(body or {}).encode()


@dataclass
class Proxy:
    """Hands requests on to the server, but for those that it was told to spoil, in order of their arrival.

    A fault is an answer in place of the server's, or "before": the connection is cut before the server hears of the request,
    "after": when it has done its work, or "half": in the middle of its answer.
    """

    target: str
    faults: deque[Fault] = field(default_factory=deque)
    seen: list[tuple[str, str, int]] = field(default_factory=list)
    """Method, path and length of each body, spoiled ones too."""
    port: int = 0
    pause: threading.Event | None = None
    """Where there is one, answers wait for it."""

    def url(self, url: str) -> str:
        """The same place, reached through here."""
        return url.replace(self.target, f"http://127.0.0.1:{self.port}")


def _handler(proxy: Proxy) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 # the base class names it so
            pass

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            proxy.seen.append((self.command, self.path.partition("?")[0], len(body)))
            if proxy.pause is not None:
                proxy.pause.wait(30)
            fault = proxy.faults.popleft() if proxy.faults else None
            if isinstance(fault, tuple):
                self._answer(*fault)
                return
            if fault != "before":
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                real = httpx.request(self.command, proxy.target + self.path, content=body, headers=headers, timeout=60)
                kept = ("content-type", "x-taxii-date-added-first", "x-taxii-date-added-last", "retry-after")
                told = {name: real.headers[name] for name in kept if name in real.headers}
                if fault is None:
                    self._answer(real.status_code, told, real.content)
                    return
                if fault == "half":
                    self._answer(real.status_code, told, real.content, cut=len(real.content) // 2)
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def _answer(self, status: int, headers: dict[str, str], body: bytes, cut: int | None = None) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:cut])

        do_GET = do_POST = _handle  # noqa: N815 # the base class looks for these names

    return Handler


@contextmanager
def proxy_to(site: Site) -> Iterator[Proxy]:
    """Stand between an example and the server."""
    proxy = Proxy(f"http://127.0.0.1:{site.port}")
    with ThreadingHTTPServer(("127.0.0.1", 0), _handler(proxy)) as server:
        server.daemon_threads = True
        proxy.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield proxy
        finally:
            server.shutdown()
            thread.join()


def site_on(urls: DatabaseUrls, folder: Path, **over: str) -> Site:
    """Fill an empty database; nothing is served yet."""
    lines = [f"      - {COLLECTION.format(alias=f'feed-{number}')}" for number in range(FEEDS)]

    async def fill() -> IssuedClient:
        db = Database(urls.server)
        try:
            await alliance.apply(db, alliance_file.parse(ALLIANCE.format(collections="\n".join(lines))))
            return await clients.issue(db, "north-bank", name="example")
        finally:
            await db.close()

    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        port = int(chosen.getsockname()[1])
    settings = {
        "TAXII_DATABASE_URL": urls.server,
        "TAXII_SECRET_KEY": "s" * 40,
        "TAXII_VALIDATOR_PROCESSES": "1",
        "TAXII_METRICS_PORT": "0",
        "TAXII_PUBLIC_URL": f"http://127.0.0.1:{port}",
        **over,
    }
    return Site(settings, folder, asyncio.run(fill()), port)


@pytest.fixture
def site(fresh_database_urls: DatabaseUrls, tmp_path: Path) -> Site:
    """A site for one test alone, which starts and ends its server."""
    return site_on(fresh_database_urls, tmp_path)


@pytest.fixture(scope="module")
def served(module_database_urls: DatabaseUrls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Iterator[Site]]:
    """One server for a module's tests; a collection of it for each that asks."""
    site = site_on(
        module_database_urls, tmp_path_factory.mktemp("site"), TAXII_MAX_CONTENT_LENGTH=str(MAX_CONTENT_LENGTH)
    )
    with site.serving():
        yield (replace(site, alias=f"feed-{number}") for number in range(FEEDS))


@pytest.fixture
def feed(served: Iterator[Site], tmp_path: Path) -> Site:
    """An empty collection on a running server."""
    return replace(next(served), folder=tmp_path)
