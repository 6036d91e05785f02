"""The way to Postgres: pools, transactions and what its failures mean.

Every transaction begins and ends here. `statement` is autocommit and carries the caller statement; `read` is a READ
ONLY transaction; `write` commits on leaving, so what was answered after it was durable before. A transaction is held to
the proof of a check from its first message on (`bounds`): without one, what was shared is out of its reach. A lost, full,
refusing or silent (`silence`) database surfaces as `DatabaseGone`; pools notice dead connections and open new ones, so
recovery needs nobody.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakValueDictionary

import psycopg
import structlog
from prometheus_client import Counter
from psycopg.pq import TransactionStatus
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, InterfaceError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from taxii_server.domain.access import Submissions
from taxii_server.domain.errors import DatabaseGone, OperatorError
from taxii_server.storage import bounds, held, lanes, silence

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable
    from types import TracebackType

    from taxii_server.domain.access import Proof
    from taxii_server.storage.hot import Step
    from taxii_server.storage.pipeline import Rows

log = structlog.get_logger(__name__)

Connection = AsyncConnection
"""A connection lent by a `Database`: what the rest of the house calls it, so that only storage knows sqlalchemy."""

DATABASE_FAILURES = Counter(
    "taxii_database_failures",
    "Statements and connections that Postgres refused, by SQLSTATE class.",
    ["sqlstate_class"],
)

_CONNECT_TIMEOUT = 5
_POOL_TIMEOUT = 5
_BAD_OPTION = "invalid connection option"
_TURN_TIMEOUT = 30
# A statement that outlives its timeout answers 503: a page costs milliseconds, the largest envelope seconds.
_LIMITS = (
    "-c timezone=UTC -c jit=off -c max_parallel_workers_per_gather=0 -c statement_timeout=30s -c lock_timeout=30s "
    "-c idle_in_transaction_session_timeout=60s -c application_name=taxii-server"
)
# Every statement of a request walks indexes from a few rows to a few others, whatever a table holds. Postgres would know
# that from statistics, which it doesn't have of what was loaded a minute ago, and has of yesterday for a while: so it is
# told. One plan a statement then serves all values, and none is planned twice on a connection.
_WALKING = ("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin")
_SESSION = " ".join((_LIMITS, "-c plan_cache_mode=force_generic_plan", *(f"-c {one}=off" for one in _WALKING)))
# Of the lanes of what is read; pages are walked in the order that they are served in (`bounds`). Said when the connection is there:
# among its options, `target_session_attrs=read-write` would take a server for one that takes no writes.
_READ_ONLY = "SET default_transaction_read_only = on; SET enable_sort = off; SET enable_incremental_sort = off"
# A database host that vanished without a word is noticed within half a minute, not when the kernel gives up.
_KEEPALIVE = {
    "keepalives_idle": 15,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
# SQLSTATEs that are the database's trouble, not the statement's, though drivers class them otherwise
_TROUBLE = {
    "25006",  # read_only_sql_transaction: we are talking to a standby
    "25P03",  # idle_in_transaction_session_timeout: we took too long ourselves
}


_UNBOUND = "; ".join(
    (
        "SET LOCAL statement_timeout = 0",
        "SET LOCAL plan_cache_mode = auto",
        *(f"SET LOCAL {one} = on" for one in _WALKING),
    )
)


class Database:
    """One Postgres, as the server's role. Make one per process and `close` it."""

    def __init__(self, url: str, *, connections: int = 10, patience: float | None = None) -> None:
        """Take a `postgresql+psycopg://` URL and the most connections to hold, three at least; nothing is opened yet.

        `patience` is how many seconds a statement may go unanswered.
        """
        patience = silence.PATIENCE if patience is None else patience
        # one commits what is written on lanes, so that what is written together is committed together
        reading = max(1, (connections - 1) // 2)
        lent = max(1, connections - 1 - reading)
        self.engine = engine_of(url, lent, patience)
        event.listen(self.engine.sync_engine, "checkout", _still_there)
        event.listen(self.engine.sync_engine, "before_cursor_execute", held.first_what_waits)
        self._reading = lanes.Lanes(partial(self._connect, patience, _READ_ONLY), reading, patience, repeat=True)
        self._committing = lanes.Lanes(partial(self._connect, patience), 1, patience, repeat=False)
        # Writers wait for each other's locks. They do it here, without a connection: one a collection, and never so many
        # that nothing is left for reading.
        self._writing = asyncio.Semaphore(max(1, lent - 1))
        self._turns: WeakValueDictionary[Hashable, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def statement(self, *, patience: float | None = None) -> AsyncIterator[AsyncConnection]:
        """Lend a connection on which every statement is its own transaction, and held to nothing.

        `patience` is how many seconds each may go unanswered, where that shall be less than usual.
        """
        with _Using():
            async with self.engine.connect() as connection:
                if patience is not None:
                    driver = await driver_of(connection)
                    driver.patience = min(driver.usual, patience)
                yield connection

    @asynccontextmanager
    async def read(self, where: Proof | None = None) -> AsyncIterator[AsyncConnection]:
        """Lend a connection in a READ ONLY transaction that is held to `where`."""
        with _Using():
            async with self.engine.connect() as connection:
                await bounds.begin_reading(connection, where)
                yield connection
                # not rolled back: after that the driver forgets what it prepared, and each page would be planned anew
                await connection.commit()

    @asynccontextmanager
    async def write(self, where: Proof | None = None, *, turn: Hashable = None) -> AsyncIterator[AsyncConnection]:
        """Lend a connection in a READ COMMITTED transaction that commits on leaving, or rolls back on an error.

        It is held to `where`. Those that write to one collection take turns before they take a connection, and so do
        those with the same `turn`.
        """
        if turn is None and where is not None and not isinstance(where, Submissions):
            turn = where.collection_id
        with _Using():
            lock = asyncio.Lock() if turn is None else self._turns.setdefault(turn, asyncio.Lock())
            async with _in_time(lock), _in_time(self._writing), self.engine.connect() as connection:
                bounds.begin_writing(connection, where)
                yield connection
                driver = await driver_of(connection)
                _refuse_if_failed(driver)
                await held.run(connection, bounds.COMMIT.step({}))
                driver.patience = driver.usual

    async def ask(self, *steps: Step) -> Rows:
        """Run hot statements in a READ ONLY transaction of their own; give the rows of the last one."""
        with _Using():
            return await self._reading.ask(steps)

    async def persist(self, *steps: Step) -> None:
        """Run hot statements that write, in a transaction of their own that is durable when this returns."""
        with _Using():
            await self._committing.ask(steps)

    async def _connect(self, patience: float, first: str | None = None) -> silence.BoundedConnection:
        arguments, options = self.engine.dialect.create_connect_args(self.engine.url)
        ours = _connecting(patience)
        connect: silence.Opener = ours.pop("async_creator_fn")
        connection = await connect(*arguments, **{**options, **ours}, autocommit=True)
        if first is not None:
            await connection.execute(first.encode())
        return connection

    async def close(self) -> None:
        """Close all connections."""
        self._reading.close()
        self._committing.close()
        await self.engine.dispose()


def engine_of(url: str, connections: int, patience: float, pool_timeout: float = _POOL_TIMEOUT) -> AsyncEngine:
    """Make a pool of connections to one Postgres; nothing is opened yet."""
    return create_async_engine(
        url,
        # an error's text would otherwise quote what was being stored
        hide_parameters=True,
        # the driver begins no transaction by itself: `read` and `write` begin theirs, and hold them in the same message
        isolation_level="AUTOCOMMIT",
        pool_size=connections,
        max_overflow=0,
        pool_timeout=pool_timeout,
        connect_args=_connecting(patience),
    )


def _connecting(patience: float) -> dict[str, Any]:
    return {
        "async_creator_fn": silence.opener(patience),
        "connect_timeout": min(_CONNECT_TIMEOUT, math.ceil(patience)),
        "options": _SESSION,
        **_KEEPALIVE,
    }


class DatabaseTime:
    """How long a request held connections, in seconds, waiting for one included: what is spent inside of it is added up.

    A class, as are the other two here that each request goes through: a generator's takes three times as long.
    """

    __slots__ = ("_token", "seconds")

    def __init__(self) -> None:
        """Begin with none."""
        self.seconds = 0.0

    def __enter__(self) -> Self:
        """Take what is spent from now on."""
        self._token = _spent.set(self)
        return self

    def __exit__(self, *_: object) -> None:
        """Take no more."""
        _spent.reset(self._token)


_spent: ContextVar[DatabaseTime | None] = ContextVar("database_time", default=None)


class WaitingForDatabase:
    """Count the time inside as spent with the database: somebody's statement is waited for, the request's own or another's."""

    __slots__ = ("_begun",)

    def __enter__(self) -> None:
        """Begin to wait."""
        self._begun = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Have waited."""
        spent = _spent.get()
        if spent is not None:
            spent.seconds += time.perf_counter() - self._begun


async def take_all_the_time(connection: AsyncConnection) -> None:
    """Let the rest of the transaction take as long as it takes: for an operator's work on millions of rows.

    Postgres plans it for the values at hand, and may read whole tables.
    """
    await connection.exec_driver_sql(_UNBOUND)
    (await driver_of(connection)).patience = None


def _still_there(lent: Any, *_: object) -> None:
    """See to it that nobody is lent what a restart of Postgres has cut: all were opened before it, and are opened anew."""
    if lent.driver_connection.hung_up:
        raise InvalidatePoolError


async def driver_of(connection: AsyncConnection) -> silence.BoundedConnection:
    """Give the driver's own connection under one that is lent."""
    driver = (await connection.get_raw_connection()).driver_connection
    if not isinstance(driver, silence.BoundedConnection):
        message = "the pool holds a connection that was opened by somebody else"
        raise TypeError(message)
    return driver


def _refuse_if_failed(driver: silence.BoundedConnection) -> None:
    """See to it that a failure which somebody passed over is no silent one: PostgreSQL would answer COMMIT by rolling back."""
    if driver.info.transaction_status == TransactionStatus.INERROR:
        message = "a statement failed and was passed over: nothing of this transaction would be stored"
        raise RuntimeError(message)


@asynccontextmanager
async def _in_time(turn: asyncio.Lock | asyncio.Semaphore) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(_TURN_TIMEOUT):
            await turn.acquire()
    except TimeoutError as error:
        raise DatabaseGone(_BUSY) from error
    try:
        yield
    finally:
        turn.release()


class _Using(WaitingForDatabase):
    """Count the time inside, and turn trouble with the database into what the house calls it."""

    __slots__ = ()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if error is not None and (trouble := _trouble(error)) is not None:
            raise trouble from error


def _trouble(error: BaseException) -> DatabaseGone | OperatorError | None:
    """Count and log what went wrong with the database itself; None if it didn't."""
    match error:
        case PoolTimeout():
            DATABASE_FAILURES.labels("pool").inc()
            log.warning("database_busy", reason="no connection became free")
            return DatabaseGone(_BUSY)
        case lanes.Busy():
            DATABASE_FAILURES.labels("pool").inc()
            log.warning("database_busy", reason="others of the same connection took too long")
            return DatabaseGone(_BUSY)
        case DBAPIError() | psycopg.Error():
            return _refusal(error)
        case OSError():
            DATABASE_FAILURES.labels("none").inc()
            log.warning("database_trouble", sqlstate=None, kind=type(error).__name__)
            return DatabaseGone(_GONE)
    return None


def _refusal(error: DBAPIError | psycopg.Error) -> DatabaseGone | OperatorError | None:
    # past SQLAlchemy it is the driver's own
    original = error.orig if isinstance(error, DBAPIError) else error
    sqlstate = getattr(original, "sqlstate", None) or ""
    if _BAD_OPTION in str(original):
        return OperatorError(f"TAXII_DATABASE_URL can't be used: {str(original).strip()}")
    if not isinstance(error, _LOST) and sqlstate not in _TROUBLE:
        return None
    silent = isinstance(original, silence.Silent)
    DATABASE_FAILURES.labels("silent" if silent else sqlstate[:2] or "none").inc()
    # the driver's text may quote values; the class of trouble is enough to find it in Postgres's own log
    log.warning("database_trouble", sqlstate=sqlstate or None, kind=type(original).__name__)
    return DatabaseGone(_GONE)


_LOST = (OperationalError, InterfaceError, psycopg.OperationalError, psycopg.InterfaceError)
_BUSY = "All database connections are busy; try again."
# the connection may have broken while the commit was being answered, so it doesn't say that nothing was done
_GONE = "The database can't be used at the moment. Send the request again: what it stored already is not stored twice."
