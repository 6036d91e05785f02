"""The default database: a PostgreSQL of the server's own, started when first needed and stopped by the last to leave.

Everyone who uses it (servers and CLI commands) holds a shared lock, and passes a gate, one at a time, on the way in
and out. Whoever comes in finds PostgreSQL running or starts it; whoever can turn its shared lock into an exclusive one
on the way out is the last and stops it. Locks die with their process, so a killed server leaves at worst a running
PostgreSQL, which the next to come in takes over; and whoever is in starts a killed PostgreSQL again.
"""

import fcntl
import os
import pwd
import signal
import stat
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn
from urllib.parse import quote

import structlog

from taxii_server.storage.embedded_binaries import Account, EmbeddedError, installed
from taxii_server.storage.embedded_cluster import DATABASE, OWNER, PORT, SERVER, Cluster

__all__ = ["DatabaseUrls", "EmbeddedError", "default_data_dir", "running"]

_FOLDER: Final = "postgres"
_GATE: Final = "gate.lock"
_GATE_WITHIN: Final = 300.0  # seconds; longer than anyone takes to start or stop
_LOOK_EVERY: Final = 1.0  # seconds

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DatabaseUrls:
    """The one database, seen by its two roles."""

    server: str
    """Connects as the role that serves: it owns nothing."""
    owner: str
    """Connects as the role that owns the tables and runs migrations."""


def default_data_dir() -> Path:
    """Where data lives unless TAXII_DATA_DIR says otherwise."""
    if os.geteuid() == 0:
        return Path("/var/lib/taxii-server")
    data_home = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not data_home.is_absolute():
        home = os.environ.get("HOME") or pwd.getpwuid(os.geteuid()).pw_dir
        data_home = Path(home, ".local", "share")
    return data_home / "taxii-server"


@contextmanager
def running(data_dir: Path, *, user: str | None = None, fsync: bool = True) -> Iterator[DatabaseUrls]:
    """Use the PostgreSQL whose data is in `data_dir`: made if new, started if it doesn't run, stopped by the last.

    As root it runs as the account `user`, by default `nobody`. Without `fsync` it survives kills as ever, but a crash of
    the machine may corrupt the data: for tests only.

    Raises:
        EmbeddedError: it can't be used; the message says what to do.

    """
    account = Account.choose(user)
    installed()
    with _troubles_told(data_dir):
        folder = _prepare(data_dir.expanduser().resolve(), account)
        cluster = Cluster(folder, account, fsync)
        users = _open(folder / "users.lock")
    with _leaving_in_order():
        try:
            with _troubles_told(data_dir), _gate(folder):
                fcntl.flock(users, fcntl.LOCK_SH)
                socket = cluster.ensure_running()
            with _kept_running(cluster, folder):
                yield DatabaseUrls(server=_url(SERVER, socket), owner=_url(OWNER, socket))
        finally:
            try:
                with _gate(folder):
                    if _held(users, fcntl.LOCK_EX):
                        cluster.stop()
            finally:
                os.close(users)


def _url(role: str, socket: Path) -> str:
    return f"postgresql+psycopg://{role}@/{DATABASE}?host={quote(str(socket))}&port={PORT}"


@contextmanager
def _kept_running(cluster: Cluster, folder: Path) -> Iterator[None]:
    """Start PostgreSQL again if it is killed while it is used: nobody else looks after it."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LOOK_EVERY):
            if not cluster.runs():
                log.error("embedded_postgres_died", folder=str(folder))
                try:
                    with _gate(folder):
                        cluster.ensure_running()
                except (EmbeddedError, OSError) as trouble:
                    log.error("embedded_postgres_not_started", reason=str(trouble))  # noqa: TRY400 - the reason is all

    watcher = threading.Thread(target=watch, name="embedded-postgres-watch", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


@contextmanager
def _leaving_in_order() -> Iterator[None]:
    """Turn signals that would end this process on the spot into an exit that passes through `finally`."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, _: object) -> NoReturn:
        sys.exit(128 + number)

    fatal = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    for number in fatal:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in fatal:
            signal.signal(number, signal.SIG_DFL)


@contextmanager
def _gate(folder: Path) -> Iterator[None]:
    gate = _open(folder / _GATE)
    try:
        until = time.monotonic() + _GATE_WITHIN
        while not _held(gate, fcntl.LOCK_EX):
            if time.monotonic() > until:
                raise EmbeddedError(
                    f"Another taxii-server has been starting or stopping the PostgreSQL of {folder} for "
                    f"{_GATE_WITHIN:.0f} seconds: look for it with ps and end it."
                )
            time.sleep(0.01)
        yield
    finally:
        os.close(gate)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _held(lock: int, mode: int) -> bool:
    """Take the lock if that is possible now. A shared lock that can't become exclusive is let go."""
    try:
        fcntl.flock(lock, mode | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _prepare(data_dir: Path, account: Account) -> Path:
    """Make the data folder and ours in it, passable by the account."""
    closed = account.first_closed(data_dir.parent)
    if account.changed and closed is not None:
        raise EmbeddedError(
            f"The account '{account.name}', which runs PostgreSQL because PostgreSQL refuses to run as root, "
            f"can't reach {data_dir}: {closed} is closed to it. Set TAXII_DATA_DIR to a folder it can reach, such as "
            f"{default_data_dir()}, or TAXII_EMBEDDED_USER to an account that can."
        )
    for parent in reversed(data_dir.parents):
        if not parent.exists():
            parent.mkdir(exist_ok=True)
            parent.chmod(0o755)
    folder = data_dir / _FOLDER
    for path in (data_dir, folder):
        # one look, because others may be making it at this moment; the gate is the first thing in it
        inside = {child.name for child in path.iterdir()} if path == folder and path.exists() else set()
        if inside and _GATE not in inside:
            raise EmbeddedError(f"{folder} exists and isn't a folder of taxii-server: name another TAXII_DATA_DIR.")
        path.mkdir(mode=0o700, exist_ok=True)
        if account.changed and not account.may(path.stat(), 1):
            _let_pass(path, account)
    os.close(_open(folder / _GATE))
    return folder


def _let_pass(path: Path, account: Account) -> None:
    """Let the account through a folder of ours, without letting it list or change what is in it."""
    if path.name != _FOLDER and not (path / _FOLDER).exists() and not all(map(_is_private_file, path.iterdir())):
        raise EmbeddedError(
            f"{path} holds other things and is closed to the account '{account.name}', which runs PostgreSQL because "
            f"PostgreSQL refuses to run as root: set TAXII_DATA_DIR to a folder of its own, such as {default_data_dir()}."
        )
    os.chown(path, -1, account.gid)
    path.chmod(0o710)


def _is_private_file(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


@contextmanager
def _troubles_told(data_dir: Path) -> Iterator[None]:
    try:
        yield
    except PermissionError as problem:
        raise EmbeddedError(
            f"{problem.filename or data_dir} is closed to you: run this as the account that owns {data_dir}, "
            "or set TAXII_DATA_DIR to a folder of yours."
        ) from problem
    except OSError as problem:
        raise EmbeddedError(
            f"The database in {data_dir} can't be used: {problem.filename or data_dir}: {problem.strerror}."
        ) from problem
