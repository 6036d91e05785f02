"""One PostgreSQL for the whole run, one migrated database for each test worker.

The process that starts the run starts the server (`--postgres=embedded`, the default: ours; `--postgres=system`: the
system's oldest supported one; or TAXII_TEST_DATABASE_URL, a superuser's URL on a server kept for tests alone) and
migrates a template; each worker clones it. Roles are the real ones: nothing is tested as a superuser.
"""

import itertools
import os
import secrets
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import hypothesis
import psycopg
import pytest
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from taxii_server.storage import embedded, migrations
from taxii_server.storage.embedded import DatabaseUrls
from tests import system_postgres

_SERVER = pytest.StashKey["TestServer"]()
_STACK = pytest.StashKey[ExitStack]()
_ROLES: Final = {"taxii_owner": "owner-of-the-tests", "taxii_server": "server-of-the-tests"}
_LOOPBACK: Final = ("127.", "::1", "localhost", "test")

hypothesis.settings.register_profile("shared-machine", deadline=None, print_blob=True)
hypothesis.settings.load_profile("shared-machine")


class TestServer:
    """The run's PostgreSQL, by its superuser's URL, and the template of this run."""

    __test__ = False

    def __init__(self, admin: str, template: str) -> None:
        self.admin = admin
        self.template = template
        self._numbers = itertools.count(1)

    def urls(self, database: str) -> DatabaseUrls:
        def url(role: str) -> str:
            return self._url().set(username=role, password=_ROLES[role], database=database).render_as_string(False)

        return DatabaseUrls(server=url("taxii_server"), owner=url("taxii_owner"))

    def make_template(self) -> None:
        with self._connection() as admin:
            known = {name for (name,) in admin.execute("SELECT rolname FROM pg_roles")}
            for role, password in _ROLES.items():
                verb = "ALTER" if role in known else "CREATE"
                names = {"role": sql.Identifier(role), "password": sql.Literal(password)}
                admin.execute(sql.SQL(verb + " ROLE {role} LOGIN PASSWORD {password}").format(**names))
            self._create(admin, self.template, "template0")
        migrations.upgrade(self.urls(self.template).owner)

    @contextmanager
    def clone(self, worker: str) -> Iterator[DatabaseUrls]:
        database = f"{self.template}_{worker}_{next(self._numbers)}"
        with self._connection() as admin:
            self._create(admin, database, self.template)
        try:
            yield self.urls(database)
        finally:
            self.drop(database)

    def drop(self, database: str) -> None:
        with self._connection() as admin:
            admin.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))

    def _create(self, admin: psycopg.Connection, database: str, template: str) -> None:
        names = {"database": database, "template": template, "owner": "taxii_owner", "server": "taxii_server"}
        for statement in (
            "CREATE DATABASE {database} OWNER {owner} TEMPLATE {template}",
            "REVOKE ALL ON DATABASE {database} FROM PUBLIC",
            "GRANT CONNECT ON DATABASE {database} TO {server}",
        ):
            admin.execute(sql.SQL(statement).format(**{name: sql.Identifier(value) for name, value in names.items()}))

    def _url(self) -> URL:
        return make_url(self.admin)

    @contextmanager
    def _connection(self) -> Iterator[psycopg.Connection]:
        url = self._url().set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(url, autocommit=True) as connection:
            yield connection


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--postgres", choices=["embedded", "system"], default="embedded", help="whose PostgreSQL to test on"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Start PostgreSQL where the run starts; a worker is told where it is."""
    _keep_to_loopback()
    worker: dict[str, str] | None = getattr(config, "workerinput", None)
    if worker is not None:
        config.stash[_SERVER] = TestServer(worker["admin"], worker["template"])
    elif not config.option.collectonly:
        stack = config.stash[_STACK] = ExitStack()
        try:
            server = TestServer(_start(config.option.postgres, stack), f"taxii_tests_{secrets.token_hex(4)}")
            stack.callback(server.drop, server.template)
            server.make_template()
        except BaseException:
            stack.close()
            raise
        config.stash[_SERVER] = server


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist where the run's PostgreSQL is."""
    server = node.config.stash[_SERVER]
    node.workerinput |= {"admin": server.admin, "template": server.template}


def pytest_unconfigure(config: pytest.Config) -> None:
    if _STACK in config.stash:
        config.stash[_STACK].close()


def pytest_report_header(config: pytest.Config) -> str:
    server = config.stash.get(_SERVER, None)
    if server is None:
        return "postgres: not started"
    with server._connection() as admin:
        return f"postgres: {admin.info.server_version // 10000}"


def _start(whose: str, stack: ExitStack) -> str:
    if url := os.environ.get("TAXII_TEST_DATABASE_URL"):
        return url
    if whose == "system":
        if system_postgres.bin_folder() is None:
            lacking = f"this machine lacks PostgreSQL {system_postgres.OLDEST}"
            pytest.exit(f"SKIPPED: {lacking}", returncode=1 if os.environ.get("CI") == "true" else 0)
        return stack.enter_context(system_postgres.running())
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taxii-tests-", ignore_cleanup_errors=True)))
    urls = stack.enter_context(embedded.running(folder, fsync=False))
    return make_url(urls.owner).set(username="postgres", database="postgres").render_as_string(hide_password=False)


def _keep_to_loopback() -> None:
    """No test talks to another machine."""

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.connect" and isinstance(address := arguments[1], tuple):
            host = str(address[0])
            if not host.startswith(_LOOPBACK):
                raise RuntimeError(f"a test tried to connect to {host}")

    sys.addaudithook(watch)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def database_urls(pytestconfig: pytest.Config, worker_id: str) -> Iterator[DatabaseUrls]:
    """This worker's database, migrated: what a test writes to it, it must take back."""
    with pytestconfig.stash[_SERVER].clone(worker_id) as urls:
        yield urls


@pytest.fixture(scope="module")
def module_database_urls(pytestconfig: pytest.Config, worker_id: str) -> Iterator[DatabaseUrls]:
    """A migrated database for one module's tests, empty at first, dropped afterwards."""
    with pytestconfig.stash[_SERVER].clone(worker_id) as urls:
        yield urls


@pytest.fixture
def fresh_database_urls(pytestconfig: pytest.Config, worker_id: str) -> Iterator[DatabaseUrls]:
    """A migrated database for one test alone, empty, dropped afterwards."""
    with pytestconfig.stash[_SERVER].clone(worker_id) as urls:
        yield urls
