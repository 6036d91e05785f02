"""Whatever changes rows for good is written down: read off the source, one transaction after the other."""

from __future__ import annotations

import ast
from typing import Final

from taxii_server.domain.audit import Act
from tests.inventory.test_house_rules import MODULES, SOURCE

APPENDING: Final = frozenset({"append", "append_locking"})
# reasons, not excuses: a row of any of these that somebody asks for later belongs into the audit
WITHOUT: Final = {
    "operations/activity.py": "what is known of clients' polls changes nothing that anybody may",
    "operations/maintenance.py:_purge_statuses_of": "a status is kept for a promised time only; what it tells of is an act",
}
# through which other function a transaction writes its act down
BY_WAY_OF: Final = {
    "operations/clients.py:issue": "operations/clients.py:add_to",
    "operations/clients.py:tie": "operations/clients.py:add_to",
    "operations/client_certificates.py:issue": "operations/clients.py:add_to",
    "operations/client_certificates.py:add": "operations/client_certificates.py:_give",
    "operations/client_certificates.py:remove": "operations/client_certificates.py:_tell",
    "operations/client_certificates.py:require": "operations/client_certificates.py:_tell",
    "operations/client_certificates.py:_give": "operations/client_certificates.py:_tell",
    "auth/signing_keys.py:rotate": "auth/signing_keys.py:_add",
    "auth/signing_keys.py:_make": "auth/signing_keys.py:_add",
}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions() -> dict[str, Function]:
    """Every function of operations and auth, by module and name."""
    return {
        f"{module.relative_to(SOURCE).as_posix()}:{node.name}": node
        for module in MODULES
        if module.relative_to(SOURCE).parts[0] in {"operations", "auth", "cli", "taxii", "oauth", "site"}
        for node in ast.walk(ast.parse(module.read_text()))
        if isinstance(node, Function)
    }


def called(function: Function) -> set[str]:
    """What a function calls, by the last name and the one before it."""
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            whole = ast.unparse(node.func)
            names |= {whole, whole.rpartition(".")[2]}
    return names


def writes(function: Function) -> bool:
    """Whether it opens a transaction that may change something."""
    return any(
        isinstance(item.context_expr, ast.Call)
        and isinstance(item.context_expr.func, ast.Attribute)
        and item.context_expr.func.attr == "write"
        for node in ast.walk(function)
        if isinstance(node, ast.AsyncWith)
        for item in node.items
    )


def appends(function: Function) -> bool:
    """Whether it writes an act down itself."""
    names = called(function)
    return "content_audit.write" in names or any(
        name in names
        for base in ("audit", "audit_rows", "storage")
        for name in (f"{base}.{verb}" for verb in APPENDING)
    )


def test_every_transaction_that_writes_has_an_act() -> None:
    """No act without its row: whoever opens one says what was done, or stands above with the reason."""
    known = functions()
    silent = []
    for name, function in known.items():
        module = name.partition(":")[0]
        if not writes(function) or appends(function) or {name, module} & WITHOUT.keys():
            continue
        way: str | None = name
        while way is not None and not appends(known[way]):
            onward = BY_WAY_OF.get(way)
            way = onward if onward is not None and onward.partition(":")[2] in called(known[way]) else None
        if way is None:
            silent.append(name)

    assert silent == []


def test_the_reasons_are_about_code_that_is_there() -> None:
    """A function that went or was renamed takes its reason with it."""
    known = functions()
    modules = {name.partition(":")[0] for name in known}

    assert WITHOUT.keys() | BY_WAY_OF.keys() <= known.keys() | modules
    assert all(not appends(known[name]) for name in WITHOUT if name in known)


def test_every_act_is_done_somewhere() -> None:
    """The vocabulary is what the server does, not what it might do."""
    source = "".join(
        module.read_text() for module in MODULES if module.name != "audit.py" or "domain" not in module.parts
    )

    assert {act for act in Act if f"Act.{act.name}" not in source} == set()
