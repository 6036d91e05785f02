"""Rules of the house that no linter knows, read off the source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from taxii_server.domain import errors
from taxii_server.domain.errors import OperatorError, TaxiiServerError
from taxii_server.web.errors import status_of

SOURCE = Path(errors.__file__).parent.parent
MODULES = sorted(path for path in SOURCE.rglob("*.py") if "_migrations" not in path.parts)
PROOFS = {"Readable", "Writable", "Erasable", "Traceable", "Recallable", "Whole", "Submissions"}
MOST_LINES = 400


def calls(module: Path) -> list[tuple[str, ast.Call]]:
    """Give every call in a module, by the last name of what is called."""
    tree = ast.parse(module.read_text())
    return [
        (function.id if isinstance(function, ast.Name) else function.attr, node)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(function := node.func, ast.Name | ast.Attribute)
    ]


def where(*allowed: str) -> list[Path]:
    """Give the modules other than the allowed ones."""
    return [module for module in MODULES if module.relative_to(SOURCE).as_posix() not in allowed]


def test_proof_of_a_check_is_made_in_permissions_and_nowhere_else() -> None:
    """Storage takes collection and clearance from these types, so whoever could make one could go round the check."""
    made = {(str(module), name) for module in where("domain/permissions.py") for name, _ in calls(module)}

    assert {(module, name) for module, name in made if name in PROOFS} == set()


def test_permissions_are_asked_for_by_operations_only() -> None:
    """Faces call operations; storage is handed the proof."""
    asking = {module.relative_to(SOURCE).parts[0] for module in MODULES if "import permissions" in module.read_text()}

    assert asking == {"operations"}


def test_transactions_end_in_the_engine_and_nowhere_else() -> None:
    """What was answered was committed before, because only operations' `write` blocks commit; on replicas nothing is written."""
    ending = [
        f"{module}:{call.lineno}"
        for module in where("storage/engine.py", "storage/replicas.py")
        for name, call in calls(module)
        if name == "commit"
    ]

    assert ending == []


def test_nothing_is_checked_by_assert() -> None:
    """`python -O` takes assertions out."""
    found = [
        f"{module}:{node.lineno}"
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, ast.Assert)
    ]

    assert found == []


def test_every_instant_has_a_zone() -> None:
    """`datetime.now()` without one is another instant on another machine."""
    naive = [
        f"{module}:{call.lineno}"
        for module in MODULES
        for name, call in calls(module)
        if name == "utcnow" or (name == "now" and not call.args and "datetime" in ast.unparse(call.func))
    ]

    assert naive == []


def test_sql_is_never_put_together_from_strings() -> None:
    """A statement is a constant; values travel as parameters."""
    built = [
        f"{module}:{call.lineno}"
        for module in MODULES
        for name, call in calls(module)
        if name in {"text", "statement", "Statement", "exec_driver_sql"}
        and call.args
        and not isinstance(call.args[0], ast.Constant | ast.Name)
    ]

    assert built == []


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.relative_to(SOURCE).as_posix())
def test_a_module_is_one_thing(module: Path) -> None:
    """Past this size it is two."""
    assert len(module.read_text().splitlines()) <= MOST_LINES


def test_every_refusal_has_a_status_of_its_own() -> None:
    """Nothing a client sends is a 500; what the operator has to mend never reaches a client as anything else."""

    def family(kind: type[TaxiiServerError]) -> list[type[TaxiiServerError]]:
        return [kind, *(one for child in kind.__subclasses__() for one in family(child))]

    refusals = {kind for kind in family(TaxiiServerError) if kind.__module__ == errors.__name__}
    refusals -= {TaxiiServerError, *family(OperatorError)}

    assert {
        kind.__name__: status for kind in refusals if (status := _status(kind)) not in {*range(400, 500), 503}
    } == {}


def _status(kind: type[TaxiiServerError]) -> int:
    return status_of(kind.__new__(kind))
