"""Late arrivals are found however late they came, by whoever asks from an instant on at which they were late."""

from __future__ import annotations

import runpy
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import psycopg
import pytest

from taxii_server.domain.access import Readable
from taxii_server.domain.filters import ALL_VERSIONS, Filter
from taxii_server.domain.timestamps import MICROSECOND, from_microseconds
from taxii_server.domain.tlp import Level
from taxii_server.storage import migrations, object_pages
from taxii_server.storage.object_pages import Bounds
from tests.storage.plans import place

if TYPE_CHECKING:
    from taxii_server.storage.embedded import DatabaseUrls
    from taxii_server.storage.engine import Database

BEGUN: Final = datetime(2020, 1, 1, tzinfo=UTC)
SPANS: Final = [
    MICROSECOND,
    *(timedelta(seconds=16**n) + one * MICROSECOND for n in range(8) for one in (-1, 0, 1)),
    timedelta(days=365 * 100),
]
# An object for each span: its later version was added first, the earlier one as much after it.
_VERSIONS: Final = """
    INSERT INTO object_versions (
           collection_id, date_added, stix_id, form, version_at, version, stix_type, digest, body_bytes, level, marked,
           superseded_level, newer_form_level, late_after, member, status_id, body)
    SELECT %(collection)s, %(added)s, 'tool--' || %(number)s, %(form)s, %(added)s, 'v', 'tool', 'd', 2, 0, true,
           %(superseded)s, %(newer_form)s, %(late_after)s, 1, %(collection)s, '{}'
"""


@pytest.mark.anyio
@pytest.mark.parametrize("versions", ["last", "all"])
@pytest.mark.parametrize("types", [None, ("tool",)])
async def test_whatever_came_late_is_found(
    database: Database, database_urls: DatabaseUrls, versions: str, types: tuple[str, ...] | None
) -> None:
    """By all four walks, from the instant of the later version on, up to the last one before it came itself."""
    late: dict[int, tuple[datetime, datetime]] = {}
    collection = uuid4()
    with _owner(database_urls) as owner:
        place(owner, collection)
        for number, span in enumerate(SPANS):
            first = BEGUN + number * timedelta(milliseconds=7)
            late[number] = (first, first + span)
            for added, is_late in ((first, False), (first + span, True)):
                # of a form's versions the older one, of two forms' the older form
                standing = (5, 5) if not is_late else (0, 5) if versions == "last" else (5, 0)
                owner.execute(
                    _VERSIONS.encode(),
                    {
                        "collection": collection,
                        "added": added,
                        "number": number,
                        "form": 20 if is_late and versions == "all" else 21,
                        "superseded": standing[0],
                        "newer_form": standing[1],
                        "late_after": first if is_late else None,
                    },
                )
        owner.execute(
            "UPDATE object_versions SET version_at = version_at - interval '300 years' WHERE collection_id = %s"
            " AND late_after IS NOT NULL",
            [collection],
        )
    where = Readable(collection, Level.RED)
    for first, added in late.values():
        for after in {first, added - MICROSECOND}:
            want = (
                Filter(after, types=types) if versions == "last" else Filter(after, types=types, versions=ALL_VERSIONS)
            )
            for position in (None, added - MICROSECOND):
                async with database.read(where) as connection:
                    page = await object_pages.page(connection, where, want, position, Bounds(100, 10_000))
                begin = position or after
                news = {there for was, there in late.values() if was <= after < there and there > begin}
                plain = {was for was, _ in late.values() if was > begin}

                assert {from_microseconds(date) for date in page.dates} == news | plain


def test_what_is_there_is_given_the_lateness_that_the_trigger_gives(fresh_database_urls: DatabaseUrls) -> None:
    """The migration works it out for rows that were added before there was a trigger."""
    collection = uuid4()
    told: dict[str, Any] = runpy.run_path(
        str(migrations.migrations_dir() / "versions" / "0013_walks_of_late_arrivals.py")
    )
    asked = "SELECT date_added, lateness FROM object_versions WHERE collection_id = %s ORDER BY date_added"
    with _owner(fresh_database_urls) as owner:
        # as it was then
        owner.execute("ALTER TABLE object_versions DROP CONSTRAINT ck_object_versions_lateness")
        place(owner, collection)
        for number, span in enumerate(SPANS):
            row = {"collection": collection, "added": BEGUN + span, "number": number, "form": 21, "superseded": 0}
            owner.execute(_VERSIONS.encode(), row | {"newer_form": 5, "late_after": BEGUN})
        triggered = owner.execute(asked.encode(), [collection]).fetchall()
        owner.execute("UPDATE object_versions SET lateness = NULL WHERE collection_id = %s", [collection])
        lots = 0
        position: str | None = "-infinity"
        while position is not None:
            values = {"place": collection, "position": position, "lot": 10}
            [position] = owner.execute(told["TELL"].encode(), values).fetchone() or [None]
            lots += 1
        migrated = owner.execute(asked.encode(), [collection]).fetchall()

    assert migrated == triggered
    assert lots > 2
    assert {lateness for _, lateness in triggered} == set(range(9))


def test_what_comes_late_says_how_late(database_urls: DatabaseUrls) -> None:
    """Without it pollers would pass it over; where triggers are off it can't be written."""
    collection = uuid4()
    row = {"collection": collection, "added": BEGUN, "number": 1, "form": 21, "superseded": 0, "newer_form": 5}
    with _owner(database_urls) as owner, owner.transaction(force_rollback=True):
        place(owner, collection)
        owner.execute("ALTER TABLE object_versions DISABLE TRIGGER tell_lateness")
        with pytest.raises(psycopg.errors.CheckViolation):
            owner.execute(_VERSIONS.encode(), row | {"late_after": BEGUN})


def _owner(urls: DatabaseUrls) -> psycopg.Connection[Any]:
    return psycopg.connect(urls.owner.replace("+psycopg", ""), autocommit=True)
