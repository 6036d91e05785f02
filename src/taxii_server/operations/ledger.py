"""The disclosure ledger as a worker keeps it: no page leaves before the row that says so is durable.

Whoever is about to send a page hands its row over, without a connection, and waits. What waits when the ledger gets to it is
written with one statement and one commit: a client alone pays a commit a page, many at once share theirs. What can't be
written isn't sent.

The writing is done by a task of its own, so that a request that is given up takes nobody else's row with it. The task is
there only while something waits: should it be ended in between, those who wait are refused, and the next row starts another.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import Counter, Histogram

from taxii_server.domain.errors import LedgerUnavailable, Unavailable
from taxii_server.operations.company import Company
from taxii_server.storage import disclosures
from taxii_server.storage.engine import WaitingForDatabase

if TYPE_CHECKING:
    from collections.abc import Sequence

    from taxii_server.domain.disclosures import Disclosure
    from taxii_server.storage.engine import Database

log = structlog.get_logger(__name__)

PAGES: Final = Counter(
    "taxii_disclosures", "Pages with versions that were entered in the disclosure ledger before they were sent."
)
REFUSED: Final = Counter(
    "taxii_disclosures_refused", "Pages that were not sent because the disclosure ledger couldn't be written."
)
ROWS_OF_A_COMMIT: Final = Histogram(
    "taxii_disclosures_of_a_commit",
    "Pages that were entered in the disclosure ledger with one commit.",
    buckets=(1, 2, 4, 8, 16, 32, 64, 128),
)

_MOST_WAITING: Final = 512
_MOST_OCTETS: Final = 4 * 1024 * 1024
_PATIENCE: Final = 30  # seconds, as long as a statement may take
_LAST_WORDS: Final = 1  # seconds that closing waits for what is being written; nobody is left who would send it

Waiting = tuple["Disclosure", "asyncio.Future[None]"]


class Ledger:
    """Enters pages in the disclosure ledger. Make one per process and `close` it before its database."""

    def __init__(self, database: Database, company: Company | None = None) -> None:
        """Take the database, and who reads what will have to be entered; nothing is written yet."""
        self._database = database
        self._company = company or Company()
        self._together = False
        self._waiting: deque[Waiting] = deque()
        self._writer: asyncio.Task[None] | None = None
        self._closed = False

    async def enter(self, disclosure: Disclosure) -> None:
        """Return once it is durable that this page is being sent.

        Raises:
            Unavailable: if that couldn't be made sure; the page must not be sent.
        """
        try:
            # counted as the request's own time with the database, though the statement is everybody's
            with WaitingForDatabase():
                async with asyncio.timeout(_PATIENCE):
                    await self._written(disclosure)
        except TimeoutError as error:
            REFUSED.inc()
            raise LedgerUnavailable from error
        except Unavailable:
            REFUSED.inc()
            raise
        PAGES.inc()

    async def close(self) -> None:
        """Take nothing more, and wait for what is being written."""
        self._closed = True
        if (writer := self._writer) is not None:
            await asyncio.wait([writer], timeout=_LAST_WORDS)
            writer.cancel()
            await asyncio.wait([writer])

    def _written(self, disclosure: Disclosure) -> asyncio.Future[None]:
        if self._closed or len(self._waiting) >= _MOST_WAITING:
            raise LedgerUnavailable
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        self._waiting.append((disclosure, written))
        if self._writer is None or self._writer.done():
            # in a context of its own: what it does is not one request's
            self._writer = loop.create_task(self._write(), context=Context())
            self._writer.add_done_callback(self._ended)
        return written

    def _ended(self, writer: asyncio.Task[None]) -> None:
        if writer.cancelled() or writer.exception() is not None:
            if not (self._closed and writer.cancelled()):
                log.error("ledger_writer_ended", cancelled=writer.cancelled(), waiting=len(self._waiting))
            _tell([self._waiting.popleft() for _ in range(len(self._waiting))], LedgerUnavailable())

    async def _write(self) -> None:
        while self._waiting:
            if self._together or len(self._waiting) > 1:
                await self._company.gather()
            some = self._take()
            self._together = len(some) > 1
            if some:
                await self._commit(some)
        # at once: who is told that its row is written may hand over the next before this task counts as done
        self._writer = None

    def _take(self) -> list[Waiting]:
        """Take everything that waits, up to a bound. Who gave up meanwhile is sent nothing and passed over."""
        some: list[Waiting] = []
        octets = 0
        while self._waiting and octets < _MOST_OCTETS:
            disclosure, written = self._waiting.popleft()
            if not written.done():
                some.append((disclosure, written))
                octets += len(disclosure.dates)
        return some

    async def _commit(self, some: list[Waiting]) -> None:
        failure: Unavailable | None = LedgerUnavailable()
        try:
            await disclosures.insert(self._database, [disclosure for disclosure, _ in some])
            failure = None
        except Unavailable as error:
            failure = error
        except Exception as error:  # noqa: BLE001 - nobody may be left waiting, whatever it was
            # without its message, which may quote values
            log.critical("ledger_fault", raised=f"{type(error).__module__}.{type(error).__qualname__}")
        finally:
            _tell(some, failure)
        if failure is None:
            ROWS_OF_A_COMMIT.observe(len(some))


def _tell(some: Sequence[Waiting], failure: Unavailable | None) -> None:
    for _, written in some:
        if written.done():
            continue
        if failure is None:
            written.set_result(None)
        else:
            # one each: several tasks raising the same exception would write into each other's traceback
            written.set_exception(type(failure)(failure.message))
