"""examples/poller.py: every version once and in order, whatever is killed, cut or refused on the way."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.examples.conftest import EXAMPLES, Site, answer, proxy_to
from tests.factories import indicator, ipv4, stix_id

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

Stix = dict[str, Any]

PATIENCE = 60


def received(file: Path) -> list[Stix]:
    """Give what a poller stored, in its order."""
    database = sqlite3.connect(file)
    try:
        return [json.loads(text) for (text,) in database.execute("SELECT object FROM received ORDER BY number")]
    finally:
        database.close()


def push(site: Site, objects: list[Stix]) -> None:
    """Add objects, until the server is there to take them."""
    until = time.monotonic() + PATIENCE
    headers = {"Content-Type": "application/taxii+json;version=2.1"}
    while True:
        try:
            url = f"{site.collection}objects/"
            taken = httpx.post(url, json={"objects": objects}, auth=site.auth, headers=headers, timeout=20)
            if taken.status_code == 202 and taken.json()["success_count"] == len(objects):
                return
            assert taken.status_code == 503, taken.text
        except httpx.TransportError:
            pass  # the server is being started again
        assert time.monotonic() < until, "the server takes nothing"
        time.sleep(0.05)


class Writer(threading.Thread):
    """Adds versions of the same few objects, a later one first now and then, and an SCO's, until it is told to stop."""

    def __init__(self, site: Site, number: int) -> None:
        super().__init__()
        self._site = site
        self._number = number
        self.stopping = threading.Event()
        self.told: list[Stix] = []

    def run(self) -> None:
        for count in itertools.count():
            name = f"{self._number}-{count}"
            day = f"2026-{1 + count // 28 % 12:02}-{1 + count % 28:02}T00:{self._number:02}"
            seconds = [2, 1, 3]
            objects = [
                indicator(id=stix_id("indicator", part), modified=f"{day}:{second:02}.{count:03}Z", name=name)
                for part, second in enumerate(seconds)
            ]
            objects.append(ipv4(id=stix_id("ipv4-addr", count), x_told_by=name))
            push(self._site, objects)
            self.told += objects
            if self.stopping.wait(0.01):
                return


def as_key(stix: Stix) -> str:
    return json.dumps(stix, sort_keys=True)


def poll_and_kill(site: Site, *, lives: Sequence[int], writers: int) -> list[int]:
    """Poll while writers write.

    In each life of the server the poller is killed so many times, at random moments, and started again; then the server
    is killed under a poller that goes on into the server's next life, if there is one. In the end the poller has exactly what was written,
    in the server's order. Gives how much it had at each kill.
    """
    chance = random.Random(20261122)
    file = site.folder / "feed.sqlite"
    command = [sys.executable, str(EXAMPLES / "poller.py"), site.collection, str(file)]
    command += ["--interval", "0.02", "--limit", "3", "--backoff", "0.02"]
    writing = [Writer(site, number) for number in range(writers)]
    stored = [0]
    with ExitStack() as stack:
        for writer in writing:
            writer.start()
            stack.callback(writer.join)
            stack.callback(writer.stopping.set)

        def start() -> subprocess.Popen[bytes]:
            log = stack.enter_context((site.folder / "poller.log").open("ab"))
            polling = subprocess.Popen(command, env=site.environment(), stdout=log, stderr=log)
            stack.callback(polling.wait)
            stack.callback(polling.kill)
            return polling

        def until_news(polling: subprocess.Popen[bytes]) -> None:
            until = time.monotonic() + PATIENCE
            while not file.exists() or len(received(file)) <= stored[-1]:
                assert polling.poll() is None, (site.folder / "poller.log").read_text()
                assert time.monotonic() < until, "the poller stores nothing"
                time.sleep(0.02)
            time.sleep(chance.uniform(0, 0.3))

        last, there = None, []
        polling = start()
        for life, kills in enumerate(lives, start=1):
            with site.serving() as server:
                for _ in range(kills):
                    until_news(polling)
                    polling.kill()
                    polling.wait()
                    stored.append(len(received(file)))
                    polling = start()
                until_news(polling)
                if life < len(lives):
                    server.kill()
                    continue
                for writer in writing:
                    writer.stopping.set()
                    writer.join(PATIENCE)
                polling.kill()
                polling.wait()
                stored.append(len(received(file)))
                last = site.run("poller.py", site.collection, str(file), "--once")
                there = site.versions()

    assert last is not None
    assert last.returncode == 0, last.stderr
    assert Counter(as_key(one) for writer in writing for one in writer.told) == Counter(map(as_key, there))
    assert [as_key(one) for one in received(file)] == [as_key(one) for one in there]
    return stored


@pytest.mark.slow
def test_a_killed_poller_has_every_version_once(site: Site) -> None:
    """SIGKILL at random moments, while two writers write."""
    stored = poll_and_kill(site, lives=[2], writers=2)

    assert stored == sorted(set(stored)), "it was killed without having stored something new"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_poller_killed_many_times_has_every_version_once(site: Site) -> None:
    """The same for longer, with more writers and several lives of the server."""
    stored = poll_and_kill(site, lives=[9, 7, 8, 6], writers=4)

    assert len(stored) > 30


@pytest.mark.slow
@pytest.mark.parametrize("credentials", ["basic", "token"])
def test_a_poller_outlasts_what_passes(feed: Site, credentials: str) -> None:
    """503 and 429 with Retry-After, lost connections before, in and after an answer: nothing is lost or repeated."""
    file = feed.folder / "feed.sqlite"
    objects = [indicator(id=stix_id("indicator", number)) for number in range(20)]
    with proxy_to(feed) as proxy:
        push(feed, objects)
        token_url = {"TAXII_TOKEN_URL": proxy.url(f"http://127.0.0.1:{feed.port}/oauth2/token")}
        proxy.faults.extend(
            [
                answer(503, Retry_After="1"),
                "before",
                None,
                "after",
                "half",
                answer(429, Retry_After="0"),
                None,
                answer(502),
            ]
        )
        began = time.monotonic()
        done = feed.run(
            *("poller.py", proxy.url(feed.collection), str(file), "--once", "--limit", "6", "--backoff", "0.01"),
            env=token_url if credentials == "token" else {},
        )
        took = time.monotonic() - began

    assert done.returncode == 0, done.stderr
    assert not proxy.faults
    assert sorted(one["id"] for one in received(file)) == sorted(one["id"] for one in objects)
    assert took > 1
    assert "503; trying again in 1.0 s" in done.stderr or credentials == "token"
    assert ("/oauth2/token" in {path for _, path, _ in proxy.seen}) is (credentials == "token")


@pytest.mark.slow
def test_a_refused_token_is_replaced_once(feed: Site) -> None:
    """After a 401 a new token is fetched; a second 401 in a row is final."""
    file = feed.folder / "feed.sqlite"
    with proxy_to(feed) as proxy:
        push(feed, [indicator(id=stix_id("indicator", number)) for number in range(4)])
        env = {"TAXII_TOKEN_URL": proxy.url(f"http://127.0.0.1:{feed.port}/oauth2/token")}
        arguments = ("poller.py", proxy.url(feed.collection), str(file), "--once", "--limit", "2")
        # token, page 1, page 2 refused, token, page 2
        proxy.faults.extend([None, None, answer(401)])
        replaced = feed.run(*arguments, env=env)
        asked = [path.rpartition("/objects/")[1] or path for _, path, _ in proxy.seen]
        proxy.seen.clear()
        # a run asks once more: token, refused, token, refused
        proxy.faults.extend([None, answer(401)])
        proxy.faults.extend([None, answer(401)])
        refused = feed.run(*arguments, env=env)

    assert replaced.returncode == 0, replaced.stderr
    assert asked == ["/oauth2/token", "/objects/", "/objects/", "/oauth2/token", "/objects/"]
    assert len(received(file)) == 4
    assert (refused.returncode, "401" in refused.stderr) == (1, True)


def test_a_poll_without_news_stores_nothing_and_asks_once(feed: Site) -> None:
    """The next run begins where the last one ended; nothing moves while there is nothing at all."""
    file = feed.folder / "feed.sqlite"
    with proxy_to(feed) as proxy:
        url = proxy.url(feed.collection)
        empty = feed.run("poller.py", url, str(file), "--once")
        proxy.seen.clear()
        push(feed, [indicator(id=stix_id("indicator", number)) for number in range(3)])
        first, second = (feed.run("poller.py", url, str(file), "--once") for _ in range(2))

    assert empty.stdout == "0 new, up to None\n"
    assert first.stdout.startswith("3 new, up to ")
    assert second.stdout.startswith("0 new, up to ")
    assert len(proxy.seen) == 2
    assert len(received(file)) == 3


def test_a_next_that_is_too_old_is_given_up(feed: Site) -> None:
    """The poll goes on from the date of what was stored last."""
    file = feed.folder / "feed.sqlite"
    push(feed, [indicator(id=stix_id("indicator", number)) for number in range(7)])
    assert feed.run("poller.py", feed.collection, str(file), "--once", "--limit", "3").returncode == 0
    database = sqlite3.connect(file)
    with database:
        (third,) = database.execute("SELECT object FROM received WHERE number = 3").fetchone()
        database.execute("DELETE FROM received WHERE number > 3")
        database.execute("UPDATE positions SET added_after = NULL, next = 'rubbish', last = ?", [_date(feed, third)])
    database.close()
    done = feed.run("poller.py", feed.collection, str(file), "--once", "--limit", "3")

    assert done.returncode == 0, done.stderr
    assert sorted(one["id"] for one in received(file)) == sorted(stix_id("indicator", number) for number in range(7))


def _date(feed: Site, text: str) -> str:
    manifest = httpx.get(f"{feed.collection}manifest/", auth=feed.auth).json()["objects"]
    return str(next(one["date_added"] for one in manifest if one["id"] == json.loads(text)["id"]))


@pytest.mark.parametrize(
    ("path", "env", "said"),
    [
        ("/taxii2/fraud-intel/collections/absent/", {}, "404"),
        ("/taxii2/fraud-intel/collections/feed-0/", {"TAXII_CLIENT_SECRET": "wrong"}, "401"),
        ("/taxii2/fraud-intel/", {}, "not the URL of a collection"),
        ("/healthz/collections/x/", {}, "404"),
    ],
)
def test_what_will_not_pass_ends_the_poller(feed: Site, path: str, env: dict[str, str], said: str) -> None:
    """With exit code 1 and what the server said, at once."""
    done = feed.run("poller.py", f"http://127.0.0.1:{feed.port}{path}", "feed.sqlite", env=env)

    assert done.returncode == 1
    assert said in done.stderr


@pytest.mark.parametrize(
    ("url", "said"), [("http://taxii.example.org/x/", "never travel in clear"), ("feed", "not an https:// URL")]
)
def test_credentials_go_nowhere_in_clear(feed: Site, url: str, said: str) -> None:
    """A URL that would send them is refused before anything is sent."""
    done = feed.run("poller.py", url, "feed.sqlite", "--once")

    assert done.returncode == 1
    assert said in done.stderr


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_what_stays_on_this_machine_goes_through_no_proxy(feed: Site, variable: str) -> None:
    """A bank's machines name a proxy for all; it would read the credentials of a plain http:// URL."""
    push(feed, [indicator()])
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        env = {"no_proxy": "", "NO_PROXY": "", variable: f"http://127.0.0.1:{proxy.getsockname()[1]}"}
        done = feed.run("poller.py", feed.collection, "feed.sqlite", "--once", "--patience", "1", env=env)
        with pytest.raises(BlockingIOError):
            proxy.accept()

    assert (done.returncode, len(received(feed.folder / "feed.sqlite"))) == (0, 1)


def test_what_was_received_is_for_its_owner_alone(feed: Site) -> None:
    """TLP:RED may be among it."""
    umask = os.umask(0o022)
    try:
        feed.run("poller.py", feed.collection, "feed.sqlite", "--once")
    finally:
        os.umask(umask)

    assert [oct(file.stat().st_mode & 0o777) for file in feed.folder.glob("feed.sqlite*")] == ["0o600"]


def test_a_wrong_secret_is_told_by_the_token_endpoint(feed: Site) -> None:
    """It is not tried again, and what the endpoint says is given on."""
    env = {"TAXII_TOKEN_URL": f"http://127.0.0.1:{feed.port}/oauth2/token", "TAXII_CLIENT_SECRET": "wrong"}
    done = feed.run("poller.py", feed.collection, "feed.sqlite", "--once", env=env)

    assert done.returncode == 1
    assert "401 invalid_client" in done.stderr


def test_a_database_that_cannot_be_written_is_told(feed: Site) -> None:
    """In one line, with exit code 1."""
    done = feed.run("poller.py", feed.collection, "missing/feed.sqlite", "--once")

    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)
    assert "No such file or directory: 'missing/feed.sqlite'" in done.stderr


def test_the_objects_url_will_do(feed: Site) -> None:
    """Operators hand out both, with and without the last slash."""
    push(feed, [indicator()])
    done = feed.run("poller.py", f"{feed.collection}objects", "feed.sqlite", "--once")

    assert done.stdout.startswith("1 new"), done.stderr


def test_two_pollers_do_not_share_a_database(feed: Site) -> None:
    """The one that finds the position moved by another ends, and stores nothing twice."""
    file = feed.folder / "feed.sqlite"
    with proxy_to(feed) as proxy:
        push(feed, [indicator(id=stix_id("indicator", number)) for number in range(4)])
        proxy.pause = threading.Event()
        slow = [sys.executable, str(EXAMPLES / "poller.py"), proxy.url(feed.collection), str(file), "--once"]
        with subprocess.Popen(slow, env=feed.environment(), stderr=subprocess.PIPE, text=True) as polling:
            while not proxy.seen:
                time.sleep(0.02)
            # the same collection by the same name, as the database knows it
            database = sqlite3.connect(file)
            with database:
                database.execute("UPDATE positions SET last = '2026-01-01T00:00:00.000000Z'")
            database.close()
            proxy.pause.set()
            _, said = polling.communicate(timeout=PATIENCE)

    assert polling.returncode == 1
    assert "another poller" in said
    assert received(file) == []


def test_sigterm_ends_it_in_order(feed: Site) -> None:
    """As a service manager stops it: exit code 0."""
    command = [sys.executable, str(EXAMPLES / "poller.py"), feed.collection, "feed.sqlite"]
    with subprocess.Popen(
        command, env=feed.environment(), cwd=feed.folder, stdout=subprocess.PIPE, text=True
    ) as polling:
        assert polling.stdout is not None
        assert polling.stdout.readline().startswith("0 new")
        polling.send_signal(signal.SIGTERM)
        assert polling.wait(PATIENCE) == 0


def test_a_signal_is_heeded_in_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that comes as a sleep begins doesn't end it, so no piece of sleep is longer."""
    now, pieces = [0.0], []

    def passing(seconds: float) -> None:
        pieces.append(seconds)
        now[0] += seconds

    spec = importlib.util.spec_from_file_location("taxii_http", EXAMPLES / "taxii_http.py")
    assert spec is not None
    assert spec.loader is not None
    taxii_http = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(taxii_http)
    monkeypatch.setattr(taxii_http, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=passing))
    taxii_http.sleep(2.5)

    assert pieces == [1, 1, 0.5]
