"""One PostgreSQL cluster in a folder of ours: made, started, adopted, made ready, stopped.

    folder/                 ours; as root passable by the account that runs PostgreSQL
    ├── gate.lock           held while starting or stopping (`storage.embedded`)
    ├── users.lock          held, shared, by everyone who uses the cluster (`storage.embedded`)
    ├── postmaster.lock     held by the postmaster and all its children: free means nothing of the cluster runs
    ├── postgresql.conf, pg_hba.conf, pg_ident.conf     written at every start
    ├── start.log           what the postmaster said before it opened its log
    ├── socket-folder       where the socket is, if this path is too long for one
    ├── binaries/           the programs, where the account can't reach the installed ones
    ├── cluster/ log/ socket/                           belong to the account, mode 0700

Logins are by `peer`: the kernel says which account is at the other end of the socket, so there are no passwords to
keep, leak or lose. Only the account that owns the folder gets in, under any of the three roles.
"""

import fcntl
import os
import pwd
import re
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from taxii_server.storage.embedded_binaries import MAJOR, Account, EmbeddedError, programs

SUPERUSER: Final = "postgres"
OWNER: Final = "taxii_owner"
SERVER: Final = "taxii_server"
DATABASE: Final = "taxii"
PORT: Final = 5432  # only names the socket: nothing listens on TCP

_SOCKET_PATH_LIMIT: Final = 103  # bytes; 104 with the closing NUL on macOS, 108 on Linux
_PLAIN_PATH: Final = re.compile(r"[A-Za-z0-9_./@=~-]+")  # nothing that some writing of a URL would change
_READY_WITHIN: Final = 120.0  # seconds; recovery after a crash may take a while
_STOPPED_WITHIN: Final = 90.0
_PAUSE: Final = 0.02


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster in `folder`; its methods are called under the gate (`storage.embedded`)."""

    folder: Path
    account: Account
    fsync: bool

    @property
    def data(self) -> Path:
        return self.folder / "cluster"

    def ensure_running(self) -> Path:
        """Start PostgreSQL, or take over the one that runs, and give the folder of its socket."""
        self._check_format()
        self._own(self.folder / "log")
        if self.runs() and not self._ready(self._socket_folder()):
            self.stop()
        if not self.runs():
            binaries = programs(self.account, self.folder / "binaries")
            self._forget_the_dead()
            if not self.data.exists():
                self._make(binaries)
            self._start(binaries)
        return self._socket_folder()

    def stop(self) -> None:
        """Stop PostgreSQL: what was committed is on disk, sessions that are still open end."""
        for how, patience in ((signal.SIGINT, _STOPPED_WITHIN), (signal.SIGQUIT, 20.0), (signal.SIGKILL, 10.0)):
            pid = self._postmaster()
            if pid is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, how)
            if self._gone_within(patience):
                self._drop_outside_socket()
                return
        raise EmbeddedError(
            f"The PostgreSQL of {self.folder} doesn't stop, or runs where this process can't see it "
            "(in another container?): stop it there, then try again."
        )

    # What is there

    def _check_format(self) -> None:
        try:
            belongs_to, version = self.data.stat().st_uid, (self.data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            if self.data.exists():
                raise EmbeddedError(
                    f"{self.data} exists and is not a PostgreSQL data folder: move it away, or name another TAXII_DATA_DIR."
                ) from None
            return
        if belongs_to != self.account.uid:
            owner = _name_of(belongs_to)
            raise EmbeddedError(
                f"The database in {self.data} belongs to the account '{owner}', not to '{self.account.name}': "
                f"run this as {owner}, or as root with TAXII_EMBEDDED_USER={owner}."
            )
        if not version.isdigit() or int(version) > MAJOR:
            raise EmbeddedError(
                f"The database in {self.data} was made by PostgreSQL {version}, newer than the {MAJOR} of this "
                "installation: install the taxii-server[embedded] it was made with, or a later one."
            )
        if int(version) < MAJOR:
            raise EmbeddedError(
                f"The database in {self.data} was made by PostgreSQL {version}; this installation brings {MAJOR}, which "
                "can't read it. Export the collections with the taxii-server it was made with (or run pg_dump "
                f"{version}), then import them into a new TAXII_DATA_DIR."
            )

    def runs(self) -> bool:
        """Whether anything of the cluster runs: the kernel frees the lock with the last process that holds it."""
        with self._postmaster_lock() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def _gone_within(self, seconds: float) -> bool:
        return any(not self.runs() for _ in _tries(seconds))

    def _postmaster(self) -> int | None:
        """The process id that PostgreSQL left in its folder, if that process works in this folder."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split(maxsplit=1)[0])
            if Path("/proc/self").exists() and not Path(f"/proc/{pid}/cwd").samefile(self.data):
                return None
        except (OSError, ValueError, IndexError):
            return None
        return pid

    def _forget_the_dead(self) -> None:
        """Remove what a killed postmaster left: it names a process id that by now may be another process's.

        PostgreSQL takes any live process of its account (and a zombie) for a postmaster; we know by the lock.
        """
        pid = self._postmaster()
        if pid is not None and Path("/proc/self").exists():
            raise EmbeddedError(
                f"A PostgreSQL that taxii-server did not start (process {pid}) uses {self.data}: stop it, then try again."
            )
        socket = self._socket_folder() / f".s.PGSQL.{PORT}"
        for path in (self.data / "postmaster.pid", socket, socket.with_name(socket.name + ".lock")):
            path.unlink(missing_ok=True)

    # Making and starting

    def _make(self, binaries: Path) -> None:
        """Run initdb under another name and rename, so that a half-made cluster never has the real one."""
        for left in self.folder.glob("cluster.new-*"):
            shutil.rmtree(left, ignore_errors=True)
        made = Path(tempfile.mkdtemp(prefix="cluster.new-", dir=self.folder))
        self._own(made)
        done = self.account.run(
            [
                *(binaries / "initdb", "--pgdata", made, "--username", SUPERUSER, "--auth", "peer"),
                *("--encoding", "UTF8", "--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C"),
                *("--data-checksums", "--no-instructions"),
                *(() if self.fsync else ("--no-sync",)),
            ]
        )
        if done.returncode:
            shutil.rmtree(made, ignore_errors=True)
            raise EmbeddedError(
                f"The database in {self.folder} could not be made: {_telling(done.stderr)}. "
                "Mend that and start again: nothing half-made stays."
            )
        made.rename(self.data)
        parent = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)

    def _start(self, binaries: Path) -> None:
        socket = self._socket_folder()
        self._configure(socket)
        said = self.folder / "start.log"
        said.unlink(missing_ok=True)
        logged = self._logged()
        with self._postmaster_lock() as lock, os.fdopen(_new(said), "wb") as output:
            fcntl.flock(lock, fcntl.LOCK_EX)
            postmaster = self.account.spawn(
                [binaries / "postgres", "-D", self.data, "-c", f"config_file={self.folder / 'postgresql.conf'}"],
                log=output.fileno(),
                keep=lock,
            )
        # Reaps the postmaster if it ends before we do, whoever ended it.
        threading.Thread(target=postmaster.wait, name="embedded-postgres", daemon=True).start()
        if not self._ready(socket):
            raise EmbeddedError(
                f"The PostgreSQL of {self.folder} does not start: {self._why(logged)}. Mend that and start again; "
                f"more may stand in {self.folder / 'log'}."
            )

    def _ready(self, socket: Path) -> bool:
        """Wait until PostgreSQL takes connections and has the roles and the database; False if it ended or doesn't."""
        for _ in _tries(_READY_WITHIN):
            try:
                connection = psycopg.connect(
                    host=str(socket), port=PORT, user=SUPERUSER, dbname=SUPERUSER, autocommit=True, connect_timeout=10
                )
            except psycopg.OperationalError as problem:
                if "authentication failed" in str(problem):
                    raise EmbeddedError(
                        f"The PostgreSQL of {self.folder} was started for another account: stop what uses it, or run "
                        "this as that account."
                    ) from problem
                if not self.runs():
                    return False
                continue
            with connection:
                try:
                    _ensure_roles(connection)
                except psycopg.Error as problem:
                    raise EmbeddedError(
                        f"The database in {self.folder} could not be made ready: {_telling(str(problem))}. "
                        "Mend that and start again."
                    ) from problem
                return True
        return False

    def _logged(self) -> dict[Path, int]:
        return {path: path.lstat().st_size for path in (self.folder / "log").glob("*.log")}

    def _why(self, logged: dict[Path, int]) -> str:
        """What PostgreSQL said of a start that failed, given how long its logs were before."""
        texts = []
        for path in (self.folder / "start.log", *(self.folder / "log").glob("*.log")):
            with suppress(OSError), os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), errors="replace") as lines:
                lines.seek(logged.get(path, 0))
                texts.append(lines.read())
        return _telling("\n".join(texts))

    def _configure(self, socket: Path) -> None:
        accounts = sorted({_name_of(os.geteuid()), _name_of(0)})
        hba, ident = self.folder / "pg_hba.conf", self.folder / "pg_ident.conf"
        settings: dict[str, str | int] = {
            "listen_addresses": "",
            "port": PORT,
            "unix_socket_directories": _quoted(str(socket)),
            "unix_socket_permissions": "0700",
            "hba_file": str(hba),
            "ident_file": str(ident),
            "cluster_name": "taxii_server",
            "max_connections": 100,
            "shared_buffers": "256MB",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "logging_collector": "on",
            "log_directory": str(self.folder / "log"),
            "log_filename": "postgresql-%a.log",  # a week of logs, each overwritten by the next week's
            "log_truncate_on_rotation": "on",
            "log_rotation_age": "1d",
            "log_rotation_size": 0,
            "log_line_prefix": "%m [%p] %q%u@%d ",
            "log_checkpoints": "off",
        }
        if not self.fsync:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        lines = [f"{name} = {_literal(str(value))}\n" for name, value in settings.items()]
        self._write(self.folder / "postgresql.conf", "# Written by taxii-server at every start.\n" + "".join(lines))
        self._write(hba, "local all all peer map=taxii\n")
        self._write(
            ident,
            "".join(
                f"taxii {_quoted(account)} {role}\n" for account in accounts for role in (SUPERUSER, OWNER, SERVER)
            ),
        )

    # Where things are

    def _socket_folder(self) -> Path:
        inside = self.folder / "socket"
        if _fits(inside):
            self._own(inside)
            return inside
        record = self.folder / "socket-folder"
        with suppress(OSError):
            recorded = Path(record.read_text())
            status = recorded.lstat()
            if stat.S_ISDIR(status.st_mode) and status.st_uid == self.account.uid and not status.st_mode & 0o077:
                return recorded
        for base in _short_folders(self.account):
            with suppress(OSError):
                made = Path(tempfile.mkdtemp(prefix="taxii-server-", dir=base))
                self._own(made)
                self._write(record, str(made))
                return made
        raise EmbeddedError(
            f"The path {self.folder} is too long for PostgreSQL's socket, and no folder could be made in "
            f"{tempfile.gettempdir()} instead: name a TAXII_DATA_DIR with a shorter path."
        )

    def _drop_outside_socket(self) -> None:
        record = self.folder / "socket-folder"
        with suppress(OSError):
            Path(record.read_text()).rmdir()
            record.unlink()

    @contextmanager
    def _postmaster_lock(self) -> Iterator[int]:
        lock = os.open(self.folder / "postmaster.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            yield lock
        finally:
            os.close(lock)

    def _own(self, folder: Path) -> None:
        """Make a folder of ours that is the account's alone."""
        folder.mkdir(mode=0o700, exist_ok=True)
        if self.account.changed and folder.lstat().st_uid != self.account.uid:
            os.chown(folder, self.account.uid, self.account.gid, follow_symlinks=False)

    def _write(self, path: Path, text: str) -> None:
        """Replace a file of ours that the account may read."""
        half = path.with_name(path.name + ".new")
        half.unlink(missing_ok=True)
        with os.fdopen(_new(half), "w") as output:
            if self.account.changed:
                os.fchown(output.fileno(), -1, self.account.gid)
                os.fchmod(output.fileno(), 0o640)
            output.write(text)
        half.replace(path)


def _ensure_roles(connection: psycopg.Connection[tuple[object, ...]]) -> None:
    """Make what is missing: an owner for migrations, a server role that owns nothing, and the database."""
    roles = {name for (name,) in connection.execute("SELECT rolname FROM pg_roles")}
    for role in (OWNER, SERVER):
        if role not in roles:
            connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    if connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
        names = {"database": sql.Identifier(DATABASE), "owner": sql.Identifier(OWNER), "server": sql.Identifier(SERVER)}
        connection.execute(sql.SQL("CREATE DATABASE {database} OWNER {owner}").format(**names))
        connection.execute(sql.SQL("REVOKE ALL ON DATABASE {database} FROM PUBLIC").format(**names))
        connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {database} TO {server}").format(**names))


def _tries(seconds: float) -> Iterator[None]:
    until = time.monotonic() + seconds
    while True:
        yield
        if time.monotonic() > until:
            return
        time.sleep(_PAUSE)


def _fits(folder: Path) -> bool:
    path = folder / f".s.PGSQL.{PORT}"
    return len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT and _PLAIN_PATH.fullmatch(str(path)) is not None


def _short_folders(account: Account) -> Iterator[Path]:
    candidates = [Path("/run") if account.changed else Path(f"/run/user/{account.uid}")]
    candidates += [Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108  # mkdtemp makes it ours alone
    for base in candidates:
        if account.first_closed(base) is None and os.access(base, os.W_OK) and _fits(base / "taxii-server-12345678"):
            yield base


def _new(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _telling(text: str) -> str:
    """The first line that names a failure; what follows from it stands below."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and "the database system is" not in line]
    telling = [line for line in lines if re.search(r"\b(error|FATAL|PANIC):", line)] or [" ".join(lines[-3:])]
    return telling[0].rstrip(".") or "it says nothing"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _literal(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"
