"""`key`: list, rotate, retire."""

from __future__ import annotations

import re
from functools import partial
from typing import Annotated, Final

import typer

from taxii_server.cli import context, output
from taxii_server.operations import signing_keys
from taxii_server.storage.engine import Database

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Signing keys: what access tokens are signed with.")

# A thumbprint (RFC 7638) is base64url, so it may begin like an option; what operators and others make never does.
_LIKE_AN_OPTION: Final = re.compile(r"-[A-Za-z0-9_-]{42}")


@app.command("list")
def list_keys(json: output.AsJson = False) -> None:
    """List the signing keys, newest first, those that ended in the last thirty days too."""
    listed = context.run(signing_keys.listing)
    if json:
        output.as_json(listed)
        return
    output.table(
        ("KEY", "STATE", "MADE", "SIGNS UNTIL", "VERIFIES UNTIL"),
        [(one.kid, one.state, one.created_at, one.signs_until, one.verifies_until) for one in listed],
        "There are no signing keys yet: the first token makes one.",
    )


@app.command()
def rotate(json: output.AsJson = False) -> None:
    """Let a new key sign from the next token on; the old one verifies until its last token has expired."""
    with context.place() as here:
        here.need_schema()

        async def replace(db: Database) -> str:
            return await signing_keys.rotate(here.signing_keys(db))

        kid = here.run(replace)
    if json:
        output.as_json({"kid": kid})
    else:
        print(f"{kid} signs from now on. Tokens that are out hold until they expire.")


@app.command(context_settings={"ignore_unknown_options": True})
def retire(
    kid: Annotated[str | None, typer.Argument(metavar="KID", help="The key's id.", show_default=False)] = None,
    every: Annotated[bool, typer.Option("--all", help="Every key.")] = False,
    json: output.AsJson = False,
) -> None:
    """Refuse a leaked key and every token that it signed, from the next request on."""
    if kid is not None and kid.startswith("-") and not _LIKE_AN_OPTION.fullmatch(kid):
        raise typer.BadParameter(f"there is no option {kid}")
    if (kid is None) is not every:
        raise typer.BadParameter("name one key, or --all")
    retired = context.run(partial(signing_keys.retire, kid=kid))
    if json:
        output.as_json({"retired": retired})
        return
    for one in retired:
        print(f"{one} is retired: its tokens are refused, and clients fetch new ones.")
    if not retired:
        print(f"{kid} had ended already." if kid else "There was no key to retire.")
