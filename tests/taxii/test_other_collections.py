"""Collections are apart (§5): what happens to an object in one of them is nothing to the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.factories import malware, stix_id

if TYPE_CHECKING:
    from tests.taxii.alliance import Exchange

pytestmark = pytest.mark.anyio

HERE, THERE = "fraud-intel/scratch", "fraud-intel/indicators"


async def test_what_is_removed_here_stays_elsewhere(exchange: Exchange) -> None:
    """§5.7, D-09: a DELETE is of one collection, though another one holds the same object."""
    one = malware(id=stix_id("malware", 730))
    await exchange.add(one, name=HERE)
    await exchange.add(one, name=THERE)
    before = await exchange.get(exchange.path(f"objects/{one['id']}/", THERE))

    removed = await exchange.delete(exchange.path(f"objects/{one['id']}/", HERE))
    after = await exchange.get(exchange.path(f"objects/{one['id']}/", THERE))

    assert removed.status_code == 200
    assert (await exchange.get(exchange.path(f"objects/{one['id']}/", HERE))).status_code == 404
    assert after.json() == before.json()
    assert after.headers["x-taxii-date-added-last"] == before.headers["x-taxii-date-added-last"]


async def test_each_collection_dates_for_itself(exchange: Exchange) -> None:
    """§5.3.1: the same version has a date of its own in each collection."""
    one = malware(id=stix_id("malware", 731))
    for name in (HERE, THERE):
        await exchange.add(one, name=name)
    dates = [
        (await exchange.get(exchange.path("manifest/", name), params={"match[id]": one["id"]})).json()["objects"][0]
        for name in (HERE, THERE)
    ]

    assert dates[0]["date_added"] < dates[1]["date_added"]
