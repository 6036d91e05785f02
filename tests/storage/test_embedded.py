"""The embedded PostgreSQL, for real: made, shared, adopted after a kill, repaired, refused; as root and as a user."""

import os
import pwd
import resource
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from taxii_server.storage import embedded, embedded_binaries
from taxii_server.storage.embedded import EmbeddedError
from tests.storage.embedded_users import RACE, User, connect, new_data_dir, postmasters, rows, use

SOMEONE = "daemon"


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with new_data_dir() as path:
        yield path


def test_it_is_made_with_both_roles_and_stops_with_its_last_user(data_dir: Path) -> None:
    with embedded.running(data_dir) as urls:
        who = "SELECT current_user, current_database(), rolsuper FROM pg_roles WHERE rolname = current_user"
        assert rows(urls.server, who) == [("taxii_server", "taxii", False)]
        assert rows(urls.owner, who) == [("taxii_owner", "taxii", False)]
        assert len(postmasters(data_dir)) == 1

    assert postmasters(data_dir) == []
    with pytest.raises(psycopg.OperationalError):
        connect(urls.server)


def test_it_is_safe_and_durable_unless_told_otherwise(data_dir: Path) -> None:
    """No TCP, no trust, no password: the kernel vouches for the account; what is acknowledged is on disk."""
    with embedded.running(data_dir) as urls:
        settings = ["listen_addresses", "fsync", "synchronous_commit", "full_page_writes", "data_checksums"]
        settings += ["server_encoding", "server_version_num", "TimeZone"]
        told = {name: rows(urls.server, f"SHOW {name}")[0][0] for name in settings}
        with psycopg.connect(
            make_url(urls.owner).set(drivername="postgresql", username="postgres").render_as_string()
        ) as admin:
            hba = admin.execute("SELECT type, database, user_name, auth_method FROM pg_hba_file_rules").fetchall()

    assert hba == [("local", ["all"], ["all"], "peer")]
    assert str(told.pop("server_version_num")).startswith("18")
    assert told == {
        "listen_addresses": "",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "TimeZone": "UTC",
    }


@pytest.mark.slow
def test_data_outlives_a_stop(data_dir: Path) -> None:
    use(data_dir, "SELECT 1")
    with embedded.running(data_dir, fsync=False) as urls, connect(urls.owner) as owner:
        owner.execute("CREATE TABLE kept AS SELECT 42 AS answer")

    assert use(data_dir, "SELECT answer FROM kept") == [(42,)]


@pytest.mark.slow
def test_whoever_leaves_last_stops_it(data_dir: Path) -> None:
    first, second = User(data_dir), User(data_dir)
    use(data_dir)
    assert first.leave() == ""
    assert rows(second.url, "SELECT 1") == [(1,)]
    assert second.leave() == ""

    assert postmasters(data_dir) == []


@pytest.mark.slow
def test_many_may_come_and_go_at_once(data_dir: Path) -> None:
    """Whoever is in has a database, whatever others do at the door."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    racers = [
        subprocess.Popen([sys.executable, "-c", RACE, str(data_dir)], env=environment, stderr=subprocess.PIPE)
        for _ in range(6)
    ]
    said = [racer.communicate(timeout=100)[1].decode() for racer in racers]

    assert [racer.returncode for racer in racers] == [0] * 6, said
    assert postmasters(data_dir) == []


@pytest.mark.slow
def test_a_killed_server_leaves_a_database_that_the_next_takes_over(data_dir: Path) -> None:
    user = User(data_dir)
    before = postmasters(data_dir)
    user.kill()

    with embedded.running(data_dir, fsync=False) as urls:
        assert rows(urls.server, "SELECT 1") == [(1,)]
        assert postmasters(data_dir) == before
    assert postmasters(data_dir) == []


@pytest.mark.slow
def test_a_killed_postmaster_is_started_again(data_dir: Path) -> None:
    """Even while its orphaned children still hold the shared memory; what was committed is there."""
    user = User(data_dir)
    with embedded.running(data_dir) as urls, connect(urls.owner) as owner:
        owner.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        (postmaster,) = postmasters(data_dir)
    user.kill()
    os.kill(postmaster, signal.SIGKILL)

    assert use(data_dir, "SELECT answer FROM kept") == [(42,)]


@pytest.mark.slow
def test_a_postgres_that_is_killed_while_it_is_used_is_started_again(data_dir: Path) -> None:
    """The server recovers by itself: who uses the database keeps it running, and what was committed is there."""
    with embedded.running(data_dir) as urls:
        with connect(urls.owner) as owner:
            owner.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        (postmaster,) = postmasters(data_dir)
        os.kill(postmaster, signal.SIGKILL)

        assert _answer_within(30, urls.owner) == [(42,)]
        assert postmasters(data_dir) != [postmaster]
    assert postmasters(data_dir) == []


def _answer_within(seconds: float, url: str) -> list[tuple[object, ...]]:
    until = time.monotonic() + seconds
    while True:
        try:
            with connect(url) as connection:
                return connection.execute("SELECT answer FROM kept").fetchall()
        except psycopg.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


@pytest.mark.slow
def test_a_pid_file_whose_number_went_to_another_process_does_no_harm(data_dir: Path) -> None:
    """After a container's restart the old postmaster's number may belong to anyone, who must not be signalled."""
    use(data_dir)
    account = embedded_binaries.Account.choose(None)
    with Path(os.devnull).open("wb") as nowhere:
        other = account.spawn(["/bin/sleep", "60"], nowhere.fileno(), nowhere.fileno())
    pid_file = data_dir / "postgres" / "cluster" / "postmaster.pid"
    pid_file.write_text(f"{other.pid}\n{pid_file.parent}\n1700000000\n5432\n/nowhere\n\n  1 1\nready   \n")

    assert use(data_dir) == [(1,)]
    assert other.poll() is None
    other.kill()
    other.wait()


@pytest.mark.parametrize(
    "name", ["x" * 120, pytest.param("with space", marks=pytest.mark.slow), 'it\'s, $HOME "quoted" `x` ü\\n']
)
def test_any_path_will_do(data_dir: Path, name: str) -> None:
    """A socket's path holds 107 bytes and a connection string gives some characters a meaning: neither matters."""
    with embedded.running(data_dir / name, fsync=False) as urls:
        assert rows(urls.server, "SELECT 1") == [(1,)]
        socket = Path(str(make_url(urls.server).query["host"]))
        assert stat.S_IMODE(socket.stat().st_mode) == 0o700
        assert not socket.is_relative_to(data_dir)

    assert not socket.exists()


@pytest.mark.parametrize(
    ("version", "said"),
    [pytest.param("19", "newer than the 18", marks=pytest.mark.slow), ("17", "Export the collections")],
)
def test_another_versions_data_is_refused_with_the_way_out(data_dir: Path, version: str, said: str) -> None:
    use(data_dir)
    (data_dir / "postgres" / "cluster" / "PG_VERSION").write_text(f"{version}\n")

    with pytest.raises(EmbeddedError, match=said), embedded.running(data_dir):
        pass
    assert (data_dir / "postgres" / "cluster" / "PG_VERSION").read_text() == f"{version}\n"


def test_a_failed_making_leaves_nothing_and_the_next_start_repairs(data_dir: Path) -> None:
    """As on a full disk: initdb can't write (here: files may not grow past a megabyte)."""
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, unlimited[1]))
    try:
        with pytest.raises(EmbeddedError, match="could not be made"), embedded.running(data_dir):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert list((data_dir / "postgres").glob("cluster*")) == []

    (data_dir / "postgres" / "cluster.new-left").mkdir()
    assert use(data_dir) == [(1,)]
    assert [path.name for path in (data_dir / "postgres").glob("cluster*")] == ["cluster"]


@pytest.mark.slow
def test_a_start_cut_short_before_the_roles_is_finished_by_the_next(data_dir: Path) -> None:
    with embedded.running(data_dir, fsync=False) as urls:
        admin = make_url(urls.owner).set(drivername="postgresql", username="postgres", database="postgres")
        with psycopg.connect(admin.render_as_string(), autocommit=True) as connection:
            connection.execute("DROP DATABASE taxii")
            connection.execute("DROP ROLE taxii_server")
        assert use(data_dir) == [(1,)]
        assert rows(urls.server, "SELECT 1") == [(1,)]


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_does_not_reach_the_database(data_dir: Path) -> None:
    first, second = User(data_dir), User(data_dir)
    os.killpg(first.process.pid, signal.SIGINT)
    first.process.communicate(timeout=60)

    assert first.process.returncode == 130
    assert rows(second.url, "SELECT 1") == [(1,)]
    assert second.leave() == ""
    assert postmasters(data_dir) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.slow)])
def test_a_user_told_to_end_leaves_in_order(data_dir: Path, number: signal.Signals) -> None:
    user = User(data_dir)
    user.process.send_signal(number)
    user.process.communicate(timeout=60)

    assert user.process.returncode == 128 + number
    assert postmasters(data_dir) == []


@pytest.mark.slow
def test_a_start_that_fails_says_why(data_dir: Path) -> None:
    use(data_dir)
    (data_dir / "postgres" / "cluster" / "global" / "pg_control").unlink()

    with pytest.raises(EmbeddedError, match=r"does not start: .*pg_control"):
        use(data_dir)


def test_a_folder_that_is_not_ours_is_left_alone(data_dir: Path) -> None:
    (data_dir / "postgres").mkdir(parents=True)
    (data_dir / "postgres" / "theirs").touch()

    with pytest.raises(EmbeddedError, match="isn't a folder of taxii-server"), embedded.running(data_dir):
        pass
    assert [path.name for path in (data_dir / "postgres").iterdir()] == ["theirs"]


@pytest.mark.slow
def test_the_gate_is_not_waited_for_for_ever(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = User(data_dir)
    monkeypatch.setattr(embedded, "_GATE_WITHIN", 0.1)
    with embedded._gate(data_dir / "postgres"), pytest.raises(EmbeddedError, match="starting or stopping"):
        use(data_dir)
    assert user.leave() == ""


def test_programs_that_are_not_installed_are_told_how_to_get(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_binaries, "_PACKAGE", "no_such_package")
    with pytest.raises(EmbeddedError, match=r"install the wheel with its extra"), embedded.running(data_dir):
        pass


def test_data_lives_where_the_account_keeps_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert embedded.default_data_dir() == Path("/var/lib/taxii-server")
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam(SOMEONE).pw_uid)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/alice")
    assert embedded.default_data_dir() == Path("/home/alice/.local/share/taxii-server")
    monkeypatch.setenv("XDG_DATA_HOME", "/data/alice")
    assert embedded.default_data_dir() == Path("/data/alice/taxii-server")
    monkeypatch.setenv("XDG_DATA_HOME", "not/absolute")
    monkeypatch.setenv("HOME", "")
    assert embedded.default_data_dir() == Path(pwd.getpwnam(SOMEONE).pw_dir, ".local/share/taxii-server")
