"""Hot statements: what polls and pushes run, in the ways that they can be sent.

`Statement.on` runs one on a connection that somebody holds already, as part of their transaction, and `later` has it go with the
next one there. `Step` is one made ready for a lane (`lanes`), where it travels with others in one message.

Written with named parameters, sent with numbered ones, and past the driver's own statements. Of these it converts a text of at
most `CONVERTED_ONCE` octets the first time only, and a longer one again on every request.
"""

from __future__ import annotations

import re
from collections import namedtuple
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from taxii_server.storage import held

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

CONVERTED_ONCE: Final = 4096

_INDENTATION = re.compile(r"\n\s*")
_PARAMETER = re.compile(r"(?<![:\w]):(\w+)")


class Statement:
    """A statement that is prepared once on each connection."""

    def __init__(self, written: str, columns: str = "") -> None:
        """Take it with `:named` parameters, and what its columns are called if it has any; no literal of it may go over several lines.

        Lines stay lines, so that a comment ends where it did.
        """
        self.text = _INDENTATION.sub("\n", written).strip()
        self.columns = tuple(columns.split())
        self.names = tuple(dict.fromkeys(_PARAMETER.findall(self.text)))
        """The parameters, in the order in which they are numbered."""
        self.numbered = _PARAMETER.sub(lambda found: f"${self.names.index(found[1]) + 1}", self.text).encode()
        row = namedtuple("Row", self.columns)  # type: ignore[misc]  # noqa: PYI024 - its fields are the statement's
        self.row: Callable[[Sequence[Any]], Any] = row._make

    async def on(self, connection: AsyncConnection, values: Mapping[str, object]) -> Sequence[Any]:
        """Run it on a connection; give its rows."""
        return await held.run(connection, self.step(values))

    def later(self, connection: AsyncConnection, values: Mapping[str, object]) -> None:
        """Have it run before whatever comes next on a connection; nobody is given its rows."""
        held.later(connection, self.step(values))

    def step(self, values: Mapping[str, object]) -> Step:
        """Make it ready for a lane."""
        return Step(self, [values[name] for name in self.names])


@dataclass(frozen=True, slots=True)
class Step:
    """A statement with the values of its parameters, as they are numbered."""

    statement: Statement
    values: Sequence[object]
