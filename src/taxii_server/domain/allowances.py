"""Allowances that refill evenly: how often somebody may do something, counted in this process's memory.

An allowance of 12000/minute is a bucket of 12,000 that gains 200 a second: who was quiet can do 12,000 things at once, and
200 a second after that. So how long to wait is known exactly, one number is kept of each key however large the allowance,
and nothing has to run beside it. Libraries that count in windows keep an entry a request or can't tell when the next one
gets through, and theirs for memory grow with every key that strangers make up.
"""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Final

_RATE: Final = re.compile(r"(?P<amount>[0-9]{1,9})/(?P<unit>second|minute|hour)")
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600}
# what adding up fractions may be wrong by
_TINY: Final = 1e-6

Clock = Callable[[], float]
"""Seconds that never go backwards."""


@dataclass(frozen=True, slots=True)
class Rate:
    """So many in so many seconds."""

    amount: int
    seconds: int

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read `12000/minute`.

        Raises:
            ValueError: for anything else.
        """
        parts = _RATE.fullmatch(text.strip())
        if parts is None or int(parts["amount"]) == 0:
            message = "must be a number from 1 on, a slash, and second, minute or hour, like 12000/minute; or none"
            raise ValueError(message)
        return cls(int(parts["amount"]), _SECONDS[parts["unit"]])

    def times(self, factor: int) -> Rate:
        """Give the rate of so many together."""
        return Rate(self.amount * factor, self.seconds)


class Allowances:
    """An allowance for each key, full at first. Those used last are kept, `most` of them."""

    def __init__(self, rate: Rate, *, most: int, clock: Clock = time.monotonic) -> None:
        """Take the allowance that each key has."""
        self._amount = rate.amount
        self._a_second = rate.amount / rate.seconds
        self._most = most
        self._clock = clock
        self._used: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Tell how many keys are remembered."""
        return len(self._used)

    def wait(self, key: Hashable) -> float:
        """Tell in how many seconds there will be something to take; 0 if there is now."""
        return self._wait(self._now_used(key))

    def take(self, key: Hashable) -> float:
        """Take one and give 0; or, if there is none, take nothing and give the seconds to wait."""
        if key not in self._used:
            # it is full, and the least there is holds one
            self._keep(key, 1.0)
            return 0
        used = self._now_used(key)
        wait = self._wait(used)
        if not wait:
            self._keep(key, used + 1)
        return wait

    def give_back(self, key: Hashable) -> None:
        """Have one more again."""
        used = self._now_used(key) - 1
        if used > 0:
            self._keep(key, used)
        else:
            self._used.pop(key, None)

    def _wait(self, used: float) -> float:
        lacking = used + 1 - self._amount
        return lacking / self._a_second if lacking > _TINY else 0

    def _now_used(self, key: Hashable) -> float:
        held = self._used.get(key)
        return 0.0 if held is None else max(0.0, held[0] - (self._clock() - held[1]) * self._a_second)

    def _keep(self, key: Hashable, used: float) -> None:
        self._used[key] = (used, self._clock())
        self._used.move_to_end(key)
        if len(self._used) > self._most:
            self._used.popitem(last=False)


class Tellings:
    """When to tell of what happens again and again: at once, then every minute with how often it was."""

    def __init__(self, *, most: int, every: float = 60.0, clock: Clock = time.monotonic) -> None:
        """Take how many keys to remember."""
        self._most = most
        self._every = every
        self._clock = clock
        self._kept: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def __len__(self) -> int:
        """Tell how many keys are remembered."""
        return len(self._kept)

    def count(self, key: Hashable) -> int | None:
        """Count one; give how many there were since it was last told, if it is time to tell."""
        now = self._clock()
        told, untold = self._kept.get(key, (None, 0))
        due = told is None or now >= told + self._every
        self._kept[key] = (now, 0) if told is None or due else (told, untold + 1)
        self._kept.move_to_end(key)
        if len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return untold + 1 if due else None
