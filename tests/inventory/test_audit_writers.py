"""Each statement that writes has an act of a stated kind, or a stated reason to need none: read off the source of `storage`."""

from __future__ import annotations

import ast
import re
from typing import Final

from taxii_server.domain.audit import Act
from taxii_server.operations import alliance_audit
from taxii_server.storage import tables
from tests.inventory.test_house_rules import MODULES, SOURCE

_KEPT: Final = "follows from what was added, removed or ruled, which is an act; db check holds it against the rules"
_TOLD: Final = "tells of an act of the same transaction"
# Every function of storage that writes, by the acts that tell of it, each of which some caller has, or the reason why none
# does. Whoever adds one has to say which.
WRITERS: Final[dict[str, set[Act] | str]] = {
    "activity.py:save": "what is known of clients' polls changes nothing that anybody may",
    "activity.py:purge": "the same; and what it forgets is of revoked clients and of workers that are gone",
    "alliance.py:add_trust_group": {Act.TRUST_GROUP_CREATED},
    "alliance.py:change_trust_group": {Act.TRUST_GROUP_CHANGED},
    "alliance.py:remove_trust_group": {Act.TRUST_GROUP_REMOVED},
    "alliance.py:put_member": {Act.MEMBER_CREATED, Act.MEMBER_CHANGED},
    "alliance.py:remove_member": {Act.MEMBER_REMOVED},
    "alliance.py:add_collection": {Act.COLLECTION_CREATED},
    "alliance.py:free_names": "names change for the length of a transaction that gives others, and says so",
    "alliance.py:change_collection": {Act.COLLECTION_CHANGED},
    "alliance.py:remove_collection": {Act.COLLECTION_REMOVED, Act.OBJECTS_PRUNED},
    "alliance.py:put_grant": {Act.GRANT_GIVEN, Act.GRANT_CHANGED},
    "alliance.py:remove_grant": {Act.GRANT_WITHDRAWN},
    "audit.py:append": "is the audit",
    "audit.py:append_later": "is the audit",
    "audit_reading.py:add_signed": "is the signature of a checkpoint of the same transaction",
    "client_certificates.py:add": {Act.CERTIFICATE_ADDED},
    "client_certificates.py:remove": {Act.CERTIFICATE_REMOVED},
    "clients.py:add": {Act.CLIENT_ISSUED},
    "clients.py:add_secret": {Act.CLIENT_ISSUED, Act.CLIENT_ROTATED},
    "clients.py:require": {Act.CLIENT_CHANGED},
    "clients.py:end_secrets": {Act.CLIENT_ROTATED, Act.CLIENT_CHANGED},
    "clients.py:revoke": {Act.CLIENT_REVOKED},
    "clocks.py:note_change": "a count that tells replicas from the primary",
    "clocks.py:move_clock": "the date is in the act that adds",
    "disclosures.py:insert": "the ledger tells of reading, and can only grow",
    "issuers.py:put": {Act.ISSUER_CREATED, Act.ISSUER_CHANGED},
    "issuers.py:remove": {Act.ISSUER_REMOVED},
    "levels.py:relevel": {Act.OBJECTS_RELEVELED},
    "maintenance.py:purge_statuses": "a status is kept for a promised time only; what it tells of is an act",
    "maintenance.py:advance_clocks": {Act.CLOCKS_ADVANCED},
    "members.py:set_suspended": {Act.MEMBER_SUSPENDED, Act.MEMBER_RESUMED},
    "object_writes.py:add": {Act.OBJECTS_ADDED, Act.OBJECT_RECALLED},
    "recalls.py:add": {Act.OBJECT_RECALLED},
    "recalls.py:lift": {Act.RECALL_LIFTED},
    "removals.py:remove": {Act.OBJECTS_DELETED, Act.OBJECTS_EXPIRED, Act.OBJECT_RECALLED},
    "revoked_tokens.py:add": {Act.TOKEN_REVOKED},
    "revoked_tokens.py:purge": "tokens that have expired are refused without it",
    "signing_keys.py:add": {Act.SIGNING_KEY_MADE},
    "signing_keys.py:stop_signing": {Act.SIGNING_KEY_MADE},
    "signing_keys.py:retire": {Act.SIGNING_KEY_RETIRED},
    "signing_keys.py:purge": {Act.SIGNING_KEY_FORGOTTEN},
    "statuses.py:write": _TOLD,
    "stored_versions.py:set_standings": _KEPT,
}
# kept by triggers on what is written
KEPT_BY_THE_DATABASE: Final = {"stored_octets"}
# written as a whole by whoever makes a step of a plan; `alliance_audit` says which act each is
STEPS: Final = {
    f"alliance.py:{act.__name__}" for act in alliance_audit._ACTS if act.__module__.endswith(".alliance")
} | {f"issuers.py:{act.__name__}" for act in alliance_audit._ACTS if act.__module__.endswith(".issuers")}

_WRITES: Final = re.compile(r"\b(?:INSERT INTO|DELETE FROM|UPDATE)\s+([a-z_]+)")
_CORE: Final = frozenset({"insert", "update", "delete", "upsert"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(module: ast.Module) -> dict[str, Function]:
    return {node.name: node for node in ast.walk(module) if isinstance(node, Function)}


def sql_of(call: ast.AST) -> set[str]:
    """The tables that a `text(…)` or a `Statement(…)` writes to."""
    if (
        isinstance(call, ast.Call)
        and ast.unparse(call.func) in {"text", "Statement"}
        and isinstance(call.args[0], ast.Constant)
    ):
        return set(_WRITES.findall(str(call.args[0].value)))
    return set()


def tables_of(function: Function, statements: dict[str, set[str]]) -> set[str]:
    """The tables that a function writes to, by statements of its module, its own and those of SQLAlchemy's Core."""
    written = set()
    for node in ast.walk(function):
        written |= sql_of(node)
        if isinstance(node, ast.Name):
            written |= statements.get(node.id, set())
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _CORE and node.args:
            written.add(ast.unparse(node.args[0]).rpartition(".")[2])
    return written


def writers() -> dict[str, set[str]]:
    """Every function of storage that writes, and to which tables."""
    found = {}
    for path in (SOURCE / "storage").rglob("*.py"):
        module = ast.parse(path.read_text())
        statements = {
            target.id: sql_of(node.value)
            for node in module.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for name, function in functions(module).items():
            if written := tables_of(function, statements):
                found[f"{path.relative_to(SOURCE / 'storage').as_posix()}:{name}"] = written
    return found


def imported(module: ast.Module) -> dict[str, str]:
    """What each name stands for that a module imports from another of ours: a module, or something of one."""
    return {
        one.asname or one.name: f"{node.module}.{one.name}".removeprefix("taxii_server.")
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("taxii_server.")
        for one in node.names
    }


def named_in(function: Function, here: str, imports: dict[str, str]) -> set[str]:
    """What a function names, of its own module and of others: `operations.clients.add_to`."""
    names = set()
    for node in ast.walk(function):
        if isinstance(node, ast.Name):
            names.add(imports.get(node.id, f"{here}.{node.id}"))
        elif isinstance(node, ast.Attribute):
            base = node.value.id if isinstance(node.value, ast.Name) else ""
            names.add(f"{imports.get(base, here)}.{node.attr}")
    return names


def callers() -> dict[str, dict[str, set[str]]]:
    """Which functions outside of storage name which function of it; and the acts named beside it.

    Beside means in the function itself, in all that it calls, and in those of its module that call it.
    """
    names: dict[str, set[str]] = {}
    for path in MODULES:
        place = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        if not place.startswith("storage."):
            module = ast.parse(path.read_text())
            for name, function in functions(module).items():
                names[f"{place}.{name}"] = named_in(function, place, imported(module))
    found: dict[str, dict[str, set[str]]] = {}
    for caller, said in names.items():
        if not any(one.startswith("storage.") for one in said):
            continue
        acts = {
            one.removeprefix("domain.audit.Act.")
            for function in _beside(caller, names)
            for one in names[function]
            if one.startswith("domain.audit.Act.")
        }
        for one in said:
            if one.startswith("storage."):
                module_name, _, name = one.removeprefix("storage.").rpartition(".")
                found.setdefault(f"{module_name}.py:{name}", {})[caller] = acts
    return found


def _beside(caller: str, names: dict[str, set[str]]) -> set[str]:
    home = caller.rpartition(".")[0]
    up = {caller}
    while more := {one for one, said in names.items() if one.rpartition(".")[0] == home and said & up} - up:
        up |= more
    down = {caller}
    while more := {one for each in down for one in names[each] & names.keys()} - down:
        down |= more
    return down | up


def test_every_function_that_writes_is_accounted_for() -> None:
    """By its acts, or by a reason."""
    assert WRITERS.keys() == writers().keys()


def test_every_table_is_written_by_one_of_them() -> None:
    """And nothing is written that is no table of ours."""
    assert set().union(*writers().values()) == tables.metadata.tables.keys() - KEPT_BY_THE_DATABASE


def test_whoever_writes_names_one_of_its_acts() -> None:
    """Every function that has something written has one of its acts named beside it, and each of the acts has a function."""
    found = callers()
    for writer, acts in WRITERS.items():
        if isinstance(acts, str) or writer in STEPS or writer == "levels.py:relevel":
            continue
        said = {act.name for act in acts}
        silent = {caller for caller, named in found[writer].items() if not said & named}

        assert silent == set(), writer
        assert said <= set().union(*found[writer].values()), writer


def test_steps_of_a_plan_have_the_acts_stated() -> None:
    """`apply` writes down what `alliance_audit` maps its steps to, and versions that went or moved in their collection's stream."""
    stated = {name: WRITERS[name] for name in STEPS}
    mapped = {
        f"{act.__module__.rpartition('.')[2]}.py:{act.__name__}": set(acts.values())
        for act, acts in alliance_audit._ACTS.items()
    }
    mapped["alliance.py:remove_collection"] |= {Act.OBJECTS_PRUNED}

    assert mapped == stated
    assert "Act.OBJECTS_RELEVELED" in (SOURCE / "operations" / "alliance_audit.py").read_text()
