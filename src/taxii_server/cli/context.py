"""Where a command works: the settings, the database they name or the embedded one, and the secret key beside it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from tempfile import NamedTemporaryFile
from typing import Final, TypeVar

from taxii_server import settings as environment
from taxii_server.auth.signing_keys import SigningKeys
from taxii_server.domain.errors import OperatorError
from taxii_server.operations import maintenance
from taxii_server.settings import Settings
from taxii_server.storage import embedded
from taxii_server.storage.engine import Database

T = TypeVar("T")

_KEY_FILE: Final = "secret-key"


@dataclass(frozen=True, slots=True)
class Place:
    """The database of a command and what goes with it; `owner_url` is None where only the server's role is known."""

    settings: Settings
    server_url: str = field(repr=False)
    owner_url: str | None = field(repr=False)
    secret_key: str = field(repr=False)
    embedded: bool
    public_url: str | None = None
    """Where clients find the server, if that is set and holds for this database."""

    @property
    def replica_urls(self) -> list[str]:
        """The replicas of this database; the embedded one has none, whatever is set."""
        return [] if self.embedded else [url.get_secret_value() for url in self.settings.database_replica_urls]

    def run(self, operation: Callable[[Database], Awaitable[T]]) -> T:
        """Run one operation on the database."""
        return asyncio.run(self._run(operation))

    async def _run(self, operation: Callable[[Database], Awaitable[T]]) -> T:
        db = Database(self.server_url, connections=4)
        try:
            return await operation(db)
        finally:
            await db.close()

    def signing_keys(self, db: Database) -> SigningKeys:
        """The keys that sign tokens."""
        return SigningKeys(
            db,
            self.secret_key,
            key_lifetime=self.settings.signing_key_lifetime,
            token_lifetime=self.settings.token_lifetime,
        )

    def need_schema(self) -> None:
        """See that the schema is this code's: the embedded database is brought there, another one is refused.

        Raises:
            OperatorError: if the operator has to upgrade something.
        """
        if not self.run(maintenance.schema_behind):
            return
        if not self.embedded:
            raise OperatorError("The database's schema is not up to date: run taxii-server db upgrade first.")
        self.upgrade()

    def upgrade(self) -> str:
        """Bring the schema up to this code's, as its owner.

        Raises:
            OperatorError: if the owner isn't known, or the database can't be upgraded.
        """
        if self.owner_url is None:
            message = (
                "TAXII_MIGRATION_DATABASE_URL is not set: it names the same database as TAXII_DATABASE_URL, "
                "as the role that owns the tables."
            )
            raise OperatorError(message)
        return maintenance.upgrade(self.owner_url)


@contextmanager
def place(*, own_data_dir: Path | None = None) -> Iterator[Place]:
    """Find the database of the settings; without one the embedded is used, and started if it doesn't run.

    With `own_data_dir` it is always the embedded one there, whatever the settings name.
    """
    settings = environment.load()
    given = settings.secret_key.get_secret_value() if settings.secret_key else None
    public_url = settings.public_url if "public_url" in settings.model_fields_set else None
    if settings.database_url is not None and own_data_dir is None:
        owner = settings.migration_database_url
        yield Place(
            settings=settings,
            server_url=settings.database_url.get_secret_value(),
            owner_url=owner.get_secret_value() if owner else None,
            secret_key=given or "",
            embedded=False,
            public_url=public_url,
        )
        return
    data_dir = own_data_dir or data_dir_of(settings)
    with embedded.running(data_dir, user=settings.embedded_user) as urls:
        yield Place(
            settings=settings,
            server_url=urls.server,
            owner_url=urls.owner,
            secret_key=_secret_key(data_dir) if given is None or own_data_dir else given,
            embedded=True,
            public_url=public_url if own_data_dir is None else None,
        )


def data_dir_of(settings: Settings) -> Path:
    """Where data lives."""
    return (settings.data_dir or embedded.default_data_dir()).expanduser()


def run(operation: Callable[[Database], Awaitable[T]]) -> T:
    """Run one operation on the database of the settings, once its schema is right."""
    with place() as here:
        here.need_schema()
        return here.run(operation)


def _secret_key(data_dir: Path) -> str:
    """Read the key beside the data, made when it is first asked for; whoever comes second takes the first one's."""
    path = data_dir / _KEY_FILE
    try:
        if not path.exists():
            with NamedTemporaryFile("w", dir=data_dir, prefix=f".{_KEY_FILE}-") as made:
                made.write(token_hex(32) + "\n")
                made.flush()
                os.fsync(made.fileno())
                with suppress(FileExistsError):
                    os.link(made.name, path)
        return path.read_text().strip()
    except OSError as error:
        raise OperatorError(f"{path} can't be used: {error.strerror}. Set TAXII_SECRET_KEY instead.") from error
