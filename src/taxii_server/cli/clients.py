"""`client`: issue, rotate, revoke, list, and how they fare."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from taxii_server.cli import client_certificates, context, output, paste
from taxii_server.cli.context import Place
from taxii_server.domain.access import BOTH, Right
from taxii_server.operations import client_certificates as certifying
from taxii_server.operations import clients, consumers, durations
from taxii_server.operations.clients import IssuedClient, TiedClient
from taxii_server.operations.consumers import Consumer, Patience
from taxii_server.storage.engine import Database

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Clients: the software of members.")

app.add_typer(client_certificates.app, name="certificate")
app.command("require")(client_certificates.require)

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
    issuer: Annotated[
        str | None, typer.Option(metavar="SLUG", help="This outside issuer vouches for it; no secret is made.")
    ] = None,
    subject: Annotated[
        str | None, typer.Option(metavar="VALUE", help="What the issuer's tokens call it, with --issuer.")
    ] = None,
    certificate: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="It must show this certificate, and has no secret; repeatable."),
    ] = None,
    and_secret: Annotated[
        bool, typer.Option("--and-secret", help="With --certificate: a secret too, and it must show both.")
    ] = False,
    json: output.AsJson = False,
) -> None:
    """Issue a client to a member. Its secret is shown once."""
    if (issuer is None) is not (subject is None):
        raise typer.BadParameter("--issuer and --subject go together")
    if certificate and issuer is not None:
        raise typer.BadParameter("--issuer and --certificate don't go together: an issuer binds tokens itself")
    if and_secret and not certificate:
        raise typer.BadParameter("--and-secret goes with --certificate; without one there is a secret anyway")
    shown = [client_certificates.of_file(file) for file in certificate or ()]
    wanted: dict[str, Any] = {
        "member": member,
        "name": name,
        "rights": rights or BOTH,
        "collections": collection or (),
        "expires_in": expires_in,
    }
    with context.place() as here:
        here.need_schema()
        if shown:
            certified = partial(certifying.issue, certificates=shown, and_secret=and_secret, **wanted)
            client_certificates.tell(here, here.run(certified), shown, json=json)
        elif issuer is None:
            _tell(here, here.run(partial(clients.issue, **wanted)), json=json)
        else:
            _tell_tied(here, here.run(partial(clients.tie, issuer=issuer, subject=str(subject), **wanted)), json=json)


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
        _tell(here, issued, json=json)


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
        (
            "CLIENT",
            "MEMBER",
            "RIGHTS",
            "COLLECTIONS",
            "STATE",
            "MUST SHOW",
            "SECRETS",
            "CERTIFICATES",
            "CERTIFIED UNTIL",
            "ISSUER",
            "ISSUED",
            "EXPIRES",
        ),
        [
            (
                one.client_id,
                one.member,
                one.rights,
                "all granted" if one.collections is None else one.collections,
                one.state,
                one.authentication,
                one.secrets,
                one.certificates,
                one.certified_until,
                one.issuer,
                one.created_at,
                one.expires_at,
            )
            for one in listed
        ],
        "There are no clients yet: taxii-server client issue MEMBER --name NAME",
    )


@app.command()
def health(
    client_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Only this client; a revoked one too.", show_default=False)
    ] = None,
    behind_after: Annotated[
        timedelta,
        typer.Option(parser=output.duration, metavar="TIME", help="Let new objects wait so long for a poll."),
    ] = "1h",  # type: ignore[assignment] # typer gives the default to the parser
    silent_after: Annotated[
        timedelta, typer.Option(parser=output.duration, metavar="TIME", help="Let a client pause so long.")
    ] = "24h",  # type: ignore[assignment]
    ending_within: Annotated[
        timedelta, typer.Option(parser=output.duration, metavar="TIME", help="Tell so long before what ends.")
    ] = "30d",  # type: ignore[assignment]
    json: output.AsJson = False,
) -> None:
    """Tell which clients poll, fell behind, went silent or end soon, for each collection that they may read."""
    patience = Patience(behind=behind_after, silent=silent_after, ending=ending_within)
    found = context.run(partial(_all_consumers, patience=patience, client_id=client_id))
    if json:
        output.as_json(found)
        return
    output.table(
        ("CLIENT", "MEMBER", "COLLECTION", "LAST POLL", "NEWEST OBJECT", "WAITING", "BEHIND", "ERRORS", "VERDICT"),
        [
            (
                one.client_id,
                one.member,
                one.collection,
                one.polled_at,
                one.newest,
                f"over {one.waiting:,}" if one.more_waiting else one.waiting,
                durations.about(one.behind) if one.behind else None,
                f"{one.errors_in_row}{'+' if one.more_in_row else ''}" if one.errors_in_row else None,
                one.words,
            )
            for one in found
        ],
        "No client may read anything yet.",
    )


async def _all_consumers(db: Database, patience: Patience, client_id: str | None) -> list[Consumer]:
    found: list[Consumer] = []
    after = None
    while True:
        page = await consumers.consumers(db, patience, client_id=client_id, after=after)
        found += page.consumers
        if page.next is None:
            return found
        after = page.next


def _tell_tied(here: Place, tied: TiedClient, *, json: bool) -> None:
    if json:
        output.as_json(tied)
    else:
        print(f"client id  {tied.client_id}")
        print("It has no secret. It sends access tokens that say:")
        print(f"  iss      {tied.issuer}")
        print(f"  aud      {tied.audience}")
        print(f"  {tied.claim:<8} {tied.subject}")
        print(f"to {here.settings.public_url}/taxii2/ as Authorization: Bearer …")
    for warning in paste.warnings(here.run(partial(clients.reach, client_id=tied.client_id))):
        output.note(f"Warning: {warning}")


def _tell(here: Place, issued: IssuedClient, *, json: bool) -> None:
    # the secret first: nothing that fails afterwards may lose it
    if json:
        output.as_json({"client_id": issued.client_id, "client_secret": issued.client_secret})
    else:
        print(f"client id      {issued.client_id}")
        print(f"client secret  {issued.client_secret}")
        print("The secret is not shown again.", flush=True)
    reach = here.run(partial(clients.reach, client_id=issued.client_id))
    if not json:
        for line in paste.lines(issued, reach, here.settings.public_url):
            print(line)
        if here.public_url is None:
            output.note("TAXII_PUBLIC_URL is not set, so these URLs name this machine.")
    for warning in paste.warnings(reach):
        output.note(f"Warning: {warning}")
