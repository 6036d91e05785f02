"""What row-level security costs a page and a poll: with and without, by turns, in one run.

    .venv/bin/python -m benchmarks.row_level_security [VERSIONS] [ROUNDS]

Starts a PostgreSQL of its own, fills a collection, and reads it through `storage` as the server does: pages of 1,000, pages
of 20, and polls that find nothing, from 1 and from 16 connections at once. Without: as the tables' owner, whom no policy binds,
after a plain BEGIN; one read with follows one without, so both meet the same noise. Look at the ratios; the figures beside them are this machine's.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from taxii_server.domain.access import Readable
from taxii_server.domain.filters import Filter
from taxii_server.domain.tlp import Level
from taxii_server.storage import embedded, migrations, object_pages
from taxii_server.storage.engine import Database
from taxii_server.storage.object_pages import Bounds
from tests.storage.plans import BIG, fill

WHERE = Readable(BIG, Level.AMBER)
BEGINNING = datetime(2024, 1, 1, tzinfo=UTC)
LARGE = Bounds(1000, 64 * 1024 * 1024)
SMALL = Bounds(20, 64 * 1024 * 1024)


async def read(database: Database, bounds: Bounds, after: datetime, *, held: bool) -> None:
    async with database.read(WHERE if held else None) as connection:
        await object_pages.page(connection, WHERE, Filter(after), None, bounds)


async def measure(urls: embedded.DatabaseUrls, versions: int, rounds: int) -> None:
    # whom the policies bind, and the owner, whom they don't
    databases = {True: Database(urls.server, connections=16), False: Database(urls.owner, connections=16)}
    print(f"{versions} versions, {rounds} rounds; median ms without and with, and their ratio")
    for kind, bounds in (("page of 1000", LARGE), ("page of 20", SMALL), ("empty poll", SMALL)):
        for clients in (1, 16):
            took: dict[bool, list[float]] = {True: [], False: []}
            for number in range((rounds if clients == 1 else rounds // 4) + 12):
                for held in (True, False) if number % 2 else (False, True):
                    places = [(number * 1009 + one * 7919) % (versions // 2) for one in range(clients)]
                    if kind == "empty poll":
                        places = [versions + 2] * clients
                    begun = time.perf_counter()
                    await asyncio.gather(
                        *(
                            read(databases[held], bounds, BEGINNING + timedelta(seconds=place), held=held)
                            for place in places
                        )
                    )
                    if number >= 12:  # statements are prepared by then
                        took[held].append(time.perf_counter() - begun)
            without, with_ = (statistics.median(took[held]) * 1000 for held in (False, True))
            print(
                f"{kind:13} {clients:3} at once {without:8.2f} {with_:8.2f}   {with_ / without:.3f}",
                flush=True,
            )
    for database in databases.values():
        await database.close()


def main() -> None:
    versions, rounds = (int(one) for one in (sys.argv[1:] + ["300000", "400"][len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory(prefix="taxii-benchmark-") as folder, embedded.running(Path(folder)) as urls:
        migrations.upgrade(urls.owner)
        fill(urls.owner, versions)
        asyncio.run(measure(urls, versions, rounds))


if __name__ == "__main__":
    main()
