"""Requests that ask for the same at once share a read, and none is given one that began before it asked."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxii_server.domain.errors import DatabaseGone
from taxii_server.operations.company import Company
from taxii_server.operations.joint_reads import PATIENCE, JointReads

pytestmark = pytest.mark.anyio


@dataclass
class Reads:
    """Reads that end when a test says so; each gives the time at which it began."""

    clock: int = 0
    begun: int = 0
    open: deque[asyncio.Future[None]] = field(default_factory=deque)

    async def read(self) -> int:
        self.begun += 1
        began = self.clock
        ends: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.open.append(ends)
        await ends
        return began

    async def end(self, error: Exception | None = None) -> None:
        """End the oldest one, and let everything happen that follows from it."""
        ends = self.open.popleft()
        if not ends.done():
            ends.set_result(None) if error is None else ends.set_exception(error)
        await settled()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


class Asking:
    """Requests for one page, in the order of their asking."""

    def __init__(self, patience: float = PATIENCE) -> None:
        # nobody is waited for in vain here
        self.company = Company(moment=3600)
        self.joint = JointReads[int](patience, self.company)
        self.reads = Reads()

    async def ask(self, key: str = "page") -> asyncio.Task[int]:
        self.reads.clock += 1
        asking = asyncio.create_task(self.joint.answer(key, self.reads.read))
        await settled()
        return asking


async def test_who_asks_meanwhile_shares_the_next_read() -> None:
    """Not the one under way: it may have begun before what it is asked for was there, or was allowed."""
    asking = Asking()
    first = await asking.ask()
    others = [await asking.ask() for _ in range(5)]
    assert asking.reads.begun == 1

    await asking.reads.end()
    assert await first == 1
    assert asking.reads.begun == 2
    await asking.reads.end()
    assert [await one for one in others] == [6] * 5
    assert asking.reads.begun == 2


async def test_after_a_shared_read_the_next_waits_for_those_on_their_way() -> None:
    """One read for all of them, and once it was for one alone nobody waits any more."""
    asking = Asking()
    shared = [await asking.ask() for _ in range(3)]
    await asking.reads.end()
    await asking.reads.end()
    await asyncio.gather(*shared)
    assert asking.reads.begun == 2

    coming = [asking.company.set_out() for _ in range(2)]
    first = await asking.ask()
    assert asking.reads.begun == 2
    second = await asking.ask()
    for number in coming:
        asking.company.arrive(number)
    await settled()
    assert asking.reads.begun == 3
    await asking.reads.end()
    assert await first == await second

    asking.company.set_out()
    alone = await asking.ask("another page")
    assert asking.reads.begun == 3
    asking.company.arrive(3)
    await settled()
    await asking.reads.end()
    await alone
    asking.company.set_out()
    await asking.ask("another page")
    assert asking.reads.begun == 5


async def test_other_pages_are_read_meanwhile() -> None:
    asking = Asking()
    await asking.ask("one")
    await asking.ask("other")

    assert asking.reads.begun == 2


async def test_a_failure_is_its_own_request_s() -> None:
    asking = Asking()
    first, second, third = [await asking.ask() for _ in range(3)]
    await asking.reads.end(OSError("lost"))
    await asking.reads.end(ValueError("lost again"))
    await asking.reads.end()

    with pytest.raises(OSError, match="lost"):
        await first
    with pytest.raises(ValueError, match="lost again"):
        await second
    assert await third > 1


async def test_without_a_database_all_who_share_the_read_are_told() -> None:
    """It began after each of them asked, so it is their failure as well; nobody waits for a third."""
    asking = Asking()
    await asking.ask()
    others = [await asking.ask() for _ in range(5)]
    await asking.reads.end()
    await asking.reads.end(DatabaseGone("away"))

    failures = await asyncio.gather(*others, return_exceptions=True)
    assert [(type(one), str(one)) for one in failures] == [(DatabaseGone, "away")] * 5
    assert len({id(one) for one in failures}) == 5
    assert asking.reads.begun == 2


async def test_a_read_that_takes_too_long_is_not_waited_for() -> None:
    asking = Asking(patience=0)
    first = await asking.ask()
    second = await asking.ask()
    assert asking.reads.begun == 2

    third = await asking.ask()
    assert asking.reads.begun == 3
    for _ in range(3):
        await asking.reads.end()
    assert [await first, await second, await third] == [1, 2, 3]
    assert not asking.joint._under_way


class Anything(Asking):
    """What may happen, a step at a time."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random
        self.asked: list[tuple[int, asyncio.Task[int]]] = []
        self.coming: list[int] = []

    async def do(self, step: str) -> None:
        match step:
            case "ask":
                task = await self.ask()
                self.asked.append((self.reads.clock, task))
            case "set out":
                self.coming.append(self.company.set_out())
            case "arrive" if self.coming:
                self.company.arrive(self.coming.pop())
            case "leave" if self.asked:
                self.random.choice(self.asked)[1].cancel()
            case "end" | "fail" if self.reads.open:
                await self.reads.end(OSError("lost") if step == "fail" else None)
        await settled()


@given(
    st.lists(st.sampled_from(["ask", "ask", "end", "fail", "leave", "set out", "arrive"]), max_size=40),
    st.randoms(use_true_random=False),
)
def test_in_any_order_everybody_has_an_answer_no_older_than_his_question(steps: list[str], random: Random) -> None:
    async def run() -> None:
        anything = Anything(random)
        for step in steps:
            await anything.do(step)
        while anything.coming:
            await anything.do("arrive")
        while anything.reads.open:
            await anything.do("end")

        assert all(task.done() for _, task in anything.asked)
        for then, task in anything.asked:
            if not task.cancelled() and task.exception() is None:
                assert task.result() >= then
        assert not anything.joint._under_way
        assert not anything.joint._next

    asyncio.run(run())
