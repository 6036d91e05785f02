"""`check`: look at any TAXII 2.1 server from a client's side."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import timedelta
from getpass import getpass
from itertools import groupby
from pathlib import Path
from typing import Annotated, Final
from urllib.request import getproxies_environment

import typer
from rich.console import Console
from rich.text import Text

from taxii_server.auth import secrets
from taxii_server.check import tls
from taxii_server.check.look import Options
from taxii_server.check.results import Outcome, Result, Summary, summary
from taxii_server.check.run import CHECKS, run
from taxii_server.check.words import counted, listed
from taxii_server.cli import output

_MARKS: Final = {
    Outcome.GOOD: ("✓", "green"),
    Outcome.WARNING: ("!", "yellow"),
    Outcome.FAULT: ("✗", "bold red"),
    Outcome.SKIPPED: ("\N{EN DASH}", "dim"),
}
_PLAIN_MARKS: Final = {
    outcome: (mark, style) for (outcome, (_, style)), mark in zip(_MARKS.items(), ("+", "!", "x", "-"), strict=True)
}
_TITLES: Final = max(len(check.title) for check in CHECKS)
_INDENT: Final = 2 + _TITLES + 2
_READABLE: Final = 120
_NARROWEST: Final = 20
_MOST_NAMES: Final = 6


def check(
    url: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="A host, discovery, an API Root, a collection or its objects.", show_default=False
        ),
    ],
    client: Annotated[
        str | None,
        typer.Option(
            metavar="ID",
            help="The client's id, or user name. Its secret comes from TAXII_CLIENT_SECRET, or from stdin.",
        ),
    ] = None,
    token: Annotated[
        bool, typer.Option("--token", help="Send an access token. It comes from TAXII_TOKEN, or from stdin.")
    ] = False,
    token_url: Annotated[
        str | None, typer.Option(help="Where to fetch a token, if the server's metadata doesn't say.")
    ] = None,
    api_root: Annotated[str | None, typer.Option(help="Look at this API Root alone: a URL, or its name.")] = None,
    collection: Annotated[str | None, typer.Option(help="Poll this collection: its id, alias or title.")] = None,
    pages: Annotated[int, typer.Option(min=1, max=1000, help="How many pages to poll.")] = 5,
    ca_file: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Trust these authorities instead of the system's: PEM."),
    ] = None,
    client_cert: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Show this certificate to the server: PEM.")
    ] = None,
    client_key: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The certificate's private key: PEM, unlocked.")
    ] = None,
    timeout: Annotated[
        timedelta,
        typer.Option("--timeout", parser=output.duration, metavar="TIME", help="How long to wait for each answer."),
    ] = "10s",  # type: ignore[assignment] # typer gives the default to the parser
    json: output.AsJson = False,
) -> None:
    """Look whether a TAXII 2.1 server, this one or any other, works for a client: from DNS and TLS to a poll.

    It reads and never writes. Exits with 4 if something is wrong, with what to do about it.
    """
    client_id = _client_id(client)
    secret = _given("TAXII_CLIENT_SECRET", "Client secret") if client_id is not None else None
    options = Options(
        url=url,
        client_id=client_id,
        secret=secret,
        doubt=_doubt(client_id, secret) if client_id is not None and secret is not None else None,
        token=_token() if token else None,
        token_url=token_url,
        ca_file=ca_file,
        client_cert=client_cert,
        client_key=client_key,
        timeout=_seconds(timeout),
        api_root=api_root,
        collection=collection,
        pages=pages,
        proxies=getproxies_environment(),
    )
    _try_files(options)
    shown = _Shown()
    results = asyncio.run(run(options, (lambda _: None) if json else shown.tell))
    found = summary(results)
    if json:
        output.as_json(
            {
                "all_well": found.all_well,
                "good": found.good,
                "warnings": found.warnings,
                "faults": found.faults,
                "skipped": found.skipped,
                "results": results,
            }
        )
    else:
        shown.end(results, found)
    if not found.all_well:
        raise typer.Exit(output.FOUND_SOMETHING)


def _client_id(client: str | None) -> str | None:
    if client is not None and (":" in client or not client.strip() or not client.isprintable()):
        raise typer.BadParameter(
            "an id has no colon in it; the secret comes from TAXII_CLIENT_SECRET or stdin", param_hint="--client"
        )
    return client


def _given(variable: str, what: str) -> str:
    """Take a secret from the environment or stdin, never from the command line, which others on the machine see."""
    secret = os.environ.get(variable)
    if secret is None:
        secret = getpass(f"{what}: ") if sys.stdin.isatty() else sys.stdin.readline()
    if not secret.strip():
        raise typer.BadParameter(f"nothing was given: set {variable}, or write it to stdin", param_hint=what.lower())
    return secret.strip()


def _doubt(client_id: str, secret: str) -> str | None:
    """What only a secret of ours tells by its form; other servers' are left alone."""
    if client_id.startswith(secrets.PREFIX):
        return (
            "The id looks like a secret: are the two swapped? If so it has been on a command line: ask for another one."
        )
    if secret.startswith(f"{client_id}:"):
        return "It begins with the id and a colon: give the secret alone."
    if secret.startswith(secrets.PREFIX) and not secrets.well_formed(secret):
        return "The secret is not whole: its checksum doesn't fit, so it was cut off or mistyped. Copy it once more."
    return None


def _token() -> str:
    token = _given("TAXII_TOKEN", "Token").removeprefix("Bearer ")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise typer.BadParameter("that is no token: it has blanks or special characters", param_hint="--token")
    return token


def _seconds(timeout: timedelta) -> float:
    seconds = timeout.total_seconds()
    if not 0 < seconds <= 600:  # noqa: PLR2004 - ten minutes
        raise typer.BadParameter("give between 1s and 10m", param_hint="--timeout")
    return seconds


def _try_files(options: Options) -> None:
    if options.client_key is not None and options.client_cert is None:
        raise typer.BadParameter("give the certificate with --client-cert", param_hint="--client-key")
    try:
        tls.verifying(options)
    except OSError as error:
        said = getattr(error, "reason", None) or error.strerror or str(error)
        raise typer.BadParameter(
            f"--ca-file, --client-cert or --client-key can't be used ({str(said).replace('_', ' ').lower()}): each is PEM, key and "
            "certificate belong together, and the key isn't locked by a password",
            param_hint="TLS files",
        ) from error


def _was_skipped(check: str, results: Sequence[Result]) -> bool:
    return any(one.check == check and one.outcome is Outcome.SKIPPED for one in results)


def _can_write(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeError, LookupError):
        return False
    return True


class _Shown:
    """The results as lines, told as they come: mark, name, what was seen, and below it what to do."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._console = Console(highlight=False, soft_wrap=True)
        self._room = max(_NARROWEST, min(self._console.width, _READABLE) - _INDENT)
        writes_all = _can_write("".join(mark for mark, _ in _MARKS.values()) + "→")
        self._marks = _MARKS if writes_all else _PLAIN_MARKS
        self._arrow = "→" if writes_all else "->"
        self._group = ""
        self._kept: list[Result] = []

    def tell(self, result: Result) -> None:
        """Show one; those that another one was in the way of are kept back, to be named together."""
        if result.because is not None:
            self._kept.append(result)
            return
        self._tell_kept()
        if result.group != self._group:
            before, self._group = "\n" if self._group else "", result.group
            self._console.print(Text(f"{before}{result.group}", style="bold"))
        about = f"{result.about}: " if result.about else ""
        self._line(result.outcome, result.title, f"{about}{result.seen}", result.remedy)

    def end(self, results: Sequence[Result], found: Summary) -> None:
        """Show the last, and what it comes to."""
        self._tell_kept()
        counts = [
            counted(count, one, many)
            for count, one, many in (
                (found.faults, "fault", "faults"),
                (found.warnings, "warning", "warnings"),
                (found.good, "check well", "checks well"),
                (found.skipped, "skipped", "skipped"),
            )
            if count
        ]
        verdict = "All is well" if found.all_well else "Something is wrong"
        if found.all_well and _was_skipped("way-in", results):
            verdict = "Well so far; give credentials with --client or --token to see the rest"
        elif found.all_well and _was_skipped("poll", results):
            verdict = "Well so far, but no poll could be made"
        words = Text(f"{verdict}: {', '.join(counts)}.").wrap(self._console, self._room + _INDENT)
        self._console.print(Text("\n".join(["", *(line.plain.rstrip() for line in words)]), style="bold"))

    def _tell_kept(self) -> None:
        for _, together in groupby(self._kept, key=lambda one: one.seen):
            skipped = list(together)
            names = listed(dict.fromkeys(one.title for one in skipped), _MOST_NAMES)
            self._line(Outcome.SKIPPED, "not looked at", f"{skipped[0].seen}: {names}", None)
        self._kept = []

    def _line(self, outcome: Outcome, title: str, seen: str, remedy: str | None) -> None:
        mark, style = self._marks[outcome]
        lines = [*self._wrapped(seen), *([] if remedy is None else self._wrapped(remedy, f"{self._arrow} "))]
        head = Text.assemble((mark, style), " ", title.ljust(_TITLES), "  ")
        for line in lines:
            self._console.print(Text.assemble(head, line))
            head = Text(" " * _INDENT)

    def _wrapped(self, text: str, before: str = "") -> list[str]:
        """Cut into lines that fit the terminal, between words; what goes into a pipe or file is left whole."""
        if not self._terminal:
            return [f"{before}{text}"]
        lines = Text(text).wrap(self._console, self._room - len(before))
        return [
            f"{before if not number else ' ' * len(before)}{line.plain.rstrip()}" for number, line in enumerate(lines)
        ]
