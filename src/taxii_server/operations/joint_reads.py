"""Reads that several requests share: those who ask for the same at once are given one answer.

Many pollers ask at the full hour, and those that have everything ask for the same page. One read of it is under way at a
time; whoever asks meanwhile waits for the next, which begins when that one ends. So nobody is given what was read before
he asked, whatever he was found to be allowed was found out before it is read, and he waits for two reads at most; for the
first of them not for long.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from taxii_server.domain.errors import Unavailable
from taxii_server.storage.engine import WaitingForDatabase

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    # what a read gave, or how the database failed it; None if it came to nothing else
    _Turn = asyncio.Future["Answer | Unavailable | None"]

Answer = TypeVar("Answer")


PATIENCE: Final = 5.0
"""Seconds that a request waits for a read under way; after that it reads beside it."""


class JointReads(Generic[Answer]):
    """The reads under way in this process; make one for each kind of answer, which must not be changed by who is given it."""

    def __init__(self, patience: float = PATIENCE) -> None:
        """Take how long to wait for a read under way, in seconds."""
        self._patience = patience
        self._under_way: dict[Hashable, _Turn[Answer]] = {}
        self._next: dict[Hashable, _Turn[Answer]] = {}

    async def answer(self, key: Hashable, read: Callable[[], Awaitable[Answer]]) -> Answer:
        """Give what `read` does, or what that of another request with the same key did that began later than now.

        Raises:
            Unavailable: as the read does that was to be shared. What else it raises is for its own request, and the others read
                for themselves.
        """
        under_way = self._under_way.get(key)
        if under_way is None:
            return await self._lead(key, asyncio.get_running_loop().create_future(), read)
        ahead = self._next.get(key)
        if ahead is not None:
            with WaitingForDatabase():
                shared = await asyncio.shield(ahead)
            if isinstance(shared, Unavailable):
                # one each: several tasks raising the same exception would write into each other's traceback
                raise type(shared)(shared.message)
            return await read() if shared is None else shared
        turn: _Turn[Answer] = asyncio.get_running_loop().create_future()
        self._next[key] = turn
        try:
            with WaitingForDatabase(), suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    await asyncio.shield(under_way)
        except BaseException:
            turn.set_result(None)
            raise
        finally:
            # nobody joins any more
            del self._next[key]
        return await self._lead(key, turn, read)

    async def _lead(self, key: Hashable, turn: _Turn[Answer], read: Callable[[], Awaitable[Answer]]) -> Answer:
        self._under_way[key] = turn
        outcome: Answer | Unavailable | None = None
        try:
            outcome = answer = await read()
        except Unavailable as error:
            outcome = error
            raise
        finally:
            # another one may have begun beside it
            if self._under_way.get(key) is turn:
                del self._under_way[key]
            turn.set_result(outcome)
        return answer
