"""Each client that docs/clients tells of has a test that names it, and each thing that real clients need has one too."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

from tests.inventory.test_conformance import functions

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "tests/clients").glob("test_*.py"))
RUN = {
    "cc-taxii2-client": "from cc_taxii2_client import",
    "curl": 'shutil.which("curl")',
    "cytaxii2": "from cytaxii2 import",
    "mcp-taxii": ".venv-clients/bin",
    "stix2": "import stix2",
    "taxii2-client": "from taxii2client.v21 import",
}
"""The clients that truly run, and what their tests can't do without."""

_ROW = re.compile(r"^\| \[[^\]]+\]\((?P<slug>[\w-]+)\.md\) \|.*\| (?P<how>run|replayed) \|$", re.MULTILINE)
_NEED = re.compile(r"^\| (?P<need>[^|]+) \| (?P<tests>`tests/.+) \|$", re.MULTILINE)
_TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def clients() -> dict[str, str]:
    """Name the clients that the documents know, and how each is tested."""
    return {row["slug"]: row["how"] for row in _ROW.finditer((ROOT / "docs/clients/README.md").read_text("utf-8"))}


def named_by(file: Path) -> dict[str, set[str]]:
    """Give a file's tests and the clients whose marker each has: on it, or on the whole file."""
    tree = ast.parse(file.read_text("utf-8"))
    values = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }

    def slugs(node: ast.expr) -> set[str]:
        if isinstance(node, ast.Name) and node.id in values:
            return slugs(values[node.id])
        if isinstance(node, ast.List):
            return {slug for each in node.elts for slug in slugs(each)}
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.client":
            return {str(ast.literal_eval(node.args[0]))}
        return set()

    whole = slugs(values["pytestmark"]) if "pytestmark" in values else set()
    return {
        node.name: whole.union(*map(slugs, node.decorator_list))
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }


def test_every_client_has_a_test_that_names_it() -> None:
    """No client of the documents is untested, and no test names one that they don't know."""
    tests = defaultdict(list)
    for file in FILES:
        for test, slugs in named_by(file).items():
            for slug in slugs:
                tests[slug].append(test)

    assert set(tests) == set(clients())
    assert len(tests) > 20


def test_every_test_of_clients_names_one() -> None:
    """Whoever reads a failure learns whose product would stumble."""
    assert [(file.name, test) for file in FILES for test, slugs in named_by(file).items() if not slugs] == []


def test_what_is_said_to_run_runs() -> None:
    """A client that the documents call run is the real one in its tests; the others are replayed."""
    assert {slug for slug, how in clients().items() if how == "run"} == set(RUN)
    for slug, sign in RUN.items():
        files = [file for file in FILES if any(slug in slugs for slugs in named_by(file).values())]
        assert any(sign in file.read_text("utf-8") for file in files), slug


def test_every_need_of_real_clients_names_its_tests() -> None:
    """The table of docs/conformance.md: each row has a test, and each test exists."""
    document = (ROOT / "docs/conformance.md").read_text("utf-8")
    part = document.partition("\n## What real clients need\n")[2].partition("\n## ")[0]
    needs = {row["need"]: _TEST.findall(row["tests"]) for row in _NEED.finditer(part)}

    assert len(needs) > 15
    assert [need for need, tests in needs.items() if not tests] == []
    assert [test for tests in needs.values() for test in tests if test[1] not in functions(test[0])] == []
