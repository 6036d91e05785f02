"""Whole storms, each on databases and servers of its own: for the tests, and for `make torture`, which goes on for as long as you like."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.postgres import some_postgres
from tests.storm.cluster import BEHIND, OTHER_CLOCK, Cluster
from tests.storm.faults import Faults
from tests.storm.site import Node
from tests.storm.storm import Fault, storm_on

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

Outcome = tuple[list[str], dict[str, int]]
"""What is not as it must be, and how it was."""

_KEY = {"TAXII_SECRET_KEY": "k" * 32}


async def with_faults(folder: Path, seed: int, faults: int, whose: str = "embedded") -> Outcome:
    """Kill workers, servers, PostgreSQL and the replica: of two servers one has four workers, one reads from the replica."""
    with some_postgres(whose) as make:
        primary = make("primary")
        replica = make("replica", of=primary)
        settings = {"TAXII_DATABASE_URL": primary.urls.server, **_KEY}
        reading = {"TAXII_DATABASE_REPLICA_URLS": replica.urls.server}
        nodes = [Node(folder, 4, settings), Node(folder, 1, settings | reading)]
        choosing = Faults(primary, replica, nodes, enough=lambda happened: happened >= faults)
        async with storm_on(primary, nodes, seed) as storm:
            await storm.blow(choosing.choose)
            return storm.verdict(settings), storm.told()


async def with_failover(folder: Path, seed: int, whose: str = "embedded", *, synchronous: bool = True) -> Outcome:
    """Lose the primary under load, and promote a standby whose clock is behind, to the same two servers.

    Without a synchronous standby, the one that there is was cut off before.
    """
    with some_postgres(whose) as make:
        primary = make(
            "primary", synchronous_standby_names="standby" if synchronous else "", synchronous_commit="local"
        )
        primary.execute(OTHER_CLOCK)
        cluster = Cluster(primary, make("standby", of=primary, **{"taxii_test.behind": f"{BEHIND}s"}))
        primary.options["synchronous_commit"] = "on"
        primary.stop()
        primary.start()
        if synchronous:
            primary.until("SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'")
        first: tuple[str, Fault] = ("nothing", list) if synchronous else ("the standby's way to it", cluster.cut_off)
        coming: Iterator[tuple[str, Fault]] = iter([first, ("the primary", cluster.fail_over)])

        def choose(_: Random) -> tuple[str, Fault] | None:
            return next(coming, None)

        settings = {"TAXII_DATABASE_URL": cluster.url, **_KEY}
        nodes = [Node(folder, 1, settings) for _ in range(2)]
        async with storm_on(primary, nodes, seed, cluster.execute) as storm:
            await storm.blow(choose)
            # removals are asked for by the time of this machine, and additions dated by the other clock
            found, told = storm.verdict(settings, deletions=False), storm.told()
        later = "SELECT count(*) FROM object_versions WHERE date_added > %s"
        told["since the failover"] = int(cluster.execute(later, cluster.last)[0][0])
    return found, told
