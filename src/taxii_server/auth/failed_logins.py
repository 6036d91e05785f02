"""Failed logins: what they may cost, wherever they come from, without ever keeping out a credential that holds.

Secrets are 256 random bits, so nobody guesses one. What a flood of wrong ones costs is a statement each, and that is what
is bounded: for each address, and for all of them together. Where that is used up nobody is locked out. Credentials are
then held against all that would be let in, read at most once a second (`storage.live_credentials`): one that is among them
goes on as always, from whichever address, and the rest is told to wait. So it makes no difference whose names a flood
uses, or whether it shares its address with a bank: behind one NAT, or behind a proxy that nobody named as trusted.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final

import structlog

from taxii_server.auth.client_limits import REFUSED
from taxii_server.domain.allowances import Allowances, Clock, Rate, Tellings
from taxii_server.domain.errors import DatabaseGone, NotAuthenticated, TooManyRequests
from taxii_server.storage import live_credentials

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from taxii_server.storage.engine import Database
    from taxii_server.storage.live_credentials import LiveCredentials

    MayHold = Callable[[LiveCredentials], Awaitable[bool]]

log = structlog.get_logger(__name__)

MOST_ADDRESSES: Final = 10_000
"""Addresses that are remembered. Whoever has more of them is bounded by what all have together."""

ALL_TOGETHER: Final = 20
"""How many times an address's allowance all addresses have together."""

FRESH: Final = 1.0
"""Seconds for which what was read of all credentials counts: how long a new one may have to wait, in a flood."""

_MOST_CREDENTIALS: Final = 4_096
_EVERYBODY: Final = "everybody"
_SUBSCRIBER: Final = 64  # bits that IPv6 gives to one subscriber, who has all the addresses below
_TOLD: Final = (
    "Too many logins from this address have failed, and these credentials weren't among those that hold a moment ago. "
    "Try again after the seconds of Retry-After."
)


@dataclass(frozen=True, slots=True)
class Spent:
    """An allowance that is used up: whose, and for how many seconds more."""

    whose: str
    wait: float


class FailedLogins:
    """The failed logins of this process; make one."""

    def __init__(self, db: Database | None = None, rate: Rate | None = None, *, clock: Clock = time.monotonic) -> None:
        """Take the database, and how many logins may fail for each address; None for any number."""
        self._db = db
        self._clock = clock
        self._by_address = None if rate is None else Allowances(rate, most=MOST_ADDRESSES, clock=clock)
        self._of_all = None if rate is None else Allowances(rate.times(ALL_TOGETHER), most=1, clock=clock)
        self._tellings = Tellings(most=MOST_ADDRESSES, clock=clock)
        self._failed: OrderedDict[bytes, float] = OrderedDict()
        self._live: tuple[float, LiveCredentials] | None = None
        self._gone: tuple[float, DatabaseGone] | None = None
        self._reading = asyncio.Lock()

    def login(self, address: str) -> Attempt:
        """Count what happens inside of this as a login from this address: it fails by ending with NotAuthenticated."""
        return Attempt(self, _subscriber(address))

    def take(self, address: str) -> Spent | None:
        """Take one from the address's allowance and from everybody's; or tell which of them is used up."""
        if self._db is None or self._by_address is None or self._of_all is None:
            return None
        if wait := self._by_address.take(address):
            return Spent(address, max(wait, self._of_all.wait(_EVERYBODY)))
        if wait := self._of_all.take(_EVERYBODY):
            self._by_address.give_back(address)
            return Spent(_EVERYBODY, wait)
        return None

    def give_back(self, address: str) -> None:
        """Have what was taken for a login that didn't fail."""
        if self._by_address is not None and self._of_all is not None:
            self._by_address.give_back(address)
            self._of_all.give_back(_EVERYBODY)

    async def live(self) -> LiveCredentials:
        """Give all credentials that hold, as they were not longer than `FRESH` before this was asked."""
        if self._db is None:
            raise DatabaseGone
        # whoever waited while it was read has it, however long that took: nobody reads it for himself in his turn
        asked = self._clock()
        async with self._reading:
            if self._gone is not None and asked < self._gone[0] + FRESH:
                raise self._gone[1]
            if self._live is None or asked >= self._live[0] + FRESH:
                # the time before: what is read is no older than that
                begun = self._clock()
                try:
                    async with self._db.read() as connection:
                        self._live = (begun, await live_credentials.read(connection))
                except DatabaseGone as error:
                    self._gone = (self._clock(), error)
                    raise
            return self._live[1]

    def note_failed(self, credential: bytes) -> None:
        """Remember a credential that was among those that hold, or seemed so, and failed all the same."""
        self._failed[credential] = self._clock()
        self._failed.move_to_end(credential)
        if len(self._failed) > _MOST_CREDENTIALS:
            self._failed.popitem(last=False)

    def failed_just_now(self, credential: bytes) -> bool:
        """Tell whether this was noted no longer ago than `FRESH`."""
        then = self._failed.get(credential)
        return then is not None and self._clock() < then + FRESH

    def refuse(self, spent: Spent) -> TooManyRequests:
        """Count a login that isn't looked at, and say so."""
        REFUSED.labels("failed_logins").inc()
        if (count := self._tellings.count(spent.whose)) is not None:
            log.warning("failed_logins_throttled", peer=spent.whose, refused=count)
        return TooManyRequests(_TOLD, retry_after=math.ceil(spent.wait))


class Attempt:
    """One login, as what happens inside. What it took of the allowances stays taken if it fails, and is given back if it doesn't."""

    __slots__ = ("_address", "_closely", "_of", "_taken", "_token")

    def __init__(self, of: FailedLogins, address: str) -> None:
        """Take where it comes from; what can't be right is refused without a look-up, and isn't counted."""
        self._of = of
        self._address = address
        self._taken = False
        self._closely: bytes | None = None

    async def look(self, credential: str, may_hold: MayHold) -> None:
        """Ask to look a credential up; where too many have failed it must be among those that hold.

        Raises:
            TooManyRequests: if it isn't.
        """
        spent = self._of.take(self._address)
        if spent is None:
            self._taken = True
            return
        digest = sha256(credential.encode("utf-8", "surrogatepass")).digest()
        if self._of.failed_just_now(digest) or not await may_hold(await self._of.live()):
            raise self._of.refuse(spent)
        self._closely = digest

    def __enter__(self) -> None:
        """Begin."""
        self._token = _current.set(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End: with credentials that don't hold, or in whatever other way."""
        _current.reset(self._token)
        if isinstance(error, NotAuthenticated):
            if self._closely is not None:
                self._of.note_failed(self._closely)
        elif self._taken:
            self._of.give_back(self._address)


_current: Final[ContextVar[Attempt | None]] = ContextVar("login", default=None)


async def before_look_up(credential: str, may_hold: MayHold) -> None:
    """Ask, inside a `login`, whether a credential may be looked up; `may_hold` tells it from those that don't hold.

    Raises:
        TooManyRequests: if too many from this address have failed, and it can't hold.
    """
    attempt = _current.get()
    if attempt is not None:
        await attempt.look(credential, may_hold)


@lru_cache(maxsize=4_096)
def _subscriber(address: str) -> str:
    """Give what counts as one address: of IPv6 the network of one subscriber."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or ip_network((parsed, _SUBSCRIBER), strict=False))
