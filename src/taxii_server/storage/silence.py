"""A connection to Postgres on which no silence lasts for ever.

A stopped process, a stalled disk or a firewall that drops packets closes nothing: whoever waits for the answer would wait
until the kernel gives up, if ever it does, for a peer that still acknowledges what it is sent is never given up. So every
message has its time. It is a little longer than what Postgres itself allows a statement, and where a statement is allowed
more the wait is as well, so a statement that Postgres would still answer is not given up. A message of several (`held`) has no more
time than that: what takes long is sent by itself.

A connection that was given up, for that or because who waited for it was cancelled, is closed at once and not another word
is sent, for a word may never arrive: not a rollback and not a request to cancel, which takes a connection of its own.
Postgres ends at its own timeout what it was doing, and rolls back when it finds the other end gone, unless the message ended with
the commit: then that is done.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeVar

from psycopg import AsyncConnection, OperationalError, waiting
from psycopg.pq import TransactionStatus

if TYPE_CHECKING:
    from psycopg.abc import PQGen

    from taxii_server.storage.hot import Step

Result = TypeVar("Result")

PATIENCE: Final = 35.0
"""Seconds; five more than Postgres allows a statement (`engine`), so that its own word comes first where there is one."""

# how often the driver looks whether its socket was closed under it; its own default
_INTERVAL: Final = 0.1
_MOST_NAMES: Final = 200
# Postgres rolls back at once if it does anything at all
_ROLLBACK: Final = 5.0


class Silent(OperationalError):
    """Postgres left a message unanswered."""


class BoundedConnection(AsyncConnection[Any]):
    """A connection whose every wait has an end."""

    usual: float = PATIENCE
    """Seconds that one message may wait for its answer."""
    patience: float | None = PATIENCE
    """The same, for whom the connection is lent to; None for as long as it takes."""

    def __init__(self, *parameters: Any, **more: Any) -> None:
        """Take what the driver hands over."""
        super().__init__(*parameters, **more)
        self.prepared: dict[object, bytes] = {}
        """The statements that were prepared here, past the driver (`held`)."""
        self.names = 0
        """How many names were given out for them: what they stood for may be there still."""
        self.later: list[Step] = []
        """What is sent with the next statement (`held`)."""

    async def wait(
        self,
        gen: PQGen[Result],
        interval: float = _INTERVAL,
        timeout: float | None = None,  # noqa: ASYNC109 - the driver's own parameter
    ) -> Result:
        """Have a message answered.

        Raises:
            Silent: if it isn't in time; the connection is closed.
        """
        try:
            async with asyncio.timeout(self.patience if timeout is None else timeout):
                return await waiting.wait_async(gen, self.pgconn.socket, interval=interval)
        except TimeoutError as error:
            self.pgconn.finish()
            message = "the database did not answer in time"
            raise Silent(message) from error
        except asyncio.CancelledError:
            self.pgconn.finish()
            raise

    @property
    def hung_up(self) -> bool:
        """Whether the other end has something to say while nobody asked: it takes its leave, if it hasn't left already."""
        look = select.poll()
        look.register(self.pgconn.socket, select.POLLIN)
        return bool(look.poll(0))

    async def rollback(self) -> None:
        """Roll back if there is what to; what follows is as patient as ever."""
        self.later.clear()
        # the pool asks whenever it takes a connection back: the driver would set up a wait to find that it has nothing to say
        if self.pgconn.transaction_status != TransactionStatus.IDLE:
            self.patience = min(self.usual, _ROLLBACK)
            await super().rollback()
            await self.forget()
        self.patience = self.usual

    async def forget(self) -> None:
        """Prepare anew what comes next: at a ROLLBACK the driver has Postgres forget all that is prepared, or nothing."""
        self.prepared.clear()
        if self.names > _MOST_NAMES:
            self.names = 0
            await self.execute("DEALLOCATE ALL")


Opener = Callable[..., Awaitable[BoundedConnection]]


def opener(patience: float) -> Opener:
    """Give what opens connections that wait no longer than this for an answer, in seconds."""

    async def opened(*parameters: Any, **more: Any) -> BoundedConnection:
        connection = await BoundedConnection.connect(*parameters, **more)
        connection.patience = connection.usual = patience
        return connection

    return opened
