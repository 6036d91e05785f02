"""What each endpoint costs the database: a stated number of statements, transaction control aside."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from tests.auth.alliance import statements
from tests.factories import indicator
from tests.taxii.alliance import GROUP, TAXII, Exchange, exchange_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

THING = "indicator--2c2b1c5e-6f1d-4b56-9f0e-3f8f7f1f9a01"


@pytest.fixture(scope="module")
async def exchange(module_database_urls: DatabaseUrls) -> AsyncIterator[Exchange]:
    """A collection with a few hundred objects, so that a cost that grows with them would show."""
    async with exchange_on(module_database_urls) as running:
        await running.add(indicator(id=THING), *(indicator(id=f"indicator--{uuid4()}") for _ in range(300)))
        yield running


@pytest.mark.parametrize(
    ("rest", "cost"),
    [
        ("/taxii2/", 2),
        (GROUP, 1),
        (f"{GROUP}status/7d558858-27b1-49dc-b62a-b03fe4362bd4/", 2),
        (f"{GROUP}collections/", 2),
        ("", 1),
        ("manifest/", 3),
        ("objects/", 3),
        ("objects/?match[version]=all&match[type]=indicator", 3),
        ("objects/?match[version]=first&added_after=2024-01-01T00:00:00Z", 3),
        ("objects/?limit=200", 3),
        (f"objects/{THING}/", 3),
        (f"objects/{THING}/versions/", 3),
        # what tells of no version is in no ledger
        ("objects/?added_after=2024-01-01T00:00:00Z&match[type]=campaign", 2),
        # where the collection ends there is nothing to ask for
        ("objects/?added_after=2099-01-01T00:00:00Z", 1),
        ("manifest/?added_after=2099-01-01T00:00:00Z", 1),
        ("manifest/?match[type]=campaign", 2),
        (f"objects/{THING}/?match[version]=2001-01-01T00:00:00Z", 2),
        ("objects/indicator--00000000-0000-4000-8000-000000000000/", 2),
        # of one's own object: its versions, the ledger, the members by name
        (f"objects/{THING}/disclosures/", 4),
        ("objects/indicator--00000000-0000-4000-8000-000000000000/disclosures/", 2),
    ],
)
async def test_a_read_costs_what_it_should(exchange: Exchange, rest: str, cost: int) -> None:
    """One statement says who asks and where; one gives the data, whatever is asked of it; one enters it in the ledger."""
    path = rest if rest.startswith("/") else exchange.path(rest, "fraud-intel/scratch")

    for headers in (exchange.as_("north"), await exchange.token("north")):
        with statements(Engine) as sent:
            answer = await exchange.http.get(path, headers=headers | {"Accept": TAXII})

        assert answer.status_code in {200, 404}
        assert cost == len(sent), sent


async def test_a_recall_costs_a_stated_number_of_statements(exchange: Exchange) -> None:
    """Caller, clock, caller again, what is stored, the last recall, bodies; then a push's, the recall's row, the audit's.

    Once more: all but the change, and what of the recall the caller may see. How it stands: caller, recall, what of it may be
    seen, its versions, the ledger twice, names and last polls.
    """
    thing = indicator(id=f"indicator--{uuid4()}")
    await exchange.add(thing)
    path = exchange.path(f"objects/{thing['id']}/recall/", "fraud-intel/scratch")
    for cost in (13, 7):
        with statements(Engine) as sent:
            answer = await exchange.http.post(path, headers=exchange.as_("north"))

        assert answer.status_code == 200
        assert cost == len(sent), sent
    with statements(Engine) as sent:
        assert (await exchange.get(path)).status_code == 200
    assert len(sent) == 8, sent


async def test_a_push_costs_the_same_for_one_object_and_for_hundreds(exchange: Exchange) -> None:
    """Caller; then in one transaction clock, caller again, what is stored, insert, clock, status, audit."""
    for count in (1, 300):
        envelope = {"objects": [indicator(id=f"indicator--{uuid4()}") for _ in range(count)]}
        with statements(Engine) as sent:
            answer = await exchange.post(envelope, name="fraud-intel/scratch")

        assert answer.json()["success_count"] == count
        assert len(sent) == 8, sent
