"""Statements of a write, on the connection that its transaction holds: several in one message, and nothing set up for each.

They are prepared once on each connection and sent in libpq's pipeline mode, past SQLAlchemy and the driver's cursors, which
take ten times as long for a statement as this does. Those whose rows nobody needs wait for the next one (`later`), as does what
begins the transaction; so a write that adds goes to Postgres five times, and not once for each of its ten statements, and
holds its locks half as long. Everything else may be done on the same connection in between: what waits goes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import Error, OperationalError
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, ExecStatus
from psycopg.waiting import Ready, Wait

from taxii_server.storage import pipeline
from taxii_server.storage.silence import BoundedConnection

if TYPE_CHECKING:
    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGconn, PGresult
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection

    from taxii_server.storage.hot import Step
    from taxii_server.storage.pipeline import Rows


async def run(connection: AsyncConnection, *steps: Step) -> Rows:
    """Run statements one after the other, after those that wait; give the rows of the last one.

    Raises:
        psycopg.Error: as the first one does that fails; those after it were not run.
    """
    driver = _driver_of(connection.sync_connection)
    try:
        return await _run(driver, *steps)
    except BaseException as error:
        if driver.closed:
            await connection.run_sync(_let_go, error)
        raise


def later(connection: AsyncConnection, *steps: Step) -> None:
    """Have statements run before whatever comes next on the connection; that raises what they do."""
    _driver_of(connection.sync_connection).later.extend(steps)


def first_what_waits(connection: Connection, *_: object) -> None:
    """Run what waits before a statement that SQLAlchemy is about to send."""
    driver = _driver_of(connection)
    if driver.later:
        try:
            connection.connection.run_async(_run)
        except BaseException as error:
            if driver.closed:
                _let_go(connection, error)
            raise


async def forget(connection: AsyncConnection) -> None:
    """Prepare anew what comes next, after a ROLLBACK TO."""
    await _driver_of(connection.sync_connection).forget()


async def _run(driver: BoundedConnection, *steps: Step) -> Rows:
    steps = (*driver.later, *steps)
    adapted = Transformer(driver)
    # what can't be written takes nothing along that waits, BEGIN least of all: whoever passes over the error meets it again
    ready = pipeline.written(adapted, steps)
    driver.later.clear()
    driver.pgconn.enter_pipeline_mode()
    pipeline.send(driver, ready)
    results = await driver.wait(_exchange(driver.pgconn))
    driver.pgconn.exit_pipeline_mode()
    if (failure := pipeline.failure(results)) is not None:
        # what was to be prepared after it wasn't
        driver.prepared.clear()
        raise failure
    return pipeline.rows(adapted, steps[-1].statement, results[-1])


def _driver_of(connection: Connection | None) -> BoundedConnection:
    """Give the driver's connection beneath a pool's."""
    driver = None if connection is None else connection.connection.driver_connection
    if not isinstance(driver, BoundedConnection):
        message = "the pool holds a connection that was opened by somebody else"
        raise TypeError(message)
    return driver


def _let_go(connection: Connection, error: BaseException) -> None:
    """Tell the pool of a connection that was lost."""
    if isinstance(error, Error):
        # those that are idle may have been lost with it: as SQLAlchemy does, let none of them be lent again
        connection.engine.pool._invalidate(connection.connection, error, _checkin=False)  # noqa: SLF001 - there is no other way to say so
    # nor shall this one, nor a rollback be tried on it
    connection.invalidate()


def _exchange(pgconn: PGconn) -> PQGen[list[PGresult]]:
    results: list[PGresult] = []
    unsent = pgconn.flush()
    while True:
        if unsent or pgconn.is_busy():
            ready = yield Wait.RW if unsent else Wait.R
            if ready & Ready.R:
                pgconn.consume_input()
            if unsent:
                unsent = pgconn.flush()
            continue
        result = pgconn.get_result()
        if result is None:
            # the end of one statement's results, or of all if the connection is no more
            if pgconn.status == ConnStatus.BAD:
                raise OperationalError("the connection was lost")
        elif result.status == ExecStatus.PIPELINE_SYNC:
            return results
        else:
            results.append(result)
