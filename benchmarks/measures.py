"""What is measured, and its floors. Each gives figures by name; rates are a second, times in milliseconds."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec
import psycopg

from benchmarks.load import Target, Times, connected, repeat

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.load import Answer
    from tests.storm.delivery import Key

Figures = dict[str, float]

_NEXT = re.compile(rb'"next":\s*"([^"]+)"')
_EDGE = 4096
EPOCH = "1970-01-01T00:00:00.000000Z"
"""In the only form that some take."""
_INSERT = """
    INSERT INTO {table} (collection_id, date_added, stix_id, form, version_at, version, stix_type, digest, body_bytes, level,
                         marked, superseded_level, newer_form_level, member, client, status_id, body)
    SELECT * FROM unnest(%s::uuid[], %s::timestamptz[], %s::text[], %s::int2[], %s::timestamptz[], %s::text[], %s::text[],
                         %s::bytea[], %s::int[], %s::int2[], %s::bool[], %s::int2[], %s::int2[], %s::int[], %s::int[],
                         %s::uuid[], %s::text[])
"""
_COLUMNS = (
    "collection_id, date_added, stix_id, form, version_at, version, stix_type, digest, body_bytes, level, marked, "
    "superseded_level, newer_form_level, member, client, status_id, body"
)


class _Envelope(msgspec.Struct):
    objects: list[msgspec.Raw] = []
    more: bool = False
    next: str | None = None


class _Listed(msgspec.Struct):
    id: str
    modified: str = ""


def milliseconds(times: Times) -> Figures:
    """Tell times as the reader wants them."""
    return {
        "rate": times.rate,
        "p50": 1000 * times.percentile(0.5),
        "p99": 1000 * times.percentile(0.99),
    }


async def push(
    targets: Sequence[Target], path: str, bodies: Sequence[bytes], size: int, *, pause: float = 0
) -> Figures:
    """Send every body once, over as many connections as there are targets; objects a second, all of them acknowledged.

    Raises:
        AssertionError: if one is refused.
    """
    left = iter(bodies)
    times = Times()

    async def one(target: Target) -> None:
        async with connected(target.url) as connection:
            for body in left:
                begun = time.perf_counter()
                answer = await connection.ask(target.post(path, body))
                times.each.append(time.perf_counter() - begun)
                status = json.loads(answer.body)
                assert (answer.status, status.get("failure_count")) == (202, 0), answer.body[:2000]
                if pause:
                    await asyncio.sleep(pause)

    begun = time.perf_counter()
    await asyncio.gather(*map(one, targets))
    times.seconds = time.perf_counter() - begun
    return milliseconds(times) | {"objects": size * times.rate}


async def sync(target: Target, path: str, limit: int) -> str:
    """Fetch everything, page after page; give the date of the last object."""
    _, last = await _fetched(target, path, limit, Times())
    return last


async def full_sync(target: Target, path: str, limit: int, seconds: float) -> Figures:
    """Fetch everything again and again for so long, once in any case: objects a second, and what a page takes.

    Raises:
        AssertionError: if they are not as long as the first of them.
    """
    times = Times()
    bodies, _ = await _fetched(target, path, limit, times)
    found = counted(bodies)
    octets, passes = sum(map(len, bodies)), 1
    while times.seconds < seconds:
        bodies, _ = await _fetched(target, path, limit, times)
        assert sum(map(len, bodies)) == octets
        passes += 1
    objects = passes * found.total() / times.seconds
    return milliseconds(times) | {"objects": objects, "held": found.total(), "repeated": found.total() - len(found)}


async def _fetched(target: Target, path: str, limit: int, times: Times) -> tuple[list[bytes], str]:
    bodies: list[bytes] = []
    last = EPOCH
    begun = time.perf_counter()
    async with connected(target.url) as connection:
        query = f"{path}?limit={limit}"
        while True:
            asked = time.perf_counter()
            answer = await connection.ask(target.get(query))
            times.each.append(time.perf_counter() - asked)
            assert answer.status == 200, answer.body[:500]
            bodies.append(answer.body)
            # where nothing is, some say nothing
            last = answer.headers.get("x-taxii-date-added-last", last)
            following = after_this(answer)
            if following is None:
                break
            query = f"{path}?limit={limit}&next={following}"
    times.seconds += time.perf_counter() - begun
    return bodies, last


def after_this(answer: Answer) -> str | None:
    """Give the `next` of a page, if there is one, as URLs have it; it stands at either end, and bodies are large."""
    found = _NEXT.search(answer.body[:_EDGE]) or _NEXT.search(answer.body[-_EDGE:])
    return None if found is None else quote(found[1].decode())


def counted(bodies: Sequence[bytes]) -> Counter[Key]:
    """Count the versions in envelopes."""
    found: Counter[Key] = Counter()
    for body in bodies:
        for raw in msgspec.json.decode(body, type=_Envelope).objects:
            one = msgspec.json.decode(raw, type=_Listed)
            found[one.id, one.modified] += 1
    return found


async def poll(
    targets: Sequence[Target], path: str, after: str, news: int, seconds: float, *, apart: bool = False
) -> Times:
    """Poll again and again for what came after a date, each target over a connection of its own.

    `apart` are dates that differ by microseconds, with the same news: no server can answer two of these requests by one read.
    """
    begin = datetime.fromisoformat(after).astimezone(UTC)
    afters = [begin + timedelta(microseconds=number if apart else 0) for number in range(len(targets))]
    queries = [f"{path}?added_after={one:%Y-%m-%dT%H:%M:%S.%fZ}" for one in afters]

    def good(answer: Answer) -> bool:
        return answer.status == 200 and (news > 0) == (b'"objects"' in answer.body)

    return await repeat([(one.url, one.get(query)) for one, query in zip(targets, queries, strict=True)], seconds, good)


async def repeated(targets: Sequence[Target], path: str, seconds: float) -> Times:
    """Ask for one page again and again."""
    return await repeat([(one.url, one.get(path)) for one in targets], seconds, lambda answer: answer.status == 200)


def copy_out(database: str, collection: str, seconds: float) -> Figures:
    """Floor of a full sync: the same bodies in the same order, by COPY, again and again for so long; rows a second."""
    statement = "COPY (SELECT body FROM object_versions WHERE collection_id = %s ORDER BY date_added) TO STDOUT"
    rows, taken = 0, 0.0
    while taken < seconds:
        begun = time.perf_counter()
        with psycopg.connect(database) as connection, connection.cursor().copy(statement, [collection]) as copy:
            for _ in copy:
                rows += 1
        taken += time.perf_counter() - begun
    return {"objects": rows / taken}


def insert(database: str, collection: str, size: int, connections: int, most: int) -> Figures:
    """Floor of a push: the rows that a push made, again, into the same table with its indexes and no triggers; rows a second.

    Batches are as large as the envelopes were, each with a commit of its own, by as many connections as pushed.
    """
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP TABLE IF EXISTS floor")
        connection.execute("CREATE TABLE floor (LIKE object_versions INCLUDING ALL)")
        rows = connection.execute(
            f"SELECT {_COLUMNS} FROM object_versions WHERE collection_id = %s ORDER BY date_added LIMIT %s",  # noqa: S608
            [collection, most],
        ).fetchall()
    batches = [list(map(list, zip(*rows[at : at + size], strict=True))) for at in range(0, len(rows), size)]
    left = iter(batches)

    def work() -> None:
        with psycopg.connect(database, autocommit=True) as own:
            for batch in left:
                own.execute(_INSERT.format(table="floor"), batch)

    with ThreadPoolExecutor(connections) as threads:
        begun = time.perf_counter()
        for done in [threads.submit(work) for _ in range(connections)]:
            done.result()
        seconds = time.perf_counter() - begun
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("DROP TABLE floor")
    return {"objects": len(rows) / seconds}


def memory(pid: int, postmaster: int) -> Figures:
    """Tell what the server's processes and PostgreSQL hold, in MiB: their own share of what is shared included."""
    parents = {
        int(entry.name): int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and (entry / "stat").exists()
    }

    def under(root: int) -> Iterator[int]:
        yield root
        for child in [one for one, parent in parents.items() if parent == root]:
            yield from under(child)

    def held(one: int) -> float:
        told = Path(f"/proc/{one}/smaps_rollup").read_text()
        return float(re.findall(r"^Pss:\s+(\d+)", told, re.MULTILINE)[0]) / 1024

    serving = [held(one) for one in under(pid)]
    database = [held(one) for one in under(postmaster)]
    return {"server": sum(serving), "largest process": max(serving), "PostgreSQL": sum(database)}
