"""Are the replicas that the settings name replicas of our database?"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from taxii_server.domain.errors import DatabaseGone
from taxii_server.operations.maintenance import Finding
from taxii_server.storage import standby
from taxii_server.storage.engine import Database

if TYPE_CHECKING:
    from collections.abc import Sequence

_PATIENCE: Final = 3.0  # seconds; nothing hangs on a replica


async def check(db: Database, replica_urls: Sequence[str]) -> list[Finding]:
    """Look at all of them at once; the one that takes writes now may be among them."""
    async with db.statement() as connection:
        ours = await standby.system(connection)

    async def look(number: int, url: str) -> Finding | None:
        replica = Database(url, connections=1, patience=_PATIENCE)
        try:
            async with replica.statement() as connection:
                its = await standby.system(connection)
        except DatabaseGone:
            return Finding(
                f"replica {number} of TAXII_DATABASE_REPLICA_URLS can't be used",
                "the primary serves all pages meanwhile; start it, let taxii_server log in there, or take it out of the setting",
            )
        finally:
            await replica.close()
        if its != ours:
            return Finding(
                f"replica {number} of TAXII_DATABASE_REPLICA_URLS is of another PostgreSQL than TAXII_DATABASE_URL",
                "make it with pg_basebackup from the primary; what it holds by itself is never served",
            )
        return None

    found = await asyncio.gather(*(look(number, url) for number, url in enumerate(replica_urls, start=1)))
    return [one for one in found if one is not None]
