"""What this worker's clients do, kept in memory and saved now and then; no request waits for it or pays a statement.

A worker that is killed loses what it noted since the last time it saved, never more, and never anything that others
saved.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

import structlog
from prometheus_client import Counter, Gauge

from taxii_server.domain.cursor import Endpoint
from taxii_server.domain.errors import DatabaseGone
from taxii_server.domain.filters import ALL_VERSIONS, LAST_ONLY
from taxii_server.storage import activity as storage
from taxii_server.storage import consumers
from taxii_server.storage.activity import MOST_FAILURES, Conduct, Reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from taxii_server.domain.access import Caller
    from taxii_server.domain.errors import NotAuthenticated
    from taxii_server.domain.filters import Filter
    from taxii_server.operations.reading import Answer, Asked
    from taxii_server.storage.engine import Database

log = structlog.get_logger(__name__)

SAVES = Counter("taxii_activity_saves", "Batches of what clients did that were saved, failed or given up.", ["result"])

SILENT = Gauge(
    "taxii_clients_silent",
    "Clients that may read, could log in, and were answered before, but not within a day.",
    multiprocess_mode="mostrecent",
)

ENDING = Gauge(
    "taxii_clients_ending",
    "Clients that are let in, and that end, or the last of their certificates does, within thirty days.",
    multiprocess_mode="mostrecent",
)

_SILENT_AFTER: Final = timedelta(days=1)
_ENDING_WITHIN: Final = timedelta(days=30)
_COUNT_EVERY: Final = 60  # seconds
_MOST_ROWS: Final = 1_000  # of each table in one batch, so that each takes milliseconds
_TRIES: Final = 3  # of a batch that Postgres refuses for a reason of its own; trouble with Postgres is sat out
_LAST_WORD: Final = 1  # seconds for saving when the worker ends; who stops it doesn't wait for long
_FIRST_ERROR: Final = 400
_TOO_MANY_REQUESTS: Final = 429
# how a feed is noted when objects of it are asked for by id, which tells nothing of how far it was read
_OF_ONE: Final = {Endpoint.OBJECTS: Endpoint.OBJECT, Endpoint.MANIFEST: Endpoint.VERSIONS}


@dataclass(frozen=True, slots=True)
class _Batch:
    number: int
    readings: list[Reading]
    conducts: list[Conduct]


class Activity:
    """Notes what clients do. Make one per process, and keep it `running` while it serves."""

    def __init__(self, database: Database, interval: timedelta) -> None:
        """Take the database and how often to save."""
        self._db = database
        self._interval = interval.total_seconds()
        self._worker = uuid4()
        self._readings: dict[tuple[UUID, int, str], Reading] = {}
        self._conducts: dict[int, Conduct] = {}
        self._batch: _Batch | None = None
        self._number = 0
        self._tries = 0
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Save now and then while the block runs, and a last time when it ends."""
        saving = asyncio.create_task(self._now_and_then())
        try:
            yield
        finally:
            saving.cancel()
            with suppress(asyncio.CancelledError):
                await saving
            with suppress(TimeoutError):
                async with asyncio.timeout(_LAST_WORD):
                    await self.save()

    def visit(self, caller: Caller) -> Visit:
        """Begin to note one request of an identified caller."""
        return Visit(self, caller)

    def refused(self, error: NotAuthenticated) -> None:
        """Note that somebody showed a known client's id with credentials that don't hold."""
        if error.client is None or error.at is None:
            return
        conduct = self._conduct(error.client)
        if conduct.refused_at is None or error.at >= conduct.refused_at:
            conduct.refused_at, conduct.refused_for = error.at, error.reason

    def limited(self, client: int, at: datetime) -> None:
        """Note that a client had to wait, wherever it asked; mostly it was not even looked up."""
        self.answered(client, at, _TOO_MANY_REQUESTS)

    def answered(self, client: int, at: datetime, status: int) -> None:
        """Note how a client's request ended."""
        conduct = self._conduct(client)
        conduct.requests += 1
        if status < _FIRST_ERROR:
            conduct.succeeded_at = _later(conduct.succeeded_at, at)
            if conduct.failures:
                conduct.failures = [one for one in conduct.failures if one > at]
            return
        conduct.errors += 1
        if conduct.failed_at is None or at >= conduct.failed_at:
            conduct.failed_at, conduct.failed_status = at, status
        if conduct.succeeded_at is None or at > conduct.succeeded_at:
            conduct.failures = sorted({*conduct.failures, at}, reverse=True)[:MOST_FAILURES]

    def read(self, read: Read, client: int, at: datetime) -> None:
        """Note a page that a client was sent."""
        key = (read.collection_id, client, read.endpoint)
        reading = self._readings.get(key)
        if reading is None:
            reading = self._readings[key] = Reading(*key[:2], str(read.endpoint))
        reading.polls += 1
        reading.versions += read.versions
        reading.polled_at = _later(reading.polled_at, at)
        if read.versions:
            reading.received_at = _later(reading.received_at, at)
        if read.reached is not None:
            reading.reached = _later(reading.reached, read.reached)
        if read.ended:
            reading.ended_at = _later(reading.ended_at, at)
        if read.filtered:
            reading.filtered_at = _later(reading.filtered_at, at)

    async def save(self) -> None:
        """Save all that was noted; what can't be saved now is kept for the next time. Never raises."""
        async with self._turn:
            try:
                while self._take():
                    await self._send()
            except DatabaseGone:
                self._failed()
            except Exception as error:  # noqa: BLE001 - whatever it is, serving goes on
                self._failed(error)

    async def count_silent(self) -> None:
        """Count the clients that went silent, and those about to end, for the metrics of these names. Never raises."""
        try:
            async with self._db.statement() as connection:
                SILENT.set(await consumers.count_silent(connection, since=_SILENT_AFTER))
                ENDING.set(await consumers.count_ending(connection, within=_ENDING_WITHIN))
        except DatabaseGone:
            pass  # which is logged where it was noticed
        except Exception as error:  # noqa: BLE001 - whatever it is, serving goes on
            log.warning("silent_not_counted", raised=type(error).__qualname__)

    async def _now_and_then(self) -> None:
        counted = -math.inf
        while True:
            await asyncio.sleep(self._interval)
            await self.save()
            if time.monotonic() - counted >= _COUNT_EVERY:
                await self.count_silent()
                counted = time.monotonic()

    def _take(self) -> bool:
        """Put the next batch together, unless one waits to be sent again as it was."""
        if self._batch is None and (self._readings or self._conducts):
            self._number += 1
            self._batch = _Batch(
                self._number,
                [self._readings.popitem()[1] for _ in range(min(len(self._readings), _MOST_ROWS))],
                [self._conducts.popitem()[1] for _ in range(min(len(self._conducts), _MOST_ROWS))],
            )
        return self._batch is not None

    async def _send(self) -> None:
        batch = self._batch
        if batch is None:
            return
        async with self._db.write() as connection:
            await storage.save(connection, self._worker, batch.number, batch.readings, batch.conducts)
        self._batch, self._tries = None, 0
        SAVES.labels("saved").inc()

    def _failed(self, error: Exception | None = None) -> None:
        SAVES.labels("failed").inc()
        log.warning("activity_not_saved", raised=None if error is None else type(error).__qualname__)
        if error is None:
            return
        self._tries += 1
        if self._tries == _TRIES:
            self._batch, self._tries = None, 0
            SAVES.labels("lost").inc()
            log.error("activity_lost", raised=type(error).__qualname__)

    def _conduct(self, client: int) -> Conduct:
        conduct = self._conducts.get(client)
        if conduct is None:
            conduct = self._conducts[client] = Conduct(client)
        return conduct


@dataclass(frozen=True, slots=True)
class Read:
    """What a page tells of its reader; `reached` is None where it tells nothing about how far it has read."""

    collection_id: UUID
    endpoint: Endpoint
    versions: int
    reached: datetime | None
    ended: bool
    filtered: bool


class Visit:
    """One request of a client, noted when its answer has left."""

    __slots__ = ("_activity", "_caller", "_read")

    def __init__(self, activity: Activity, caller: Caller) -> None:
        """Take who notes, and who asks."""
        self._activity = activity
        self._caller = caller
        self._read: Read | None = None

    def page(self, collection_id: UUID, asked: Asked, answer: Answer) -> None:
        """Tell of a page that is about to leave."""
        self._read = read_of(self._caller, collection_id, asked, answer)

    def ended(self, method: str, status: int) -> None:
        """Note the request; a page counts only if it left whole, with its content."""
        client, at = self._caller.principal.client, self._caller.asked_at
        if at is None:
            return
        self._activity.answered(client, at, status)
        if self._read is not None and method == "GET" and status < _FIRST_ERROR:
            self._activity.read(self._read, client, at)


def read_of(caller: Caller, collection_id: UUID, asked: Asked, answer: Answer) -> Read:
    """Tell what a page means for how far its reader is.

    Where more matches, it has what it asks for up to the last version it was sent. Where no more does, it has all that
    was there when it asked, which is up to the last date that the collection's clock had given out. Whoever asks for
    what is added after a time yet to come is left out: it misses what is added until then.
    """
    if asked.endpoint not in _OF_ONE or asked.want.ids is not None:
        endpoint = _OF_ONE.get(asked.endpoint, asked.endpoint)
        return Read(collection_id, endpoint, len(answer.page.dates), None, ended=False, filtered=False)
    last_added, now = caller.place.last_added, caller.asked_at
    ended = answer.next is None
    reached = answer.page.last
    if ended:
        begun = _later(asked.position, asked.want.added_after)
        furthest = _later(now, last_added)
        if begun is not None and furthest is not None and begun > furthest:
            ended = False
        else:
            reached = _later(reached, last_added)
    return Read(collection_id, asked.endpoint, len(answer.page.dates), reached, ended, _narrows(asked.want))


def _narrows(want: Filter) -> bool:
    return want.types is not None or want.forms is not None or want.versions not in (LAST_ONLY, ALL_VERSIONS)


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    if one is None or other is None:
        return one or other
    return max(one, other)
