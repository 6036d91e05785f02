"""`db`: upgrade, check, advance-clock."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Annotated

import typer

from taxii_server.cli import context, output
from taxii_server.operations import maintenance, replica_check
from taxii_server.operations.maintenance import Checked
from taxii_server.storage.engine import Database

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="The database.")


@app.command()
def upgrade(json: output.AsJson = False) -> None:
    """Bring the schema up to this version's. Safe to run again, and while servers run."""
    with context.place() as here:
        revision = here.upgrade()
    if json:
        output.as_json({"revision": revision})
    else:
        print(f"The schema is up to date ({revision}).")


@app.command()
def check(json: output.AsJson = False) -> None:
    """Look whether schema, role, clocks, kept levels and replicas are as they should be. Exits with 4 if something is not."""
    with context.place() as here:
        if here.embedded:
            here.need_schema()
        with output.progress("versions checked") as progress:

            async def looked(db: Database) -> Checked:
                total = None if await maintenance.schema_behind(db) else await maintenance.estimated_versions(db)
                checked = await maintenance.check(db, lambda done: progress(done, max(done, total or 0)))
                unfit = await replica_check.check(db, here.replica_urls)
                return replace(checked, findings=(*checked.findings, *unfit))

            checked = here.run(looked)
    if json:
        output.as_json(
            {
                "sound": checked.sound,
                "revision": checked.revision,
                "collections": checked.collections,
                "versions": checked.versions,
                "findings": checked.findings,
                "more_findings": checked.more,
            }
        )
    else:
        _show(checked)
    if not checked.sound:
        raise typer.Exit(output.FOUND_SOMETHING)


def _show(checked: Checked) -> None:
    for finding in checked.findings:
        print(f"✗ {finding.what}\n  → {finding.remedy}")
    if checked.more:
        print(f"… and {checked.more} more.")
    looked_at = (
        f"{output.count(checked.collections, 'collection')}, {output.count(checked.versions, 'version')}, "
        f"schema {checked.revision}"
    )
    print(f"All is well: {looked_at}." if checked.sound else f"Looked at {looked_at}.")


@app.command("advance-clock")
def advance_clock(
    by: Annotated[
        timedelta,
        typer.Option("--by", parser=output.duration, metavar="TIME", help="How far past the database's time."),
    ] = "5s",  # type: ignore[assignment] # typer gives the default to the parser
    json: output.AsJson = False,
) -> None:
    """Move every collection's clock ahead: after a restore or a failover, before servers start again.

    What pollers were given since the backup was made bears dates that must not be given out again.
    """
    moved = context.run(partial(maintenance.advance_clocks, by=by))
    if json:
        output.as_json({"clocks": moved})
    else:
        print(f"{output.count(moved, 'clock')} advanced.")
