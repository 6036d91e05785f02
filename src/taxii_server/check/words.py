"""Other people's words, made fit for a terminal: a server under check may send anything.

No control character, no escape sequence, nothing that turns the direction of the text or hides; and no secret of ours,
though a server may well send one back.
"""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

MOST: Final = 160
"""How much of a server's text is shown."""

_SHORTEST_SECRET: Final = 4
_HIDDEN: Final = "[secret]"


def plain(text: str) -> str:
    """Write each character that doesn't simply stand there as its code; white space becomes single blanks."""
    return "".join(
        f"\\u{ord(one):04x}" if unicodedata.category(one)[0] == "C" else one for one in " ".join(text.split())
    )


def shortened(text: str, most: int = MOST) -> str:
    """Cut a text that is too long to be read."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


class Redaction:
    """Takes secrets out of texts, in each form in which they travel."""

    def __init__(self, client_id: str | None, secrets: Iterable[str | None]) -> None:
        self._client_id = client_id or ""
        self._forms: set[str] = set()
        for secret in secrets:
            if secret is not None:
                self.add(secret)

    def add(self, secret: str) -> None:
        """Hide this one too."""
        if len(secret) >= _SHORTEST_SECRET:
            pair = f"{self._client_id}:{secret}"
            self._forms |= {secret, quote(secret, safe=""), _base64(pair), _base64(pair).rstrip("=")}

    def __call__(self, text: str) -> str:
        for form in sorted(self._forms, key=len, reverse=True):
            text = text.replace(form, _HIDDEN)
        return text


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode("ascii")


def counted(count: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def listed(items: Iterable[str], most: int = 5) -> str:
    """Write a list, the first of it where it is long."""
    given = list(items)
    shown = ", ".join(given[:most])
    return f"{shown} and {len(given) - most} more" if len(given) > most else shown
