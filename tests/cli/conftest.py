"""The command line, run in this process against a database of the test's own."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from taxii_server.cli import app
from taxii_server.storage.embedded import DatabaseUrls
from taxii_server.web import logs

ALLIANCE = """\
trust_groups:
  fraud-intel:
    title: Fraud intelligence
    collections:
      - alias: indicators
        id: 91a7b528-80eb-42ed-a74d-c6fbd5a26116
        title: Fraud indicators
        grants: {north-bank: [read, write], harbour-bank: [read]}
      - {alias: other, title: Others}
members:
  north-bank: {name: North Bank, kind: bank}
  harbour-bank: {name: Harbour Bank, kind: bank}
"""


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


Run = Callable[..., Ran]


@pytest.fixture
def secret_key() -> str:
    return "s" * 40


@pytest.fixture
def environment(
    fresh_database_urls: DatabaseUrls, secret_key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[dict[str, str]]:
    """The settings of a server with a database of its own, and nobody else's settings."""
    monkeypatch.chdir(tmp_path)
    # a command's way of logging would outlive it in this process
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    settings = {
        "TAXII_DATABASE_URL": fresh_database_urls.server,
        "TAXII_MIGRATION_DATABASE_URL": fresh_database_urls.owner,
        "TAXII_SECRET_KEY": secret_key,
        "TAXII_VALIDATOR_PROCESSES": "1",
        "TAXII_METRICS_PORT": "0",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with structlog.testing.capture_logs():
        yield settings


@pytest.fixture
def run(environment: dict[str, str]) -> Run:
    """Run a command; a failure that is no refusal fails the test."""

    def ran(*arguments: str, stdin: str | None = None) -> Ran:
        result = CliRunner().invoke(app, arguments, input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Ran(result.exit_code, result.stdout, result.stderr)

    return ran


@pytest.fixture
def alliance(run: Run, tmp_path: Path) -> Path:
    """The file of a small alliance, applied."""
    file = tmp_path / "alliance.yaml"
    file.write_text(ALLIANCE)
    assert run("apply", str(file)).code == 0
    return file
