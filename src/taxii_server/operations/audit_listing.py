"""The audit as operators read it: streams and acts, by the names that they use, and all of it as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from taxii_server.domain.audit import ALLIANCE, COLLECTION, HEADS, KEYS, of_collection, of_member
from taxii_server.domain.errors import OperatorError
from taxii_server.domain.words import did_you_mean
from taxii_server.storage import alliance, members
from taxii_server.storage import audit_reading as reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from taxii_server.domain.audit import Written
    from taxii_server.storage.engine import Connection, Database

_ROWS: Final = 2_000


@dataclass(frozen=True, slots=True)
class ListedStream:
    """A stream, and how many acts it has; `name` is that of the collection it is of, as long as there is one."""

    stream: str
    name: str | None
    acts: int


async def streams(db: Database) -> list[ListedStream]:
    """List the streams."""
    async with db.read() as connection:
        ends = await reading.streams(connection)
        names = await _names(connection)
    return [ListedStream(stream, names.get(stream), seq) for stream, seq in sorted(ends.items())]


async def latest(db: Database, stream: str, count: int) -> list[dict[str, Any]]:
    """Give the last acts of a stream, newest first.

    Raises:
        OperatorError: if there is no such stream.
    """
    async with db.read() as connection:
        stream = await _called(connection, stream)
        rows = await reading.back(connection, stream, 2**62, count)
    if not rows:
        raise OperatorError(f"There is no stream {stream!r}: taxii-server audit list shows all.")
    return [as_exported(row) for row in rows]


async def export(
    db: Database, *, stream: str | None = None, after: int = 0, since: datetime | None = None
) -> AsyncIterator[dict[str, Any]]:
    """Give acts in the order of stream and number: of one stream from a number on, or of all, and from an instant on.

    Raises:
        OperatorError: if there is no such stream.
    """
    if stream is not None:
        async with db.read() as connection:
            stream = await _called(connection, stream)
    place = (stream or "", after)
    while True:
        async with db.read() as connection:
            if stream is None:
                rows = await reading.after(connection, *place, _ROWS)
            else:
                rows = await reading.of_stream(connection, *place, _ROWS)
        for row in rows:
            if since is None or row.at >= since:
                yield as_exported(row)
        if len(rows) < _ROWS:
            return
        place = (rows[-1].stream, rows[-1].seq)


async def _names(connection: Connection) -> dict[str, str]:
    names = await alliance.collection_names(connection)
    return {of_collection(collection_id): name for collection_id, name in names.items()}


async def _members(connection: Connection) -> set[str]:
    return {of_member(one.slug) for one in await members.listing(connection)}


async def _called(connection: Connection, reference: str) -> str:
    """Give the stream that an operator means: by its own name, or by a collection's name, alias, title or id.

    Raises:
        OperatorError: if nothing is called that, or more than one.
    """
    ends = await reading.streams(connection)
    if reference in {*ends, ALLIANCE, KEYS, HEADS} or reference in await _members(connection):
        return reference
    # a collection that is gone has no other name
    if COLLECTION.fullmatch(f"collection:{reference}"):
        return f"collection:{reference}"
    found = {of_collection(one) for one in await alliance.collections_called(connection, reference)}
    if len(found) == 1:
        return found.pop()
    names = await _names(connection)
    if found:
        which = ", ".join(sorted(names[one] for one in found))
        raise OperatorError(f"Several collections are called {reference!r}: {which}. Say which.")
    hint = did_you_mean(reference, [*ends, *names.values()])
    raise OperatorError(f"There is no stream {reference!r}{hint or ': taxii-server audit list shows all.'}")


def as_exported(row: Written) -> dict[str, Any]:
    """Give an act as programs get it; details that are no JSON, because somebody changed them, as their text."""
    try:
        details = json.loads(row.details)
    except (ValueError, RecursionError):
        details = row.details
    return {
        "stream": row.stream,
        "seq": row.seq,
        "at": row.at,
        "act": row.act,
        "who": row.who,
        "details": details,
        "digest": row.digest.hex(),
    }
