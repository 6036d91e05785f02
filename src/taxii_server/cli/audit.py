"""`audit`: what was done; whether that is what was written; and its head, to be kept elsewhere."""

from __future__ import annotations

import json as jsons
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from taxii_server.cli import context, output
from taxii_server.domain.errors import OperatorError
from taxii_server.domain.timestamps import BadTimestamp, from_parameter, to_taxii
from taxii_server.operations import audit, audit_heads, audit_listing
from taxii_server.operations.audit import Verified
from taxii_server.storage.engine import Database

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Audit: what was done, and whether that is what was written."
)


def _instant(text: str) -> datetime:
    try:
        return from_parameter(text)
    except BadTimestamp as error:
        raise typer.BadParameter(str(error)) from error


_Stream = Annotated[
    str | None,
    typer.Option(
        metavar="STREAM",
        help="Of this stream alone, like member:north-bank; or of a collection, like fraud-intel/indicators.",
    ),
]


@app.command()
def head(json: output.AsJson = False) -> None:
    """Print the newest signed head, made now if anything was done since the last: keep it outside of this machine."""
    with context.place() as here:
        here.need_schema()

        async def made(db: Database) -> audit_heads.SignedHead | None:
            keys, issuer = here.signing_keys(db), here.public_url or here.settings.public_url
            return await audit_heads.make(db, keys, issuer, wait=True) or await audit_heads.newest(db)

        found = here.run(made)
    if found is None:
        raise OperatorError("Nothing was done yet that the audit tells of.")
    if json:
        output.as_json({"seq": found.seq, "issued_at": found.issued_at, "kid": found.kid, "head": found.text})
    else:
        print(found.text)


@app.command()
def verify(
    heads: Annotated[
        list[str] | None,
        typer.Option("--head", metavar="FILE|HEAD", help="A head kept outside, or a file or log with some."),
    ] = None,
    jwks: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The JWK Set whose keys those heads must be signed with.")
    ] = None,
    content: Annotated[
        bool, typer.Option("--content", help="Hold what is stored against it, too: reads every version.")
    ] = False,
    json: output.AsJson = False,
) -> None:
    """Go through the whole audit and name every place that isn't what was written. Exits with 4 if there is one."""
    exported = [one for given in heads or () for one in audit.heads_in(_read(given))]
    trusted = None if jwks is None else audit.keys_in(_read(str(jwks)))
    with context.place() as here, output.progress("acts") as progress:
        here.need_schema()

        async def looked(db: Database) -> Verified:
            return await audit.verify(db, exported, trusted, lambda done: progress(done, None), content=content)

        found = here.run(looked)
    if json:
        output.as_json(
            {
                "sound": found.sound,
                "streams": found.streams,
                "acts": found.acts,
                "checkpoints": found.checkpoints,
                "exported_heads": found.exported_heads,
                "exported_until": found.exported_until,
                "covered_until": found.covered_until,
                "uncovered": found.uncovered,
                "content": found.content,
                "flaws": found.flaws,
                "more_flaws": found.more,
            }
        )
    else:
        _show(found)
    if not found.sound:
        raise typer.Exit(output.FOUND_SOMETHING)


def _read(given: str) -> str:
    """Give the text of a file, or the head that was given itself."""
    if audit_heads.FORM.fullmatch(given):
        return given
    try:
        return Path(given).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise OperatorError(f"{given} can't be read: {error.strerror}") from error


def _show(found: Verified) -> None:
    for flaw in found.flaws:
        print(f"✗ {flaw.stream}{'' if flaw.seq is None else f' {flaw.seq}'} {flaw.what}")
    if found.more:
        print(f"… and {found.more} more.")
    looked_at = (
        f"{output.count(found.acts, 'act')} in {output.count(found.streams, 'stream')}, "
        f"{output.count(found.checkpoints, 'checkpoint')}"
    )
    print(f"All is as it was written: {looked_at}." if found.sound else f"Looked at {looked_at}.")
    if found.content is not None:
        print(f"{found.content.versions} versions that were ever added were held against it.")
        if found.content.from_before:
            print(
                f"{found.content.from_before} versions are from before there was an audit: nothing says what they were."
            )
    if found.uncovered:
        print(
            f"{output.count(found.uncovered, 'act')} came after the last checkpoint; nothing would show if the last of them were cut off."
        )
    if found.exported_until is not None:
        print(
            f"The newest --head is of {to_taxii(found.exported_until)}: what came after it could have been written anew by "
            "whoever owns the database and the server's key."
        )
    if not found.exported_heads:
        print("No --head was given: whoever owns the database could have written all of it anew.")


@app.command()
def export(
    stream: _Stream = None,
    after: Annotated[int, typer.Option(min=0, metavar="SEQ", help="After this number of the stream.")] = 0,
    since: Annotated[
        datetime | None,
        typer.Option(parser=_instant, metavar="TIME", help="From this instant on, like 2026-05-01T00:00:00Z."),
    ] = None,
) -> None:
    """Write acts as JSON lines, in the order of stream and number."""
    if after and stream is None:
        raise typer.BadParameter("numbers are those of one stream: name it with --stream", param_hint="--after")
    with context.place() as here:
        here.need_schema()

        async def write(db: Database) -> None:
            async for act in audit_listing.export(db, stream=stream, after=after, since=since):
                line = jsons.dumps(act | {"at": to_taxii(act["at"])}, separators=(",", ":"))
                sys.stdout.write(line + "\n")

        here.run(write)
        sys.stdout.flush()


@app.command("list")
def list_acts(
    stream: _Stream = None,
    last: Annotated[int, typer.Option(min=1, max=10_000, metavar="N", help="How many acts, the newest first.")] = 50,
    json: output.AsJson = False,
) -> None:
    """List the streams, or the last acts of one."""
    if stream is None:
        listed = context.run(audit_listing.streams)
        if json:
            output.as_json(listed)
        else:
            output.table(
                ("STREAM", "COLLECTION", "ACTS"),
                [(one.stream, one.name or "", one.acts) for one in listed],
                "Nothing was done yet.",
            )
        return
    name = stream
    acts = context.run(lambda db: audit_listing.latest(db, name, last))
    if json:
        output.as_json(acts)
        return
    # no table: what an act says of itself has any length, and would squeeze the rest
    for act in acts:
        print(f"{act['seq']:>6}  {to_taxii(act['at'])}  {act['act']}  {act['who']}  {jsons.dumps(act['details'])}")
