"""The documents tell of every setting and every command, and link to nothing that isn't there."""

from __future__ import annotations

import re
import tomllib
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
from prometheus_client import REGISTRY

from taxii_server.cli import app
from taxii_server.cli.output import EXIT_CODES, FOUND_SOMETHING, STOPPED
from taxii_server.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(chain(ROOT.glob("*.md"), ROOT.glob("docs/**/*.md")))

_HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
_ELSEWHERE = ("http://", "https://", "mailto:")


def headings(document: Path) -> list[str]:
    """Give the headings of a document, in order, those inside code left out."""
    return _HEADING.findall(re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL))


def anchors(document: Path) -> set[str]:
    """Give what a link into a document may name: headings as GitHub spells them in URLs."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(document)}


def commands(command: Any, name: str) -> Iterator[str]:
    """Name every command that does something, groups left out."""
    below = getattr(command, "commands", None)
    if below is None:
        yield name
        return
    for word, one in below.items():
        yield from commands(one, f"{name} {word}")


def _sources(folder: Path) -> Iterator[str]:
    for module in sorted(folder.rglob("*.py")):
        yield module.read_text("utf-8")


def test_every_setting_has_its_heading() -> None:
    """No setting goes undescribed, and none is described that doesn't exist."""
    described = [one for one in headings(ROOT / "docs/settings.md") if one.startswith("TAXII_")]

    assert sorted(described) == sorted(f"TAXII_{name.upper()}" for name in Settings.model_fields)


def test_every_settings_default_is_told() -> None:
    """Under each setting stands its default."""
    text = (ROOT / "docs/settings.md").read_text("utf-8")
    parts = re.split(r"^### ", text, flags=re.MULTILINE)[1:]

    assert [part.split("\n")[0] for part in parts if "\nDefault: " not in part] == []


def test_every_command_has_its_heading() -> None:
    """No command goes undescribed, and none is described that doesn't exist."""
    described = [one for one in headings(ROOT / "docs/cli.md") if one.startswith("taxii-server ")]

    assert sorted(described) == sorted(commands(typer.main.get_command(app), "taxii-server"))


def test_every_exit_code_is_told() -> None:
    """Scripts rely on them."""
    codes = {0, 2, FOUND_SOMETHING, STOPPED, *EXIT_CODES.values()}

    told = {int(code) for code in re.findall(r"^\| (\d+) \|", (ROOT / "docs/cli.md").read_text("utf-8"), re.MULTILINE)}

    assert told == codes


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_link_is_dead(document: Path) -> None:
    """A link inside the project names a file that is there, and a heading that it has."""
    dead = []
    for target in _LINK.findall(_CODE.sub("", document.read_text("utf-8"))):
        if target.startswith(_ELSEWHERE):
            continue
        name, _, anchor = target.partition("#")
        file = (document.parent / name).resolve() if name else document
        if not file.exists() or ROOT not in file.parents or (anchor and anchor not in anchors(file)):
            dead.append(target)

    assert dead == []


def test_files_named_in_the_docs_exist() -> None:
    """A path of the checkout, in backquotes, is one that is there."""
    named = re.compile(r"`((?:src|tests|docs|migrations|openapi|\.ci)/[\w./-]+\.\w+)(?:::\w+)?`")
    missing = [
        (document.name, path)
        for document in DOCUMENTS
        for path in named.findall(document.read_text("utf-8"))
        if not (ROOT / path).exists()
    ]

    assert missing == []


def test_tests_named_in_the_docs_exist() -> None:
    """What security.md and the others say is pinned is pinned."""
    there = set(re.findall(r"^\s*(?:async )?def (test_\w+)", "\n".join(_sources(ROOT / "tests")), re.MULTILINE))
    named = {
        name
        for document in DOCUMENTS
        for name in re.findall(r"`(?:tests/[\w/]+\.py::)?(test_\w+)`", document.read_text("utf-8"))
    }

    assert sorted(named - there) == []
    assert named


def test_every_dependency_is_explained() -> None:
    """README says why each is there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = {
        re.split(r"[\[<>=~ ]", one)[0]
        for one in chain(project["dependencies"], *project["optional-dependencies"].values())
    }
    table = (ROOT / "README.md").read_text("utf-8").partition("## Dependencies")[2]
    explained = {
        word
        for row in table.splitlines()
        for word in re.split(r"[ ,|()`]+", row.split("|")[1] if row.startswith("|") else "")
    }

    assert wanted - explained == set()


def test_every_metric_is_told() -> None:
    """An operator finds each metric of ours in the docs, under the name it is served by."""
    text = (ROOT / "docs/operations.md").read_text("utf-8")
    served = {
        f"{family.name}{'_total' if family.type == 'counter' else ''}"
        for family in REGISTRY.collect()
        if family.name.startswith("taxii_")
    }

    assert served
    assert {name for name in served if f"`{name}`" not in text} == set()


def test_every_warning_of_the_log_is_told() -> None:
    """An operator who meets a warning in the log finds it in the docs."""
    text = (ROOT / "docs/operations.md").read_text("utf-8")
    logged = {
        event
        for file in (ROOT / "src").rglob("*.py")
        for event in re.findall(r"\blog\.(?:warning|error)\(\s*\"(\w+)\"", file.read_text("utf-8"))
    }

    assert logged
    assert {event for event in logged if f"`{event}`" not in text} == set()


def test_every_ruling_named_in_code_and_tests_is_told() -> None:
    """Whoever meets D-05 in a comment finds it in docs/rulings.md, once."""
    told = re.findall(
        r"^\*\*(D-\d{2}) |\(\*\*(D-\d{2})\*\*", (ROOT / "docs/rulings.md").read_text("utf-8"), re.MULTILINE
    )
    numbers = [one or other for one, other in told]
    named = {
        number
        for folder in ("src", "tests")
        for file in (ROOT / folder).rglob("*.py")
        for number in re.findall(r"\bD-\d{2}\b", file.read_text("utf-8"))
    }

    assert sorted(numbers) == sorted(set(numbers))
    assert named - set(numbers) == set()
