"""Processes that use an embedded PostgreSQL, and a look at what runs: for its tests."""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from sqlalchemy.engine import make_url

from taxii_server.storage import embedded

USE_IT = """
import os, pathlib, pwd, signal, sys
import psycopg, sqlalchemy.engine
from taxii_server.storage import embedded
# whoever runs the tests in the background may have us ignore them
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
data_dir, account = pathlib.Path(sys.argv[1]), sys.argv[2]
if account:
    entry = pwd.getpwnam(account)
    os.setgroups([]); os.setgid(entry.pw_gid); os.setuid(entry.pw_uid); os.environ["HOME"] = ""
try:
    with embedded.running(data_dir, fsync=False) as urls:
        print(urls.server, flush=True)
        sys.stdin.readline()
except KeyboardInterrupt:
    sys.exit(130)
"""

RACE = """
import os, pathlib, random, sys, time
import psycopg, sqlalchemy.engine
from taxii_server.storage import embedded
for turn in range(6):
    with embedded.running(pathlib.Path(sys.argv[1]), fsync=False) as urls:
        url = sqlalchemy.engine.make_url(urls.server).set(drivername="postgresql").render_as_string()
        with psycopg.connect(url) as connection:
            time.sleep(random.random() / 20)
            connection.execute("SELECT 1")
    time.sleep(random.random() / 20)
"""


@contextmanager
def new_data_dir() -> Iterator[Path]:
    """A data folder's path, without anything there yet, where any account can reach it."""
    top = Path(tempfile.mkdtemp(prefix="taxii-embedded-", dir="/tmp"))
    top.chmod(0o777)
    try:
        yield top / "data"
    finally:
        end(top)


def end(top: Path) -> None:
    for pid in postmasters(top):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)
    shutil.rmtree(top, ignore_errors=True)


def postmasters(data_dir: Path) -> list[int]:
    """The process ids of the postmasters in the folder, by their command lines."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            arguments = entry.read_bytes().split(b"\0")
            if b"-D" in arguments and arguments[2].startswith(os.fsencode(data_dir)):
                found.append(int(entry.parent.name))
    return found


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(), autocommit=True)


def rows(url: str, query: str) -> list[tuple[object, ...]]:
    with connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


class User:
    """Another process that uses the cluster until told to leave."""

    def __init__(self, data_dir: Path, *, account: str = "", python_path: Path | None = None) -> None:
        paths = [str(python_path)] if python_path else []
        self.process = subprocess.Popen(
            [sys.executable, "-c", USE_IT, str(data_dir), account],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([*paths, *filter(None, sys.path)])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self.process.stdout
        assert select.select([self.process.stdout], [], [], 60)[0]
        self.url = self.process.stdout.readline().decode().strip()

    def leave(self) -> str:
        _, said = self.process.communicate(b"\n", timeout=60)
        return said.decode()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


def use(data_dir: Path, query: str = "SELECT 1") -> list[tuple[object, ...]]:
    with embedded.running(data_dir, fsync=False) as urls:
        return rows(urls.owner, query)
