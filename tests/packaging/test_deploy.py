"""The container and compose files fit the project: checked by parts, as tests have no container engine."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from sqlalchemy.engine import make_url

from taxii_server.settings import Settings
from taxii_server.storage import migrations
from tests import system_postgres
from tests.parts import need

ROOT = Path(__file__).parents[2]


def secrets() -> dict[str, str]:
    """A new set of secrets, as `deploy/make-secrets` prints it."""
    printed = subprocess.run([ROOT / "deploy" / "make-secrets"], check=True, capture_output=True, text=True).stdout
    return dict(line.split("=", 1) for line in printed.splitlines() if not line.startswith("#"))


def compose(values: dict[str, str]) -> dict[str, Any]:
    text = re.sub(r"\$\{(\w+)(?::\?[^}]*)?\}", lambda match: values[match[1]], (ROOT / "compose.yaml").read_text())
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


def test_secrets_are_new_each_time_and_long() -> None:
    first, second = secrets(), secrets()
    names = {"POSTGRES_PASSWORD", "OWNER_PASSWORD", "SERVER_PASSWORD", "SECRET_KEY"}

    assert names | {"PUBLIC_URL"} == set(first)
    assert len({*(first[name] for name in names), *(second[name] for name in names)}) == 8
    assert {len(first[name]) for name in names} == {64}


@pytest.mark.parametrize("service", ["server", "upgrade"])
def test_a_service_is_given_settings_that_exist_and_are_valid(service: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = compose(secrets())["services"][service]["environment"]
    fields = {f"TAXII_{name.upper()}" for name in Settings.model_fields}
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    assert set(given) - fields == set()
    assert Settings(_env_file=None).database_url


def test_the_image_holds_what_the_build_needs_and_nothing_else() -> None:
    """Every COPY of the Dockerfile passes .dockerignore, and everything that passes exists."""
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    passed = {line.removeprefix("!") for line in ignore if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)

    assert {name for names in copies for name in names.split()} == passed
    assert [name for name in passed if not (ROOT / name).exists()] == []


@pytest.mark.slow
def test_the_init_script_makes_the_roles_that_migrations_and_server_need() -> None:
    """deploy/postgres/10-roles.sh on an empty PostgreSQL 15, then `db upgrade` as the owner."""
    need(system_postgres.bin_folder(), f"PostgreSQL {system_postgres.OLDEST}")
    values = secrets()
    with system_postgres.running() as admin:
        url = make_url(admin)
        login = {"PGHOST": str(url.query["host"]), "PGUSER": str(url.username), "PGPASSWORD": str(url.password)}
        script = ROOT / "deploy" / "postgres" / "10-roles.sh"
        subprocess.run([script], check=True, env={"PATH": os.environ["PATH"], **values, **login}, timeout=60)
        owner = url.set(username="taxii_owner", password=values["OWNER_PASSWORD"], database="taxii")
        migrations.upgrade(owner.render_as_string(hide_password=False))
        server = url.set(drivername="postgresql", username="taxii_server", password=values["SERVER_PASSWORD"])
        with psycopg.connect(server.set(database="taxii").render_as_string(hide_password=False)) as connection:
            owned = connection.execute("SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole")

            assert owned.fetchone() == (0,)
            assert connection.execute("SELECT count(*) FROM collections").fetchone() == (0,)
