"""The built wheel, installed alone in a clean environment, is the whole server."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from taxii_server.storage.embedded import DatabaseUrls

ROOT = Path(__file__).parents[2]
PIP = ["-m", "pip", "-qq", "--disable-pip-version-check", "--no-input"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build: list[str | Path] = [
        *PIP,
        "wheel",
        "--no-build-isolation",
        "--no-deps",
        "--no-index",
        "--wheel-dir",
        folder,
        ROOT,
    ]
    subprocess.run([sys.executable, *build], check=True)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and requirements.lock, as in the container: without the embedded extra."""
    folder = tmp_path_factory.mktemp("clean") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    lock: list[str | Path] = ["--only-binary", ":all:", "--require-hashes", "--requirement", ROOT / "requirements.lock"]
    for arguments in (lock, ["--no-deps", "--no-index", wheel]):
        subprocess.run([python, *PIP, "install", *arguments], check=True)
    return folder / "bin" / "taxii-server"


@pytest.fixture
def environment(fresh_database_urls: DatabaseUrls, tmp_path: Path) -> dict[str, str]:
    return {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "TAXII_DATABASE_URL": fresh_database_urls.server,
        "TAXII_MIGRATION_DATABASE_URL": fresh_database_urls.owner,
        "TAXII_SECRET_KEY": "a-secret-for-the-tests-of-the-wheel",
        "TAXII_METRICS_PORT": "0",
    }


@contextmanager
def serving(program: Path, environment: dict[str, str], folder: Path) -> Iterator[str]:
    """The URL of a server that runs until the block ends, and must end well when asked to."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    process = subprocess.Popen([program, "serve", "--port", str(port)], env=environment, cwd=folder)
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                httpx.get(f"{url}/healthz")
            except httpx.TransportError:
                assert process.poll() is None
                time.sleep(0.1)
            else:
                break
        yield url
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) in {0, -signal.SIGTERM}
    finally:
        process.kill()
        process.wait()


def test_it_holds_code_migrations_pages_and_types_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    source = ROOT / "src"
    folders = [source / "taxii_server" / "site" / name for name in ("assets", "templates")]
    pages = {str(each.relative_to(source)) for folder in folders for each in folder.rglob("*.*")}
    described = {"taxii/description/examples/errors.json", "oauth/examples/get_token.json", "site/integrators.md"}

    assert {"taxii_server/py.typed", "taxii_server/_migrations/env.py"} <= set(names)
    assert {f"taxii_server/{name}" for name in described} <= set(names)
    assert len(pages) > 10
    assert pages <= set(names)
    assert [name for name in names if re.search(r"tests|__pycache__|\.pyc$", name)] == []
    assert {name.split("/")[0] for name in names} == {"taxii_server", "taxii_server-0.1.0.dist-info"}


def test_it_upgrades_a_database_and_serves(installed: Path, environment: dict[str, str], tmp_path: Path) -> None:
    subprocess.run([installed, "db", "upgrade"], check=True, env=environment, cwd=tmp_path, timeout=120)
    with serving(installed, environment, tmp_path) as url:
        ready, discovery = httpx.get(f"{url}/readyz"), httpx.get(f"{url}/taxii2/")
        page = httpx.get(f"{url}/docs")
        scripts = [httpx.get(url + script) for script in re.findall(r'src="(/assets/[^"]+\.js)"', page.text)]

    assert ready.status_code == 200
    assert [script.status_code for script in scripts] == [200, 200]
    assert discovery.status_code == 401
    assert discovery.json()["http_status"] == "401"


def test_without_a_database_it_says_how_to_get_one(installed: Path, tmp_path: Path) -> None:
    """The embedded PostgreSQL is an extra: without it and without a URL the way out is told, in a sentence."""
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "TAXII_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [installed, "db", "upgrade"], check=False, env=environment, cwd=tmp_path, capture_output=True, text=True
    )

    assert done.returncode != 0
    assert "TAXII_DATABASE_URL" in done.stderr
    assert "Traceback" not in done.stderr
