"""Page statements that forget a condition still show nothing foreign: the database holds it back.

`tests/taxii/test_leaks.py` shows the other half: with the policies out of the way, each condition would be missed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import pytest

from taxii_server.domain.filters import ALL_VERSIONS, Exactly, Filter, Keyword
from taxii_server.domain.stix_objects import Form
from taxii_server.domain.tlp import Level
from taxii_server.storage import object_page_statements as statements
from taxii_server.storage import object_pages
from taxii_server.storage.engine import Database
from taxii_server.storage.hot import Statement
from taxii_server.storage.object_pages import Bounds
from tests.storage.feeds import BEGINNING, Feed, columns, served, stix_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

STATEMENTS: Final = ("LATEST", "LATEST_OF_TYPES", "NEWEST_FORM", "NEWEST_FORM_OF_TYPES", "PICKED", "OF_OBJECTS")
OF_COLLECTION: Final = re.compile(r"(?:\w+\.)?collection_id = (?::collection|\w+\.collection_id)")
OF_CLEARANCE: Final = re.compile(
    r"(?:\w+\.)?level <= :clearance|[0-4] <= :clearance|(?:superseded|newer_form)_level (?:>|<=) :clearance"
)
SERIES: Final = re.compile(r"generate_series\(0, CAST\(:clearance AS integer\)\)")
IDS: Final = [stix_id(1), stix_id(2), stix_id(3, "malware"), stix_id(4, "ipv4-addr")]
TYPES: Final = ("indicator", "malware", "ipv4-addr")
EVERY_FORM: Final = tuple(int(form) for form in Form)


def places(name: str) -> list[tuple[str, int]]:
    """Name every single condition of a statement."""
    whole = getattr(statements, name).text
    return [
        *(("collection", number) for number in range(len(OF_COLLECTION.findall(whole)))),
        *(("clearance", number) for number in range(len(OF_CLEARANCE.findall(whole)))),
        *(("series", number) for number in range(len(SERIES.findall(whole)))),
    ]


def without(name: str, kind: str, number: int) -> str:
    """Give a statement without one of its conditions, or (-1) without all of a kind."""
    whole: str = getattr(statements, name).text
    pattern, instead = {
        "collection": (OF_COLLECTION, "TRUE"),
        "clearance": (OF_CLEARANCE, "TRUE"),
        "series": (SERIES, "generate_series(0, 4)"),
    }[kind]
    if number < 0:
        return pattern.sub(instead, whole)
    found = list(pattern.finditer(whole))[number]
    return whole[: found.start()] + instead + whole[found.end() :]


def mutated(name: str, written: str) -> Statement:
    """Make a statement of the text of a mutant."""
    return Statement(written, " ".join(getattr(statements, name).columns))


def questions(name: str, middle: datetime) -> list[Filter]:
    """Give filters that this statement answers, with and without late arrivals."""
    after: list[datetime | None] = [None, middle]
    exact = Exactly(BEGINNING.replace(second=1))
    asked: dict[str, list[Filter]] = {
        "LATEST": [Filter(one) for one in after],
        "LATEST_OF_TYPES": [Filter(one, types=TYPES) for one in after],
        "NEWEST_FORM": [Filter(one, versions=ALL_VERSIONS) for one in after],
        "NEWEST_FORM_OF_TYPES": [Filter(one, versions=ALL_VERSIONS, types=TYPES) for one in after],
        "PICKED": [
            Filter(one, versions=versions, forms=forms)
            for one in after
            for versions in (ALL_VERSIONS, (Keyword.FIRST,), (Keyword.LAST, exact))
            for forms in (None, EVERY_FORM)
            if not (versions == ALL_VERSIONS and forms is None)
        ],
        "OF_OBJECTS": [Filter(one, ids=tuple(IDS), versions=ALL_VERSIONS, forms=EVERY_FORM) for one in after],
    }
    return asked[name]


@pytest.fixture(scope="module")
async def feeds(module_database_urls: DatabaseUrls) -> AsyncIterator[list[Feed]]:
    """Two collections with the same objects at all levels, in both forms, in and out of order."""
    database = Database(module_database_urls.server, connections=4)
    made = [await Feed(database).create() for _ in range(2)]
    for which, feed in enumerate(made):
        for seconds in ((0, 2), (1,)):
            await feed.add(
                [
                    columns(of, None if of.startswith("ipv4") else second, form, level, f"{level} {which}")
                    for of in IDS
                    for form in (Form if not of.startswith("ipv4") else [Form.STIX_2_1])
                    for second in seconds
                    for level in [Level((second + 2 * IDS.index(of) + form) % 5)]
                ]
            )
    yield made
    await database.close()


async def all_of(database: Database, feed: Feed, clearance: Level, want: Filter) -> list[tuple[datetime, str]]:
    where = feed.readable(clearance)
    async with database.read(where) as connection:
        return served(await object_pages.page(connection, where, want, None, Bounds(500, 10_000_000)))


async def foreign(database: Database, feeds: list[Feed], name: str) -> set[str]:
    """Ask for all that a statement answers as callers of every clearance; tell of what kind the foreign rows were."""
    found = set()
    for feed in feeds:
        middle = sorted(feed.live)[len(feed.live) // 2]
        for clearance in Level:
            for want in questions(name, middle):
                assert object_pages._statement(want)[0] is getattr(statements, name)
                for date, body in await all_of(database, feed, clearance, want):
                    if feed.bodies.get(date) != body:
                        found.add("of another collection")
                    elif feed.live[date].level > clearance:
                        found.add("above the clearance")
    return found


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_page_that_forgets_all_conditions_of_a_kind_shows_nothing_foreign(
    feeds: list[Feed], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Those on the collection, or those on the clearance, are taken from the statement's text."""
    for kind in ("collection", "clearance"):
        with monkeypatch.context() as patch:
            patch.setattr(statements, name, mutated(name, without(name, kind, -1)))
            assert await foreign(feeds[0].database, feeds[:1], name) == set(), kind


@pytest.mark.slow
@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_page_that_forgets_a_condition_shows_nothing_foreign(
    feeds: list[Feed], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Each condition on collection and clearance in turn."""
    for kind, number in places(name):
        with monkeypatch.context() as patch:
            patch.setattr(statements, name, mutated(name, without(name, kind, number)))
            assert await foreign(feeds[0].database, feeds, name) == set(), (kind, number)


@pytest.mark.parametrize("name", STATEMENTS)
async def test_without_the_policies_it_would(
    feeds: list[Feed], module_database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The same, asked as the owner of the tables, whom no policy binds: so the statements above did forget."""
    owner = Database(module_database_urls.owner, connections=1)
    try:
        assert await foreign(owner, feeds, name) == set()
        for kind, told in (("collection", "of another collection"), ("clearance", "above the clearance")):
            mutant = without(name, kind, -1)
            if kind == "clearance":
                mutant = SERIES.sub("generate_series(0, 4)", mutant)
            with monkeypatch.context() as patch:
                patch.setattr(statements, name, mutated(name, mutant))
                assert told in await foreign(owner, feeds, name)
    finally:
        await owner.close()
