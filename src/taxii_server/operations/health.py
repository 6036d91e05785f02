"""Can the server do its work now?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from taxii_server.storage import migrations, standby

if TYPE_CHECKING:
    from taxii_server.storage.engine import Database


_PATIENCE: Final = 3.0  # seconds; whoever asks sends requests elsewhere, and doesn't wait for long


@dataclass(frozen=True, slots=True)
class Readiness:
    """What serving needs, and whether a standby confirms each write before it is acknowledged."""

    database: bool
    migrations: bool
    synchronous_standby: bool

    @property
    def ready(self) -> bool:
        """Requests can be served."""
        return self.database and self.migrations


async def readiness(database: Database) -> Readiness:
    """Look at the database and its schema.

    Raises:
        DatabaseGone: if it can't be reached.
    """
    async with database.statement(patience=_PATIENCE) as connection:
        heads = await migrations.current(connection)
        synchronous = await standby.is_synchronous(connection)
    return Readiness(database=True, migrations=migrations.can_serve(heads), synchronous_standby=synchronous)
