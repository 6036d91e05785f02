"""What the server logs: one line for each request, and never a secret, a token or what was posted.

The server runs as operators run it, in a process of its own, and everything it writes is read.
"""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest

from tests.auth.alliance import BOTH, Alliance, Issued, alliance_in
from tests.factories import envelope, indicator, malware, stix_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from taxii_server.storage.embedded import DatabaseUrls

TAXII = "application/taxii+json;version=2.1"
CANARY = "canary-0b5e7c1d"
"""Stands in bodies, queries, paths, headers and exceptions; it must never be logged."""

BROKEN = f"indicator--{uuid4()}"
HALF = "half-an-answer"
# One object makes the server fail with an exception that quotes everything it can get hold of.
PROGRAM = """
import sys
from taxii_server.operations import objects
from taxii_server.storage import object_pages, object_writes

def breaking(work, broken):
    async def wrapped(*given, **more):
        if broken in repr(given):
            try:
                raise KeyError(repr(given))
            except KeyError as error:
                raise LookupError(f"{given!r} {more!r} CANARY") from error
        return await work(*given, **more)
    return wrapped

object_pages.page = breaking(object_pages.page, "BROKEN")
object_writes.add = breaking(object_writes.add, "BROKEN")

from taxii_server.taxii.responses import TaxiiResponse

answering = TaxiiResponse.__call__

async def breaking_off(self, scope, receive, send):
    if b"HALF" not in self.body:
        return await answering(self, scope, receive, send)
    await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
    await send({"type": "http.response.body", "body": self.body[:10], "more_body": True})
    raise LookupError(repr(self.body))

TaxiiResponse.__call__ = breaking_off

from taxii_server.cli import main
sys.argv = ["taxii-server", "serve", "--port", "0"]
main()
"""


@dataclass
class Running:
    """A server, the clients of it, and what it has logged."""

    url: str
    alliance: Alliance
    north: Issued
    harbour: Issued
    output: Path
    secrets: set[str] = field(default_factory=set)

    def ask(self, method: str, path: str, auth: Issued | str | None = None, **options: Any) -> httpx.Response:
        """Send a request as a client, or with a whole Authorization header."""
        headers = {"Accept": TAXII, "Content-Type": TAXII} | options.pop("headers", {})
        if isinstance(auth, Issued):
            packed = base64.b64encode(f"{auth.client_id}:{auth.secret}".encode()).decode()
            self.secrets |= {auth.secret, packed}
            headers["Authorization"] = f"Basic {packed}"
        elif auth is not None:
            self.secrets |= {auth, auth.rpartition(" ")[2]}
            headers["Authorization"] = auth
        return httpx.request(method, self.url + path, headers=headers, **options)

    def lines(self) -> list[dict[str, Any]]:
        """Everything logged so far: every line of it is JSON."""
        return [json.loads(line) for line in self.output.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def line_of(self, answer: httpx.Response) -> dict[str, Any]:
        """The one line of a request, which is written once the answer was sent."""
        of = answer.headers["x-request-id"]
        [line] = self.wait_for(lambda line: line["event"] == "request" and line["request_id"] == of)
        return line

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool], count: int = 1) -> list[dict[str, Any]]:
        """Give the lines that are wanted, once there are so many."""
        end = time.monotonic() + 10
        while len(found := [line for line in self.lines() if wanted(line)]) < count and time.monotonic() < end:
            time.sleep(0.01)
        return found

    @property
    def feed(self) -> str:
        """The path of the collection."""
        return f"/taxii2/fraud/collections/{self.alliance.collections['fraud/feed']}/objects/"


@contextmanager
def _alliance(urls: DatabaseUrls) -> Iterator[tuple[Alliance, Issued, Issued]]:
    with alliance_in(urls, filled=False) as alliance:
        alliance.group("fraud")
        alliance.collection("fraud", "feed")
        alliance.member("north", fraud_feed=BOTH)
        alliance.member("harbour", fraud_feed=("read",))
        yield alliance, alliance.client("north"), alliance.client("harbour")


@pytest.fixture(scope="module")
def server(module_database_urls: DatabaseUrls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("log-lines")
    output = folder / "output"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TAXII_")} | {
        "TAXII_DATABASE_URL": module_database_urls.server,
        "TAXII_SECRET_KEY": f"{CANARY}-the-key-of-the-server",
        "TAXII_VALIDATOR_PROCESSES": "1",
        "TAXII_METRICS_PORT": "0",
        "TAXII_LOG_FORMAT": "json",
        "TAXII_LOG_LEVEL": "debug",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    program = PROGRAM.replace("BROKEN", BROKEN).replace("CANARY", CANARY).replace("HALF", HALF)
    with (
        _alliance(module_database_urls) as (alliance, north, harbour),
        output.open("w") as written,
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdout=written,
            stderr=written,
            env=environment,
            cwd=folder,
        ) as process,
    ):
        try:
            yield Running(_url(output, process), alliance, north, harbour, output)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0


def _url(output: Path, process: subprocess.Popen[bytes]) -> str:
    while process.poll() is None:
        for line in output.read_text().splitlines():
            if '"event": "serving"' in line:
                return str(json.loads(line)["url"])
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)
    pytest.fail(output.read_text())


def assert_line(line: dict[str, Any], answer: httpx.Response, **fields: object) -> None:
    """A request's line: what every one has, and what this one has besides."""
    common = {"method": answer.request.method, "status": answer.status_code, "level": "info", "event": "request"}
    common["peer"] = "127.0.0.1"
    times = {name: line.pop(name) for name in ("timestamp", "total_ms", "db_ms")}
    assert times["total_ms"] >= times["db_ms"] >= 0
    assert line == {**common, "request_id": answer.headers["x-request-id"], **fields}


OBJECTS = "/taxii2/{trust_group}/collections/{collection}/objects/"


def test_a_push_is_one_line_with_ids_and_counts(server: Running) -> None:
    """Who pushed where, how much of it was taken and stored, and how long it took."""
    good = indicator(id=stix_id("indicator", 1), name=CANARY)
    body = envelope(good, good, {"type": "malware", "name": CANARY})
    answer = server.ask("POST", server.feed, server.north, content=body)

    assert_line(
        server.line_of(answer),
        answer,
        route=OBJECTS,
        client_id=server.north.client_id,
        credential="secret",
        member="north",
        collection_id=str(server.alliance.collections["fraud/feed"]),
        status_id=answer.json()["id"],
        octets=len(body),
        accepted=2,
        stored=1,
        refused=1,
    )


def test_a_poll_is_one_line_with_its_counts(server: Running) -> None:
    """The template of the route stands in it, never the path or the query."""
    answer = server.ask("GET", f"{server.feed}?match[id]={CANARY}&limit=7", server.harbour)

    assert_line(
        server.line_of(answer),
        answer,
        route=OBJECTS,
        client_id=server.harbour.client_id,
        credential="secret",
        member="harbour",
        collection_id=str(server.alliance.collections["fraud/feed"]),
        items=0,
        more=False,
    )


def test_a_refusal_is_one_line_under_the_id_that_the_client_got(server: Running) -> None:
    """`error_id` = X-Request-ID = the line's request_id, so that a client's report leads to the line."""
    for answer, error in (
        (server.ask("POST", server.feed, server.north, content=f'{{"{CANARY}'), "bad-body"),
        (server.ask("POST", server.feed, server.harbour, content=b"{}"), "not-allowed"),
        (server.ask("GET", f"{server.feed}?limit={CANARY}", server.north), "bad-parameter"),
        (server.ask("GET", f"{server.feed}{CANARY}/", server.north), "not-found"),
    ):
        line = server.line_of(answer)
        assert line["error"] == error
        assert line["request_id"] == answer.json()["error_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("path", [f"/{CANARY}", f"/taxii2/fraud/{CANARY}/{CANARY}/x/", "/taxii2/../etc"])
def test_unknown_paths_are_not_quoted(server: Running, path: str) -> None:
    """There is no route to name."""
    answer = server.ask("GET", path, server.north)

    assert answer.status_code == 404
    assert server.line_of(answer)["route"] == "none"


def test_failing_logins_are_told_by_their_reason(server: Running) -> None:
    """The operator learns what was wrong, which the client isn't told."""
    wrong = Issued(0, server.north.client_id, server.harbour.secret)
    for auth, reason in (
        (None, "no credentials"),
        (wrong, "wrong secret"),
        (Issued(0, f"{CANARY}-client", server.north.secret), "unknown client"),
        (f"Bearer {CANARY}.{CANARY}.{CANARY}", None),
        (f"Digest {CANARY}", "unknown authentication scheme"),
        (f"Basic {CANARY}", "Basic credentials are not base64"),
    ):
        answer = server.ask("GET", "/taxii2/", auth)
        line = server.line_of(answer)
        assert answer.status_code == line["status"] == 401
        assert line["error"] == "not-authenticated"
        assert reason is None or line["reason"] == reason


def test_tokens_are_issued_and_used_without_being_told(server: Running) -> None:
    """Neither the secret in a form nor the token that it gives, whether good or tampered with."""
    form = {
        "grant_type": "client_credentials",
        "client_id": server.north.client_id,
        "client_secret": server.north.secret,
    }
    server.secrets.add(server.north.secret)
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = server.ask("POST", "/oauth2/token", headers=headers, data=form)
    token = answer.json()["access_token"]

    assert server.line_of(answer)["route"] == "/oauth2/token"
    good = server.ask("GET", f"{server.feed}?match[type]=none", f"Bearer {token}")
    assert server.line_of(good)["client_id"] == server.north.client_id
    assert server.ask("GET", f"{server.feed}?match[type]=none", f"Bearer {token[:-8]}AAAAAAAA").status_code == 401
    assert (
        server.ask("POST", "/oauth2/token", headers=headers, data=form | {"client_secret": CANARY}).status_code == 401
    )
    assert server.ask("POST", "/oauth2/token", headers=headers, content=f"{CANARY}=%ff&&").status_code == 400
    server.secrets.add(token)
    named = {name: form[name] for name in ("client_id", "client_secret")}
    for revoked in (token, CANARY):
        taken_back = server.ask("POST", "/oauth2/revoke", headers=headers, data=named | {"token": revoked})
        assert taken_back.status_code == 200
    refused = server.ask("GET", f"{server.feed}?match[type]=none", f"Bearer {token}")
    assert server.line_of(refused)["reason"] == "token was revoked"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_fault_is_logged_by_kind_and_place_only(server: Running, method: str) -> None:
    """500: an exception's message may quote anything, so its class and the lines of code stand for it."""
    if method == "GET":
        answer = server.ask("GET", f"{server.feed}{BROKEN}/?match[version]=all", server.north)
    else:
        one = indicator(id=BROKEN, name=CANARY)
        answer = server.ask("POST", server.feed, server.north, content=envelope(one))

    assert answer.status_code == 500
    error = answer.json()
    assert error["error_id"] == answer.headers["x-request-id"] == server.line_of(answer)["request_id"]
    assert CANARY not in answer.text
    assert BROKEN not in answer.text
    [fault] = server.wait_for(lambda line: line.get("request_id") == error["error_id"] and line["event"] != "request")
    assert fault["event"] == "unexpected"
    assert fault["level"] == "critical"
    assert fault["raised"] == ["builtins.LookupError", "builtins.KeyError"]
    assert all(re.fullmatch(r"\S+:\d+ \w+", frame) for frame in fault["where"])


def test_an_answer_that_breaks_off_is_cut_and_logged_by_kind_and_place_only(server: Running) -> None:
    """Its client must not take it for whole; the web server logs what it is given, which quotes nothing."""
    one = malware(id=stix_id("malware", 8), name=f"{HALF} {CANARY}")
    server.ask("POST", server.feed, server.north, content=envelope(one))
    with pytest.raises(httpx.RemoteProtocolError):
        server.ask("GET", f"{server.feed}{one['id']}/", server.north)
    [fault] = server.wait_for(lambda line: line.get("raised") == ["builtins.LookupError"])
    [line] = server.wait_for(lambda line: line["event"] == "request" and line["request_id"] == fault["request_id"])
    assert server.wait_for(lambda line: "Exception in ASGI application" in line["event"])

    assert line["status"] == 200
    assert CANARY not in server.output.read_text()


def test_what_is_no_http_is_not_quoted(server: Running) -> None:
    """The protocol's reader complains of it without repeating it."""
    url = httpx.URL(server.url)
    with socket.create_connection((url.host, url.port or 0), timeout=10) as connection:
        connection.sendall(f"{CANARY} {CANARY}\r\nAuthorization: {CANARY}\r\n\r\n".encode())
        assert b" 400 " in connection.recv(1000)

    assert "Invalid HTTP request received." in server.output.read_text()
    assert CANARY not in server.output.read_text()


def test_each_request_is_one_line_and_nothing_else_is_logged_of_it(server: Running) -> None:
    """No second line by the web server: its access log would quote paths and queries."""
    asked = {
        server.ask("GET", path, server.north).headers["x-request-id"]
        for path in [f"{server.feed}?match[type]=none"] * 3
    }
    last = server.ask("GET", "/healthz")
    asked.add(last.headers["x-request-id"])
    server.line_of(last)
    first = min(number for number, line in enumerate(server.lines()) if line.get("request_id") in asked)
    new = server.lines()[first:]

    assert [line["event"] for line in new] == ["request"] * 4
    assert {line["request_id"] for line in new} == asked


def test_no_secret_and_no_content_is_ever_logged(server: Running) -> None:
    """After a push, failing logins, bad tokens and a fault: everything the process wrote, searched."""
    one = malware(id=stix_id("malware", 9), name=CANARY, x_canary=f"{CANARY} {{}} %s")
    server.ask("POST", server.feed, server.north, content=envelope(one))
    test_a_refusal_is_one_line_under_the_id_that_the_client_got(server)
    test_failing_logins_are_told_by_their_reason(server)
    test_tokens_are_issued_and_used_without_being_told(server)
    for method in ("GET", "POST"):
        test_a_fault_is_logged_by_kind_and_place_only(server, method)
    written = server.output.read_text()

    assert len(server.secrets) > 6
    assert [secret for secret in server.secrets if secret in written] == []
    assert CANARY not in written
    assert "Tollkeeper" not in written
    assert "login.north-bank.example" not in written
    assert not re.search(r"txs_|eyJ[\w-]{10}|[Bb]earer |Basic [A-Za-z0-9+/]{12}|postgresql\+psycopg://", written)
