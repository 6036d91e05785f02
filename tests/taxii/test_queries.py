"""Queries that are remembered are short, whatever of them is made up."""

from __future__ import annotations

from uuid import uuid4

import pytest

from taxii_server.domain.cursor import Endpoint
from taxii_server.taxii import queries


@pytest.mark.parametrize(
    ("query", "stix_id", "remembered"),
    [("limit=2", "tool--1", 1), ("limit=2", None, 1), ("limit=2", "t" * 300, 0), (f"other={'x' * 300}", None, 0)],
)
def test_long_names_are_not_remembered(query: str, stix_id: str | None, remembered: int) -> None:
    """A path is as long as whoever asks makes it, as a query is."""
    endpoint = Endpoint.OBJECTS if stix_id is None else Endpoint.OBJECT
    collection = uuid4()
    queries._remembered.cache_clear()
    read = queries.page_query(query, endpoint, collection, stix_id)

    assert queries._remembered.cache_info().currsize == remembered
    assert queries.page_query(query, endpoint, collection, stix_id) == read
    assert (read.limit, read.want.ids) == (
        2 if query == "limit=2" else None,
        None if stix_id is None else (stix_id,),
    )
