"""PostgreSQL instances of a test's own, with data of their own: to be killed, followed, held back and promoted.

    with some_postgres("embedded") as make:
        primary = make("primary")
        primary.start()
        standby = make("standby", of=primary)       # follows it by streaming
        primary.kill(); standby.promote()

They are reached by sockets in a folder that nobody else can enter, so logins take no password. Nothing is synced to disk: what a
process has written outlives the process, and no test takes the machine away.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psycopg

from taxii_server.storage import migrations
from taxii_server.storage.embedded import DatabaseUrls
from taxii_server.storage.embedded_binaries import Account, programs
from tests import system_postgres
from tests.cli.processes import alive, descendants

PORT: Final = 5432
DATABASE: Final = "taxii"
_READY_WITHIN: Final = 60.0
_PAUSE: Final = 0.05
_SETTINGS: Final = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_connections": "200",
    "wal_keep_size": "256MB",
    "timezone": "UTC",
    "log_min_messages": "warning",
    # a standby whose primary was killed is back at once
    "wal_retrieve_retry_interval": "100ms",
}


class Postgres:
    """One instance. `options` are settings that it is started with."""

    def __init__(self, folder: Path, binaries: Path, account: Account, **options: str) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.options = options
        self._binaries = binaries
        self._account = account
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """Its folder's name, by which a primary knows its standby."""
        return self.folder.name

    def make(self) -> None:
        """Make it an empty primary, with the database and the two roles; it runs afterwards."""
        self._run("initdb", "--pgdata", self.data, "--username", "postgres", "--auth", "trust", "--no-sync",
                  "--encoding", "UTF8", "--locale", "C")  # fmt: skip
        self.start()
        with self.connection("postgres") as admin:
            for role in ("taxii_owner", "taxii_server"):
                admin.execute(f"CREATE ROLE {role} LOGIN".encode())
            admin.execute(f"CREATE DATABASE {DATABASE} OWNER taxii_owner".encode())
        migrations.upgrade(self.urls.owner)

    def follow(self, primary: Postgres) -> None:
        """Make it a standby of another one; it runs afterwards."""
        where = f"host={primary.folder} port={PORT} user=postgres application_name={self.name}"
        self._run("pg_basebackup", "--pgdata", self.data, "--checkpoint", "fast", "--wal-method", "stream", "--no-sync",
                  "--write-recovery-conf", "--dbname", where)  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start it and wait until it takes connections. What a killed one left behind may still be ending."""
        until = time.monotonic() + _READY_WITHIN
        while time.monotonic() < until:
            if self._process is None or self._process.poll() is not None:
                self._spawn()
            with suppress(psycopg.OperationalError), self.connection("postgres"):
                return
            time.sleep(_PAUSE)
        raise RuntimeError(f"{self.name} does not start:\n{(self.folder / 'log').read_text()}")

    def kill(self) -> None:
        """Kill the postmaster with SIGKILL, and wait until its other processes have found out and ended."""
        if self._process is not None:
            others = self.processes[1:]
            self._end(signal.SIGKILL)
            while any(map(alive, others)):
                time.sleep(_PAUSE)

    @property
    def processes(self) -> list[int]:
        """The postmaster and those that it started; none if it doesn't run."""
        return [] if self._process is None else [self._process.pid, *descendants(self._process.pid)]

    def stop(self) -> None:
        """Stop it in order."""
        self._end(signal.SIGINT)

    def promote(self) -> None:
        """Make a standby a primary."""
        with self.connection("postgres") as admin:
            admin.execute("SELECT pg_promote(true, 60)")

    def execute(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        """Run one statement in the database, as a superuser; give its rows, if it has any."""
        with self.connection() as admin:
            cursor = admin.execute(statement.encode(), values)
            return cursor.fetchall() if cursor.description else []

    def received(self, primary: Postgres) -> None:
        """Wait until this standby has replayed all that the primary has written by now."""
        [(written,)] = primary.execute("SELECT pg_current_wal_insert_lsn()::text")
        self.until("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", written)

    def until(self, statement: str, *values: object) -> None:
        """Wait until a statement says so."""
        end = time.monotonic() + _READY_WITHIN
        while self.execute(statement, *values) != [(True,)]:
            if time.monotonic() > end:
                raise TimeoutError(statement)
            time.sleep(_PAUSE)

    @property
    def urls(self) -> DatabaseUrls:
        """The database, seen by its two roles."""
        return DatabaseUrls(server=self.url("taxii_server"), owner=self.url("taxii_owner"))

    def url(self, role: str, database: str = DATABASE) -> str:
        """Give the URL by which a role reaches it."""
        return f"postgresql+psycopg://{role}@/{database}?host={quote(str(self.folder))}&port={PORT}"

    @contextmanager
    def connection(self, database: str = DATABASE) -> Iterator[psycopg.Connection]:
        """Connect as a superuser."""
        url = self.url("postgres", database).replace("+psycopg", "")
        with psycopg.connect(url, autocommit=True, connect_timeout=10) as connection:
            yield connection

    def _spawn(self) -> None:
        settings = {**_SETTINGS, "unix_socket_directories": str(self.folder), "port": str(PORT), **self.options}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            self._process = self._account.spawn([self._binaries / "postgres", "-D", self.data, *options], log, log)
        finally:
            os.close(log)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(_READY_WITHIN)
            self._process = None

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = self._account.run([self._binaries / program, *arguments])
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr}")


@contextmanager
def some_postgres(whose: str = "embedded") -> Iterator[Callable[..., Postgres]]:
    """Give what makes instances, `embedded` or `system` as pytest's own option has it; all are killed in the end."""
    account = Account.choose(None)
    top = Path(tempfile.mkdtemp(prefix="taxii-pg-", dir="/tmp"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, top, ignore_errors=True)
        top.chmod(0o755)
        binaries = system_postgres.bin_folder() if whose == "system" else programs(account, top / "binaries")
        if binaries is None:
            raise FileNotFoundError(f"this machine lacks PostgreSQL {system_postgres.OLDEST}")

        def make(name: str, of: Postgres | None = None, **options: str) -> Postgres:
            folder = top / name
            folder.mkdir(mode=0o700)
            if account.changed:
                os.chown(folder, account.uid, account.gid)
            made = Postgres(folder, binaries, account, **options)
            stack.callback(made.kill)
            if of is None:
                made.make()
            else:
                made.follow(of)
            return made

        yield make
