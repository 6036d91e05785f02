"""Statements of a write, on the connection that its transaction holds: several in one message, and nothing set up for each.

They are prepared once on each connection and sent in libpq's pipeline mode, past SQLAlchemy and the driver's cursors, which
take ten times as long for a statement as this does. Everything else may be done on the same connection in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import Error, OperationalError
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, ExecStatus, PipelineStatus
from psycopg.waiting import Ready, Wait

from taxii_server.storage import pipeline
from taxii_server.storage.silence import BoundedConnection

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg.abc import PQGen
    from psycopg.pq.abc import PGconn, PGresult
    from sqlalchemy.ext.asyncio import AsyncConnection

    from taxii_server.storage.hot import Step
    from taxii_server.storage.pipeline import Rows


async def run(connection: AsyncConnection, *steps: Step) -> Rows:
    """Run statements one after the other; give the rows of the last one.

    Raises:
        psycopg.Error: as the first one does that fails; those after it were not run.
    """
    driver = _driver_of(connection)
    adapted = Transformer(driver)
    ready = pipeline.written(adapted, steps)

    def send() -> None:
        driver.pgconn.enter_pipeline_mode()
        pipeline.send(driver, ready)

    results = await _answers(connection, driver, send)
    driver.pgconn.exit_pipeline_mode()
    if (failure := pipeline.failure(results)) is not None:
        # what was to be prepared after it wasn't
        driver.prepared.clear()
        raise failure
    return pipeline.rows(adapted, steps[-1].statement, results[-1])


async def forget(connection: AsyncConnection) -> None:
    """Prepare anew what comes next, after a ROLLBACK TO."""
    await _driver_of(connection).forget()


async def tell(connection: AsyncConnection, message: str) -> None:
    """Send statements as they are, in one message: those that begin or end a transaction.

    Raises:
        psycopg.Error: as the first one does that fails.
    """
    driver = _driver_of(connection)

    def send() -> None:
        driver.pgconn.send_query(message.encode())

    if (failure := pipeline.failure(await _answers(connection, driver, send))) is not None:
        raise failure


def _driver_of(connection: AsyncConnection) -> BoundedConnection:
    """Give the driver's connection beneath a pool's."""
    driver = None if connection.sync_connection is None else connection.sync_connection.connection.driver_connection
    if not isinstance(driver, BoundedConnection):
        message = "the pool holds a connection that was opened by somebody else"
        raise TypeError(message)
    return driver


async def _answers(connection: AsyncConnection, driver: BoundedConnection, send: Callable[[], None]) -> list[PGresult]:
    try:
        send()
        return await driver.wait(_exchange(driver.pgconn))
    except BaseException as error:
        if driver.closed and connection.sync_connection is not None:
            if isinstance(error, Error):
                # those that are idle may have been lost with it: as SQLAlchemy does, let none of them be lent again
                pool, lent = connection.sync_connection.engine.pool, connection.sync_connection.connection
                pool._invalidate(lent, error, _checkin=False)  # noqa: SLF001 - there is no other way to say so
            # nor shall this one, nor a rollback be tried on it
            await connection.invalidate()
        raise


def _exchange(pgconn: PGconn) -> PQGen[list[PGresult]]:
    results: list[PGresult] = []
    in_pipeline = pgconn.pipeline_status != PipelineStatus.OFF
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
            if pgconn.status == ConnStatus.BAD:
                raise OperationalError("the connection was lost")
            if not in_pipeline:
                return results
        elif result.status == ExecStatus.PIPELINE_SYNC:
            return results
        else:
            results.append(result)
