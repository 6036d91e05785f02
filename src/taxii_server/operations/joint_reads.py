"""Reads that several requests share: those who ask for the same at once are given one answer.

Many pollers ask at the full hour, and those that have everything ask for the same page. One read of it is under way at a
time; whoever asks meanwhile waits for the next, which begins when that one ends. So nobody is given what was read before
he asked, whatever he was found to be allowed was found out before it is read, and he waits for two reads at most.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

from taxii_server.storage.engine import WaitingForDatabase

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

Answer = TypeVar("Answer")


class JointReads(Generic[Answer]):
    """The reads under way in this process; make one for each kind of answer, which must not be changed by who is given it."""

    def __init__(self) -> None:
        """Begin with none."""
        self._under_way: dict[Hashable, asyncio.Future[Answer | None]] = {}
        self._next: dict[Hashable, asyncio.Future[Answer | None]] = {}

    async def answer(self, key: Hashable, read: Callable[[], Awaitable[Answer]]) -> Answer:
        """Give what `read` does, or what that of another request with the same key did that began later than now.

        What a read raises is for its own request; the others then read for themselves.
        """
        under_way = self._under_way.get(key)
        if under_way is None:
            return await self._lead(key, asyncio.get_running_loop().create_future(), read)
        ahead = self._next.get(key)
        if ahead is not None:
            with WaitingForDatabase():
                answer = await asyncio.shield(ahead)
            return await read() if answer is None else answer
        turn = self._next[key] = asyncio.get_running_loop().create_future()
        try:
            with WaitingForDatabase():
                await asyncio.shield(under_way)
        except BaseException:
            turn.set_result(None)
            raise
        finally:
            # nobody joins any more
            del self._next[key]
        return await self._lead(key, turn, read)

    async def _lead(
        self, key: Hashable, turn: asyncio.Future[Answer | None], read: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        self._under_way[key] = turn
        answer = None
        try:
            answer = await read()
        finally:
            # whoever asked in the moment between two reads leads one of his own
            if self._under_way.get(key) is turn:
                del self._under_way[key]
            turn.set_result(answer)
        return answer
