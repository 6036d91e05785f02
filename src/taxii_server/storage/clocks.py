"""The clock of a collection: one narrow row, locked by whoever adds or removes.

The lock is what makes `date_added` appear in order: dates are taken after it is held, and it is held until commit, so
nobody can see a date before all smaller ones are there.

`changes` rises with everything that changes what is seen, and no two states of a collection ever have the same number, not
even when a failover or a restore lost some of them: it is the microsecond of the change, or one more than before.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import BigInteger, cast, func

from taxii_server.domain.errors import ClockAhead, NotFound
from taxii_server.storage.hot import Statement

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from taxii_server.storage.engine import Connection

FURTHEST_AHEAD = timedelta(minutes=1)

MICROSECOND = cast(func.extract("epoch", func.clock_timestamp()) * 1_000_000, BigInteger)
"""The database's time as a number of changes."""

# Alone in its statement: one that also read versions would read them as they were before the wait. NO KEY, because
# plain FOR UPDATE would hold up every foreign key to the collection.
LOCK = Statement(
    """
    SELECT last_added, clock_timestamp() AS now
      FROM collection_clocks
     WHERE collection_id = :collection
       FOR NO KEY UPDATE
    """,
    "last_added now",
)

MOVE = Statement("""
    UPDATE collection_clocks
       SET last_added = :last_added,
           changes = greatest(changes + 1, CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint))
     WHERE collection_id = :collection
""")

# A removal gives out no date, but what replicas show must be no older than it.
CHANGED = Statement("""
    UPDATE collection_clocks
       SET changes = greatest(changes + 1, CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint))
     WHERE collection_id = :collection
""")


@dataclass(frozen=True, slots=True)
class Clock:
    """A locked clock: the last date given out, and the database's own time."""

    last_added: datetime
    now: datetime

    @property
    def base(self) -> datetime:
        """The instant after which new dates go, one microsecond apart."""
        return max(self.last_added, self.now)


async def lock_clock(connection: Connection, collection_id: UUID) -> Clock:
    """Wait for the collection's clock and hold it until the transaction ends.

    Raises:
        NotFound: if the collection is gone.
    """
    rows = await LOCK.on(connection, {"collection": collection_id})
    if not rows:
        raise NotFound
    return Clock(rows[0].last_added, rows[0].now)


def refuse_if_ahead(clock: Clock) -> None:
    """Refuse to give out dates far in the future.

    Raises:
        ClockAhead: if the last date lies more than a minute ahead of the database's time.
    """
    if clock.last_added > clock.now + FURTHEST_AHEAD:
        message = (
            "The clock of this collection is ahead of the database's time, so nothing can be added: the operator must "
            "check the clock of the database server."
        )
        raise ClockAhead(message)


def note_change(connection: Connection, collection_id: UUID) -> None:
    """Note that something was removed. The clock must be locked."""
    CHANGED.later(connection, {"collection": collection_id})


def move_clock(connection: Connection, collection_id: UUID, last_added: datetime) -> None:
    """Note the last date given out and that the collection changed. The clock must be locked."""
    MOVE.later(connection, {"collection": collection_id, "last_added": last_added})
