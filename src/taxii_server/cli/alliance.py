"""`apply`: make the alliance match its file; `collection list`: how it stands."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from taxii_server.cli import context, output
from taxii_server.domain.access import Grant
from taxii_server.operations import alliance, alliance_file, durations, issuers
from taxii_server.operations.alliance_plan import Plan
from taxii_server.operations.alliance_steps import Kind, unmarked

_SIGNS = {Kind.CREATE: "+", Kind.CHANGE: "~", Kind.DELETE: "-", Kind.ABSENT: "?", Kind.NOTE: "!"}

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Collections: their rules, and who may do what.")


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


@app.command("list")
def list_collections(json: output.AsJson = False) -> None:
    """List the collections with their rules and grants."""
    listed = context.run(alliance.collections)
    if json:
        output.as_json(
            [
                {
                    "collection": one.name,
                    "id": one.id,
                    "title": one.title,
                    "validation": one.policy.validation,
                    "ceiling": one.policy.ceiling.text,
                    "unmarked": unmarked(one.policy),
                    "owner_only": one.policy.owner_only,
                    "attribution": one.policy.attribution,
                    "retention": None if one.retention is None else durations.write(one.retention),
                    "grants": {
                        member: {"rights": grant.rights, "clearance": grant.clearance.text}
                        for member, grant in sorted(one.grants.items())
                    },
                }
                for one in listed
            ]
        )
        return
    output.table(
        ("COLLECTION", "CEILING", "UNMARKED", "OWNER ONLY", "ATTRIBUTION", "MEMBER", "RIGHTS", "CLEARANCE"),
        [
            (
                one.name,
                one.policy.ceiling.text,
                unmarked(one.policy),
                "yes" if one.policy.owner_only else "no",
                one.policy.attribution,
                member,
                None if grant is None else grant.rights,
                None if grant is None else grant.clearance.text,
            )
            for one in listed
            for member, grant in _grants(one)
        ],
        "There are no collections yet: taxii-server apply alliance.yaml",
    )


def _grants(one: alliance.ListedCollection) -> list[tuple[str | None, Grant | None]]:
    return [*sorted(one.grants.items())] or [(None, None)]


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
