"""What one client may ask of one worker: how often, and how much at once.

Counted after the client is known, so nobody uses up another's allowance without its secret; in this process alone, so it
costs no statement. With several workers or nodes a client can reach the limit in each of them: what is protected is the
time and memory of a process, and that is where it is counted.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import Counter

from taxii_server.domain.allowances import Allowances, Clock, Rate, Tellings
from taxii_server.domain.errors import TooManyRequests

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from taxii_server.domain.access import Principal

log = structlog.get_logger(__name__)

REFUSED: Final = Counter("taxii_limited", "Requests refused because of a limit.", ["limit"])

PATIENCE: Final = 2.0
"""Seconds that a request waits for others of its client to end."""

# a guess: when others of the client's requests end, nobody knows
_WHEN_SOME_HAVE_ENDED: Final = 2
# only known clients get here, so these are far more than there are
_MOST_CLIENTS: Final = 100_000
_MOST_CREDENTIALS: Final = 4_096
_TOO_OFTEN: Final = "This client asks more often than it may. Ask again after the seconds of Retry-After."
_TOO_MUCH_AT_ONCE: Final = "This client has too many requests under way. Let some of them end, then ask again."


class ClientLimits:
    """The allowances of all clients in this process; make one."""

    def __init__(
        self,
        rate: Rate | None = None,
        concurrency: int = 32,
        *,
        patience: float | None = None,
        clock: Clock = time.monotonic,
        noted: Callable[[int, datetime], None] | None = None,
    ) -> None:
        """Take how often a client may ask, None for as often as it likes, and how many requests it may have under way.

        `noted` is told of every refusal: whose, and when, by the database's time.
        """
        self._rate = None if rate is None else Allowances(rate, most=_MOST_CLIENTS, clock=clock)
        self._concurrency = concurrency
        self._patience = PATIENCE if patience is None else patience
        self._under_way: dict[int, _UnderWay] = {}
        self._refused: OrderedDict[bytes, _Refused] = OrderedDict()
        self._clock = clock
        self._noted = noted
        self._tellings = Tellings(most=_MOST_CLIENTS, clock=clock)

    def refuse_again(self, credential: str | None) -> None:
        """Refuse a client that was refused a moment ago with this same credential, before anything is looked up.

        What was refused takes nothing from the allowance, so as soon as there is any the credential is looked at anew.

        Raises:
            TooManyRequests: if it asks too often still.
        """
        if self._rate is None or not self._refused or credential is None:
            return
        refused = self._refused.get(_digest(credential))
        if refused is not None and (wait := self._rate.wait(refused.principal.client)):
            # what time the database has isn't asked: so much later than when it last was
            at = None if refused.at is None else refused.at + timedelta(seconds=self._clock() - refused.then)
            self._too_often(refused.principal, wait, at)

    async def enter(
        self, principal: Principal, credential: str | None = None, at: datetime | None = None
    ) -> Callable[[], None]:
        """Let a request of a client in, if need be after a moment; what is returned must be called when it has ended.

        `at` is the database's time when it was looked up.

        Raises:
            TooManyRequests: if it asks too often, or has too many under way.
        """
        if self._rate is not None and (wait := self._rate.take(principal.client)):
            if credential is not None:
                self._refused[_digest(credential)] = _Refused(principal, at, self._clock())
                if len(self._refused) > _MOST_CREDENTIALS:
                    self._refused.popitem(last=False)
            self._too_often(principal, wait, at)
        place = self._under_way.setdefault(principal.client, _UnderWay(self._concurrency))
        try:
            entered = await place.enter(self._patience)
        finally:
            # whoever waited and was the last one: the others have ended meanwhile
            self._clear_up(principal.client, place)
        if not entered:
            if self._rate is not None:
                self._rate.give_back(principal.client)
            self._tell(principal, "concurrency", at)
            raise TooManyRequests(_TOO_MUCH_AT_ONCE, retry_after=_WHEN_SOME_HAVE_ENDED)

        def leave() -> None:
            place.leave()
            self._clear_up(principal.client, place)

        return leave

    def _clear_up(self, client: int, place: _UnderWay) -> None:
        if place.empty and self._under_way.get(client) is place:
            del self._under_way[client]

    async def under_way(
        self, principal: Principal, credential: str | None = None, at: datetime | None = None
    ) -> ExitStack:
        """Let a request in for as long as what is returned is not left.

        Raises:
            TooManyRequests: as `enter` does.
        """
        place = ExitStack()
        place.callback(await self.enter(principal, credential, at))
        return place

    def _too_often(self, principal: Principal, wait: float, at: datetime | None) -> None:
        self._tell(principal, "rate", at)
        raise TooManyRequests(_TOO_OFTEN, retry_after=math.ceil(wait))

    def _tell(self, principal: Principal, limit: str, at: datetime | None) -> None:
        REFUSED.labels(limit).inc()
        if self._noted is not None and at is not None:
            self._noted(principal.client, at)
        if (count := self._tellings.count((principal.client, limit))) is not None:
            named = {"client_id": principal.client_id, "member": principal.member_slug}
            log.warning("client_limited", limit=limit, refused=count, **named)


@dataclass(frozen=True, slots=True)
class _Refused:
    """Whose credential was refused, when by the database's time, and when by this process's clock."""

    principal: Principal
    at: datetime | None
    then: float


class _UnderWay:
    """The requests of one client: so many at work, as many again that wait their turn, and no more."""

    def __init__(self, most: int) -> None:
        self._free = asyncio.Semaphore(most)
        self._most = 2 * most
        self._here = 0

    @property
    def empty(self) -> bool:
        return self._here == 0

    async def enter(self, patience: float) -> bool:
        if self._here >= self._most:
            return False
        self._here += 1
        if not self._free.locked():
            return await self._free.acquire()
        entered = False
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    entered = await self._free.acquire()
        finally:
            if not entered:
                self._here -= 1
        return entered

    def leave(self) -> None:
        self._here -= 1
        self._free.release()


def _digest(credential: str) -> bytes:
    return sha256(credential.encode("utf-8", "surrogatepass")).digest()
