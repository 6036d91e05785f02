"""Writers and pollers at one collection at once, and what the pollers got of what the writers were told is stored.

Nothing goes wrong here but what concurrency does; `tests/storm` has the same actors where things are killed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from tests.storm.actors import Poller, Sky, Writer, told
from tests.storm.delivery import Delivery
from tests.taxii.alliance import TAXII

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import httpx

    from tests.storm.delivery import Key


@dataclass
class Outcome:
    """What came of a storm: acknowledged versions, requests that failed, and what each poller counted."""

    acknowledged: set[Key] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)

    @property
    def missed(self) -> int:
        """How many acknowledged versions a poller never got, over all pollers."""
        return sum(one.missed.total() for one in self.deliveries)

    @property
    def repeated(self) -> int:
        """How often a poller got a version again, or one that nobody was told is stored, over all pollers."""
        return sum(one.repeated.total() for one in self.deliveries)


@dataclass(frozen=True)
class Storm:
    """Where it blows, and how hard; everybody asks one node now and another then."""

    nodes: Sequence[httpx.AsyncClient]
    path: str
    credentials: Callable[[int], dict[str, str]]
    writers: int = 4
    envelopes: int = 30
    seed: int = 1

    async def blow(self) -> Outcome:
        """Let two pollers go by `next` and two by `added_after` alone while the writers write; then compare."""
        # nobody takes anything away, so any other answer than yes counts
        sky = Sky(self.nodes, passing=frozenset())
        dice = Random(self.seed)
        writers = [
            Writer(
                sky,
                self.path,
                self.path,
                self.credentials(number) | {"Accept": TAXII},
                number,
                Random(dice.random()),
                envelopes=self.envelopes,
            )
            for number in range(self.writers)
        ]
        pollers = [
            Poller(
                sky,
                self.path,
                self.path,
                self.credentials(number),
                clearance=4,
                params={"match[version]": "all", "limit": str(37 + number)},
                by_next=number < 2,
                dice=Random(dice.random()),
            )
            for number in range(4)
        ]

        async def write_all() -> None:
            try:
                await asyncio.gather(*(writer.write() for writer in writers))
            finally:
                sky.quiet.set()

        await asyncio.gather(write_all(), *(poller.poll() for poller in pollers))
        statuses = [one.status for writer in writers for one in writer.sent if one.status is not None]
        acknowledged = {told(one) for status in statuses for one in status.get("successes", [])}
        once = Counter(acknowledged)
        return Outcome(acknowledged, sky.strange, [Delivery(poller.counted, once, once) for poller in pollers])
