"""Bring a database to this code's schema, and tell how far it is.

The scripts live in `migrations/` of a checkout and travel inside the wheel as `taxii_server/_migrations`.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import LockNotAvailable
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from taxii_server.domain.errors import DatabaseGone, OperatorError
from taxii_server.storage.engine import log

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

_PACKAGE = Path(__file__).parent.parent


def migrations_dir() -> Path:
    """Find the migration scripts: inside an installed wheel, else in the checkout."""
    installed = _PACKAGE / "_migrations"
    return installed if installed.is_dir() else _PACKAGE.parent.parent / "migrations"


def upgrade(owner_url: str) -> None:
    """Bring the schema up to this code's, as the owner's role. Several at once take turns; up to date is fine.

    Raises:
        DatabaseGone: if the database can't be reached.
        OperatorError: if it was made by a newer server.
    """
    engine = create_engine(owner_url, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            refuse_newer(MigrationContext.configure(connection).get_current_heads())
            # the look-up above opened a transaction; alembic shall have its own
            connection.rollback()
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except OperationalError as error:
        advice = (
            "Somebody held a lock for longer than a migration waits. What was done is kept; run it again."
            if isinstance(error.orig, LockNotAvailable)
            else "Check TAXII_MIGRATION_DATABASE_URL: it names the role that owns the database."
        )
        raise DatabaseGone(f"The migrations can't be run: {str(error.orig).strip()}\n{advice}") from error
    finally:
        engine.dispose()


@cache
def newest() -> str:
    """Name the newest revision this code knows."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        message = f"No migrations were found in {migrations_dir()}: the installation is incomplete."
        raise OperatorError(message)
    return head


@cache
def _known() -> frozenset[str]:
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def can_serve(heads: tuple[str, ...]) -> bool:
    """Tell whether this code can go on with a schema: its own, or one that a newer server made while this one was running.

    A schema is changed so that the release before can live with it; where not, the old servers are stopped first.
    """
    return newest() in heads or bool(set(heads) - _known())


async def current(connection: AsyncConnection) -> tuple[str, ...]:
    """Give the revision the database is at; empty if it was never migrated."""
    return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_heads())


def refuse_newer(heads: tuple[str, ...]) -> None:
    """Refuse a schema this code doesn't know.

    Raises:
        OperatorError: if a newer server made it.
    """
    unknown = [head for head in heads if head not in _known()]
    if unknown:
        message = (
            f"The database's schema ({', '.join(unknown)}) was made by a newer taxii-server: "
            "run that version, or restore a backup made before its upgrade."
        )
        log.error("schema_newer", heads=unknown)
        raise OperatorError(message)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_dir()).replace("%", "%%"))
    return config
