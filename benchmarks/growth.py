"""What grows with a collection: the same requests, by turns, to a server whose collection holds 10,000 versions and to one with many.

    python -m benchmarks.growth [--versions 1000000] [--keep FOLDER] [--only PART …] [--json FILE]

Both are whole: a PostgreSQL and a server each. The large one also has a thousand more collections. Each figure is the median
of requests that were sent one after the other, now here, now there, so whatever else the machine does meets both. Filling
takes a minute a million; with `--keep` the data stays in a folder, and the next run measures at once.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import signal
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import psycopg
import uvloop

from benchmarks import aims, growth_fill, objects, site
from benchmarks.growth_fill import BASE, HISTORY, NAME, PLACE, RARE
from benchmarks.load import Connection
from benchmarks.report import machine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from benchmarks.load import Answer, Target
    from benchmarks.site import Site

PARTS = ("pages", "poll", "one", "write", "commands", "restart")
MORE = 1_000
_POSTGRES = {"shared_buffers": "4GB", "max_wal_size": "8GB"}
_FEWEST, _MOST = 15, 200


@dataclass
class Here:
    """One of the two, and what requests to it name."""

    site: Site
    asker: Target
    path: str
    connection: Connection
    dates: dict[str, str] = field(default_factory=dict)
    ids: list[str] = field(default_factory=list)
    seeds: Iterator[int] = field(default_factory=lambda: itertools.count(time.time_ns()))

    async def get(self, query: str, path: str | None = None) -> Answer:
        """Ask for a page."""
        answer = await self.connection.ask(self.asker.get((self.path if path is None else path) + query))
        assert answer.status == 200, answer.body[:500]
        return answer


def found(here: Site, versions: int) -> Here:
    """Look up dates and ids to ask for."""
    one = Here(here, here.target.as_(here.basic(0)), here.path("structural"), Connection(here.target.url))
    with psycopg.connect(here.administration) as admin:
        first, last = admin.execute(
            "SELECT min(date_added), max(date_added) FROM object_versions WHERE collection_id = %s", [PLACE]
        ).fetchone() or (None, None)
        assert first is not None

        def at(date: object, back: int, order: str) -> str:
            [instant] = admin.execute(
                f"SELECT date_added FROM object_versions WHERE collection_id = %s AND date_added {order} LIMIT 1 OFFSET %s",  # noqa: S608
                [PLACE, date, back],
            ).fetchone() or [None]
            assert instant is not None
            return quote(instant.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))

        one.dates = {
            "middle": at(first, versions // 2, ">= %s ORDER BY date_added"),
            "end": at(last, 1_100, "<= %s ORDER BY date_added DESC"),
            "five": at(last, 5, "<= %s ORDER BY date_added DESC"),
            "last": at(last, 0, "<= %s ORDER BY date_added DESC"),
        }
        rows = admin.execute(
            "SELECT stix_id FROM object_versions WHERE collection_id = %s AND superseded_level = 5 AND date_added > %s"
            " AND stix_type = 'indicator' ORDER BY date_added LIMIT 300",
            [PLACE, first],
        ).fetchall()
        one.ids = [row[0] for row in rows]
    return one


class Growth:
    """Measures the two by turns, and tells."""

    def __init__(self, few: Here, many: Here, seconds: float) -> None:
        """Measure each for about so many seconds."""
        self.both = (few, many)
        self.seconds = seconds
        self.rows: list[dict[str, Any]] = []

    async def measure(self, what: str, one: Callable[[Here], Awaitable[float | None]], fewest: int = _FEWEST) -> None:
        """Do it here and there by turns; what it gives, if it does, is the seconds that count."""
        times: tuple[list[float], list[float]] = ([], [])
        until = time.perf_counter() + self.seconds
        for number in itertools.count():
            # the first of each prepares statements and fills caches
            for here, seen in zip(self.both, times, strict=True):
                begun = time.perf_counter()
                took = await one(here)
                if number > 2:
                    seen.append(time.perf_counter() - begun if took is None else took)
            if number >= _MOST or (number > fewest and time.perf_counter() > until):
                break
        self.tell(what, statistics.median(times[0]), statistics.median(times[1]), len(times[0]))

    def tell(self, what: str, few: float, many: float, times: int) -> None:
        """Take a row, and print it."""
        self.rows.append(
            {"what": what, "few_ms": 1000 * few, "many_ms": 1000 * many, "ratio": many / few, "times": times}
        )
        print(f"{what:52} {1000 * few:10.2f} {1000 * many:10.2f} ms   {many / few:6.2f}   of {times}", flush=True)


def asking(query: str, part: str = "objects") -> Callable[[Here], Awaitable[None]]:
    """Ask for what stands in a collection, at a date that is named in braces."""

    async def ask(here: Here) -> None:
        await here.get(query.format(**here.dates), here.path.replace("/objects/", f"/{part}/"))

    return ask


async def pages(all_: Growth) -> None:
    """Pages of a hundred and of a thousand, from the start, the middle and the end, and of all kinds of filters."""
    for limit in (100, 1_000):
        await all_.measure(f"page of {limit:,} from the start", asking(f"?limit={limit}"))
        for place in ("middle", "end"):
            query = f"?limit={limit}&added_after={{{place}}}"
            await all_.measure(f"page of {limit:,} from the {place}", asking(query))
    for here in all_.both:
        here.dates["far"] = await _further(here)
    await all_.measure("page of 100 by next, 20,000 versions past the middle", asking("?limit=100&next={far}"))
    await all_.measure("manifest of 1,000 from the middle", asking("?limit=1000&added_after={middle}", "manifest"))
    await all_.measure(f"match[type]={RARE}, {growth_fill.RARE_VERSIONS} there", asking(f"?match[type]={RARE}"))
    for query in ("match[type]=indicator", "match[version]=all", "match[version]=first", "match[spec_version]=2.1"):
        await all_.measure(f"{query}, page of 100", asking(f"?{query}&limit=100"))
        middle = f"?{query}&limit=100&added_after={{middle}}"
        await all_.measure(f"{query}, page of 100 from the middle", asking(middle))
    await all_.measure("match[spec_version]=2.0, none there", asking("?match[spec_version]=2.0"))


async def _further(here: Here) -> str:
    """Follow `next` from the middle on, past all that was late with regard to it; give the last one."""
    query = f"?limit=1000&added_after={here.dates['middle']}"
    following = ""
    for _ in range(20):
        answer = await here.get(query)
        following = json.loads(answer.body).get("next") or following
        query = f"?limit=1000&next={quote(following)}"
    return quote(following)


async def poll(all_: Growth) -> None:
    """What a poller asks for again and again."""
    few, many = all_.both
    other = many.path.replace(PLACE, site.more_collection(MORE // 2))

    async def in_one_of_many(here: Here) -> None:
        await here.get("?added_after=2999-01-01T00:00:00Z", here.path if here is few else other)

    async def listing(here: Here) -> None:
        path = "/taxii2/fraud/collections/"
        answer = await here.connection.ask(here.site.target.as_(here.site.basic(5)).get(path))
        assert answer.status == 200, answer.body[:500]

    async def ready(here: Here) -> None:
        await here.get("", "/readyz")

    await all_.measure("poll, 0 new", asking("?added_after={last}"))
    await all_.measure("poll, 5 new", asking("?added_after={five}"))
    await all_.measure("poll, 0 new, one of a thousand collections", in_one_of_many)
    await all_.measure("list of collections, two of a thousand visible", listing)
    await all_.measure("/readyz", ready)


async def one(all_: Growth) -> None:
    """One object, several, and one with many versions."""

    async def by_id(here: Here) -> None:
        await here.get(f"?match[id]={_some(here)}")

    async def by_ids(here: Here) -> None:
        await here.get(f"?match[id]={','.join(here.ids[:20])}")

    async def alone(here: Here) -> None:
        await here.get(f"{_some(here)}/")

    await all_.measure("match[id]", by_id)
    await all_.measure("match[id] of 20 objects", by_ids)
    await all_.measure("one object", alone)
    await all_.measure(f"versions of an object with {growth_fill.HISTORY_VERSIONS}", asking(f"{HISTORY}/versions/"))


async def write(all_: Growth) -> None:
    """Push and DELETE."""
    await all_.measure("push of 1", partial(_push, size=1))
    await all_.measure("push of 100", partial(_push, size=100))
    await all_.measure("push of 100 that are there already", _push_again)
    await all_.measure("DELETE of an object", _delete)


def _some(here: Here) -> str:
    here.ids.append(here.ids.pop(0))
    return here.ids[0]


async def _push(here: Here, size: int) -> float:
    body = next(objects.envelopes(objects.objects(next(here.seeds), kinds=("indicator", "relationship")), size))
    begun = time.perf_counter()
    answer = await here.connection.ask(here.asker.post(here.path, body))
    took = time.perf_counter() - begun
    assert answer.status == 202, answer.body[:500]
    return took


async def _push_again(here: Here) -> None:
    body = next(objects.envelopes(objects.objects(4, kinds=("indicator",)), 100))
    answer = await here.connection.ask(here.asker.post(here.path, body))
    assert answer.status == 202, answer.body[:500]


async def _delete(here: Here) -> float:
    [made] = itertools.islice(objects.objects(next(here.seeds), kinds=("indicator",)), 1)
    answer = await here.connection.ask(here.asker.post(here.path, b'{"objects":[' + objects.as_json(made) + b"]}"))
    assert answer.status == 202, answer.body[:500]
    begun = time.perf_counter()
    answer = await here.connection.ask(here.asker.request("DELETE", f"{here.path}{made['id']}/"))
    took = time.perf_counter() - begun
    assert answer.status == 200, answer.body[:500]
    return took


def commands(all_: Growth, folder: Path) -> None:
    """What operators run: three times each, by turns. To start a command takes most of it."""
    for what, arguments in (
        ("taxii-server member list", ("member", "list")),
        ("taxii-server client health", ("client", "health")),
        ("taxii-server maintain", ("maintain",)),
    ):
        _commanded(all_, what, partial(tuple, arguments))

    def bundle() -> tuple[str, ...]:
        file = folder / "more.json"
        growth_fill.bundle(list(itertools.islice(objects.objects(time.time_ns()), BASE)), file)
        return ("import", NAME, str(file), "--as", "bank-0")

    _commanded(all_, f"taxii-server import of {BASE:,}", bundle)


def _commanded(all_: Growth, what: str, arguments: Callable[[], tuple[str, ...]]) -> None:
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(3):
        for here, seen in zip(all_.both, times, strict=True):
            seen.append(growth_fill.command(here.site, *arguments()))
    all_.tell(what, statistics.median(times[0]), statistics.median(times[1]), 3)


async def restart(all_: Growth) -> None:
    """Until the first page comes after all workers were killed."""

    async def kill(here: Here) -> float:
        begun = time.perf_counter()
        for worker in _workers(here.site.pid):
            os.kill(worker, signal.SIGKILL)
        return await _first_page(here, begun)

    await all_.measure("a page after both workers were killed", kill, 4)


def _workers(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in children if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]


async def _first_page(here: Here, begun: float) -> float:
    while True:
        try:
            await here.get("?limit=100")
        except (ConnectionError, OSError):
            here.connection.close()
            here.connection = Connection(here.site.target.url)
            if time.perf_counter() > begun + 60:
                raise
        else:
            return time.perf_counter() - begun


def main() -> None:
    """Fill, measure and tell."""
    options = argparse.ArgumentParser(prog="python -m benchmarks.growth", description=__doc__.splitlines()[0])
    options.add_argument("--versions", type=int, default=1_000_000, help="of the large collection")
    options.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the data there")
    options.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS))
    options.add_argument("--seconds", type=float, default=4, help="for each figure")
    options.add_argument("--json", type=Path, help="write the figures there")
    asked = options.parse_args()
    with ExitStack() as stack:
        folder = asked.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="taxii-growth-")))
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        both = []
        for versions, more in ((BASE, 0), (asked.versions, MORE)):
            kept = folder / str(versions)
            # no client's requests are too many here
            here = stack.enter_context(
                site.running(2, kept_in=kept, postgres=_POSTGRES, more=more, TAXII_CLIENT_RATE="none")
            )
            growth_fill.fill(here, versions, kept, more)
            both.append(found(here, versions))
        all_ = Growth(both[0], both[1], asked.seconds)
        print(f"\n{'':52} {BASE:10,} {asked.versions:10,}", flush=True)

        async def by_http() -> None:
            for name, part in (("pages", pages), ("poll", poll), ("one", one), ("write", write), ("restart", restart)):
                if name in asked.only:
                    await part(all_)

        uvloop.run(by_http())
        if "commands" in asked.only:
            commands(all_, folder)
        print(f"\n{aims.table(aims.of_growth(all_.rows))}")
        if asked.json:
            setting = machine() | {"versions": asked.versions, "collections": MORE, **_POSTGRES}
            asked.json.write_text(json.dumps({"setting": setting, "rows": all_.rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
