"""`apply`: make the alliance match its file."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from taxii_server.cli import context, output
from taxii_server.operations import alliance, alliance_file, issuers
from taxii_server.operations.alliance import Kind, Plan

_SIGNS = {Kind.CREATE: "+", Kind.CHANGE: "~", Kind.DELETE: "-", Kind.ABSENT: "?"}


def apply(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="alliance.yaml", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Delete what is not in the file, with all it holds.")] = False,
    json: output.AsJson = False,
) -> None:
    """Make trust groups, members, collections and grants match a file.

    All of it happens, or nothing. What is not in the file is told and stays, unless you ask to prune it.
    """
    wanted = alliance_file.load(file)
    with context.place() as here:
        here.need_schema()
        issuers.refuse_own(wanted, here.settings.public_url)
        plan = here.run(partial(alliance.apply, wanted=wanted, prune=prune, dry_run=dry_run))
    if json:
        output.as_json(
            {
                "dry_run": dry_run,
                "changed": bool(plan.changes) and not dry_run,
                "steps": [{"kind": step.kind, "what": step.what} for step in plan.steps],
            }
        )
    else:
        _show(plan, dry_run=dry_run)


def _show(plan: Plan, *, dry_run: bool) -> None:
    for step in plan.steps:
        print(f"{_SIGNS[step.kind]} {step.line}")
    if not plan.changes:
        print("Nothing to change.")
    elif dry_run:
        print(f"{_count(plan)} to make. Nothing was changed.")
    else:
        print(f"{_count(plan)} made.")
    if plan.absent:
        print("--prune deletes what is marked with ?, with all it holds.")


def _count(plan: Plan) -> str:
    return f"{len(plan.changes)} change{'s' if len(plan.changes) > 1 else ''}"
