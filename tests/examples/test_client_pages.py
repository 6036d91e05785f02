"""docs/clients has a page for each client, all alike, and one that leads to them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "docs/clients"
PAGES = sorted(page for page in FOLDER.glob("*.md") if page.name != "README.md")
CLIENTS = {
    *("cc-taxii2-client", "curl", "cytaxii2", "eclecticiq", "elastic", "mcp-taxii", "minemeld", "misp"),
    *("opencti-connector-taxii2", "opencti-ingester", "opencti-taxii-post", "qradar", "sentinel", "splunk-ctis"),
    *("splunk-es", "stix2", "sumo-logic", "taxii2-client", "trellix", "trend-micro", "xsoar"),
}
HEADINGS = [
    "Issue the client",
    "Fill in",
    "What to expect",
    "See that it works",
    "When it doesn't",
    "Not verified",
]
# The demo's, as cli/demo_alliance.yaml has them: no page may send its reader elsewhere.
_URL = re.compile(r"http://127\.0\.0\.1:8000[^\s`\"'|),;]*")
_DEMO = re.compile(
    r"http://127\.0\.0\.1:8000(/oauth2/token|/taxii2/?(fraud-intel/?"
    r"(collections/5d3b1b0a-3f0f-4a0e-9c55-0f4c3c6f7a11/?(objects/)?)?)?)"
)


def test_every_client_has_its_page() -> None:
    """No page is missing, and none is of a client that the list doesn't know."""
    assert {page.stem for page in PAGES} == CLIENTS


def test_the_table_leads_to_every_page() -> None:
    """Each client has a row that links its page and says how it was tested."""
    rows = re.findall(
        r"^\| \[[^\]]+\]\(([\w-]+)\.md\) \|.*\| (run|replayed) \|$", (FOLDER / "README.md").read_text(), re.MULTILINE
    )

    assert sorted(name for name, _ in rows) == sorted(CLIENTS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_are_alike(page: Path) -> None:
    """The same parts in the same order, each with something in it, whoever reads two of them knows the third."""
    parts = re.split(r"^## (.+)$", page.read_text("utf-8"), flags=re.MULTILINE)

    assert parts[1::2] == HEADINGS
    assert all(len(text.strip()) > 20 for text in parts[2::2])
    assert "taxii-server client issue " in parts[2]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pages_name_the_demos_urls(page: Path) -> None:
    """Every URL of the server is one that the demo answers."""
    named = {url.rstrip(".") for url in _URL.findall(page.read_text("utf-8"))}

    assert named
    assert {url for url in named if not _DEMO.fullmatch(url)} == set()
