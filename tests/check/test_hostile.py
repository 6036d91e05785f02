"""A server that is hostile, or broken in a way that nobody foresaw: no secret goes astray, nothing hangs, no traceback."""

from __future__ import annotations

import base64
import gzip
import itertools
import socket
import threading
from contextlib import suppress
from time import monotonic
from typing import Any

import pytest

from taxii_server.check import exchange
from taxii_server.check.results import Outcome
from tests.check.conftest import look_at
from tests.check.fake import CLIENT, OBJECTS, ROOT, SECRET, TOKEN, Asked, Reply, error, fake_server, on

PACKED = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_to_another_server_gets_no_credentials(status: int) -> None:
    """It is told, not followed."""
    with fake_server() as other, fake_server() as fake:
        fake.alter = lambda asked, _: Reply(status, {}, {"Location": f"{other.url}{asked.path}"})
        looked = look_at(fake.url)

    assert looked.faults == ["answer"]
    assert other.url in looked.of("answer").seen
    assert other.asked == []
    assert fake.credentials == []


def test_a_redirect_after_the_credentials_is_not_followed_either() -> None:
    """A server may send on only those whom it knows."""
    with fake_server() as other, fake_server() as fake:

        def send_on(asked: Asked, reply: Reply) -> Reply:
            return Reply(307, {}, {"Location": f"{other.url}{asked.path}"}) if reply.status == 200 else reply

        fake.alter = send_on
        looked = look_at(fake.url)

    assert looked.faults != []
    assert other.asked == []


def test_a_redirect_within_the_server_is_named() -> None:
    """Many SIEMs follow none."""

    def send_on(asked: Asked, reply: Reply) -> Reply:
        return Reply(308, {}, {"Location": "/taxii2/"}) if asked.path == "/start/" else reply

    with fake_server(send_on) as fake:
        looked = look_at(f"{fake.url}/start/")

    assert looked.warnings[0] == "answer"
    assert "/taxii2/" in looked.of("answer").seen


def test_a_redirect_in_a_circle() -> None:
    """It ends."""
    with fake_server(lambda asked, _: Reply(302, {}, {"Location": asked.path})) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["answer"]


@pytest.mark.parametrize(
    "location", ["", "http://[", "javascript:alert(1)", "\x1b]0;x\x07", "http://evil.example:99999/"]
)
def test_a_redirect_to_nowhere(location: str) -> None:
    """A Location that is none."""
    with fake_server(lambda *_: Reply(302, {}, {"Location": location})) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["answer"]
    assert "\x1b" not in looked.text


@pytest.mark.parametrize("https", [True, False])
def test_plain_http_to_another_machine_is_refused(https: bool) -> None:
    """Nothing is sent there: the tests' watch on sockets would see it."""
    looked = look_at("https://" if https else "http://taxii.example.test/taxii2/")

    assert looked.faults == ["url"]
    assert https or "plain HTTP" in looked.of("url").seen
    assert https or "https://taxii.example.test/" in str(looked.of("url").remedy)


@pytest.mark.parametrize(
    ("root", "outcome"),
    [("https://taxii.example.test/feeds/", Outcome.WARNING), ("https://127.0.0.1/feeds/", Outcome.FAULT)],
)
def test_an_api_root_on_another_server_gets_no_credentials(root: str, outcome: Outcome) -> None:
    """Another host may be meant; another scheme on the same host is a server that doesn't know its own URL."""

    def elsewhere(asked: Asked, reply: Reply) -> Reply:
        if asked.path == "/taxii2/" and reply.status == 200:
            reply.resource["api_roots"].append(root)
        return reply

    with fake_server(elsewhere) as fake:
        looked = look_at(fake.url)

    assert looked.of("api-roots").outcome is outcome
    assert looked.of("api-roots").about == root
    assert looked.of("poll").outcome is Outcome.GOOD


@pytest.mark.parametrize("root", ["https://taxii.example.test/feeds/", "https://127.0.0.1/feeds/"])
def test_a_server_that_has_all_its_api_roots_elsewhere(root: str) -> None:
    """What was given is not its name, or it doesn't know its name: no poll can be made here."""

    def elsewhere(asked: Asked, reply: Reply) -> Reply:
        if asked.path == "/taxii2/" and reply.status == 200:
            reply.resource |= {"api_roots": [root], "default": root}
        return reply

    with fake_server(elsewhere) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["api-roots"]
    assert root in str(looked.of("api-roots").remedy)
    assert looked.of("poll").outcome is Outcome.SKIPPED


def test_a_token_endpoint_on_another_server_gets_no_secret() -> None:
    """The caller may name it, with --token-url."""
    with fake_server(tokens=True) as other, fake_server(tokens=True) as fake:

        def elsewhere(asked: Asked, reply: Reply) -> Reply:
            if asked.path.startswith("/.well-known"):
                reply.resource["token_endpoint"] = f"{other.url}/oauth2/token"
            return reply

        fake.alter = elsewhere
        looked = look_at(fake.url)
        asked = list(other.asked)
        named = look_at(fake.url, token_url=f"{other.url}/oauth2/token")

    assert looked.faults == []
    assert "token" in looked.warnings
    assert asked == []
    assert "a token both work" in named.of("way-in").seen


@pytest.mark.parametrize("endpoint", ["http://taxii.example.test/token", "ftp://127.0.0.1/", "token", 3, "http://["])
def test_a_token_endpoint_that_is_none(endpoint: Any) -> None:
    """A secret may not travel in clear."""

    def strange(asked: Asked, reply: Reply) -> Reply:
        return Reply(200, {"token_endpoint": endpoint}) if asked.path.startswith("/.well-known") else reply

    with fake_server(strange) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["token"]


def test_secrets_that_come_back_are_not_shown() -> None:
    """A server may repeat what it was sent, in any form and any place."""

    def parrot(asked: Asked, reply: Reply) -> Reply:
        if not asked.path.startswith("/taxii2"):
            return reply
        told = " ".join([asked.headers.get("authorization", ""), SECRET, PACKED, TOKEN, "x" * 150, SECRET])
        if reply.status != 200:
            return error(reply.status, told, **{"WWW-Authenticate": f"Basic {PACKED}"})
        return (
            Reply(500, {"title": told, "description": SECRET * 9, "error_id": PACKED})
            if "collections" in asked.path
            else (reply.resource.update(title=told) or reply)
        )

    with fake_server(parrot, tokens=True) as fake:
        looked = look_at(fake.url)

    assert "[secret]" in looked.text
    assert [one for one in (SECRET, PACKED, PACKED.rstrip("="), TOKEN, SECRET[:12]) if one in looked.text] == []


def test_credentials_in_the_url_are_left_out() -> None:
    """They are neither sent nor shown, and it is said that they were left out."""
    with fake_server() as fake:
        looked = look_at(fake.url.replace("://", "://someone:hidden-password@"), client_id=None, secret=None)

    assert looked.warnings[0] == "url"
    assert "hidden-password" not in looked.text
    assert fake.credentials == []


def test_what_a_server_says_does_nothing_to_a_terminal() -> None:
    """Escape sequences, line breaks, direction marks, in every text that is shown."""
    nasty = "\x1b[2J\x1b]0;owned\x07\r\n✓ all well\u202e\u200b\x9b31m"

    def shout(_: Asked, reply: Reply) -> Reply:
        if reply.status == 200 and isinstance(reply.resource, dict):
            reply.resource |= {"title": nasty}
            for one in reply.resource.get("collections", []):
                one["title"] = nasty
        return reply

    with fake_server(shout) as fake:
        looked = look_at(fake.url)

    assert looked.faults == []
    assert "\\u001b[2J" in looked.text
    assert not {"\x1b", "\r", "\x07", "\u202e", "\u200b", "\x9b"} & set(looked.text)
    assert all("\n" not in one.seen for one in looked.results)


def test_a_server_that_says_much_is_cut_short() -> None:
    """Whatever there is much of: what went before stays on the screen."""
    challenges = ", ".join(f"Basic, scheme{number}" for number in range(20_000))

    def chatter(asked: Asked, reply: Reply) -> Reply:
        if asked.path == "/oauth2/token":
            return Reply(200, body=b'{"access_token": "the-token-of-the-tests", "expires_in": ' + b"9" * 4000 + b"}")
        if reply.status == 401:
            reply.headers["WWW-Authenticate"] = challenges[:60_000]
        if reply.status == 200 and asked.path == "/taxii2/":
            reply.resource["api_roots"] = [*reply.resource["api_roots"], *["//x"] * 1000]
        return reply

    with fake_server(chatter, tokens=True) as fake:
        looked = look_at(fake.url)

    assert looked.of("discovery").seen.startswith("api_roots holds")
    assert looked.of("token").seen.startswith("the server takes a token for 9,999")
    assert max(len(one.seen) for one in looked.results) <= 2000


def test_api_roots_without_number_are_not_all_read() -> None:
    """8 MiB hold a million of them, and each takes a moment to take apart."""

    def many(_: Asked, reply: Reply) -> Reply:
        reply.resource["api_roots"] += ["/x/"] * 100_000
        return reply

    with fake_server(on("/taxii2/", many)) as fake:
        started = monotonic()
        looked = look_at(fake.url, api_root=ROOT.split("/")[-2])

    assert looked.faults == []
    assert "100,001 API Roots" in looked.of("discovery").seen
    assert monotonic() - started < 10


def test_a_page_of_a_million_objects_is_not_kept() -> None:
    """One comes in 8 MiB, and a check reads several pages."""
    many = Reply(200, body=b'{"more": true, "next": "x", "objects": [' + b"{}," * 1_000_000 + b"{}]}")
    with fake_server(on(OBJECTS, lambda *_: many)) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["poll"]
    assert looked.of("poll").seen == "1,000,001 objects came where limit=10 was asked for"


def test_a_million_collections_are_not_looked_at() -> None:
    """Each would be kept, and what is wrong with it."""
    many = Reply(200, body=b'{"collections": [' + b"{}," * 1_000_000 + b"{}]}")
    with fake_server(on(f"{ROOT}collections/", lambda *_: many)) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["collections"]
    assert looked.of("collections").seen == "1,000,001 collections, and they were not looked at"


def test_a_drip_is_given_up() -> None:
    """An octet at a time keeps every other limit from running out."""
    with fake_server(lambda *_: Reply(200, body=itertools.repeat(b" "))) as fake:
        started = monotonic()
        looked = look_at(fake.url, timeout=0.4)

    assert looked.faults == ["answer"]
    assert "0.4 s" in looked.of("answer").seen
    assert monotonic() - started < 10


def test_slow_answers_are_not_waited_for_for_ever() -> None:
    """Three that don't come are enough."""

    def slow(asked: Asked, reply: Reply) -> Reply:
        if asked.path.startswith(f"{ROOT}collections/") and reply.status == 200 and asked.path != f"{ROOT}collections/":
            reply.body = itertools.repeat(b" ")
        return reply

    with fake_server(slow) as fake:
        looked = look_at(fake.url, timeout=0.4)

    assert looked.faults[0] == "poll"
    assert looked.of("poll.paging").because == "poll"


def test_a_body_without_end_is_not_kept() -> None:
    """It is read up to a limit."""
    with fake_server(lambda *_: Reply(200, body=b" " * (exchange.MOST_OCTETS + 1))) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["answer"]
    assert "8 MiB" in looked.of("answer").seen


def test_a_bomb_is_not_unpacked() -> None:
    """A small body that unpacks to a large one."""
    bomb = gzip.compress(b" " * (exchange.MOST_OCTETS * 4))
    with fake_server(lambda *_: Reply(200, {}, {"Content-Encoding": "gzip"}, bomb)) as fake:
        looked = look_at(fake.url)

    assert len(bomb) < 100_000
    assert looked.faults == ["answer"]
    assert "unpack to more than 8 MiB" in looked.of("answer").seen


@pytest.mark.parametrize(("coding", "body"), [("gzip", b"not gzip"), ("br", b"{}"), ("gzip, gzip", b"{}")])
def test_a_coding_that_can_not_be_read(coding: str, body: bytes) -> None:
    """Not packed as it says, or in a way nobody asked for."""
    with fake_server(lambda *_: Reply(200, {}, {"Content-Encoding": coding}, body)) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["answer"]
    assert coding in looked.of("answer").seen


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b'{"title": NaN', b"9" * 10_000, b""],
    ids=["lists", "objects", "no UTF-8", "cut off", "a number", "nothing"],
)
def test_json_that_is_none(body: bytes) -> None:
    """Nested past all reason, cut off, no text."""
    with fake_server(lambda _, reply: Reply(reply.status, headers=reply.headers, body=body)) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["discovery"]
    assert "stumbled" not in looked.text


def test_something_that_is_not_http() -> None:
    """SSH, say."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def greet() -> None:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    connection.recv(1000)
                    connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")

        thread = threading.Thread(target=greet)
        thread.start()
        looked = look_at(f"http://127.0.0.1:{listener.getsockname()[1]}")
        thread.join(10)

    assert looked.faults == ["answer"]
    assert "not HTTP" in looked.of("answer").seen


def test_nobody_listens() -> None:
    """Refused is told apart from unreachable."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    looked = look_at(f"http://127.0.0.1:{port}/")

    assert looked.faults == ["tcp"]
    assert "refused" in looked.of("tcp").seen
    assert "whether the server runs" in str(looked.of("tcp").remedy)


@pytest.mark.parametrize("code", [socket.EAI_NONAME, socket.EAI_AGAIN])
def test_a_host_without_an_address(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """A slip, or a machine that may not look up outside names."""

    def nobody(*_: object, **__: object) -> object:
        raise socket.gaierror(code, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    looked = look_at("https://taxii.exmaple.test/")

    assert looked.faults == ["dns"]
    assert "taxii.exmaple.test" in looked.of("dns").seen
    assert "spelling" in str(looked.of("dns").remedy)


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "ftp://taxii.example/",
        "https://",
        "https://exa mple/",
        "http://[::1",
        "\x1b[2J",
        "https://a:99999/",
        "x" * 5_000,
    ],
)
def test_a_url_that_is_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said so; nothing is tried."""
    monkeypatch.setattr(socket, "getaddrinfo", _nobody)
    looked = look_at(url)

    assert looked.faults in (["url"], ["dns"])
    assert "\x1b" not in looked.text
    assert "stumbled" not in looked.text


def _nobody(*_: object, **__: object) -> object:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


def test_cookies_are_no_way_in() -> None:
    """A session that the server opens is not kept: each request brings what it was given and nothing else."""

    def cookie(_: Asked, reply: Reply) -> Reply:
        reply.headers["Set-Cookie"] = "session=1"
        return reply

    with fake_server(cookie) as fake:
        look_at(fake.url)

    assert [one for one in fake.asked if "cookie" in one.headers] == []


def test_nothing_is_written() -> None:
    """A check reads; what it posts goes to the token endpoint alone."""
    with fake_server(tokens=True) as fake:
        look_at(fake.url)

    assert {one.path for one in fake.asked if one.method != "GET"} == {"/oauth2/token"}
    assert [one for one in fake.asked if one.path == OBJECTS] != []


def test_a_server_that_wants_to_be_asked_less_often_is_left_alone() -> None:
    """429 is told once, and nothing more is asked."""

    def limited(asked: Asked, reply: Reply) -> Reply:
        return error(429, "Slow down") if asked.path == OBJECTS and reply.status == 200 else reply

    with fake_server(limited) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["poll"]
    assert "429" in looked.of("poll").seen
    assert fake.asked[-1].path == OBJECTS


@pytest.mark.slow
def test_the_fourth_slow_answer_is_not_waited_for() -> None:
    """What isn't asked any more is skipped, not wrong."""
    waiting = ("/taxii2", "/taxii2/")

    def slow(asked: Asked, reply: Reply) -> Reply:
        if asked.path in waiting and reply.status == 200 and fake.credentials[1:]:
            reply.body = itertools.repeat(b" ")
        return reply

    with fake_server(slow) as fake:
        looked = look_at(fake.url, timeout=0.3)

    assert looked.faults == ["discovery", "accept", "slashes"]
    assert looked.of("poll").outcome is Outcome.SKIPPED
