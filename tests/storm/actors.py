"""Who takes part in a storm: writers, deleters and pollers, each with dice of its own, and what each of them was told.

They go on whatever happens: an answer that never came, or a 503, is no fault of anybody's. What was answered is noted, and held
against the database in the end (`verdict`). A writer that wasn't answered mostly sends the same again, as a client would; it
doesn't know whether the first was stored.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import httpx

from tests.factories import TLP2, indicator, ipv4, malware
from tests.taxii.alliance import TAXII

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.storm.delivery import Key

_AGAIN_AFTER: Final = 0.1  # seconds, for who finds nobody there
_MARKINGS: Final = [None, None, *TLP2.values()]
_PASSING: Final = {429, 502, 503, 504}
_OBJECTS: Final = 120
_MODIFIED: Final = 60


@dataclass
class Sky:
    """Where it storms: the nodes, which may go away and come back, and what all who take part have seen."""

    nodes: Sequence[httpx.AsyncClient]
    passing: frozenset[int] = frozenset(_PASSING)
    """Answers that say neither yes nor no."""
    acknowledged: int = 0
    """Envelopes."""
    strange: list[str] = field(default_factory=list)
    """Answers that nobody should ever get."""
    over: asyncio.Event = field(default_factory=asyncio.Event)
    """Writers and deleters end."""
    quiet: asyncio.Event = field(default_factory=asyncio.Event)
    """They have ended: what is there now is all there will be."""
    moved: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def ask(self, dice: Random, method: str, path: str, **how: Any) -> httpx.Response | None:
        """Ask any of the nodes; None if nobody says yes or no."""
        try:
            answer = await dice.choice(self.nodes).request(method, path, **how)
        except httpx.TransportError:
            answer = None
        if answer is None or answer.status_code in self.passing:
            await asyncio.sleep(_AGAIN_AFTER)
            return None
        return answer

    async def acknowledge(self) -> None:
        """Count an envelope, and wake who waits for that."""
        async with self.moved:
            self.acknowledged += 1
            self.moved.notify_all()

    async def until_acknowledged(self, count: int, within: float) -> None:
        """Wait until so many envelopes were acknowledged."""
        async with asyncio.timeout(within), self.moved:
            await self.moved.wait_for(lambda: self.acknowledged >= count)

    def note(self, answer: httpx.Response) -> None:
        """Note an answer that there is no reason for."""
        self.strange.append(f"{answer.request.method} {answer.request.url.path}: {answer.status_code} {answer.text}")


@dataclass(frozen=True)
class Envelope:
    """What was sent, with an observable of its own in it by which it is found again; `status` is its 202, if one came."""

    collection: str
    seal: str
    size: int
    status: dict[str, Any] | None


@dataclass(frozen=True)
class Deletion:
    """An object that was removed whole, and when that was asked for."""

    collection: str
    of: str
    asked: float


@dataclass
class Writer:
    """Adds to one collection: new versions, repeats, versions from before others, and some that differ from what is there."""

    sky: Sky
    collection: str
    path: str
    headers: dict[str, str]
    number: int
    dice: Random
    largest: int = 60
    envelopes: int | None = None
    """How many it sends; None for as many as it can."""
    sent: list[Envelope] = field(default_factory=list)
    deletions: list[Deletion] = field(default_factory=list)

    async def write(self) -> None:
        """Send envelopes until it is over. Most are sent until they are acknowledged, some are given up."""
        while not self.sky.over.is_set() and len(self.sent) != self.envelopes:
            seal = ipv4(value=f"10.{self.number}.{len(self.sent) // 256}.{len(self.sent) % 256}")
            size = self.dice.choice((1, 2, 5, 20, self.largest))
            body = json.dumps({"objects": [seal, *(self._object() for _ in range(size - 1))]})
            status = None
            while status is None:
                answer = await self.sky.ask(
                    self.dice, "POST", self.path, content=body, headers=self.headers | {"Content-Type": TAXII}
                )
                if answer is not None and answer.status_code == 202:
                    status = answer.json()
                    await self.sky.acknowledge()
                elif answer is not None:
                    self.sky.note(answer)
                    break
                elif self.dice.random() < 0.1:
                    break
            self.sent.append(Envelope(self.collection, seal["id"], size, status))

    async def delete(self) -> None:
        """Now and then remove an object that only this writer's member brings."""
        dice = Random(self.dice.random())
        while not self.sky.over.is_set():
            with suppress(TimeoutError):
                await self.sky.until_acknowledged(self.sky.acknowledged + 3, within=1)
            of, asked = self._own(dice), time.time()
            answer = await self.sky.ask(dice, "DELETE", f"{self.path}{of}/", headers=self.headers)
            if answer is not None and answer.status_code == 200:
                self.deletions.append(Deletion(self.collection, of, asked))
            elif answer is not None and answer.status_code != 404:
                self.sky.note(answer)

    def _own(self, dice: Random) -> str:
        return _id(dice.randrange(_OBJECTS // 4), (1 + self.number) << 32)

    def _object(self) -> dict[str, Any]:
        of = self._own(self.dice) if self.dice.random() < 0.3 else _id(self.dice.randrange(_OBJECTS))
        modified = f"2024-05-02T08:15:{self.dice.randrange(_MODIFIED):02}.000Z"
        # who sends a version again sends the same, mostly
        told = Random(f"{of} {modified}")
        over: dict[str, Any] = {"id": of, "created": "2024-01-01T00:00:00.000Z", "modified": modified}
        marking = told.choice(_MARKINGS)
        over["object_marking_refs"] = None if marking is None else [marking]
        over["description"] = "." * told.randrange(2000) + ("!" if self.dice.random() < 0.03 else "")
        return (indicator if of.startswith("indicator") else malware)(**over)


def told(detail: dict[str, str]) -> Key:
    """Give the version that a line of a status is about."""
    return (detail["id"], "" if detail["id"].startswith("ipv4-addr") else detail["version"])


def _id(number: int, above: int = 0) -> str:
    return f"{('indicator', 'malware')[number % 2]}--{UUID(int=(above << 32) + number, version=4)}"


@dataclass
class Poller:
    """Reads one collection, by `next` as long as there is one, or by `added_after` alone; it notes each page it has whole."""

    sky: Sky
    collection: str
    path: str
    headers: dict[str, str]
    clearance: int
    params: dict[str, str]
    by_next: bool
    dice: Random
    client: int = 0
    pages: list[list[Key]] = field(default_factory=list)
    followed: int = 0
    """Pages that were asked for by `next`."""

    @property
    def of_manifest(self) -> bool:
        """Whether it reads what is there, and not the objects."""
        return self.path.endswith("manifest/")

    @property
    def counted(self) -> Counter[Key]:
        """How often it got each version."""
        return Counter(key for page in self.pages for key in page)

    async def poll(self) -> None:
        """Poll until all is quiet and nothing new comes."""
        after: str | None = None
        following: str | None = None
        while True:
            # looked at before the poll: what was acknowledged by then must be in what is polled from here on
            last_round = self.sky.quiet.is_set()
            query = dict(self.params)
            if following is not None:
                query["next"] = following
            elif after is not None:
                query["added_after"] = after
            answer = await self.sky.ask(
                self.dice, "GET", self.path, params=query, headers=self.headers | {"Accept": TAXII}
            )
            if answer is None:
                continue
            if answer.status_code != 200:
                self.sky.note(answer)
                return
            page = answer.json()
            self.followed += following is not None
            if found := page.get("objects", []):
                self.pages.append([self._key(one) for one in found])
                after = answer.headers["X-TAXII-Date-Added-Last"]
            following = page.get("next") if self.by_next else None
            if not found and following is None:
                if last_round:
                    return
                with suppress(TimeoutError):
                    await self.sky.until_acknowledged(self.sky.acknowledged + 1, within=0.3)

    def _key(self, one: dict[str, Any]) -> Key:
        return (one["id"], one["date_added"] if self.of_manifest else one.get("modified", ""))
