"""docs/conformance.md names a test that exists for every requirement, and leaves none out."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/conformance.md"

_ROW = re.compile(r"^\| (?P<group>T-[A-Z]+)-(?P<number>\d{2}) \|(?P<rest>.*)\|$", re.MULTILINE)
_GROUP = re.compile(r"^\| (?P<group>T-[A-Z]+) \| (?P<rows>\d+) \|$", re.MULTILINE)
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
# what a row may say in the place of a test
_WHY_NOT = re.compile(
    r"(Not used|Not offered|Not applicable|Not reached|Left to the deployment|A choice of|The client's|Described in|See|Client certificates)\b.+"
)
_BINDING = {"MUST", "MUST NOT", "STATED", "MAY, STATED", "MUST, MUST NOT", "Mandatory"}


@dataclass(frozen=True)
class Row:
    """One requirement."""

    group: str
    number: int
    cells: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the document calls it."""
        return f"{self.group}-{self.number:02}"

    @property
    def tests(self) -> list[tuple[str, str]]:
        """The tests that hold it, as file and function."""
        return _TEST.findall(self.cells[-1])


def rows() -> list[Row]:
    """Read the document's rows."""
    return [
        Row(found["group"], int(found["number"]), tuple(cell.strip() for cell in found["rest"].split("|")))
        for found in _ROW.finditer(DOCUMENT.read_text("utf-8"))
    ]


@cache
def functions(file: str) -> frozenset[str]:
    """Name the tests of a file, those in classes too."""
    path = ROOT / file
    if not path.exists():
        return frozenset()
    return frozenset(
        node.name
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    )


def test_every_requirement_names_the_test_that_holds_it() -> None:
    """Or says why there is none; what binds without a test is named here, one by one."""
    silent = [row.name for row in rows() if not row.tests and not _WHY_NOT.fullmatch(row.cells[-1])]
    untested = {row.name for row in rows() if row.cells[1] in _BINDING and not row.tests}

    assert silent == []
    # relative root URLs, content that isn't STIX, DNS records, and rows that point at others
    assert untested == {"T-URL-10", "T-MVER-13", "T-DNS-01", "T-DNS-02", "T-CONF-01", "T-CONF-04", "T-CONF-05"}


def test_named_tests_exist() -> None:
    """A renamed or removed test fails this one."""
    missing = [(row.name, *test) for row in rows() for test in row.tests if test[1] not in functions(test[0])]

    assert missing == []


def test_no_requirement_is_left_out() -> None:
    """Every group has the rows that the document's head counts, numbered from 1 without a gap, each once."""
    counted = {found["group"]: int(found["rows"]) for found in _GROUP.finditer(DOCUMENT.read_text("utf-8"))}
    numbers = defaultdict(list)
    for row in rows():
        numbers[row.group].append(row.number)

    assert numbers == {group: list(range(1, count + 1)) for group, count in counted.items()}
    assert len(rows()) > 300


def test_no_row_is_empty() -> None:
    """Clause, level, requirement and what holds it are there in each."""
    assert [row.name for row in rows() if len(row.cells) != 4 or not all(row.cells)] == []


def test_numbers_named_in_tests_are_in_the_document() -> None:
    """Whoever meets a number in a test finds it there."""
    known = {row.name for row in rows()}
    named = {
        (file.name, name)
        for file in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"\bT-[A-Z]+-\d{2}\b", file.read_text("utf-8"))
        if file != Path(__file__)
    }

    assert {one for one in named if one[1] not in known} == set()
