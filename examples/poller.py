"""Poll a TAXII 2.1 collection into an SQLite database, every version exactly once, whatever dies in between.

    python poller.py https://taxii.example.org/taxii2/fraud-intel/collections/<id>/ feed.sqlite [--once]

Credentials come from the environment, see taxii_http.py. Rows appear in the table `received` in the order in which the
server added them; `number` grows, so whoever reads the table can remember the last number it has seen.

Why a database and not two files, one with objects and one with the position: a process can die between any two writes.
If it dies after the objects and before the position, the page comes again; if the other way round, it is lost. Here the
objects of a page and the position behind it are one transaction: either both are there after a crash, or neither is,
and then the page is asked for again. No ETag is needed: a poll asks for what was added since the last one, and an
answer without news is a few dozen octets.
"""

from __future__ import annotations

import argparse
import json
import signal
import sqlite3
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taxii_http import Taxii, TaxiiError, collection_url, sleep

_TABLES = """
    CREATE TABLE IF NOT EXISTS received (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        collection TEXT NOT NULL,
        id TEXT NOT NULL,
        version TEXT,     -- modified, or created; objects like ipv4-addr have neither
        object TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS positions (
        collection TEXT PRIMARY KEY,
        added_after TEXT,
        next TEXT,
        last TEXT
    );
"""


@dataclass(frozen=True)
class Position:
    """How far a collection was read.

    A run asks for what was added after `added_after`; its pages are chained by `next`, with the same filters. `last` is
    the X-TAXII-Date-Added-Last of the newest page with objects: where the next run begins when this one has ended.
    """

    added_after: str | None = None
    next: str | None = None
    last: str | None = None

    def after_page(self, more: bool, next_page: str | None, last: str | None) -> Position:
        """Give the position behind a page."""
        last = last or self.last
        if more and next_page is not None:
            return Position(self.added_after, next_page, last)
        return self.next_run(last)

    def next_run(self, last: str | None) -> Position:
        """Give the position at which a new run begins that leaves out nothing."""
        return Position(added_after=last or self.added_after, last=last)


class Sink:
    """Where objects go, and the position with them."""

    def __init__(self, file: Path, collection: str) -> None:
        self._collection = collection
        file.touch(
            0o600
        )  # what was shared is for nobody else on this machine; SQLite gives its other files the same mode
        self._database = sqlite3.connect(file, isolation_level=None, timeout=60)
        self._database.execute("PRAGMA journal_mode = WAL")  # readers don't hold it up
        self._database.execute("PRAGMA synchronous = FULL")  # a commit outlasts a power cut
        self._database.executescript(_TABLES)
        self._database.execute("INSERT OR IGNORE INTO positions (collection) VALUES (?)", [collection])

    @property
    def position(self) -> Position:
        """How far this collection was read."""
        asked = "SELECT added_after, next, last FROM positions WHERE collection = ?"
        return Position(*self._database.execute(asked, [self._collection]).fetchone())

    def store(self, objects: list[dict[str, Any]], before: Position, after: Position) -> None:
        """Keep a page and the position behind it, both or neither."""
        rows = [
            (self._collection, one["id"], one.get("modified", one.get("created")), json.dumps(one, ensure_ascii=False))
            for one in objects
        ]
        with self._database:  # commits in the end, rolls back if anything is raised
            self._database.execute("BEGIN IMMEDIATE")
            if self.position != before:
                raise TaxiiError("another poller works on this database")
            self._database.executemany("INSERT INTO received VALUES (NULL, ?, ?, ?, ?)", rows)
            self._database.execute(
                "UPDATE positions SET added_after = ?, next = ?, last = ? WHERE collection = ?",
                [after.added_after, after.next, after.last, self._collection],
            )


def poll(taxii: Taxii, sink: Sink, collection: str, limit: int) -> int:
    """Fetch everything that was added since the last run; give how many versions that was."""
    count = 0
    while True:
        before = sink.position
        try:
            page, headers = taxii.get(
                f"{collection}objects/",
                {
                    "match[version]": "all",  # the history too; leave it out for the latest version of each object
                    "limit": limit,
                    "added_after": before.added_after,
                    "next": before.next,
                },
            )
        except TaxiiError as error:
            if before.next is None or error.status != 400:  # noqa: PLR2004
                raise
            # `next` may have grown too old while nobody polled; dates don't
            sink.store([], before, before.next_run(before.last))
            continue
        objects = page.get("objects", [])
        last = headers.get("x-taxii-date-added-last")
        if objects and last is None:
            raise TaxiiError("the server sends no X-TAXII-Date-Added-Last, so nobody can tell where to go on")
        more = page.get("more", False)
        after = before.after_page(more, page.get("next"), last if objects else None)
        if more and after == before:
            raise TaxiiError("the server says there is more, but not where")
        sink.store(objects, before, after)
        count += len(objects)
        if not more:
            return count


def main() -> int:
    """Poll once, or for ever."""
    parser = argparse.ArgumentParser(description="Poll a TAXII 2.1 collection into SQLite, every version exactly once.")
    parser.add_argument("collection", help="URL of the collection, ending in /collections/<id>/")
    parser.add_argument("database", type=Path)
    parser.add_argument("--once", action="store_true", help="poll once; by default for ever")
    parser.add_argument("--interval", type=float, default=60, help="seconds between polls (60)")
    parser.add_argument("--limit", type=int, default=1000, help="objects a page (1000)")
    parser.add_argument("--patience", type=float, default=300, help="with --once, seconds to go on trying (300)")
    parser.add_argument("--backoff", type=float, default=1, help="first pause before another try, in seconds (1)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # any moment will do: a page is stored whole or not at all
    try:
        collection = collection_url(options.collection)
        taxii = Taxii(patience=options.patience if options.once else None, backoff=options.backoff)
        sink = Sink(options.database, collection)
        while True:
            count = poll(taxii, sink, collection, options.limit)
            print(f"{count} new, up to {sink.position.last}", flush=True)
            if options.once:
                return 0
            sleep(options.interval)
    except (TaxiiError, sqlite3.Error, OSError) as error:
        print(f"{options.collection}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
