"""How fast the server is, beside what the same machine's PostgreSQL and a bare FastAPI route do in the same run.

    python -m benchmarks [--full] [--only push sync poll manifest storm memory] [--json FILE]
    python -m benchmarks --peers FOLDER    also OpenTAXII and medallion, installed from PyPI into that folder
    python -m benchmarks --peer NAME URL OBJECTS-PATH AUTHORIZATION    also a server that runs already

A server of somebody else is sent some thousands of objects: give it a collection to throw away.

It starts PostgreSQL (the embedded one, committing to disk) and the server as an operator does, a worker a core. Look at the
ratios: the figures are those of this machine in this minute.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import sys
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import uvloop

from benchmarks import aims, figures, measures, objects, peers, site, storm
from benchmarks.load import Target, Times
from benchmarks.measures import milliseconds
from benchmarks.peers import BASIC, TOKENS, Peer
from benchmarks.report import Report, machine
from benchmarks.storm import DATES, STORM

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from benchmarks.measures import Figures

PARTS = ("push", "sync", "poll", "manifest", "storm", "memory")
_MIXED = ("indicator", "relationship")
_PATIENCE = 60  # seconds
_TURNS = 3
_SECONDS, _SECONDS_OF_FULL = 3.0, 10.0


def _envelopes(size: int) -> str:
    return "one object each" if size == 1 else f"envelopes of {size:,}"


def _poll(news: int, clients: int, scheme: str, *, apart: bool = False) -> str:
    what = f"poll, {f'{news} new' if news else 'nothing new'}, {clients} {'clients' if clients > 1 else 'client'}, {scheme}"
    return f"{what}, each from its own date" if apart else what


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
        what = f"push, {validation}, {_envelopes(size)}, {connections} {'connections' if connections > 1 else 'connection'}"
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


async def sync(report: Report, here: site.Site, target: Target, seconds: float) -> None:
    """All there is in pages of 100, of 1,000 and of the largest."""
    for name, limit in (("pages of 100", 100), ("pages of 1,000", 1000), ("the largest pages", 10**6)):
        figures = await measures.full_sync(target, here.path("structural"), limit, seconds)
        assert not figures["repeated"]
        report.add(f"full sync, {name}", figures)
        floor = measures.copy_out(here.database, site.COLLECTIONS["structural"], seconds)
        report.add(f"full sync, {name}", floor, "floor")


async def poll(report: Report, here: site.Site, seeds: Iterator[int], seconds: float) -> None:
    """Steady state: nothing new, and five new objects each time; Basic and bearer."""
    path, tokens = here.path("structural"), await here.tokens()
    reader = here.target.as_(here.basic(0))
    before = await measures.sync(reader, path, 1000)
    await measures.push([reader], path, [next(objects.envelopes(objects.objects(next(seeds)), 5))], 5)
    now = await measures.sync(reader, path, 1000)
    after = {0: now, 5: before}
    with site.bare(here.database, os.cpu_count() or 1) as url:
        for clients in (1, 16, 64):
            for scheme in (TOKENS, BASIC):
                said = [tokens[number] if scheme == TOKENS else here.basic(number) for number in range(clients)]
                targets = [here.target.as_(one) for one in said]
                for news, apart in ((0, False), (5, False), (5, True))[: 3 if clients > 1 else 2]:
                    what = _poll(news, clients, scheme, apart=apart)
                    ours, floor = Times(), Times()
                    # by turns: what else the machine does meets both
                    for _ in range(_TURNS):
                        turn = seconds / _TURNS
                        ours.add(await measures.poll(targets, path, after[news], news, turn, apart=apart))
                        floor.add(await measures.repeated([Target(url)] * clients, "/one", turn))
                    report.add(what, milliseconds(ours))
                    report.add(what, milliseconds(floor), "floor")


async def poll_beside_a_push(report: Report, here: site.Site, seeds: Iterator[int], seconds: float) -> None:
    """Nothing new, 16 clients, by itself and while one connection pushes envelopes of 1,000 into the strict collection."""
    path, tokens = here.path("structural"), await here.tokens()
    now = await measures.sync(here.target.as_(here.basic(0)), path, 1000)
    pollers = [here.target.as_(one) for one in tokens[:16]]
    # more than can be pushed meanwhile
    source = objects.envelopes(objects.objects(next(seeds), kinds=_MIXED), 1000)
    bodies = list(itertools.islice(source, int(seconds * 20)))
    report.add(f"{_poll(0, 16, TOKENS)}, alone", milliseconds(await measures.poll(pollers, path, now, 0, seconds)))
    pushing = asyncio.create_task(measures.push([here.target.as_(here.basic(1))], here.path("strict"), bodies, 1000))
    figures = milliseconds(await measures.poll(pollers, path, now, 0, seconds))
    assert not pushing.done()
    pushing.cancel()
    await asyncio.wait([pushing])
    report.add(f"{_poll(0, 16, TOKENS)}, beside a push", figures)


async def peer(report: Report, other: Peer, seeds: Iterator[int], seconds: float) -> None:
    """What can be asked of any TAXII 2.1 server, by the same client; `push, strict` is its own idea of strict.

    What it doesn't answer, or not in time, is reported as such.
    """
    source = objects.objects(next(seeds), kinds=_MIXED)
    envelope = objects.envelopes(source, 100)
    eight = [other.target] * 8
    warm, some = other.few or 8, other.few or 100

    busy = False

    async def tried(what: str, work: Callable[[], Awaitable[Figures]]) -> None:
        nonlocal busy
        if busy:
            # what nobody waits for any more still takes its time
            report.add(what, {}, other.name, "not asked")
            return
        try:
            async with asyncio.timeout(_PATIENCE):
                report.add(what, await work(), other.name)
        except TimeoutError:
            busy = True
            report.add(what, {}, other.name, f"not within {_PATIENCE} s")
        except (AssertionError, ConnectionError, ExceptionGroup) as why:
            report.add(what, {}, other.name, "fails")
            print(f"{other.name}, {what}: {why!r}", file=sys.stderr)

    async def polled(clients: int, after: str, news: int, *, apart: bool) -> Figures:
        targets = [other.target] * clients
        return milliseconds(await measures.poll(targets, other.path, after, news, seconds, apart=apart))

    # the storm first: what some servers do grows with the square of what they hold
    start = await measures.sync(other.target, other.path, 1000)
    await tried(STORM, lambda: storm.storm(eight, other.path, start, 2 * seconds, next(seeds), other.few or 10**9))
    after = await measures.sync(other.target, other.path, 1000)
    await tried(DATES, lambda: storm.dates(other.target, other.path, after, next(envelope), 100))
    await measures.push(eight, other.path, list(itertools.islice(envelope, warm)), 100)
    bodies = list(itertools.islice(envelope, some))
    what = f"push, strict, {_envelopes(100)}, 8 connections"
    await tried(what, lambda: measures.push(eight, other.path, bodies, 100))
    for name, limit in (("1,000", 1000), ("100", 100)):
        await tried(
            f"full sync, pages of {name}", partial(measures.full_sync, other.target, other.path, limit, seconds)
        )
    before = await measures.sync(other.target, other.path, 1000)
    await measures.push([other.target], other.path, [next(objects.envelopes(source, 5))], 5)
    now = await measures.sync(other.target, other.path, 1000)
    for clients in (1, 16):
        for news, after, apart in ((0, now, False), (5, before, False), (5, before, True))[: 3 if clients > 1 else 2]:
            polls = partial(polled, clients, after, news, apart=apart)
            await tried(_poll(news, clients, other.scheme, apart=apart), polls)


def measure_peer(report: Report, other: Peer, seconds: float) -> None:
    """Measure it as far as it goes: what was measured of others is not lost by it."""
    told = list(other.told)
    try:
        # others than those of a run before, which it may still hold
        uvloop.run(peer(report, other, itertools.count(time.time_ns(), 10), seconds))
    except (AssertionError, ConnectionError) as why:
        print(f"{other.name}: {why!r}", file=sys.stderr)
        told.append("It was not measured to the end, for it failed.")
    report.setting.setdefault("peers", {})[other.name] = told


async def run(asked: argparse.Namespace, report: Report, here: site.Site) -> None:
    """Measure what was asked for."""
    scale, seconds = (5, _SECONDS_OF_FULL) if asked.full else (1, _SECONDS)
    seeds = itertools.count(1)
    await fill(here, 50_000 if asked.full else 10_000, seeds)
    reader = here.target.as_(here.basic(0))
    if "sync" in asked.only:
        # before the pushes: of as many objects as the peers hold
        await sync(report, here, reader, seconds)
    if "push" in asked.only:
        await push(report, here, seeds, scale)
    if "poll" in asked.only:
        await poll(report, here, seeds, seconds)
        await poll_beside_a_push(report, here, seeds, seconds)
    if "manifest" in asked.only:
        page = here.path("structural").replace("/objects/", "/manifest/") + "?limit=1000"
        figures = milliseconds(await measures.repeated([reader], page, 3 * scale))
        report.add("manifest, pages of 1,000", figures | {"objects": 1000 * figures["rate"]})
    if "storm" in asked.only:
        after = await measures.sync(reader, here.path("strict"), 1000)
        eight = [here.target.as_(here.basic(number)) for number in range(2 * storm.EACH)]
        report.add(STORM, await storm.storm(eight, here.path("strict"), after, 2 * seconds, 10_000))
        after = await measures.sync(reader, here.path("strict"), 1000)
        envelope = next(objects.envelopes(objects.objects(next(seeds)), 100))
        report.add(DATES, await storm.dates(reader, here.path("strict"), after, envelope, 100))
    if "memory" in asked.only:
        report.add("memory", measures.memory(here.pid, here.postmaster))


def main() -> None:
    """Measure and tell."""
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    options.add_argument("--full", action="store_true", help="longer, with more objects")
    options.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    options.add_argument("--peers", type=Path, metavar="FOLDER", help="also OpenTAXII and medallion, installed there")
    options.add_argument("--peer", nargs=4, metavar=("NAME", "URL", "PATH", "AUTHORIZATION"), help="also this server")
    options.add_argument("--json", type=Path, help="write the figures there")
    asked = options.parse_args()
    report = Report(machine())
    workers = os.cpu_count() or 1
    seconds = _SECONDS_OF_FULL if asked.full else _SECONDS
    with site.running(workers) as here:
        report.setting |= site.versions(here)
        uvloop.run(run(asked, report, here))
        if asked.peer:
            name, url, path, authorization = asked.peer
            scheme = TOKENS if authorization.startswith("Bearer ") else BASIC
            other = Peer(name, Target(url).as_(authorization), path, scheme)
            measure_peer(report, other, seconds)
        if asked.peers:
            asked.peers.mkdir(parents=True, exist_ok=True)
            with peers.opentaxii(asked.peers, here.administration, workers) as other:
                measure_peer(report, other, seconds)
            with peers.medallion(asked.peers) as other:
                measure_peer(report, other, seconds)
    for chart in figures.of_run(report):
        print(f"\n{chart.title}\n\n{chart.table}")
    print(aims.table(aims.of_run(report)))
    if asked.json:
        report.write(asked.json)


if __name__ == "__main__":
    main()
