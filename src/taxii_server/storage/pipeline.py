"""Statements in libpq's pipeline mode: what a lane (`lanes`) and a write (`held`) send alike.

Values are written down before anything is sent. What can't be, a NUL say, is its request's trouble alone: half a request on
the connection would become part of the next one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from psycopg.adapt import PyFormat
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus, Format

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg import Error
    from psycopg.abc import Buffer, Transformer
    from psycopg.pq.abc import PGresult

    from taxii_server.storage.hot import Statement, Step
    from taxii_server.storage.silence import BoundedConnection

Rows = list[Any]
Written = list[tuple["Statement", "Sequence[Buffer | None]"]]

_ANSWERED: Final = {ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK}


def written(adapted: Transformer, steps: Iterable[Step]) -> Written:
    """Write down the values of each step: as text, whose type is the one that the statement gives the parameter.

    Raises:
        psycopg.DataError, UnicodeError: if PostgreSQL has no such text.
    """
    return [(step.statement, adapted.dump_sequence(step.values, [PyFormat.TEXT] * len(step.values))) for step in steps]


def send(connection: BoundedConnection, steps: Written, answers: Format = Format.TEXT) -> None:
    """Send what is written, each statement prepared once on the connection, and the end of it.

    Raises:
        psycopg.OperationalError: if the connection was lost.
    """
    pgconn = connection.pgconn
    for statement, values in steps:
        if not values:
            # so plain that it isn't worth a name: BEGIN, say
            pgconn.send_query_params(statement.numbered, None, result_format=answers)
            continue
        name = connection.prepared.get(statement)
        if name is None:
            # never the same one again: those before it may be there still, or not
            connection.names += 1
            name = connection.prepared[statement] = b"hot_%d" % connection.names
            pgconn.send_prepare(name, statement.numbered)
        pgconn.send_query_prepared(name, values, result_format=answers)
    pgconn.pipeline_sync()


def failure(results: Iterable[PGresult]) -> Error | None:
    """Give the error of the first of these that is one."""
    failed = next((result for result in results if result.status not in _ANSWERED), None)
    return None if failed is None else error_from_result(failed)


def rows(adapted: Transformer, statement: Statement, result: PGresult) -> Rows:
    """Read the rows of a statement.

    Raises:
        psycopg.DataError, ValueError: if Python has no such value.
    """
    adapted.set_pgresult(result)
    return adapted.load_rows(0, result.ntuples, statement.row)
