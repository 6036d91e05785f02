"""Who gathers waits for those on their way at that time, and for nobody else; for a moment at most."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taxii_server.operations.company import Company

pytestmark = pytest.mark.anyio


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


class Patient(Company):
    """Waits for as long as it takes: what ends a wait is what the test does."""

    def __init__(self) -> None:
        super().__init__(moment=3600)


async def test_who_is_alone_waits_for_nobody() -> None:
    await asyncio.wait_for(Patient().gather(), 1)


async def test_those_on_their_way_are_waited_for() -> None:
    company = Patient()
    first, second = company.set_out(), company.set_out()
    gathering = asyncio.create_task(company.gather())
    await settled()

    company.arrive(second)
    await settled()
    assert not gathering.done()
    company.arrive(first)
    await settled()
    assert gathering.done()


async def test_who_sets_out_later_is_not() -> None:
    """Or somebody would always be on the way."""
    company = Patient()
    first = company.set_out()
    gathering = asyncio.create_task(company.gather())
    await settled()
    later = company.set_out()

    company.arrive(later)
    await settled()
    assert not gathering.done()
    company.set_out()
    company.arrive(first)
    await settled()
    assert gathering.done()


async def test_nobody_is_waited_for_longer_than_a_moment() -> None:
    company = Company(moment=0)
    company.set_out()
    await asyncio.wait_for(company.gather(), 1)

    assert not company._gatherings


async def test_who_was_waited_for_in_vain_is_waited_for_no_more() -> None:
    """Or one that is slow would keep up all others, each time."""
    company = Company(moment=0)
    slow = company.set_out()
    await company.gather()
    company._moment = 3600

    await asyncio.wait_for(company.gather(), 1)
    company.arrive(slow)
    await asyncio.wait_for(company.gather(), 1)


async def test_who_fails_on_the_way_has_gone_elsewhere() -> None:
    company = Patient()

    async def fail(at: asyncio.Event) -> None:
        with company.on_the_way():
            await at.wait()
            raise LookupError

    at = asyncio.Event()
    failing = asyncio.create_task(fail(at))
    await settled()
    gathering = asyncio.create_task(company.gather())
    await settled()
    at.set()
    with pytest.raises(LookupError):
        await failing
    await asyncio.wait_for(gathering, 1)


async def test_who_arrives_is_there_before_the_gathering_goes_on() -> None:
    """What is done without awaiting anything after having arrived."""
    company, here = Patient(), 0

    async def come(at: asyncio.Event) -> None:
        nonlocal here
        with company.on_the_way():
            await at.wait()
        here += 1

    at = asyncio.Event()
    coming = [asyncio.create_task(come(at)) for _ in range(3)]
    await settled()
    gathering = asyncio.create_task(company.gather())
    await settled()
    at.set()
    await asyncio.wait_for(gathering, 1)

    assert here == 3
    await asyncio.gather(*coming)


@given(st.lists(st.sampled_from(["set out", "arrive", "gather", "give up"]), max_size=40), st.data())
def test_in_any_order_a_gathering_ends_with_the_last_of_those_it_waits_for(
    steps: list[str], data: st.DataObject
) -> None:
    async def run() -> None:
        company = Patient()
        under_way: set[int] = set()
        gatherings: list[tuple[asyncio.Task[None], set[int]]] = []
        for step in steps:
            if step == "set out":
                under_way.add(company.set_out())
            elif step == "gather":
                gatherings.append((asyncio.create_task(company.gather()), set(under_way)))
            elif step == "give up" and gatherings:
                data.draw(st.sampled_from(gatherings))[0].cancel()
            elif step == "arrive" and under_way:
                number = data.draw(st.sampled_from(sorted(under_way)))
                under_way.remove(number)
                company.arrive(number)
            await settled()
            for gathering, waits_for in gatherings:
                assert gathering.done() == (gathering.cancelled() or not waits_for & under_way)
        for gathering, _ in gatherings:
            gathering.cancel()
        await settled()
        assert not company._gatherings

    asyncio.run(run())
