"""Discovery and API Roots (§4.1, §4.2)."""

from __future__ import annotations

import pytest

from tests.taxii.alliance import GROUP, OTHER_GROUP, PUBLIC_URL, TAXII, Exchange, assert_error

pytestmark = pytest.mark.anyio


async def test_discovery_lists_the_callers_api_roots(exchange: Exchange) -> None:
    """§4.1.1: each caller is told of the trust groups it sees something in, and of no other."""
    answer = await exchange.get("/taxii2/")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == TAXII
    root = f"{PUBLIC_URL}{GROUP}"
    assert answer.json() == {"title": "Test exchange", "default": root, "api_roots": [root]}


async def test_discovery_without_any_api_root_leaves_the_list_out(exchange: Exchange) -> None:
    """§2, §4.1.1: no empty list, and no default that isn't in it."""
    answer = await exchange.get("/taxii2/", "stranger")

    assert answer.json() == {"title": "Test exchange"}


async def test_api_root_tells_versions_and_the_largest_body(exchange: Exchange) -> None:
    """§4.2.1: title, versions with TAXII 2.1 among them, max_content_length."""
    answer = await exchange.get(GROUP)

    assert answer.json() == {
        "title": "Title of fraud-intel",
        "description": "for tests",
        "versions": [TAXII],
        "max_content_length": 2097152,
    }


@pytest.mark.parametrize("path", [OTHER_GROUP, "/taxii2/no-such-group/", "/taxii2/%00/", "/taxii2/fraud%2Dintel%20/"])
async def test_unknown_and_hidden_api_roots_are_not_found(exchange: Exchange, path: str) -> None:
    """§4.2: 404 for a root that is absent, and the same for one that is hidden."""
    assert_error(await exchange.get(path), 404)
