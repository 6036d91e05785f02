"""The operators' terminal. Each command parses, calls one operation and renders what it gives.

Exit codes: 0 all is well; 1 refused, and the message says what to do; 2 the command line makes no sense; 3 the database
can't be used; 4 `db check`, `audit verify` or `check` found something; 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import taxii_server
from taxii_server.cli import (
    alliance,
    audit,
    check,
    clients,
    db,
    demo,
    disclosures,
    keys,
    maintain,
    members,
    objects,
    openapi,
    output,
    recalls,
    serve,
    tokens,
)
from taxii_server.domain.errors import TaxiiServerError


class _Refusing(TyperGroup):
    """Turns every refusal of ours into words on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except TaxiiServerError as error:
            output.refusal(error)
            raise typer.Exit(output.exit_code(error)) from error
        except KeyboardInterrupt as stop:
            print("Stopped. What was done so far stays; run it again to go on.", file=sys.stderr)
            raise typer.Exit(output.STOPPED) from stop


app = typer.Typer(
    name="taxii-server",
    cls=_Refusing,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A TAXII 2.1 server for alliances that share cyber threat intelligence.",
)


def _version(asked: bool) -> None:
    if asked:
        print(f"taxii-server {taxii_server.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    output.quiet_logs()


app.command("serve")(serve.serve)
app.command("demo")(demo.demo)
app.command("apply")(alliance.apply)
app.add_typer(clients.app, name="client")
app.add_typer(members.app, name="member")
app.add_typer(alliance.app, name="collection")
app.command("token")(tokens.token)
app.command("revoke-token")(tokens.revoke_token)
app.add_typer(keys.app, name="key")
app.add_typer(audit.app, name="audit")
app.command("import")(objects.import_files)
app.command("export")(objects.export)
app.command("disclosures")(disclosures.disclosures)
app.add_typer(recalls.app, name="recall")
app.add_typer(db.app, name="db")
app.command("check")(check.check)
app.command("maintain")(maintain.maintain)
app.command("openapi")(openapi.openapi)


def main() -> None:
    """Run the command line."""
    output.any_terminal()
    app()
