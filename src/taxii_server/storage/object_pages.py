"""Pages of versions: the hot reads.

Each page is one statement, written whole, in two steps. The first walks versions oldest addition first and stops one
past the page; the second adds up octets and lets a body out only for what fits. The row that no longer fits comes back
without a body and says that there is more; one version larger than a page still goes alone.

What a caller with clearance c sees is read off the kept levels: nothing above c, and of the rest what no version at or
below c supersedes. A walk takes one level at a time, because the indexes hold each level in order of addition. With
`added_after`, late arrivals come on top: versions added after that instant though a later one was there before it, and
which no visible later version added since then supersedes.

`domain.stix_versions.selected` is the rule that these statements obey; a property test holds them to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import column

from taxii_server.domain.filters import ALL_VERSIONS, LAST_ONLY, Exactly, Keyword
from taxii_server.domain.stix_objects import Form
from taxii_server.storage import object_page_statements as statements

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Row, TextClause, TextualSelect

    from taxii_server.domain.access import Readable
    from taxii_server.domain.filters import Filter
    from taxii_server.storage.engine import Connection

_ALL_FORMS = tuple(int(form) for form in Form)
_NEWEST_FORM = max(_ALL_FORMS)
_BEFORE_ALL = "-infinity"
_NO_BOUND = 2**62
_COLUMNS = ("date_added", "stix_id", "form", "version", "fits", "body")


@dataclass(frozen=True, slots=True)
class Served:
    """One version as a page holds it; `body` is the posted text, None on pages that show none."""

    date_added: datetime
    stix_id: str
    form: int
    version: str
    body: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """Versions, oldest addition first. `more`: others match that didn't fit, by count or by octets.

    `known` is False where objects were named and the caller sees no version of any of them.
    """

    versions: tuple[Served, ...]
    more: bool
    known: bool = True


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one page may hold: versions, and octets of bodies."""

    limit: int
    page_bytes: int


async def page(
    connection: Connection,
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
    rows = (await connection.execute(_told(statement), values)).all()
    if statement is statements.OF_OBJECTS:
        # at least one row, which tells whether the objects are there at all
        return _page([row for row in rows if row.date_added is not None], known=rows[0].known)
    return _page(rows)


@cache
def _told(statement: TextClause) -> TextualSelect:
    """Tell the columns: SQLAlchemy then works out a result's shape once and not on each request."""
    names = ("known", *_COLUMNS) if statement is statements.OF_OBJECTS else _COLUMNS
    return statement.columns(*map(column, names))


def _page(rows: Sequence[Row[Any]], *, known: bool = True) -> Page:
    served = tuple(Served(row.date_added, row.stix_id, row.form, row.version, row.body) for row in rows if row.fits)
    return Page(served, more=len(served) < len(rows), known=known)


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
