"""What a transaction is held to: row-level policies read three settings of it, and this is who sets them.

`taxii.collection` and `taxii.clearance` bound `object_versions` and `deleted_versions`, `taxii.member` bounds
`statuses`. They last as long as the transaction, so nothing stays on a pooled connection. Where one is not set, or empty,
the policy that reads it raises an error: a statement that forgot what it is about fails, and shows nothing.

The settings travel in the message that begins the transaction. Being statements of their own, they take no parameters:
what goes in is a UUID and whole numbers, quoted by the driver.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from psycopg import sql

from taxii_server.domain.access import Erasable, Readable, Recallable, Submissions, Traceable, Whole, Writable
from taxii_server.domain.tlp import Level
from taxii_server.storage import held
from taxii_server.storage.hot import Statement

if TYPE_CHECKING:
    from uuid import UUID

    from sqlalchemy.ext.asyncio import AsyncConnection

    from taxii_server.domain.access import Proof
    from taxii_server.storage.hot import Step

_BEGIN_READ_ONLY = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY"
BEGIN = Statement("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")
COMMIT = Statement("COMMIT")
_HOLD = sql.SQL(
    "SET LOCAL taxii.collection = {collection}; SET LOCAL taxii.clearance = {clearance}; SET LOCAL taxii.member = {member}"
)
# A page is walked in the order that it is served in. Without statistics Postgres may believe that few rows match, and would
# rather fetch them all by another index and sort them.
_IN_ORDER = "SET LOCAL enable_sort = off; SET LOCAL enable_incremental_sort = off"


# the same with parameters, for what is sent in a pipeline
HELD = Statement(
    """
    SELECT set_config('taxii.collection', CAST(:collection AS text), true),
           set_config('taxii.clearance', CAST(:clearance AS text), true),
           set_config('taxii.member', CAST(:member AS text), true)
    """,
    "collection clearance member",
)


def held_to(where: Proof) -> Step:
    """Give the step that holds those after it to `where`."""
    return HELD.step(_values(where))


async def begin_reading(connection: AsyncConnection, where: Proof | None) -> None:
    """Begin a READ ONLY transaction and hold it to `where`, in one message; None holds it out of everything shared."""
    message = _BEGIN_READ_ONLY if where is None else f"{_BEGIN_READ_ONLY}; {settings(where)}"
    await connection.exec_driver_sql(message)


def begin_writing(connection: AsyncConnection, where: Proof | None) -> None:
    """Have a READ WRITE transaction begun, and held to `where`, with its first statement."""
    held.later(connection, BEGIN.step({}), *([] if where is None else [held_to(where)]))


async def hold_to(connection: AsyncConnection, where: Proof) -> None:
    """Hold the rest of the transaction to something else: for the operator's work on several collections."""
    message = _held(where)
    await connection.exec_driver_sql(message)


def settings(where: Proof) -> str:
    """Write what a transaction begins with that is held to `where`: a reader's goes through its pages in order."""
    return f"{_held(where)}; {_IN_ORDER}" if isinstance(where, Readable) else _held(where)


def _held(where: Proof) -> str:
    return _HOLD.format(**{name: sql.Literal(value) for name, value in _values(where).items()}).as_string()


def _values(where: Proof) -> dict[str, str]:
    """Give the settings. For a writer the clearance is no bound: kept levels are worked out from all versions."""
    match where:
        case Readable() | Traceable():
            return _written(where.collection_id, where.clearance, None)
        case Writable() | Erasable() | Recallable():
            return _written(where.collection_id, Level.RED, where.member)
        case Whole():
            return _written(where.collection_id, Level.RED, None)
        case Submissions():
            return _written(None, None, where.member)
        case _:
            assert_never(where)


def _written(collection_id: UUID | None, clearance: Level | None, member: int | None) -> dict[str, str]:
    return {
        "collection": "" if collection_id is None else str(collection_id),
        "clearance": "" if clearance is None else str(int(clearance)),
        "member": "" if member is None else str(member),
    }
