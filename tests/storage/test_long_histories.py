"""What an addition to a long history decides from a few of its versions is what it would decide from all."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from taxii_server.domain.access import Policy, Validation
from taxii_server.domain.additions import Conflict, NotYours, Repeat, Store
from taxii_server.domain.stix_objects import Form
from taxii_server.domain.stix_versions import standings
from taxii_server.domain.tlp import Level
from taxii_server.storage import long_histories, stored_versions
from taxii_server.storage.engine import Database
from tests.storage.feeds import Feed, columns, stix_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from taxii_server.domain.additions import Outcome
    from taxii_server.domain.stix_objects import Columns
    from taxii_server.storage.embedded import DatabaseUrls

    Step = tuple[int, list[Columns]] | tuple[int, ...]

pytestmark = pytest.mark.anyio

IDS = [stix_id(1), stix_id(2), stix_id(4, "ipv4-addr")]


def history_of(seed: int) -> list[Step]:
    """Make up a history, mostly of one object; hypothesis would make up shorter ones."""
    chance = random.Random(seed)

    def incoming() -> Columns:
        of = chance.choice([*IDS[:1] * 8, *IDS])
        second = None if of.startswith("ipv4") else chance.randrange(40)
        form = chance.choice([*Form])
        return columns(of, second, form, chance.choice([None, *Level]), chance.choice("aab"))

    def step() -> Step:
        if chance.random() < 0.1:
            return tuple(chance.randrange(30) for _ in range(2))
        return chance.randint(1, 2), [incoming() for _ in range(chance.randint(1, 4))]

    return [step() for _ in range(18)]


async def test_a_few_versions_decide_as_all_do(module_database_urls: DatabaseUrls) -> None:
    """Outcomes, what came late after what, and every kept level, with whatever histories, owners and levels."""
    for seed in range(12):
        await _compare(module_database_urls, seed)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_few_versions_decide_as_all_do_at_length(module_database_urls: DatabaseUrls) -> None:
    """The same, many more of them."""
    for seed in range(12, 150):
        await _compare(module_database_urls, seed)


class _Envelope(list["Columns"]):
    """Objects that count how often somebody goes through them."""

    times = 0

    def __iter__(self) -> Iterator[Columns]:
        self.times += 1
        return super().__iter__()


async def test_an_envelope_is_gone_through_once(
    module_database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for each of its objects: thousands with long histories would hold up everybody else."""
    monkeypatch.setattr(long_histories, "LONG", 1)
    ids = [stix_id(number) for number in range(10)]
    objects = _Envelope(columns(of, 1) for of in ids)
    database = Database(module_database_urls.server, connections=2)
    try:
        feed = await Feed(database).create()
        await feed.add([columns(of, 2) for of in ids])
        async with database.write(feed.writable()) as connection:
            stored = await stored_versions.of_objects(connection, feed.collection_id, ids)
            _, partly = await long_histories.completed(connection, feed.writable(), stored, (), objects)
    finally:
        await database.close()

    assert partly == {*ids}
    assert objects.times == 1


async def _compare(urls: DatabaseUrls, seed: int) -> None:
    history = history_of(seed)
    policy = Policy(Validation.STRUCTURAL, unmarked_level=Level(seed % len(Level)))
    database = Database(urls.server, connections=2)
    try:
        told = []
        for long in (1, 10_000):
            feed = await Feed(database, policy=policy).create()
            with patch.object(long_histories, "LONG", long):
                told.append(await _play(feed, history))
            await _kept_levels_are_right(feed)

        assert told[0] == told[1], seed
    finally:
        await database.close()


async def _play(feed: Feed, history: list[Step]) -> list[Any]:
    """Carry a history out; tell what became of everything, with ranks in place of dates, which differ from run to run."""
    told: list[Any] = []
    dates: list[Any] = []
    for number, step in enumerate(history):
        # from then on what others brought is theirs alone
        feed.policy = replace(feed.policy, owner_only=number > len(history) // 2)
        match step:
            case (member, [*objects]):
                outcomes = await feed.add(objects, member=member)
                dates = sorted({*dates, *feed.live})
                told.append([_of(outcome, dates) for outcome in outcomes])
            case ranks if feed.live:
                live = sorted(feed.live)
                await feed.remove({live[rank % len(live)] for rank in ranks})
    return told


def _of(outcome: Outcome, dates: Sequence[Any]) -> object:
    match outcome:
        case Store(place, _, late_after):
            return (
                dates.index(place.date_added),
                place.form,
                place.level,
                None if late_after is None else dates.index(late_after),
            )
        case Repeat() | Conflict() | NotYours():
            return type(outcome)
    raise AssertionError(outcome)


async def _kept_levels_are_right(feed: Feed) -> None:
    ids = {one.stix_id for one in feed.live.values()}
    async with feed.database.read(feed.whole()) as connection:
        stored = await stored_versions.of_objects(connection, feed.collection_id, ids)
    for of in ids:
        right = standings(one for one in feed.live.values() if one.stix_id == of)

        assert right == {one.date_added: one.standing for one in stored if one.stix_id == of}
