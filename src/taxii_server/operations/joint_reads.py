"""Reads that several requests share: those who ask for the same at once are given one answer.

Many pollers ask at the full hour, and those that have everything ask for the same page. One read of it is under way at a
time; whoever asks meanwhile waits for the next, which begins when that one ends. So nobody is given what was read before
he asked, whatever he was found to be allowed was found out before it is read, and he waits for two reads at most; for the
first of them not for long. As long as reads are shared, one waits for who is on the way to asking (`company`).
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from taxii_server.domain.errors import Unavailable
from taxii_server.operations.company import Company
from taxii_server.storage.engine import WaitingForDatabase

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

Answer = TypeVar("Answer")


PATIENCE: Final = 5.0
"""Seconds that a request waits for a read under way; after that it reads beside it."""


@dataclass(slots=True, eq=False)
class _Turn(Generic[Answer]):
    """One read, to be or under way, and whether others wait for it."""

    outcome: asyncio.Future[Answer | Unavailable | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    """What it gave, or how the database failed it; None if it came to nothing else."""
    shared: bool = False


class JointReads(Generic[Answer]):
    """The reads under way in this process; make one for each kind of answer, which must not be changed by who is given it."""

    def __init__(self, patience: float = PATIENCE, company: Company | None = None) -> None:
        """Take how long to wait for a read under way, in seconds, and who is on the way to asking."""
        self._patience = patience
        self._company = company or Company()
        self._shared = False
        self._under_way: dict[Hashable, _Turn[Answer]] = {}
        self._next: dict[Hashable, _Turn[Answer]] = {}

    async def answer(self, key: Hashable, read: Callable[[], Awaitable[Answer]]) -> Answer:
        """Give what `read` does, or what that of another request with the same key did that began later than now.

        Raises:
            Unavailable: as the read does that was to be shared. What else it raises is for its own request, and the others read
                for themselves.
        """
        ahead = self._next.get(key)
        if ahead is not None:
            return await self._follow(ahead, read)
        under_way, turn = self._under_way.get(key), _Turn[Answer]()
        if under_way is not None or self._shared:
            self._next[key] = turn
            try:
                with WaitingForDatabase():
                    await self._turn_of(turn, under_way)
            except BaseException:
                turn.outcome.set_result(None)
                raise
            finally:
                # nobody joins any more
                del self._next[key]
        return await self._lead(key, turn, read)

    async def _follow(self, turn: _Turn[Answer], read: Callable[[], Awaitable[Answer]]) -> Answer:
        turn.shared = True
        with WaitingForDatabase():
            shared = await asyncio.shield(turn.outcome)
        if isinstance(shared, Unavailable):
            # one each: several tasks raising the same exception would write into each other's traceback
            raise type(shared)(shared.message)
        return await read() if shared is None else shared

    async def _turn_of(self, turn: _Turn[Answer], under_way: _Turn[Answer] | None) -> None:
        """Wait for the read under way to end, or for patience to; and for company."""
        if under_way is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    await asyncio.shield(under_way.outcome)
        if self._shared:
            await self._company.gather()

    async def _lead(self, key: Hashable, turn: _Turn[Answer], read: Callable[[], Awaitable[Answer]]) -> Answer:
        self._under_way[key] = turn
        self._shared = turn.shared
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
            turn.outcome.set_result(outcome)
        return answer
