"""A throw-away server from the system's PostgreSQL: 15 is the oldest version this project promises to work on."""

import os
import pwd
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

OLDEST = 15


def bin_folder() -> Path | None:
    """The folder of its programs, None if the machine has none."""
    folder = Path(f"/usr/lib/postgresql/{OLDEST}/bin")
    return folder if (folder / "initdb").exists() else None


@contextmanager
def running() -> Iterator[str]:
    """Start it with its data in a temporary folder; gives a superuser's URL. Logins take a password."""
    programs = bin_folder()
    if programs is None:
        raise FileNotFoundError(
            f"PostgreSQL {OLDEST} is not installed (on Debian: apt-get install postgresql-{OLDEST})"
        )
    nobody = pwd.getpwnam("nobody")
    account: dict[str, Any] = (
        {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    )
    with tempfile.TemporaryDirectory(prefix="taxii-tests-", dir="/tmp") as name:
        top, data, password = Path(name), Path(name, "data"), secrets.token_urlsafe(16)
        (top / "password").write_text(password)
        if account:
            for path in (top, top / "password"):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        arguments: list[str | Path] = [
            "--username",
            "admin",
            "--pwfile",
            top / "password",
            "--auth",
            "scram-sha-256",
            "--no-sync",
        ]
        initdb: list[str | Path] = [
            programs / "initdb",
            "--pgdata",
            data,
            "--encoding",
            "UTF8",
            "--locale",
            "C.UTF-8",
            *arguments,
        ]
        subprocess.run(initdb, cwd=top, check=True, stdout=subprocess.DEVNULL, **account)
        settings = {"listen_addresses": "", "unix_socket_directories": name, "fsync": "off", "full_page_writes": "off"}
        options = [part for setting, value in settings.items() for part in ("-c", f"{setting}={value}")]
        with (top / "log").open("wb") as log:
            command: list[str | Path] = [programs / "postgres", "-D", data, *options]
            postmaster: subprocess.Popen[bytes] = subprocess.Popen(
                command, cwd=top, stderr=log, stdout=log, start_new_session=True, **account
            )
        try:
            url = f"postgresql://admin:{password}@/postgres?host={quote(name)}&port=5432"
            _await(url, postmaster, top / "log")
            yield url.replace("postgresql:", "postgresql+psycopg:", 1)
        finally:
            postmaster.send_signal(2)
            postmaster.wait(60)


def _await(url: str, postmaster: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(1200):
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if postmaster.poll() is not None:
                break
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the system's PostgreSQL does not start:\n{log.read_text()}")
