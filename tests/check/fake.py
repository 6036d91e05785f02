"""A small TAXII 2.1 server on a real port that does everything right, until a test gives it one fault.

    with fake_server(alter=lambda asked, reply: …) as fake:
        fake.url, fake.asked

`alter` may change a reply, or give octets of its own; what it gives as chunks is sent one by one, slowly.
"""

from __future__ import annotations

import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

TAXII: Final = "application/taxii+json;version=2.1"
CLIENT: Final = "harbour-bank.siem"
SECRET: Final = "the-secret-of-the-tests"
TOKEN: Final = "the-token-of-the-tests"
ROOT: Final = "/taxii2/feeds/"
COLLECTION: Final = "91a7b528-80eb-42ed-a74d-c6fbd5a26116"
FEED: Final = f"{ROOT}collections/{COLLECTION}/"
OBJECTS: Final = f"{FEED}objects/"

FIRST: Final = "X-TAXII-Date-Added-First"
LAST: Final = "X-TAXII-Date-Added-Last"


@dataclass(frozen=True)
class Asked:
    """A request."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]

    def without(self, parameter: str) -> Asked:
        """The same without one of its parameters."""
        query = {name: value for name, value in self.query.items() if name != parameter}
        return Asked(self.method, self.path, query, self.headers)


@dataclass
class Reply:
    """An answer, before it is sent."""

    status: int
    resource: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] | None = None


Alter = Callable[[Asked, Reply], Reply | None]


def stix(count: int = 12) -> list[tuple[str, dict[str, Any]]]:
    """Objects in the order in which they were added, with their dates."""
    kinds = ("indicator", "malware", "tool")
    return [
        (
            f"2026-05-02T00:00:00.{number:06}Z",
            {
                "type": kinds[number % 3],
                "spec_version": "2.1",
                "id": f"{kinds[number % 3]}--00000000-0000-4000-8000-{number:012}",
                "created": "2026-05-01T00:00:00.000Z",
                "modified": "2026-05-01T00:00:00.000Z",
            },
        )
        for number in range(count)
    ]


class FakeServer:
    """Where it is, and what it was asked."""

    def __init__(
        self, alter: Alter | None, host: str, secret: str, tls: ssl.SSLContext | None, *, tokens: bool
    ) -> None:
        self.alter = alter or (lambda _, reply: reply)
        self.secret = secret
        self.tokens = tokens
        self.objects = stix()
        self.asked: list[Asked] = []
        self.closing = threading.Event()
        self._server = _Server((host, 0), _Handler)
        self._server.fake = self
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.port: int = self._server.server_address[1]
        self.url = f"{'https' if tls else 'http'}://{host}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop, and let nothing linger."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def credentials(self) -> list[str]:
        """Every Authorization that reached it."""
        return [one.headers["authorization"] for one in self.asked if "authorization" in one.headers]

    def reply(self, asked: Asked) -> Reply:
        """Answer as a good server does."""
        given = asked.headers.get("authorization", "")
        basic = "Basic " + base64.b64encode(f"{CLIENT}:{self.secret}".encode()).decode()
        if self.tokens and asked.path == "/.well-known/oauth-authorization-server":
            return Reply(200, {"issuer": self.url, "token_endpoint": f"{self.url}/oauth2/token"})
        if asked.path == "/oauth2/token":
            issued = {"access_token": TOKEN, "token_type": "Bearer", "expires_in": 900}
            return Reply(200, issued) if given == basic else Reply(401, {"error": "invalid_client"})
        if not asked.path.startswith("/taxii2"):
            return error(404, "Not found")
        if given not in {basic, f"Bearer {TOKEN}"}:
            return error(401, "Not authenticated", **{"WWW-Authenticate": 'Basic realm="x"'})
        if "taxii+json" not in asked.headers.get("accept", ""):
            return error(406, "Not acceptable")
        return self._granted(asked)

    def _granted(self, asked: Asked) -> Reply:
        path = asked.path if asked.path.endswith("/") else f"{asked.path}/"
        match path:
            case "/taxii2/":
                root = f"{self.url}{ROOT}"
                return Reply(200, {"title": "Fake", "default": root, "api_roots": [root]})
            case _ if path == ROOT:
                return Reply(200, {"title": "Feeds", "versions": [TAXII], "max_content_length": 10_485_760})
            case _ if path == f"{ROOT}collections/":
                one = {"id": COLLECTION, "alias": "feed", "title": "Feed", "can_read": True, "can_write": False}
                return Reply(200, {"collections": [one]})
            case _ if path in {OBJECTS, f"{FEED}manifest/"}:
                return self._page(asked, manifest=path != OBJECTS)
            case _:
                return error(404, "Not found")

    def _page(self, asked: Asked, *, manifest: bool) -> Reply:
        after = max(asked.query.get("added_after", ""), asked.query.get("next", ""))
        kind = asked.query.get("match[type]")
        fits = [each for each in self.objects if each[0] > after and kind in {None, each[1]["type"]}]
        limit = int(asked.query.get("limit", "1000"))
        page = fits[:limit]
        items = [
            {"id": one["id"], "date_added": date, "version": one["modified"]} if manifest else one for date, one in page
        ]
        envelope: dict[str, Any] = {"objects": items} if items else {}
        if len(fits) > limit:
            envelope |= {"more": True, "next": page[-1][0]}
        return Reply(200, envelope, {FIRST: page[0][0], LAST: page[-1][0]} if page else {})


def error(status: int, title: str, **headers: str) -> Reply:
    """A TAXII error."""
    return Reply(status, {"title": title, "http_status": str(status)}, headers)


def on(path: str, change: Any) -> Alter:
    """Change the replies of one path that were granted."""
    return lambda asked, reply: change(asked, reply) if asked.path == path and reply.status == 200 else reply


def with_resource(**members: Any) -> Any:
    """Set members of the resource; None takes one out."""

    def change(_: Asked, reply: Reply) -> Reply:
        changed = reply.resource | members
        reply.resource = {name: value for name, value in changed.items() if value is not None}
        return reply

    return change


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    fake: FakeServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up, or a handshake that fails, is what these tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20
    wbufsize = 65_536  # head and body in one go, or each answer waits for an ACK
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self._answer()

    def _answer(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, url.path, query, headers)
        fake = self.server.fake
        fake.asked.append(asked)
        reply = fake.alter(asked, good := fake.reply(asked)) or good
        body = reply.body if reply.body is not None else json.dumps(reply.resource).encode()
        sent = {"Content-Type": TAXII, "Date": format_datetime(datetime.now(UTC), usegmt=True)} | reply.headers
        self.send_response_only(reply.status)
        if isinstance(body, bytes):
            sent |= {"Content-Length": str(len(body))}
        else:
            sent |= {"Connection": "close"}
        for name, value in sent.items():
            self.send_header(name, value)
        self.end_headers()
        with suppress(OSError):
            self._send(body)

    def _send(self, body: bytes | Iterable[bytes]) -> None:
        if isinstance(body, bytes):
            self.wfile.write(body)
            return
        self.close_connection = True
        for part in body:
            self.wfile.write(part)
            self.wfile.flush()
            if self.server.fake.closing.wait(0.02):
                return


@contextmanager
def fake_server(
    alter: Alter | None = None,
    *,
    host: str = "127.0.0.1",
    secret: str = SECRET,
    tls: ssl.SSLContext | None = None,
    tokens: bool = False,
) -> Iterator[FakeServer]:
    """Run one until the end of the block."""
    fake = FakeServer(alter, host, secret, tls, tokens=tokens)
    try:
        yield fake
    finally:
        fake.close()
