"""The statements are written whole, so what they share stands several times: the copies stay equal."""

from __future__ import annotations

import re

import pytest

from taxii_server.domain.tlp import Level
from taxii_server.storage import object_page_statements as statements

MERGED = (statements.LATEST.text, statements.NEWEST_FORM.text)
WALKS = (*MERGED, statements.LATEST_OF_TYPES.text, statements.NEWEST_FORM_OF_TYPES.text)


def test_all_walks_end_alike() -> None:
    """What fits a page is decided in the same words, whichever walk it came from."""
    endings = {text[text.rindex("\nSELECT string_agg") :] for text in (*WALKS, statements.PICKED.text)}

    assert len(endings) == 1


@pytest.mark.parametrize("text", MERGED)
def test_every_level_is_walked_alike(text: str) -> None:
    """The walks of one statement differ in nothing but their level, and there is one for each."""
    walks = re.findall(
        r"\((SELECT [^()]*WHERE collection_id = :collection AND level = (\d).*?LIMIT :rows)\)", text, re.DOTALL
    )

    assert [int(level) for _, level in walks] == list(Level)
    assert len({re.sub(rf"\b{level}\b", "n", walk, count=2) for walk, level in walks}) == 1


@pytest.mark.parametrize(("plain", "of_types"), [WALKS[::2], WALKS[1::2]])
def test_late_arrivals_are_looked_for_alike(plain: str, of_types: str) -> None:
    """Naming types narrows the search for late arrivals, and changes nothing else."""

    def late(text: str) -> str:
        found = text[text.rindex("AS late\n") : text.rindex(") AS walks")]
        return found.replace(" AND stix_type = ANY(CAST(:types AS text[]))", "")

    assert late(plain) == late(of_types)
