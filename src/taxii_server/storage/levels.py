"""The levels of what is stored: counted, and moved where a collection's rule for unmarked objects changes.

Both go through a collection in the order of addition, a bounded number of rows a statement, however much it holds.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sqlalchemy import text

from taxii_server.domain.audit import Content, Contents
from taxii_server.domain.tlp import MARKING_LEVELS, Level
from taxii_server.storage import bounds, clocks, stored_versions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from uuid import UUID

    from taxii_server.domain.access import Whole
    from taxii_server.storage.engine import Connection

ROWS: Final = 5_000
"""The most rows that one statement looks at."""

_BEFORE_ALL: Final = "-infinity"
_EXEMPT: Final = sorted(MARKING_LEVELS)

# The end of the next stretch, as a date; null past the last row. Walks the primary key.
STRETCH = text("""
    SELECT max(date_added)
      FROM (SELECT date_added FROM object_versions
             WHERE collection_id = :collection AND date_added > :after
             ORDER BY date_added LIMIT :rows) AS stretch
""")

# A stretch counted by level; TLP's own markings count as marked. Walks the primary key.
COUNT = text("""
    SELECT level, unmarked, count(*) AS versions
      FROM (SELECT level, NOT marked AND lower(stix_id) <> ALL(CAST(:exempt AS text[])) AS unmarked
              FROM object_versions
             WHERE collection_id = :collection AND date_added > :after AND date_added <= :until) AS stretch
     GROUP BY level, unmarked
""")

# The unmarked versions of a stretch that have another level. Walks the primary key.
OTHERS = text("""
    SELECT date_added, stix_id, form, version, digest, member, level
      FROM object_versions
     WHERE collection_id = :collection AND date_added > :after AND date_added <= :until
       AND NOT marked AND level <> :level AND lower(stix_id) <> ALL(CAST(:exempt AS text[]))
     ORDER BY date_added
""")
# They get this one. Walks the primary key.
RELEVEL = text("""
    UPDATE object_versions
       SET level = :level
     WHERE collection_id = :collection AND date_added > :after AND date_added <= :until
       AND NOT marked AND level <> :level AND lower(stix_id) <> ALL(CAST(:exempt AS text[]))
""")


@dataclass(frozen=True, slots=True)
class Census:
    """How many versions a collection holds of each level: of what is marked, and of what isn't."""

    marked: Counter[Level] = field(default_factory=Counter)
    unmarked: Counter[Level] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """How many versions there are."""
        return self.marked.total() + self.unmarked.total()

    def moving_to(self, level: Level) -> int:
        """How many versions get another level if what is unmarked counts as `level`."""
        return self.unmarked.total() - self.unmarked[level]

    def above(self, ceiling: Level, *, unmarked: Level | None) -> int:
        """How many versions lie above a ceiling, once what is unmarked counts as `unmarked`; None leaves it as it is."""
        levels = self.marked + (self.unmarked if unmarked is None else Counter({unmarked: self.unmarked.total()}))
        return sum(count for level, count in levels.items() if level > ceiling)


async def census(connection: Connection, where: Whole) -> Census:
    """Count a collection by level."""
    collection_id = where.collection_id
    await bounds.hold_to(connection, where)
    counted = Census()
    async for after, until in _stretches(connection, collection_id):
        stretch = {"collection": collection_id, "after": after, "until": until, "exempt": _EXEMPT}
        for row in await connection.execute(COUNT, stretch):
            (counted.unmarked if row.unmarked else counted.marked)[Level(row.level)] += row.versions
    return counted


@dataclass(frozen=True, slots=True)
class Releveled:
    """Which versions got another level, and how many of each level they were."""

    contents: Contents = field(default_factory=Contents)
    was: Counter[Level] = field(default_factory=Counter)


async def relevel(connection: Connection, where: Whole, level: Level) -> Releveled:
    """Give every unmarked version this level, and all versions of those objects the kept levels that follow.

    The clock must be locked: whoever adds meanwhile waits, and then adds by the new rule.
    """
    collection_id = where.collection_id
    await bounds.hold_to(connection, where)
    done = Releveled()
    async for after, until in _stretches(connection, collection_id):
        stretch = {"collection": collection_id, "after": after, "until": until, "exempt": _EXEMPT, "level": int(level)}
        others = list(await connection.execute(OTHERS, stretch))
        for row in others:
            done.contents.add(Content(row.date_added, row.stix_id, row.form, row.version, row.digest, row.member))
            done.was[Level(row.level)] += 1
        if others:
            await connection.execute(RELEVEL, stretch)
            versions = await stored_versions.of_objects(connection, collection_id, {row.stix_id for row in others})
            stored_versions.restand(connection, collection_id, versions)
    if done.was:
        clocks.note_change(connection, collection_id)
    return done


async def _stretches(connection: Connection, collection_id: UUID) -> AsyncIterator[tuple[datetime | str, datetime]]:
    after: datetime | str = _BEFORE_ALL
    while True:
        asked = {"collection": collection_id, "after": after, "rows": ROWS}
        until: datetime | None = (await connection.execute(STRETCH, asked)).scalar_one()
        if until is None:
            return
        yield after, until
        after = until
