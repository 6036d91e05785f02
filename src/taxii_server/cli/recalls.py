"""`recall`: withdraw an object, see what became of that, let it in again."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from taxii_server.cli import context, output
from taxii_server.domain.errors import BadReason
from taxii_server.domain.recalls import reason_of
from taxii_server.operations import operator_recalls as operation
from taxii_server.operations.operator_recalls import Shown, Withdrawal


class _AnObject(TyperGroup):
    """Takes what names no command of its own for the object that is to be recalled."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["object", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_AnObject, no_args_is_help=True, help="Withdraw objects: taxii-server recall COLLECTION OBJECT-ID."
)

_Collection = Annotated[
    str, typer.Argument(metavar="COLLECTION", help="trust-group/alias, or its id.", show_default=False)
]
_Object = Annotated[str, typer.Argument(metavar="OBJECT-ID", help="The STIX identifier.", show_default=False)]


def _reason(text: str | None) -> str | None:
    try:
        return reason_of(text)
    except BadReason as error:
        raise typer.BadParameter(error.message or error.title) from error


_Reason = Annotated[
    str | None,
    typer.Option("--reason", callback=_reason, help="Told to whoever tries to add it again.", show_default=False),
]


@app.command("object")
def recall(
    collection: _Collection,
    stix_id: _Object,
    member: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="MEMBER",
            help="In this member's name: only what no other member brought.",
            show_default=False,
        ),
    ] = None,
    reason: _Reason = None,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="From every other collection that holds it, too.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would become of it, and do nothing.")] = False,
    json: output.AsJson = False,
) -> None:
    """Withdraw an object: revoked where STIX has that, else deleted; it isn't taken again until that is lifted.

    Exits with 1 if it could not be withdrawn from a collection that was meant.
    """
    done = context.run(
        partial(
            operation.recall,
            collection=collection,
            stix_id=stix_id,
            member=member,
            reason=reason,
            everywhere=everywhere,
            dry_run=dry_run,
        )
    )
    if json:
        output.as_json(done)
    else:
        _tell(done)
    if done.refused:
        raise typer.Exit(output.REFUSED)


def _tell(done: Withdrawal) -> None:
    for one in done.recalled:
        print(f"{one.collection}: {_what_became(one, dry_run=done.dry_run)}")
    for refused in done.refused:
        output.note(f"{refused.collection}: {refused.message}")
    if done.elsewhere:
        output.note(
            f"It is stored in {', '.join(done.elsewhere)} too, and stays there: recall it there, or add --everywhere."
        )


def _what_became(one: Shown, *, dry_run: bool = False) -> str:
    if one.changed is False:
        return f"recalled already, {one.recalled_at.isoformat(sep=' ', timespec='seconds').removesuffix('+00:00')}Z."
    if one.outcome == "deleted":
        verb = "would be" if dry_run else "was"
        return f"{one.id} can't be revoked and {verb} deleted. Pollers don't learn of it: tell whoever has it."
    if dry_run:
        return f"{one.id} would be revoked by a new version."
    return f"{one.id} is revoked; {', '.join(version.version for version in one.versions)} says so to whoever polls."


@app.command()
def show(collection: _Collection, stix_id: _Object, json: output.AsJson = False) -> None:
    """Tell what became of a recalled object, and who has learned of it."""
    shown = context.run(partial(operation.show, collection=collection, stix_id=stix_id))
    if json:
        output.as_json(shown)
        return
    output.table(*_table([shown]), nothing="")
    print()
    columns = ["MEMBER", "CLIENT", "RECEIVED", "FIRST", "LAST", "INFORMED", "LAST POLL", "POLLED SINCE"]
    rows = [
        [
            one.member,
            one.client_id,
            "content" if one.content else "listing",
            one.first,
            one.last,
            one.informed_at,
            one.polled_at,
            "yes" if one.polled_since else "no",
        ]
        for one in shown.recipients or ()
    ]
    output.table(columns, rows, nothing="Nobody had been sent it.")


@app.command("list")
def listing(collection: _Collection, json: output.AsJson = False) -> None:
    """List the objects that were recalled from a collection, the lifted ones too."""
    found = context.run(partial(operation.listing, collection=collection))
    if json:
        output.as_json(found)
        return
    output.table(*_table(found), nothing="Nothing was recalled.")


def _table(found: list[Shown]) -> tuple[list[str], list[list[object]]]:
    columns = ["OBJECT", "STATE", "OUTCOME", "RECALLED", "LIFTED", "CONTRIBUTOR", "BY", "REASON"]
    rows: list[list[object]] = [
        [
            one.id,
            one.state,
            one.outcome,
            one.recalled_at,
            one.lifted_at,
            one.member,
            one.client or "the operator",
            one.reason,
        ]
        for one in found
    ]
    return columns, rows


@app.command()
def lift(collection: _Collection, stix_id: _Object, reason: _Reason = None, json: output.AsJson = False) -> None:
    """Let a recalled object be added again. What is revoked stays so: STIX knows no way back but a new id."""
    lifted = context.run(partial(operation.lift, collection=collection, stix_id=stix_id, reason=reason))
    if json:
        output.as_json(lifted)
    else:
        print(f"{lifted.id} {'may be added again' if lifted.changed else 'was lifted already'}.")
