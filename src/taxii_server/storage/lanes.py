"""Connections for hot statements, on which requests follow each other without waiting for each other's answers.

A lane carries a request's statements to Postgres in one message and in one transaction of their own, which ends with the
last of them: libpq's pipeline mode. Nothing is set up for a request but a future, and the event loop is woken once for
whatever has been answered by then. That costs a tenth of what a connection of the pool does for the same statement, which
is why polls, and nothing else, come here.

What goes wrong is one request's as long as the connection lives: Postgres skips what is left of it and goes on with the next. A
lane that was closed, or is silent, fails everybody on it and is replaced.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from psycopg import Error, OperationalError
from psycopg.adapt import Transformer
from psycopg.pq import ConnStatus, ExecStatus, Format

from taxii_server.storage import pipeline
from taxii_server.storage.pipeline import Rows
from taxii_server.storage.silence import Silent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from psycopg.pq.abc import PGresult

    from taxii_server.storage.hot import Step
    from taxii_server.storage.silence import BoundedConnection

WAIT: Final = 5.0
"""Seconds that a request waits at most for those before it on its lane, as it would for a connection of the pool."""

_LOOK: Final = 1.0  # seconds at most between two looks at who has waited for too long


class Busy(Exception):
    """Those before it on the lane took too long."""


@dataclass(slots=True)
class _Request:
    """What is on its way: the rows of its last step are the answer."""

    steps: Sequence[Step]
    answer: asyncio.Future[Rows]
    since: float
    results: list[PGresult] = field(default_factory=list)


class Lane:
    """One connection in pipeline mode."""

    def __init__(self, connection: BoundedConnection, patience: float) -> None:
        """Take a connection that is idle, and how many seconds one request may go unanswered; it is the lane's from now on."""
        self._connection = connection
        self._patience = patience
        self._look_every = min(_LOOK, patience)
        self._pgconn = connection.pgconn
        self._socket = self._pgconn.socket
        self._loop = asyncio.get_running_loop()
        self._under_way: deque[_Request] = deque()
        self._adapted = Transformer(connection)
        self._look: asyncio.TimerHandle | None = None
        self._writing = False
        self.open = True
        self.retired = False
        """Whether nothing more may be sent on it: a statement failed, and it goes when those under way are answered."""
        self._pgconn.nonblocking = 1
        self._pgconn.enter_pipeline_mode()
        self._loop.add_reader(self._socket, self._readable)

    def __len__(self) -> int:
        """Tell how many requests are under way."""
        return len(self._under_way)

    def send(self, steps: Sequence[Step]) -> asyncio.Future[Rows]:
        """Send the steps of a request; the future gets the rows of the last one.

        It fails with `psycopg.Error` as a statement does, or with `Busy`. Who stops waiting for it need do nothing.
        """
        answer: asyncio.Future[Rows] = self._loop.create_future()
        request = _Request(steps, answer, self._loop.time())
        try:
            ready = pipeline.written(self._adapted, steps)
        except (Error, UnicodeError) as error:
            answer.set_exception(error)
            return answer
        try:
            # the answer as Postgres has it: octets as text would be twice as many
            pipeline.send(self._connection, ready, Format.BINARY)
        except Error as error:
            answer.set_exception(error)
            self.close(OperationalError("the connection was lost"))
            return answer
        self._under_way.append(request)
        self._flush()
        if self._look is None:
            self._look = self._loop.call_later(self._look_every, self._look_after)
        return answer

    def close(self, reason: Exception | None = None) -> None:
        """Let go of the connection; whoever waits is told the reason."""
        if not self.open:
            return
        self.open = False
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        if self._look is not None:
            self._look.cancel()
        self._pgconn.finish()
        while self._under_way:
            _fail(self._under_way.popleft().answer, reason or OperationalError("the connection was closed"))

    def _flush(self) -> None:
        try:
            unsent = self._pgconn.flush()
        except Error:
            self.close(OperationalError("the connection was lost"))
            return
        if unsent and not self._writing:
            self._loop.add_writer(self._socket, self._flush)
        elif self._writing and not unsent:
            self._loop.remove_writer(self._socket)
        self._writing = bool(unsent)

    def _readable(self) -> None:
        pgconn, under_way = self._pgconn, self._under_way
        try:
            pgconn.consume_input()
            if not under_way:
                # nobody asked, so these are last words: see whether it is the end
                pgconn.consume_input()
            while under_way and not pgconn.is_busy():
                result = pgconn.get_result()
                if result is None:
                    # the end of one statement's results, or of all if the connection is no more
                    if pgconn.status == ConnStatus.BAD:
                        self.close(_reason(under_way[0]))
                        return
                    continue
                if result.status == ExecStatus.PIPELINE_SYNC:
                    self._answered(under_way.popleft())
                else:
                    under_way[0].results.append(result)
        except Error as error:
            self.close(OperationalError(str(error)))
            return
        if under_way:
            return
        if self.retired:
            self.close()
        elif self._look is not None:
            self._look.cancel()
            self._look = None

    def _answered(self, request: _Request) -> None:
        if self._under_way:
            # its turn has come only now
            self._under_way[0].since = self._loop.time()
        failure = pipeline.failure(request.results)
        if failure is not None:
            # it may be that Postgres did not prepare what would be taken for prepared from now on
            self.retired = True
            _fail(request.answer, failure)
            return
        if request.answer.done():
            return
        try:
            rows = pipeline.rows(self._adapted, request.steps[-1].statement, request.results[-1])
        except (Error, ValueError, OverflowError) as error:
            request.answer.set_exception(error)
        else:
            request.answer.set_result(rows)

    def _look_after(self) -> None:
        now = self._loop.time()
        if self._under_way and now - self._under_way[0].since > self._patience:
            self.close(Silent("the database did not answer in time"))
            return
        for request in list(self._under_way)[1:]:
            if now - request.since > WAIT:
                _fail(request.answer, Busy())
        self._look = self._loop.call_later(self._look_every, self._look_after)


class Lanes:
    """The lanes of one process to one Postgres: opened as they are needed, up to a number."""

    def __init__(
        self, connect: Callable[[], Awaitable[BoundedConnection]], most: int, patience: float, *, repeat: bool
    ) -> None:
        """Take what opens a connection, how many to hold at most, and how many seconds one request may go unanswered.

        `repeat` is whether a request may be sent again when its connection was lost: whether all that is sent only reads.
        """
        self._repeat = repeat
        self._connect = connect
        self._most = most
        self._patience = patience
        self._lanes: list[Lane] = []
        self._opening: asyncio.Task[Lane] | None = None

    async def ask(self, steps: Sequence[Step]) -> Rows:
        """Run the steps of a request in a transaction of their own; give the rows of the last one.

        Raises:
            psycopg.Error: as a statement does.
            Busy: if it had to wait for too long.
            OSError: if no connection can be opened.
        """
        lane = await self._lane()
        try:
            return await lane.send(steps)
        except OperationalError as error:
            if not self._repeat or lane.open or isinstance(error, Silent):
                raise
        # Postgres was started anew, say: what only reads is asked once more, on a connection of now
        return await (await self._lane()).send(steps)

    def close(self) -> None:
        """Close all of them."""
        if self._opening is not None:
            self._opening.cancel()
        for lane in self._lanes:
            lane.close()
        self._lanes.clear()

    async def _lane(self) -> Lane:
        """Give an idle lane, or a new one, or the one with the fewest requests."""
        self._lanes = [lane for lane in self._lanes if lane.open]
        best = min((lane for lane in self._lanes if not lane.retired), key=len, default=None)
        if best is not None and (not len(best) or len(self._lanes) >= self._most):
            return best
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), context=Context())
            # whoever asked may have found another lane meanwhile
            self._opening.add_done_callback(lambda opening: opening.cancelled() or opening.exception())
        # who is given up meanwhile leaves the others what is being opened
        return best if best is not None else await asyncio.shield(self._opening)

    async def _open(self) -> Lane:
        try:
            lane = Lane(await self._connect(), self._patience)
        finally:
            self._opening = None
        self._lanes.append(lane)
        return lane


def _reason(request: _Request) -> Error:
    return pipeline.failure(request.results) or OperationalError("the connection was lost")


def _fail(answer: asyncio.Future[Rows], reason: Exception) -> None:
    if not answer.done():
        answer.set_exception(reason)
