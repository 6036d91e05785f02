"""Writers and pollers at one collection at once, and what the pollers got of what the writers were told is stored."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tests.factories import indicator
from tests.taxii.alliance import TAXII

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import httpx

    Key = tuple[str, str]


@dataclass
class Outcome:
    """What came of a storm: acknowledged versions, requests that failed, and what each poller counted."""

    acknowledged: set[Key] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)
    polled: list[Counter[Key]] = field(default_factory=list)

    @property
    def missed(self) -> int:
        """How many acknowledged versions a poller never got, over all pollers."""
        return sum(len(self.acknowledged - counted.keys()) for counted in self.polled)

    @property
    def repeated(self) -> int:
        """How many versions a poller got more than once, over all pollers."""
        return sum(times - 1 for counted in self.polled for times in counted.values())


@dataclass(frozen=True)
class Storm:
    """Where it blows, and how hard; writers and pollers are spread over the nodes."""

    nodes: Sequence[httpx.AsyncClient]
    path: str
    credentials: Callable[[int], dict[str, str]]
    writers: int = 4
    envelopes: int = 30
    objects: int = 24
    seed: int = 1

    async def blow(self) -> Outcome:
        """Let two pollers go by `next` and two by `added_after` alone while the writers write; then compare."""
        outcome = Outcome()
        written = asyncio.Event()

        async def write_all() -> None:
            try:
                await asyncio.gather(*(self._write(number, outcome) for number in range(self.writers)))
            finally:
                written.set()

        async with asyncio.TaskGroup() as group:
            pollers = [group.create_task(self._poll(written, by_next=number < 2, number=number)) for number in range(4)]
            group.create_task(write_all())
        outcome.polled = [poller.result() for poller in pollers]
        return outcome

    def _node(self, number: int) -> httpx.AsyncClient:
        return self.nodes[number % len(self.nodes)]

    async def _write(self, number: int, outcome: Outcome) -> None:
        dice = random.Random(self.seed * 1000 + number)
        for _ in range(self.envelopes):
            # the writers share objects, so that versions of one come from all sides and out of order
            objects = [self._object(dice) for _ in range(dice.randint(1, self.objects))]
            answer = await self._node(number).post(
                self.path,
                json={"objects": objects},
                headers=self.credentials(number) | {"Accept": TAXII, "Content-Type": TAXII},
            )
            if answer.status_code != 202:
                outcome.failed.append(answer.text)
                continue
            outcome.acknowledged |= {(one["id"], one["version"]) for one in answer.json().get("successes", [])}

    @staticmethod
    def _object(dice: random.Random) -> dict[str, Any]:
        second = dice.randint(0, 10**6)
        modified = f"2024-05-{1 + second % 28:02}T{second % 24:02}:{second % 60:02}:{second // 7 % 60:02}.{second:06}Z"
        return indicator(id=f"indicator--{UUID(int=dice.randint(1, 400), version=4)}", modified=modified)

    async def _poll(self, written: asyncio.Event, *, by_next: bool, number: int) -> Counter[Key]:
        counted: Counter[Key] = Counter()
        after: str | None = None
        following: str | None = None
        while True:
            # looked at before the poll: what was acknowledged by then must be in what is polled from here on
            last_round = written.is_set()
            query = {"match[version]": "all", "limit": str(37 + number)}
            if after is not None and following is None:
                query["added_after"] = after
            if following is not None:
                query["next"] = following
            answer = await self._node(number).get(
                self.path, params=query, headers=self.credentials(number) | {"Accept": TAXII}
            )
            assert answer.status_code == 200, answer.text
            envelope = answer.json()
            counted.update((one["id"], one["modified"]) for one in envelope.get("objects", []))
            if envelope.get("objects"):
                after = answer.headers["X-TAXII-Date-Added-Last"]
            following = envelope.get("next") if by_next else None
            if not envelope.get("objects"):
                if last_round:
                    return counted
                await asyncio.sleep(0)
