"""db, maintain, and what every command says of a database it can't use."""

import os
from pathlib import Path

import psycopg
import pytest

import taxii_server
from taxii_server.storage import migrations
from taxii_server.storage.embedded import DatabaseUrls
from tests.cli.conftest import Run


def execute(urls: DatabaseUrls, statement: str) -> None:
    with psycopg.connect(urls.owner.replace("+psycopg", ""), autocommit=True) as owner:
        owner.execute(statement.encode())


def test_the_version_is_printed(run: Run) -> None:
    """`--version` needs no database."""
    assert run("--version").out == f"taxii-server {taxii_server.__version__}\n"


def test_upgrade_can_be_run_again(run: Run) -> None:
    """Up to date is fine."""
    assert run("db", "upgrade").out == f"The schema is up to date ({migrations.newest()}).\n"
    assert run("db", "upgrade", "--json").json == {"revision": migrations.newest()}


def test_upgrade_needs_the_owner(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's role can't change the schema; the message names the setting."""
    monkeypatch.delenv("TAXII_MIGRATION_DATABASE_URL")

    refused = run("db", "upgrade")

    assert refused.code == 1
    assert "TAXII_MIGRATION_DATABASE_URL" in refused.err


def test_check_exits_with_4_if_something_is_off(run: Run, alliance: Path, fresh_database_urls: DatabaseUrls) -> None:
    """A sound database is 0; what is found is printed with what to do."""
    sound = run("db", "check")
    execute(fresh_database_urls, "UPDATE collection_clocks SET last_added = now() + interval '1 day'")
    off, for_programs = run("db", "check"), run("db", "check", "--json")

    assert (sound.code, off.code, for_programs.code) == (0, 4, 4)
    assert sound.out.startswith("All is well: 2 collections")
    assert "objects added to it are refused" in off.out
    assert (for_programs.json["sound"], len(for_programs.json["findings"])) == (False, 2)


def test_replicas_are_checked(run: Run, alliance: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that isn't there is found, by its place in the setting; the primary itself may be named."""
    own = os.environ["TAXII_DATABASE_URL"]
    monkeypatch.setenv("TAXII_DATABASE_REPLICA_URLS", f"{own},postgresql+psycopg://taxii_server@127.0.0.1:1/taxii")

    checked = run("db", "check")

    assert checked.code == 4
    assert "replica 2 of TAXII_DATABASE_REPLICA_URLS can't be used" in checked.out
    assert "replica 1" not in checked.out


def test_clocks_advance(run: Run, alliance: Path) -> None:
    """By five seconds unless said otherwise, and never by more than writes bear."""
    assert run("db", "advance-clock").out == "2 clocks advanced.\n"
    assert run("db", "advance-clock", "--by", "10s", "--json").json == {"clocks": 2}
    assert run("db", "advance-clock", "--by", "1h").code == 1


def test_maintain_says_what_it_did(run: Run, alliance: Path) -> None:
    """For people and for programs."""
    assert run("maintain").out == "0 statuses purged.\n"
    assert run("maintain", "--json").json["ran"] is True


def test_an_old_schema_is_refused_with_the_way_out(run: Run, fresh_database_urls: DatabaseUrls) -> None:
    """A database of the operator's own is upgraded by the operator."""
    execute(fresh_database_urls, "DELETE FROM alembic_version")

    for command in (["member", "list"], ["maintain"], ["serve", "--port", "0"]):
        refused = run(*command)
        assert refused.code == 1
        assert "taxii-server db upgrade" in refused.err


def test_a_newer_schema_is_refused(run: Run, fresh_database_urls: DatabaseUrls) -> None:
    """An older taxii-server doesn't touch what it doesn't know."""
    execute(fresh_database_urls, "UPDATE alembic_version SET version_num = '9999'")

    refused = run("member", "list")

    assert refused.code == 1
    assert "newer taxii-server" in refused.err


def test_a_database_that_is_gone_exits_with_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """No traceback, no password: what to look at."""
    monkeypatch.setenv("TAXII_DATABASE_URL", "postgresql+psycopg://taxii_server:hush@127.0.0.1:1/none")

    refused = run("member", "list")

    assert refused.code == 3
    assert "TAXII_DATABASE_URL" in refused.err
    assert "hush" not in refused.err


def test_wrong_settings_are_refused_together(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every wrong one is named, and no value that may be a secret."""
    monkeypatch.setenv("TAXII_SECRET_KEY", "hush")
    monkeypatch.setenv("TAXII_PAGE_SIZE", "many")

    refused = run("member", "list")

    assert refused.code == 1
    assert "TAXII_SECRET_KEY" in refused.err
    assert "TAXII_PAGE_SIZE" in refused.err
    assert "hush" not in refused.err
