"""curl itself, as people and Microsoft's sample use it: it accepts anything unless told otherwise."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.factories import envelope, indicator
from tests.parts import need
from tests.taxii.alliance import TAXII
from tests.taxii.laws import LAST

if TYPE_CHECKING:
    from pathlib import Path

    from tests.clients.wire import Feed

pytestmark = [pytest.mark.anyio, pytest.mark.client("curl"), pytest.mark.slow]


async def curl(feed: Feed, *arguments: str, member: str = "harbour") -> tuple[int, dict[str, str], bytes]:
    """Run curl; give status, headers and body."""
    program = shutil.which("curl")
    need(program, "curl")
    given = feed.live.clients[member]
    command = [str(program), "-q", "-s", "-i", "-u", f"{given.client_id}:{given.secret}", *arguments]
    running = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    told, _ = await running.communicate()
    head, _, body = told.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(first.split()[1]), headers, body


@pytest.mark.client("sentinel")
async def test_microsofts_sample_reads_a_collection(feed: Feed) -> None:
    """Root, collections, objects: with `Accept: */*` and without a last slash, and never a redirect."""
    await feed.add(3)
    urls = (feed.root.rstrip("/"), f"{feed.root}collections", f"{feed.url}objects", f"{feed.url}objects/")
    answers = [await curl(feed, url) for url in urls]

    assert [(status, headers["content-type"]) for status, headers, _ in answers] == [(200, TAXII)] * 4
    assert [json.loads(body)["objects"] for _, _, body in answers[2:]] == [feed.stored] * 2


async def test_pages_by_hand(feed: Feed) -> None:
    """`next` and dates as they are printed can be pasted into a URL; --compressed changes nothing of the content."""
    await feed.add(3)
    _, _, first = await curl(feed, "-H", f"Accept: {TAXII}", f"{feed.url}objects/?limit=2")
    _, headers, second = await curl(
        feed, "--compressed", f"{feed.url}objects/?limit=2&next={json.loads(first)['next']}"
    )
    status, _, third = await curl(feed, f"{feed.url}objects/?added_after={headers[LAST]}")

    assert json.loads(first)["objects"] + json.loads(second)["objects"] == feed.stored
    assert (status, json.loads(third)) == (200, {"more": False})


async def test_a_large_file_is_posted_after_100_continue(feed: Feed, tmp_path: Path) -> None:
    """A body over a megabyte is announced with Expect, and the verdict is read all the same."""
    file = tmp_path / "envelope.json"
    file.write_bytes(
        envelope(*(indicator(id=f"indicator--{number:08}-0000-4000-8000-000000000000") for number in range(6000)))
    )
    assert file.stat().st_size > 1_100_000
    posting = ("-H", f"Content-Type: {TAXII}", "-H", "Expect: 100-continue", "--data-binary", f"@{file}")
    status, _, body = await curl(feed, *posting, f"{feed.url}objects/", member="north")

    # the interim answer comes first, then the one with the status
    assert status in {100, 202}
    assert json.loads(body.rpartition(b"\r\n\r\n")[2])["success_count"] == 6000
