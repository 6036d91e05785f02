"""What somebody wrote, made fit to be shown in statuses, answers and log lines; and what was perhaps meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def printable(text: str) -> str:
    """Replace what is not printable: NUL (Postgres can't hold one), control and bidi characters."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


def short(text: str, most: int) -> str:
    """Give printable text of at most `most` characters; the last one tells if some were left out."""
    plain = printable(text[: most + 1])
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def quoted(text: str) -> str:
    """Give as much of a name as is needed to find it."""
    return short(text, 60)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Name what is spelled nearly like `word`, as the end of a sentence; nothing if nothing is."""
    close = get_close_matches(word, list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else ""
