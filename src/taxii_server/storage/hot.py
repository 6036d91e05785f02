"""Hot statements as the driver takes them: short enough that it remembers how it converted each.

A statement's parameters are named for us and numbered for Postgres. The driver converts a text of at most
`CONVERTED_ONCE` octets the first time only, and a longer one again on every request; much of ours is indentation.
"""

from __future__ import annotations

import re
from typing import Final

from sqlalchemy import TextClause, text

CONVERTED_ONCE: Final = 4096

_INDENTATION = re.compile(r"\n\s*")


def statement(written: str) -> TextClause:
    """Make a statement of what is written, without its indentation: no literal of it may go over several lines.

    Lines stay lines, so that a comment ends where it did.
    """
    short = _INDENTATION.sub("\n", written).strip()
    return text(short)
