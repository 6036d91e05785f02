"""What strangers wrote, made fit to be shown in statuses, answers and log lines."""

from __future__ import annotations


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
