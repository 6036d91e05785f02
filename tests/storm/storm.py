"""A storm with faults: who takes part, what is taken from under them, and the verdict.

All choices hang on the seed; how they meet in time does not. A fault comes after so many more envelopes were acknowledged, so after each
one everything has to get going again before the next.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

import httpx
import psycopg

from tests.auth.alliance import BOTH, Alliance
from tests.postgres import Postgres
from tests.storm.actors import Poller, Sky, Writer
from tests.storm.site import Node
from tests.storm.verdict import Collection
from tests.taxii.alliance import TAXII, basic

COLLECTIONS: Final = {"strict": "strict", "open": "structural"}
_GOES_ON_WITHIN: Final = 100.0  # seconds; how long a database that is silent is waited for, twice, and a restart
_ALL_QUIET: Final = """
    SELECT count(*) = 0 FROM pg_stat_activity WHERE usename = 'taxii_server' AND state <> 'idle'
"""
_PAGES: Final[list[tuple[str, dict[str, str]]]] = [
    ("objects/", {"match[version]": "all", "limit": "37"}),
    ("manifest/", {"match[version]": "all", "limit": "50"}),
    ("objects/", {"match[version]": "all"}),
    ("objects/", {"match[version]": "all", "match[type]": "indicator", "limit": "11"}),
    ("objects/", {"limit": "20"}),
]

Fault = Callable[[], object]


@dataclass
class Storm:
    """Two writers and a poller of each clearance at each of two collections, on some nodes."""

    nodes: Sequence[Node]
    seed: int
    execute: Callable[..., Any]
    """Asks the database as its superuser, whichever instance is the primary by now."""
    sky: Sky = field(init=False)
    writers: list[Writer] = field(default_factory=list)
    pollers: list[Poller] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Those that there were, by name."""

    def enroll(self, alliance: Alliance, clients: Sequence[httpx.AsyncClient]) -> None:
        """Describe who takes part."""
        dice = Random(self.seed)
        self.sky = Sky(clients)
        alliance.group("storm")
        for alias, validation in COLLECTIONS.items():
            alliance.collection("storm", alias, validation)
        for number in range(2):
            alliance.member(f"writer-{number}", storm_strict=BOTH, storm_open=BOTH)
        for clearance in range(5):
            alliance.member(f"reader-{clearance}")
        for at, alias in enumerate(COLLECTIONS):
            path = f"/taxii2/storm/collections/{alliance.collections[f'storm/{alias}']}/"
            for number in range(2):
                client = alliance.client(f"writer-{number}")
                headers = basic(client.client_id, client.secret) | {"Accept": TAXII}
                own = Random(dice.random())
                self.writers.append(Writer(self.sky, alias, f"{path}objects/", headers, number + 2 * at, own))
            for clearance in range(5):
                alliance.grant(f"reader-{clearance}", f"storm/{alias}", ("read",), clearance)
                client = alliance.client(f"reader-{clearance}")
                rest, params = _PAGES[(clearance + at) % len(_PAGES)]
                made = Poller(
                    self.sky,
                    alias,
                    f"{path}{rest}",
                    basic(client.client_id, client.secret),
                    clearance,
                    params,
                    by_next=(clearance + at) % 2 == 0,
                    dice=Random(dice.random()),
                    client=client.row,
                )
                self.pollers.append(made)

    async def blow(self, choose: Callable[[Random], tuple[str, Fault] | None]) -> None:
        """Have all of them at work while faults are chosen; until none is, and the pollers have all there is."""
        dice = Random(self.seed)
        try:
            async with asyncio.TaskGroup() as group:
                polling = [group.create_task(each.poll()) for each in self.pollers]
                writing = [group.create_task(each.write()) for each in self.writers]
                writing += [group.create_task(each.delete()) for each in self.writers]
                await self.sky.until_acknowledged(10, _GOES_ON_WITHIN)
                while (chosen := choose(dice)) is not None:
                    name, fault = chosen
                    self.faults.append(name)
                    await asyncio.to_thread(fault)
                    more = self.sky.acknowledged + dice.randint(8, 25)
                    await self.sky.until_acknowledged(more, _GOES_ON_WITHIN)
                self.sky.over.set()
                await asyncio.gather(*writing)
                await self._quiet()
                self.sky.quiet.set()
                await asyncio.gather(*polling)
        except BaseExceptionGroup as broken:
            raise AssertionError(f"seed {self.seed}, after {self.faults}: {broken.exceptions}") from broken

    async def _quiet(self) -> None:
        """Wait until nothing is under way that nobody waits for any more."""
        until = time.monotonic() + _GOES_ON_WITHIN
        while self.execute(_ALL_QUIET) != [(True,)]:
            assert time.monotonic() < until
            await asyncio.sleep(0.05)

    def verdict(self, settings: dict[str, str], *, deletions: bool = True) -> list[str]:
        """Tell all that is not as it must be."""
        found = [*self.sky.strange]
        ids = dict(self.execute("SELECT alias, id FROM collections"))
        for alias in COLLECTIONS:
            writers = [each for each in self.writers if each.collection == alias]
            found += [
                f"{alias}: {fault}"
                for fault in Collection(self.execute, ids[alias]).faults(
                    [one for each in writers for one in each.sent],
                    [one for each in writers for one in each.deletions] if deletions else [],
                    [each for each in self.pollers if each.collection == alias],
                )
            ]
        for command in (("db", "check"), ("audit", "verify", "--content")):
            done = subprocess.run(
                [sys.executable, "-m", "taxii_server.cli", *command, "--json"],
                env={**os.environ, **settings},
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                found.append(f"{' '.join(command)}: {done.stdout[:2000]} {done.stderr[-2000:]}")
        for node in self.nodes:
            found += [line for line in node.said.splitlines() if '"event": "unexpected"' in line or "_fault" in line]
        return found

    def told(self) -> dict[str, int]:
        """Tell how it was, for who watches."""
        return {
            "seed": self.seed,
            "faults": len(self.faults),
            "envelopes": sum(len(each.sent) for each in self.writers),
            "acknowledged": self.sky.acknowledged,
            "deletions": sum(len(each.deletions) for each in self.writers),
            "versions": self.execute("SELECT count(*) FROM object_versions")[0][0],
            "removed": self.execute("SELECT count(*) FROM deleted_versions")[0][0],
            "pages": sum(len(each.pages) for each in self.pollers),
            "delivered": sum(each.counted.total() for each in self.pollers),
        }


@asynccontextmanager
async def storm_on(
    primary: Postgres, nodes: Sequence[Node], seed: int, execute: Callable[..., Any] | None = None
) -> AsyncIterator[Storm]:
    """Start the nodes and describe who takes part; the nodes are stopped in the end."""
    storm = Storm(nodes, seed, execute or primary.execute)
    async with AsyncExitStack() as stack:
        clients = []
        for node in nodes:
            stack.push_async_callback(asyncio.to_thread, node.stop)
            await asyncio.to_thread(node.start)
            # longer than the server waits for anything: who gives up leaves nothing behind
            clients.append(await stack.enter_async_context(httpx.AsyncClient(base_url=node.url, timeout=90)))
        with psycopg.connect(primary.urls.owner.replace("+psycopg", ""), autocommit=True) as connection:
            storm.enroll(Alliance(connection), clients)
        yield storm
