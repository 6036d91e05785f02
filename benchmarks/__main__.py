"""How fast the server is, beside what the same machine's PostgreSQL and a bare FastAPI route do in the same run.

    python -m benchmarks [--full] [--only push sync poll manifest storm memory] [--json FILE]
    python -m benchmarks --peer NAME URL OBJECTS-PATH AUTHORIZATION

It starts PostgreSQL (the embedded one, committing to disk) and the server as an operator does, a worker a core. Look at the
ratios: the figures are those of this machine in this minute.
"""

from __future__ import annotations

import argparse
import itertools
import os
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from benchmarks import measures, objects, site
from benchmarks.load import Target
from benchmarks.report import Report, machine, table

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTS = ("push", "sync", "poll", "manifest", "storm", "memory")
_MIXED = ("indicator", "relationship")


async def push(report: Report, here: site.Site, seeds: Iterator[int], scale: int) -> None:
    """Strict and structural, envelopes of 1, 100 and 1,000, 1 and 8 connections; then the same rows by psycopg."""
    for validation, size, connections, bodies in (
        ("strict", 1, 1, 200 * scale),
        ("strict", 1, 8, 400 * scale),
        ("strict", 100, 1, 30 * scale),
        ("strict", 100, 8, 100 * scale),
        ("strict", 1000, 8, 16 * scale),
        ("structural", 1, 8, 400 * scale),
        ("structural", 100, 1, 60 * scale),
        ("structural", 100, 8, 200 * scale),
        ("structural", 1000, 8, 24 * scale),
    ):
        source = objects.envelopes(objects.objects(next(seeds), kinds=_MIXED), size)
        targets = [here.target.as_(here.basic(number)) for number in range(connections)]
        # processes start and statements are prepared before the clock does
        await measures.push(targets, here.path(validation), list(itertools.islice(source, 2 * connections)), size)
        prepared = list(itertools.islice(source, bodies))
        what = f"push {validation}, {size} an envelope, {connections} connections"
        report.add(what, await measures.push(targets, here.path(validation), prepared, size))
        raw = measures.insert(
            here.database, site.COLLECTIONS[validation], size, connections, min(size * bodies, 20_000)
        )
        report.add(what, raw, "floor")


async def fill(here: site.Site, wanted: int, seeds: Iterator[int]) -> None:
    """Bring a collection to this number of objects."""
    source = objects.envelopes(objects.objects(next(seeds)), 1000)
    targets = [here.target.as_(here.basic(number)) for number in range(4)]
    await measures.push(targets, here.path("structural"), list(itertools.islice(source, wanted // 1000)), 1000)


async def sync(report: Report, here: site.Site, target: Target) -> None:
    """All there is in pages of 100, of 1,000 and of the largest."""
    for name, limit in (("100", 100), ("1,000", 1000), ("the maximum", 10**6)):
        figures, bodies = await measures.sync(target, here.path("structural"), limit)
        found = measures.counted(bodies)
        assert set(found.values()) == {1}
        figures["objects"] = figures["rate"] * found.total() / len(bodies)
        report.add(f"full sync in pages of {name}", figures)
        report.add(
            f"full sync in pages of {name}", measures.copy_out(here.database, site.COLLECTIONS["structural"]), "floor"
        )


async def poll(report: Report, here: site.Site, tokens: list[str], seconds: float) -> None:
    """Steady state: nothing new, and five new objects each time; Basic and bearer."""
    path = here.path("structural")
    reader = here.target.as_(here.basic(0))
    after = {news: await measures.date_before(reader, path, news) for news in (0, 5)}
    with site.bare(here.database, os.cpu_count() or 1) as url:
        for clients in (1, 16, 64):
            floor = await measures.repeated([Target(url)] * clients, "/one", seconds)
            for scheme in ("bearer", "Basic"):
                said = [tokens[number] if scheme == "bearer" else here.basic(number) for number in range(clients)]
                targets = [here.target.as_(one) for one in said]
                for news in (0, 5):
                    what = f"poll with {news} new objects, {clients} clients, {scheme}"
                    report.add(what, await measures.poll(targets, path, after[news], news, seconds))
                    report.add(what, floor, "floor")


async def run(asked: argparse.Namespace, report: Report, here: site.Site) -> None:
    """Measure what was asked for."""
    scale = 5 if asked.full else 1
    seeds = itertools.count(1)
    if "push" in asked.only:
        await push(report, here, seeds, scale)
    await fill(here, 50_000 if asked.full else 10_000, seeds)
    reader = here.target.as_(here.basic(0))
    if "sync" in asked.only:
        await sync(report, here, reader)
    if "poll" in asked.only:
        await poll(report, here, await here.tokens(), 10 if asked.full else 3)
    if "manifest" in asked.only:
        page = here.path("structural").replace("/objects/", "/manifest/") + "?limit=1000"
        report.add("manifest in pages of 1,000, 1 client", await measures.repeated([reader], page, 3 * scale))
    if "storm" in asked.only:
        after = await measures.date_before(reader, here.path("strict"), 0)
        report.add("storm", await measures.storm(here, here.path("strict"), after, 5 * scale, 10_000))
    if "memory" in asked.only:
        report.add("memory", measures.memory(here.pid, here.postmaster))


def main() -> None:
    """Measure and tell."""
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    options.add_argument("--full", action="store_true", help="longer, with more objects")
    options.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    options.add_argument("--json", type=Path, help="write the figures there")
    asked = options.parse_args()
    report = Report(machine())
    with site.running(os.cpu_count() or 1) as here:
        uvloop.run(run(asked, report, here))
    print("\n" + table(report))
    if asked.json:
        report.write(asked.json)


if __name__ == "__main__":
    main()
