"""`client`: issue, rotate, revoke, list."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Annotated, Final

import typer

from taxii_server.cli import context, output
from taxii_server.domain.access import BOTH, Right
from taxii_server.operations import clients
from taxii_server.operations.clients import IssuedClient

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Clients: the software of members.")

# takes the token out of the JSON without a tool that may not be there
_PICK: Final = """sed 's/.*"access_token": *"\\([^"]*\\)".*/\\1/'"""

_ClientId = Annotated[str, typer.Argument(metavar="ID", help="The client's id.", show_default=False)]


def _rights(text: str) -> frozenset[Right]:
    try:
        return frozenset(Right(each.strip()) for each in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is neither read nor write nor read,write") from error


@app.command()
def issue(
    member: Annotated[str, typer.Argument(metavar="MEMBER", help="Whose client it is.", show_default=False)],
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help="What to call it, like siem.", show_default=False)
    ],
    rights: Annotated[
        frozenset[Right] | None,
        typer.Option(parser=_rights, metavar="RIGHTS", help="Only these of its member's rights: read, write."),
    ] = None,
    collection: Annotated[
        list[str] | None,
        typer.Option("--collection", metavar="COLLECTION", help="Only this collection of its member's; repeatable."),
    ] = None,
    expires_in: Annotated[
        timedelta | None, typer.Option(parser=output.duration, metavar="TIME", help="Refuse it after 90d, say.")
    ] = None,
    json: output.AsJson = False,
) -> None:
    """Issue a client to a member. Its secret is shown once."""
    with context.place() as here:
        here.need_schema()
        issued = here.run(
            partial(
                clients.issue,
                member=member,
                name=name,
                rights=rights or BOTH,
                collections=collection or (),
                expires_in=expires_in,
            )
        )
    _tell(issued, here.settings.public_url, json=json)


@app.command()
def rotate(
    client_id: _ClientId,
    overlap: Annotated[
        timedelta, typer.Option(parser=output.duration, metavar="TIME", help="How long the old secret goes on.")
    ] = "24h",  # type: ignore[assignment] # typer gives the default to the parser
    json: output.AsJson = False,
) -> None:
    """Give a client a new secret, shown once; the old one goes on for a while."""
    with context.place() as here:
        here.need_schema()
        issued = here.run(partial(clients.rotate, client_id=client_id, overlap=overlap))
    _tell(issued, here.settings.public_url, json=json)


@app.command()
def revoke(client_id: _ClientId, json: output.AsJson = False) -> None:
    """Refuse a client from its next request on, for good."""
    revoked = context.run(partial(clients.revoke, client_id=client_id))
    if json:
        output.as_json({"client_id": client_id, "revoked": True, "changed": revoked})
    else:
        print(f"{client_id} is revoked." if revoked else f"{client_id} was revoked already.")


@app.command("list")
def list_clients(json: output.AsJson = False) -> None:
    """List all clients, the ended ones too."""
    listed = context.run(clients.clients)
    if json:
        output.as_json(listed)
        return
    output.table(
        ("CLIENT", "MEMBER", "RIGHTS", "COLLECTIONS", "STATE", "SECRETS", "ISSUED", "EXPIRES"),
        [
            (
                one.client_id,
                one.member,
                one.rights,
                "all granted" if one.collections is None else one.collections,
                one.state,
                one.secrets,
                one.created_at,
                one.expires_at,
            )
            for one in listed
        ],
        "There are no clients yet: taxii-server client issue MEMBER --name NAME",
    )


def _tell(issued: IssuedClient, public_url: str, *, json: bool) -> None:
    if json:
        output.as_json({"client_id": issued.client_id, "client_secret": issued.client_secret})
        return
    print(f"client id      {issued.client_id}")
    print(f"client secret  {issued.client_secret}")
    print("The secret is not shown again. To try it, with the secret as password and with a token:\n")
    for line in paste_lines(issued, public_url):
        print(line)


def paste_lines(issued: IssuedClient, public_url: str) -> list[str]:
    """Shell lines that ask for discovery, by Basic and by a token."""
    accept = "-H 'Accept: application/taxii+json;version=2.1'"
    basic = f"-u '{issued.client_id}:{issued.client_secret}'"
    return [
        f"curl {basic} {accept} {public_url}/taxii2/",
        "",
        f"TOKEN=$(curl -s {basic} -d grant_type=client_credentials {public_url}/oauth2/token | {_PICK})",
        f'curl -H "Authorization: Bearer $TOKEN" {accept} {public_url}/taxii2/',
    ]
