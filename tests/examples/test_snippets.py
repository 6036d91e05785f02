"""The docs' own lines for integrators are run, against the demo that they are written for.

In the pages of `docs/clients`, `examples/README.md` and the README's parts for banks and integrators, each block marked `sh` or
`python` is run as it stands, but for what its reader replaces too: the URL, ids, secrets, a cursor. A Python block runs with
CLIENT_ID and CLIENT_SECRET of a client that reads, or that also writes if the block is marked so.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from tests import parts
from tests.cli.processes import Demo, running_demo

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES: Final = [*sorted((ROOT / "docs/clients").glob("*.md")), ROOT / "examples/README.md", ROOT / "README.md"]
DOCUMENTED_URL: Final = "http://127.0.0.1:8000"
FEED: Final = "/taxii2/fraud-intel/collections/indicators/"

_BLOCK = re.compile(r"^```(sh|python)( writes)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PLACEHOLDER = re.compile(r"(harbour-bank|north-bank)\.[\w-]+\.…|txs_…|next=WzEsIm…")


@dataclass(frozen=True)
class Reader:
    """Who reads the docs with the demo before them: what they put in the place of what is left out there."""

    demo: Demo
    cursor: str

    def filled(self, text: str) -> str:
        """Replace what a reader replaces; a secret is that of the id before it."""
        whose = self.demo.siem

        def put(found: re.Match[str]) -> str:
            nonlocal whose
            if found[0] == "txs_…":
                return whose[1]
            if found[1] is None:
                return f"next={self.cursor}"
            whose = self.demo.siem if found[1] == "harbour-bank" else self.demo.tool
            return whose[0]

        return _PLACEHOLDER.sub(put, text.replace(DOCUMENTED_URL, self.demo.url))


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with running_demo() as running:
        page = httpx.get(f"{running.url}{FEED}objects/", params={"limit": 5}, auth=running.siem).json()
        yield Reader(running, page["next"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a reader stands: in the checkout, with a bundle to push; curl there fails on a refusal."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / ".venv/bin").parent.mkdir()
    (tmp_path / ".venv/bin").symlink_to(Path(sys.executable).parent)
    bundle = {
        "objects": [{"type": "identity", "spec_version": "2.1", "id": "identity--c1e3e7a9-9b61-4c6c-9f7e-0b1a52c6d101"}]
    }
    bundle["objects"][0] |= {"created": "2026-05-01T10:00:00.000Z", "modified": "2026-05-01T10:00:00.000Z"}
    bundle["objects"][0] |= {"name": "Reader of the docs", "identity_class": "individual"}
    for name in ("bundle.json", "envelope.json"):
        (tmp_path / name).write_text(json.dumps(bundle))
    (tmp_path / ".curlrc").write_text("fail\nsilent\nshow-error\n")
    return tmp_path


def snippets(page: Path) -> list[tuple[str, bool, str]]:
    """Give the language, whether it writes, and the text of each block to run; of the README those for integrators."""
    text = page.read_text("utf-8")
    if page == ROOT / "README.md":
        setup = re.findall(r"^```sh\nURL=.*?^```$", text, re.MULTILINE | re.DOTALL)
        sections = re.findall(r"^## An? (?:bank|integrator): .*?(?=^## )", text, re.MULTILINE | re.DOTALL)
        text = "\n".join(setup + sections)
    return [(language, bool(writes), block) for language, writes, block in _BLOCK.findall(text)]


def test_the_documents_have_something_to_run() -> None:
    """A block that lost its mark would not be run any more."""
    counts = {page.relative_to(ROOT).as_posix(): len(snippets(page)) for page in PAGES}
    least = {
        "README.md": 7,
        "docs/clients/README.md": 1,
        "docs/clients/cc-taxii2-client.md": 1,
        "docs/clients/curl.md": 3,
        "docs/clients/cytaxii2.md": 1,
        "docs/clients/stix2.md": 1,
        "docs/clients/taxii2-client.md": 3,
        "examples/README.md": 3,
    }

    assert {page: count for page, count in least.items() if counts[page] < count} == {}


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(
            page,
            id=page.relative_to(ROOT).as_posix(),
            # what everybody follows first is tried each time
            marks=() if page.name == "README.md" else pytest.mark.slow,
        )
        for page in PAGES
        if snippets(page)
    ],
)
def test_what_a_page_says_to_run_works(page: Path, reader: Reader, folder: Path) -> None:
    """Shell blocks in one shell, in order, each command succeeding; Python blocks each by itself."""
    parts.need(shutil.which("curl"), "curl")
    found = snippets(page)
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TAXII_")}
    environment = inherited | {"PATH": tools, "CURL_HOME": str(folder), "HOME": str(folder)}

    shell = "\n".join(reader.filled(block) for language, _, block in found if language == "sh")
    runs = [["sh", "-euc", shell]] if shell else []
    for language, writes, block in found:
        if language == "python":
            client_id, secret = reader.demo.tool if writes else reader.demo.siem
            given = f"CLIENT_ID, CLIENT_SECRET = {client_id!r}, {secret!r}\n"
            runs.append([sys.executable, "-c", given + reader.filled(block)])
    for command in runs:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=100
        )

        assert done.returncode == 0, f"{command[-1]}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        assert done.stdout.strip()
        assert "http_status" not in done.stdout
