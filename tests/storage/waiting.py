"""Waiting for others to wait: how a test brings two transactions to the point where one stands behind the other."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from sqlalchemy import text

if TYPE_CHECKING:
    from taxii_server.storage.engine import Database

_WAITING = text("""
    SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
""")


async def waiting(db: Database, count: int) -> None:
    """Return once so many connections wait for a lock."""
    async with asyncio.timeout(20):
        while True:
            async with db.statement() as connection:
                if (await connection.execute(_WAITING)).scalar_one() >= count:
                    return
            await asyncio.sleep(0.01)
