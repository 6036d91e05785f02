"""`import` and `export`: STIX bundles and envelopes, into a collection and out of it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from taxii_server.cli import context, output
from taxii_server.cli.validators import validators
from taxii_server.domain.errors import BadBody, OperatorError
from taxii_server.operations import transfer
from taxii_server.operations.transfer import Imported
from taxii_server.storage.engine import Database

_Collection = Annotated[
    str, typer.Argument(metavar="COLLECTION", help="trust-group/alias, or its id.", show_default=False)
]


def import_files(
    collection: _Collection,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Bundles or envelopes.", show_default=False)],
    member: Annotated[str, typer.Option("--as", metavar="MEMBER", help="Who brings them.", show_default=False)],
    json: output.AsJson = False,
) -> None:
    """Add the objects of STIX bundles or TAXII envelopes to a collection, in a member's name.

    Each object is judged and stored or refused by itself; one that is there already is no fault, so an import that was
    stopped is simply run again: it passes over what it stored before. Exits with 1 if an object was refused.
    """
    report: Imported | None = None
    with context.place() as here, output.reading(sum(map(_size, files))) as progress:
        here.need_schema()

        async def add(db: Database) -> Imported | None:
            done = report
            async with validators(here.settings) as judges:
                for file in files:
                    try:
                        with _reading(file) as opened:
                            done = await transfer.import_objects(
                                db,
                                judges,
                                collection=collection,
                                member=member,
                                file=opened,
                                report=done,
                                progress=progress.of_next(),
                            )
                    except BadBody as error:
                        stored = f" ({progress.objects} objects before that were looked at)" if progress.objects else ""
                        raise OperatorError(f"{file} is no bundle or envelope: {error.message}{stored}") from error
            return done

        report = here.run(add)
    if report is None:
        return
    if json:
        output.as_json(report)
    else:
        _show(report)
    if report.refused:
        raise typer.Exit(output.REFUSED)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise _unreadable(file, error) from error


@contextmanager
def _reading(file: Path) -> Iterator[BinaryIO]:
    try:
        with file.open("rb") as opened:
            yield opened
    except OSError as error:
        raise _unreadable(file, error) from error


def _unreadable(file: Path, error: OSError) -> OperatorError:
    return OperatorError(f"{file} can't be read: {error.strerror}")


def _show(report: Imported) -> None:
    for one in report.refused:
        output.note(f"refused {one.id} {one.version}: {one.message}")
    if report.refused_besides:
        output.note(f"… and {report.refused_besides} more")
    print(
        f"{report.collection}: {report.stored} stored, {report.already_there} already there, "
        f"{len(report.refused) + report.refused_besides} refused"
    )


def export(
    collection: _Collection,
    versions: Annotated[str, typer.Option(metavar="last|all", help="The latest of each object, or all.")] = "last",
    to: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where to; stdout by default.")
    ] = None,
) -> None:
    """Write a collection as one STIX bundle, each object exactly as it was posted."""
    if versions not in {"last", "all"}:
        raise typer.BadParameter(f"{versions!r} is neither last nor all", param_hint="--versions")
    with context.place() as here, ExitStack() as stack:
        here.need_schema()
        total = here.run(partial(transfer.count, collection=collection)) if versions == "all" else None
        file = sys.stdout.buffer if to is None else stack.enter_context(_writing(to))
        progress = stack.enter_context(output.progress("objects"))

        async def write(db: Database) -> None:
            written = -2  # the bundle's beginning and end are no objects
            async for part in transfer.export_objects(db, collection=collection, all_versions=versions == "all"):
                file.write(part.encode())  # JSON is UTF-8 whatever the terminal's encoding is
                written += 1
                if written > 0:
                    progress(written, total)

        here.run(write)
        file.flush()


def _writing(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise OperatorError(f"{path} can't be written: {error.strerror}") from error
