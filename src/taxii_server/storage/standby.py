"""Standbys: does one confirm what is committed before the client hears of it, and of which PostgreSQL is one?"""

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


# A primary and its standbys have the same, for as long as they live.
SYSTEM = text("SELECT system_identifier FROM pg_control_system()")


async def system(connection: Connection) -> int:
    """Tell which PostgreSQL this is, or is a standby of."""
    return int((await connection.execute(SYSTEM)).scalar_one())
