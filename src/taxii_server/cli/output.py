"""What the terminal shows: tables and lines for people, JSON for programs, progress and refusals on stderr."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime, timedelta
from io import TextIOWrapper
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from taxii_server.domain.errors import AllianceInvalid, DatabaseGone, NotAuthenticated, TaxiiServerError, Unavailable
from taxii_server.domain.timestamps import to_taxii
from taxii_server.operations import durations
from taxii_server.web import logs

REFUSED: Final = 1
UNAVAILABLE: Final = 3
FOUND_SOMETHING: Final = 4

_WIDE: Final = 400
_SECONDS_BETWEEN_LINES: Final = 10.0
_GAP: Final = 2
"""Between two columns, as rich sets them."""

STOPPED: Final = 130
"""What a shell gives a command that ended by SIGINT."""

EXIT_CODES: Final[Mapping[type[TaxiiServerError], int]] = {TaxiiServerError: REFUSED, Unavailable: UNAVAILABLE}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def exit_code(error: TaxiiServerError) -> int:
    """Give the exit code of a refusal by its class or the nearest base that has one."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def refusal(error: TaxiiServerError) -> None:
    """Tell on stderr what was refused and why."""
    message = error.message or error.title
    if isinstance(error, NotAuthenticated):
        message = f"{message} ({error.reason})"
    if isinstance(error, AllianceInvalid):
        print(error.message, file=sys.stderr)
        print(f"{error.title}; nothing was changed.", file=sys.stderr)
        return
    if isinstance(error, DatabaseGone):
        message = (
            f"the database can't be used{_cause(error)}. Does it run, and does TAXII_DATABASE_URL name it and a role "
            "that it lets in?"
        )
    print(f"{error.title}: {message}", file=sys.stderr)


def _cause(error: DatabaseGone) -> str:
    """What the driver said, for the operator's eyes; it never tells a password."""
    said = str(getattr(error.__cause__, "orig", None) or "").strip()
    return f" ({said.splitlines()[0]})" if said else ""


def quiet_logs() -> None:
    """Log errors only, to stderr: a command says in its own words what it did, and what it couldn't."""
    logs.configure(None, "error")


def any_terminal() -> None:
    """Let no character that a terminal's encoding lacks end a command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def as_json(value: object) -> None:
    """Print a value as JSON."""
    print(json.dumps(value, default=_plain, indent=2, ensure_ascii=False))


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], nothing: str) -> None:
    """Print rows under their columns, or where a terminal is too narrow one field a line; `nothing` where there are none."""
    if not rows:
        print(nothing)
        return
    cells = [[_cell(value) for value in row] for row in rows]
    wide = sum(max(map(cell_len, column)) + _GAP for column in zip(columns, *cells, strict=True)) - _GAP
    console = Console(soft_wrap=False, width=None if sys.stdout.isatty() else max(wide, _WIDE))
    if wide > console.width:
        _fields(console, columns, cells)
        return
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        shown.add_column(column, no_wrap=True)
    for row in cells:
        shown.add_row(*map(Text, row))
    console.print(shown)


def _fields(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A folded id is neither read nor copied, so fields keep to lines of their own."""
    for number, row in enumerate(rows):
        if number:
            console.print()
        shown = Table(box=None, pad_edge=False, show_header=False)
        shown.add_column(style="bold", no_wrap=True)
        shown.add_column(overflow="fold")
        for column, value in zip(columns, row, strict=True):
            shown.add_row(Text(column), Text(value))
        console.print(shown)


def count(number: int, noun: str) -> str:
    """Count things in words, all but the irregular."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def note(message: str) -> None:
    """Say something on stderr, out of the way of what is piped on."""
    print(message, file=sys.stderr)


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show on stderr how far long work is: call with how much is done, and of how much."""
    console = Console(stderr=True)
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)

        def done(count: int, total: int | None) -> None:
            bar.update(task, completed=count, total=total)

        yield done


class Reading:
    """How far files are: told to a terminal as a bar, and to whatever else stderr is by a line now and then."""

    def __init__(self, octets: int, show: Callable[[int, int, str], None] | None) -> None:
        """Take the size of all files together, and what shows octets, of how many, and words; None for lines."""
        self.objects = 0
        self._octets = octets
        self._show = show
        self._begun = self._told = time.monotonic()
        self._before = (0, 0)
        self._now = (0, 0)

    def of_next(self) -> Callable[[int, int], None]:
        """Give what is called with the objects that are done and the octets that were read of the next file."""
        self._before = before = (self._before[0] + self._now[0], self._before[1] + self._now[1])

        def done(objects: int, octets: int) -> None:
            self._now = (objects, octets)
            self.objects = before[0] + objects
            now = time.monotonic()
            rate = self.objects / max(now - self._begun, 0.001)
            words = f"{self.objects:,} objects, {rate:,.0f} a second"
            if self._show is not None:
                self._show(before[1] + octets, self._octets, words)
            elif now - self._told > _SECONDS_BETWEEN_LINES:
                self._told = now
                note(f"{words}, {100 * (before[1] + octets) // max(1, self._octets)} % read")

        return done


@contextmanager
def reading(octets: int) -> Iterator[Reading]:
    """Show on stderr how far files of so many octets are read, how many objects are done, and how fast."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield Reading(octets, None)
        return
    columns = (SpinnerColumn(), BarColumn(), DownloadColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=octets)
        yield Reading(
            octets, lambda done, total, words: bar.update(task, completed=done, total=total, description=words)
        )


def duration(text: str) -> timedelta:
    """Read an option like 90d."""
    try:
        return durations.parse(text)
    except durations.DurationError as error:
        raise typer.BadParameter(str(error)) from error


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds").removesuffix("+00:00") + "Z"
        case tuple() | list() | frozenset():
            return ", ".join(_cell(each) for each in sorted(value))
        case _:
            return str(value)


def _plain(value: object) -> Any:
    match value:
        case datetime():
            return to_taxii(value)
        case UUID():
            return str(value)
        case frozenset() | set():
            return sorted(value)
        case timedelta():
            return value.total_seconds()
        case _ if is_dataclass(value) and not isinstance(value, type):
            return asdict(value)
        case _:
            raise TypeError(type(value).__name__)
