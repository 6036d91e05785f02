"""Pages of versions: the hot reads.

Each page is one statement, written whole, in two steps. The first walks versions oldest addition first and stops one
past the page; the second adds up octets and lets a body out only for what fits. The version that no longer fits says
that there is more; one version larger than a page still goes alone. Bodies come joined, in pieces: nothing here or on
the way to the response touches a single object.

What a caller with clearance c sees is read off the kept levels: nothing above c, and of the rest what no version at or
below c supersedes. A walk takes one level at a time, because the indexes hold each level in order of addition. With
`added_after`, late arrivals come on top: versions added after that instant though a later one was there before it, and
which no visible later version added since then supersedes.

`domain.stix_versions.selected` is the rule that these statements obey; a property test holds them to it.
"""

from __future__ import annotations

import sys
from array import array
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy.ext.asyncio import AsyncConnection

from taxii_server.domain.filters import ALL_VERSIONS, LAST_ONLY, Exactly, Keyword
from taxii_server.domain.stix_objects import Form
from taxii_server.domain.timestamps import EPOCH, MICROSECOND, from_microseconds
from taxii_server.storage import object_page_statements as statements
from taxii_server.storage.bounds import held_to
from taxii_server.storage.hot import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import TextClause

    from taxii_server.domain.access import Readable
    from taxii_server.domain.filters import Filter
    from taxii_server.storage.engine import Connection, Database

_ALL_FORMS = tuple(int(form) for form in Form)
_NEWEST_FORM = max(_ALL_FORMS)
_BEFORE_ALL = "-infinity"
_NO_BOUND = 2**62
_COLUMNS = ("bodies", "dates", "ids", "forms", "versions", "more")
_FROM_2000 = (datetime(2000, 1, 1, tzinfo=UTC) - EPOCH) // MICROSECOND


@dataclass(frozen=True, slots=True)
class Listed:
    """One version as a page without bodies names it; `added` counts microseconds since 1970."""

    stix_id: str
    form: int
    version: str
    added: int


@dataclass(frozen=True, slots=True)
class Page:
    """Versions, oldest addition first. `more`: others match that didn't fit, by count or by octets.

    `dates` are those of addition, in microseconds since 1970, each later than the one before. `bodies` are the posted
    texts, with commas between them: so is what is joined of these pieces with commas. A page without bodies has `listed` in their
    place. `known` is False where objects were named and the caller sees no version of any of them.
    """

    dates: Sequence[int]
    bodies: Sequence[bytes] = ()
    listed: Sequence[Listed] = ()
    more: bool = False
    known: bool = True

    @property
    def first(self) -> datetime | None:
        """When the first version was added; None if there is none."""
        return from_microseconds(self.dates[0]) if self.dates else None

    @property
    def last(self) -> datetime | None:
        """When the last version was added; None if there is none."""
        return from_microseconds(self.dates[-1]) if self.dates else None


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one page may hold: versions, and octets of bodies."""

    limit: int
    page_bytes: int


async def page(
    through: Connection | Database,
    where: Readable,
    want: Filter,
    position: datetime | None,
    bounds: Bounds,
    *,
    bodies: bool = True,
) -> Page:
    """Read one page of what `want` selects of a collection, after `position` (the last `date_added` served)."""
    statement, values = _statement(want)
    after = [instant for instant in (position, want.added_after) if instant is not None]
    values |= {
        "collection": where.collection_id,
        "clearance": int(where.clearance),
        "position": max(after) if after else _BEFORE_ALL,
        "forms": list(_ALL_FORMS if want.forms is None else want.forms),
        # each once: a type named twice would be walked twice
        "types": None if want.types is None else list(dict.fromkeys(want.types)),
        "limit": bounds.limit,
        "rows": bounds.limit + 1,
        # a page without bodies is bounded by its count: each row is as small as the next
        "page_bytes": bounds.page_bytes if bodies else _NO_BOUND,
        "bodies": bodies,
    }
    hot = _hot(statement)
    if isinstance(through, AsyncConnection):
        return read(await hot.on(through, values))
    return read(await through.ask(held_to(where), hot.step(values)))


@cache
def _hot(statement: TextClause) -> Statement:
    names = ("known", *_COLUMNS) if statement is statements.OF_OBJECTS else _COLUMNS
    return Statement(statement.text, " ".join(names))


def read(rows: Sequence[Any]) -> Page:
    """Put a page together from the rows of a statement; `object_page_statements` has their columns."""
    pieces = sorted((row for row in rows if row.dates is not None), key=_begins)
    stored = array("q", b"".join(row.dates for row in pieces))
    if sys.byteorder == "little":
        stored.byteswap()
    dates = [instant + _FROM_2000 for instant in stored]
    return Page(
        dates,
        tuple(row.bodies for row in pieces if row.bodies is not None),
        tuple(map(Listed, *_listed(pieces), dates)) if pieces and pieces[0].bodies is None else (),
        more=any(row.more for row in rows),
        known=all(getattr(row, "known", True) for row in rows),
    )


def _begins(row: Any) -> int:
    return int.from_bytes(row.dates[:8], "big", signed=True)


def _listed(pieces: Sequence[Any]) -> list[list[Any]]:
    return [[one for row in pieces for one in getattr(row, column)] for column in ("ids", "forms", "versions")]


def _statement(want: Filter) -> tuple[TextClause, dict[str, object]]:
    """Choose the statement whose walk fits the filter, and the values that only it takes."""
    if want.ids is not None:
        # each once, as types
        return statements.OF_OBJECTS, _picks(want) | {"ids": list(dict.fromkeys(want.ids))}
    walks: dict[str, object] = {"added_after": want.added_after}
    # Naming the newest form changes nothing about which of its versions is the last: they have no newer form. Naming
    # every form makes one order of them, and its last is the default view's.
    if want.versions == LAST_ONLY and (want.forms is None or _NEWEST_FORM in want.forms):
        return statements.LATEST if want.types is None else statements.LATEST_OF_TYPES, walks
    if want.versions == ALL_VERSIONS and (want.forms is None or set(want.forms) == {_NEWEST_FORM}):
        return statements.NEWEST_FORM if want.types is None else statements.NEWEST_FORM_OF_TYPES, walks
    return statements.PICKED, _picks(want)


def _picks(want: Filter) -> dict[str, object]:
    return {
        "since": _BEFORE_ALL if want.added_after is None else want.added_after,
        "named": want.forms is not None,
        "last": Keyword.LAST in want.versions,
        "first": Keyword.FIRST in want.versions,
        "every": Keyword.ALL in want.versions,
        "exact": [spec.version_at for spec in want.versions if isinstance(spec, Exactly)],
    }
