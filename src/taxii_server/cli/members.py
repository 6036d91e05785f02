"""`member`: suspend, resume, list."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from taxii_server.cli import context, output
from taxii_server.operations import members, sizes

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Members: banks, law enforcement, vendors.")

_Slug = Annotated[str, typer.Argument(metavar="SLUG", help="The member.", show_default=False)]


@app.command()
def suspend(slug: _Slug, json: output.AsJson = False) -> None:
    """Refuse all of a member's clients from their next request on, until it is resumed."""
    changed = context.run(partial(members.suspend, slug=slug))
    if json:
        output.as_json({"member": slug, "suspended": True, "changed": changed})
    else:
        print(f"{slug} is suspended." if changed else f"{slug} was suspended already.")


@app.command()
def resume(slug: _Slug, json: output.AsJson = False) -> None:
    """Let a suspended member's clients in again."""
    changed = context.run(partial(members.resume, slug=slug))
    if json:
        output.as_json({"member": slug, "suspended": False, "changed": changed})
    else:
        print(f"{slug} is active again." if changed else f"{slug} was not suspended.")


@app.command("list")
def list_members(json: output.AsJson = False) -> None:
    """List the members."""
    listed = context.run(members.members)
    if json:
        output.as_json(
            [
                {
                    "slug": one.slug,
                    "name": one.name,
                    "kind": one.kind,
                    "suspended_at": one.suspended_at,
                    "clients": one.clients,
                    "collections": one.grants,
                    "octets": one.octets,
                    "quota": one.quota,
                }
                for one in listed
            ]
        )
        return
    output.table(
        ("MEMBER", "NAME", "KIND", "STATE", "CLIENTS", "COLLECTIONS", "STORES", "QUOTA"),
        [
            (
                one.slug,
                one.name,
                one.kind,
                "suspended" if one.suspended_at else "active",
                one.clients,
                one.grants,
                sizes.about(one.octets),
                "none" if one.quota is None else sizes.write(one.quota),
            )
            for one in listed
        ],
        "There are no members yet: taxii-server apply alliance.yaml",
    )
