"""Four writers and four pollers at once: what pollers miss, or get twice, of what writers were told is stored.

The verdict is that of the storms with faults (`tests/storm/delivery.py`); the client is not, since here it must cost little. What
had to come is what was acknowledged, so any server can be asked.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from benchmarks import objects
from benchmarks.load import Times, connected
from benchmarks.measures import after_this, counted, milliseconds
from tests.storm.delivery import Delivery

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.load import Target
    from benchmarks.measures import Figures
    from tests.storm.delivery import Key

STORM = "storm, 4 writers and 4 pollers"
DATES = "dates of 100 objects pushed together"
EACH = 4
"""Writers, and pollers."""
AN_ENVELOPE = 25
_PAGE = 500


class _Dated(msgspec.Struct):
    date_added: str


class _Manifest(msgspec.Struct):
    objects: list[_Dated] = []


async def storm(
    targets: Sequence[Target], path: str, after: str, seconds: float, seed: int, most: int = 10**9
) -> Figures:
    """Write for so long, or until so many envelopes were sent by each; poll until there is nothing new.

    The first four `targets` write; the others poll, following `next` as long as there is one, and then by `added_after`.

    Raises:
        AssertionError: if an answer isn't what it should be.
    """
    acknowledged: Counter[Key] = Counter()
    written = asyncio.Event()
    until = time.perf_counter() + seconds
    polls = Times()

    async def write(target: Target, own: int) -> None:
        source = objects.objects(own)
        async with connected(target.url) as connection:
            for _ in itertools.takewhile(lambda _: time.perf_counter() < until, range(most)):
                some = list(itertools.islice(source, AN_ENVELOPE))
                body = b'{"objects":[' + b",".join(map(objects.as_json, some)) + b"]}"
                answer = await connection.ask(target.post(path, body))
                assert answer.status == 202, (answer.status, answer.body[:500])
                assert json.loads(answer.body).get("failure_count") == 0, answer.body[:500]
                acknowledged.update((one["id"], one.get("modified", "")) for one in some)

    async def listen(target: Target) -> Counter[Key]:
        got: Counter[Key] = Counter()
        since = last = after
        following = None
        async with connected(target.url) as connection:
            while True:
                # looked at before the poll: what was acknowledged by then must be in what is polled from here on
                over = written.is_set()
                query = f"{path}?limit={_PAGE}&match[version]=all&added_after={quote(since)}"
                begun = time.perf_counter()
                answer = await connection.ask(target.get(query if following is None else f"{query}&next={following}"))
                polls.each.append(time.perf_counter() - begun)
                assert answer.status == 200, (answer.status, answer.body[:500])
                page = counted([answer.body])
                got.update(page)
                if page:
                    last = answer.headers["x-taxii-date-added-last"]
                following = after_this(answer)
                if following is None:
                    if over and not page:
                        return got
                    since = last

    async def writers() -> float:
        begun = time.perf_counter()
        await asyncio.gather(*(write(target, seed + number) for number, target in enumerate(targets[:EACH])))
        written.set()
        return time.perf_counter() - begun

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        listening = [group.create_task(listen(target)) for target in targets[EACH:]]
        writing = group.create_task(writers())
    polls.seconds = time.perf_counter() - begun
    found = [Delivery(one.result(), acknowledged, acknowledged) for one in listening]
    return milliseconds(polls) | {
        "objects": acknowledged.total() / writing.result(),
        "to deliver": acknowledged.total() * len(found),
        "missed": sum(one.missed.total() for one in found),
        "repeated": sum(one.repeated.total() for one in found),
    }


async def dates(target: Target, path: str, after: str, envelope: bytes, size: int) -> Figures:
    """Push an envelope; tell how many dates its objects have: what shares one can't be told apart by `added_after`."""
    async with connected(target.url) as connection:
        answer = await connection.ask(target.post(path, envelope))
        assert answer.status == 202, (answer.status, answer.body[:500])
        manifest = path.replace("/objects/", "/manifest/")
        answer = await connection.ask(target.get(f"{manifest}?limit={size}&added_after={quote(after)}"))
        assert answer.status == 200, (answer.status, answer.body[:500])
    listed = msgspec.json.decode(answer.body, type=_Manifest).objects
    assert len(listed) == size, len(listed)
    return {"dates": len({one.date_added for one in listed})}
