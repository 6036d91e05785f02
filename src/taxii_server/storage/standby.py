"""Does a standby confirm what is committed before the client hears of it?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from taxii_server.storage.engine import Connection

SYNCHRONOUS = text("""
    SELECT current_setting('synchronous_standby_names') <> ''
       AND current_setting('synchronous_commit') IN ('on', 'remote_apply', 'remote_write') AS synchronous
""")


async def is_synchronous(connection: Connection) -> bool:
    """Tell whether commits wait for a standby."""
    return bool((await connection.execute(SYNCHRONOUS)).scalar_one())
