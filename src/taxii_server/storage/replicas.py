"""Streaming replicas: they serve pages of lists, so that the primary needn't.

A replica may be behind, and it may be ahead: it shows a commit as soon as it has it, while the primary keeps one back until its
synchronous standbys have it too. Should the primary be lost at that moment, the commit was never made. So a page of a replica
counts only if its collection stood there exactly as it stood on the primary when the caller's rights were looked up: the
same number of changes, read in the page's own snapshot. No two states have the same (`clocks`), so it doesn't matter what the
replica follows, or whether it follows anything any more: the answer is the one that the primary would have given.

Whatever is wrong with a replica, the primary serves. One that fails or leaves a message unanswered is left alone until it
answers the look that is taken every few seconds, so that only who was asking at that moment has waited for it, and never longer
than a moment. A replica that stands elsewhere costs its own short answer.
"""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import structlog
from prometheus_client import Counter, Gauge
from psycopg import Error, sql
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from taxii_server.storage import bounds
from taxii_server.storage.engine import WaitingForDatabase, driver_of, engine_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from taxii_server.domain.access import Readable

log = structlog.get_logger(__name__)

Result = TypeVar("Result")

PAGES: Final = Counter("taxii_list_pages", "Pages of lists, by where they were read; only with replicas.", ["source"])
PASSED_OVER: Final = Counter(
    "taxii_replica_passed_over", "Pages that a replica was asked for and another had to serve.", ["replica", "reason"]
)
UP: Final = Gauge(
    "taxii_replica_up", "Whether pages are asked of the replica.", ["replica"], multiprocess_mode="mostrecent"
)
LAG: Final = Gauge(
    "taxii_replica_lag_seconds",
    "How long ago the last transaction that the replica replayed was committed.",
    ["replica"],
    multiprocess_mode="mostrecent",
)

LOOK_EVERY: Final = 3.0  # seconds
FIRST_WORD: Final = 1.0
"""Seconds that a replica has to let a connection in and say how far it is."""
_PAGE_WITHIN: Final = 5.0
# who finds all connections of a replica lent asks the primary, and hardly waits
_POOL_TIMEOUT: Final = 0.05

_BEGIN: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
# The first statement of the transaction, so the page is read in its snapshot. By primary key.
_STATE: Final = sql.SQL(
    "SELECT pg_is_in_recovery(), (SELECT changes FROM collection_clocks WHERE collection_id = {collection})"
)
_LOOK: Final = """
    SELECT pg_is_in_recovery() AS standby,
           CAST(extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) AS float8) AS lag
"""
# the replica had to take away what the page was reading: it is well, and the next page may be luckier
_CONFLICT: Final = "40"

_BEHIND, _BUSY, _CONFLICTS, _FAILED, _PROMOTED, _SILENT = "behind", "busy", "conflict", "failed", "promoted", "silent"


class _PassedOver(Exception):
    """This replica can't serve the page."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Replica:
    """One of them. It serves once it was looked at and found well."""

    def __init__(self, number: int, url: str, connections: int) -> None:
        self.number = str(number)
        self.serves = False
        self._told: str | None = None
        self._pool = partial(engine_of, url, connections, _PAGE_WITHIN, _POOL_TIMEOUT)
        self._engine = self._pool()
        UP.labels(self.number).set(0)

    async def read(self, where: Readable, ask: Callable[[AsyncConnection], Awaitable[Result]]) -> Result:
        """Have `ask` read what `where` allows, in the state of the collection that `where` names.

        Raises:
            _PassedOver: if this replica isn't in that state, or can't be used.
        """
        try:
            async with asyncio.timeout(FIRST_WORD) as within:
                async with self._connection() as connection:
                    standby, changes = await _begin(connection, where)
                    if not standby or changes != where.changes:
                        await (await driver_of(connection)).commit()
                        raise _PassedOver(_BEHIND if standby else _PROMOTED)
                    within.reschedule(asyncio.get_running_loop().time() + _PAGE_WITHIN)
                    result = await ask(connection)
                    # not rolled back: after that the driver forgets what it prepared
                    await connection.commit()
                    return result
        except PoolTimeout as error:
            raise _PassedOver(_BUSY) from error
        except TimeoutError as error:
            raise _PassedOver(_SILENT) from error
        except (DBAPIError, Error, OSError) as error:
            sqlstate = getattr(getattr(error, "orig", error), "sqlstate", None) or ""
            raise _PassedOver(_CONFLICTS if sqlstate.startswith(_CONFLICT) else _FAILED) from error

    async def look(self) -> None:
        """Find out whether it can serve, and how far it is behind."""
        try:
            async with asyncio.timeout(FIRST_WORD), self._connection() as connection:
                found = (await connection.exec_driver_sql(_LOOK)).one()
        except PoolTimeout:
            return
        except (DBAPIError, Error, OSError) as error:
            await self.leave(_SILENT if isinstance(error, TimeoutError) else _FAILED)
            return
        if not found.standby:
            await self.leave(_PROMOTED)
            return
        LAG.labels(self.number).set(found.lag or 0)
        if not self.serves:
            log.info("replica_serves", replica=self.number)
        self.serves, self._told = True, None
        UP.labels(self.number).set(1)

    async def leave(self, reason: str) -> None:
        """Ask nothing more of it until it is found well again; told once for each reason."""
        self.serves = False
        # the next look shall not stumble over what is broken by now
        left, self._engine = self._engine, self._pool()
        await left.dispose()
        UP.labels(self.number).set(0)
        if self._told != reason:
            log.warning("replica_left_alone", replica=self.number, reason=reason)
            self._told = reason

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[AsyncConnection]:
        engine = self._engine
        async with engine.connect() as connection:
            try:
                yield connection
            finally:
                if engine is not self._engine:
                    # nobody will lend it again
                    await connection.invalidate()


class Replicas:
    """The replicas of one primary. Make one per process, and keep it `running` while it serves."""

    def __init__(self, urls: Sequence[str], *, connections: int) -> None:
        """Take their URLs, as the server's role, and the most connections to hold to each; nothing is opened yet."""
        self.all = [Replica(number, url, connections) for number, url in enumerate(urls, start=1)]
        self._turn = itertools.count()

    async def read(self, where: Readable, ask: Callable[[AsyncConnection], Awaitable[Result]]) -> Result | None:
        """Have `ask` read from a replica what the primary would give; None if none of them can now.

        `ask` may be run more than once, on one connection after the other.
        """
        if not self.all:
            return None
        if where.changes is not None:
            serving = [each for each in self.all if each.serves]
            first = next(self._turn) % len(serving) if serving else 0
            with WaitingForDatabase():
                for replica in (*serving[first:], *serving[:first]):
                    try:
                        result = await replica.read(where, ask)
                    except _PassedOver as passed_over:
                        PASSED_OVER.labels(replica.number, passed_over.reason).inc()
                        if passed_over.reason in {_FAILED, _SILENT, _PROMOTED}:
                            await replica.leave(passed_over.reason)
                            # one wait is enough for one request
                            break
                    else:
                        PAGES.labels("replica").inc()
                        return result
        PAGES.labels("primary").inc()
        return None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look after them while the block runs."""
        over = asyncio.Event()
        looking = [asyncio.create_task(_look_now_and_then(each, over)) for each in self.all]
        try:
            yield
        finally:
            # no look is broken off: it has its own end
            over.set()
            await asyncio.gather(*looking)
            for replica in self.all:
                await replica.close()


async def _begin(connection: AsyncConnection, where: Readable) -> tuple[bool, int | None]:
    """Begin a transaction held to `where`, and tell in the same message whether it is on a standby and how far that is."""
    state = _STATE.format(collection=sql.Literal(str(where.collection_id))).as_string()
    cursor = (await driver_of(connection)).cursor()
    try:
        await cursor.execute(f"{_BEGIN}; {bounds.settings(where)}; {state}".encode())
    except Error as error:
        # what passes SQLAlchemy by it doesn't see: it would lend the connection to the next
        await connection.invalidate(error)
        raise
    while cursor.nextset():
        pass
    row = await cursor.fetchone()
    return (row[0], row[1]) if row is not None else (False, None)


async def _look_now_and_then(replica: Replica, over: asyncio.Event) -> None:
    while not over.is_set():
        try:
            await replica.look()
        except Exception as error:  # noqa: BLE001 - whatever it was, the next look is taken
            log.critical(
                "replica_fault", replica=replica.number, raised=f"{type(error).__module__}.{type(error).__qualname__}"
            )
            await replica.leave(_FAILED)
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY):
                await over.wait()
