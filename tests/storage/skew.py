"""A million versions of everything that is unlike the average, made in half a minute; kept levels are what the rule gives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg

from tests.storage.plans import BIG, place

BEGUN: Final = datetime(2024, 1, 1, tzinfo=UTC)
LONG: Final = "malware--00000000-0000-4000-8000-000000000001"
"""An object with a long history, in order."""
LATE: Final = "malware--00000000-0000-4000-8000-000000000002"
"""An object whose history arrived backwards."""
RARE: Final = "campaign"

# Added a second apart, in this order. `hidden` is the level from which on something supersedes each: 5 for never.
_PARTS: Final = {
    # what was deleted since
    "gone": "SELECT n, 'indicator', n + 10000000, 21, 1, 0, 5, 5, NULL::int FROM generate_series(1, 60000) AS n",
    # one version each, of every level, half of it CLEAR
    "plain": "SELECT n, (ARRAY['indicator', 'identity', 'tool'])[1 + n % 3], n, 21, 1, greatest(n % 10 - 5, 0), 5, 5, NULL::int"
    " FROM generate_series(1, 300000) AS n",
    # CLEAR, and then AMBER: who may not see AMBER sees the first, who may the second
    "raised": "SELECT n, 'indicator', n + 1000000, 21, v, CASE v WHEN 1 THEN 0 ELSE 2 END, CASE v WHEN 1 THEN 2 ELSE 5 END, 5, NULL::int"
    " FROM generate_series(1, 150000) AS n, generate_series(1, 2) AS v",
    # in two forms, the later one RED
    "forms": "SELECT n, 'tool', n + 2000000, 19 + f, 1, CASE f WHEN 1 THEN 1 ELSE 4 END, 5, CASE f WHEN 1 THEN 4 ELSE 5 END, NULL::int"
    " FROM generate_series(1, 50000) AS n, generate_series(1, 2) AS f",
    # superseded for everybody
    "old": "SELECT n, 'indicator', n + 3000000, 21, v, 0, CASE v WHEN 1 THEN 0 ELSE 5 END, 5, NULL::int"
    " FROM generate_series(1, 60000) AS n, generate_series(1, 2) AS v",
    "long": "SELECT n, 'malware', -1, 21, n, 0, CASE n WHEN 60000 THEN 5 ELSE 0 END, 5, NULL::int FROM generate_series(1, 60000) AS n",
    "late": "SELECT n, 'malware', -2, 21, 20001 - n, 0, CASE n WHEN 1 THEN 5 ELSE 0 END, 5, CASE WHEN n > 1 THEN 1 END"
    " FROM generate_series(1, 20000) AS n",
    "rare": "SELECT n, 'campaign', n + 4000000, 21, 1, 0, 5, 5, NULL::int FROM generate_series(1, 5) AS n",
    "last": "SELECT n, 'indicator', n + 5000000, 21, 1, n % 5, 5, 5, NULL::int FROM generate_series(1, 40000) AS n",
}

_INSERT: Final = """
    INSERT INTO object_versions (
           collection_id, date_added, stix_id, form, version_at, version, stix_type, digest, body_bytes, level, marked,
           superseded_level, newer_form_level, late_after, member, status_id, body)
    SELECT %(collection)s, %(begun)s + nth * interval '1 second',
           stix_type || '--00000000-0000-4000-8000-' || lpad(CASE WHEN object < 0 THEN -object ELSE object + 1000 END::text, 12, '0'),
           form, '2020-01-01Z'::timestamptz + version * interval '1 second', 'v', stix_type, 'd', 700, level, true,
           superseded, newer_form, %(begun)s + late * interval '1 second', 1, %(collection)s, '{}'
      FROM (SELECT row_number() OVER () AS nth, made.*
              FROM ({part}) AS made (n, stix_type, object, form, version, level, superseded, newer_form, late)) AS numbered
"""


def fill(owner_url: str) -> dict[str, datetime]:
    """Fill one collection; tell when each part of it began. As the owner, who is held to nothing."""
    begun: dict[str, datetime] = {}
    instant = BEGUN
    with psycopg.connect(owner_url.replace("+psycopg", ""), autocommit=True) as connection:
        place(connection, BIG)
        # nobody asks for the sums, and indexes are made faster at the end
        connection.execute("ALTER TABLE object_versions DISABLE TRIGGER count_added, DISABLE TRIGGER count_removed")
        found = connection.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'object_versions' AND indexname LIKE 'ix%'"
        ).fetchall()
        for name, _ in found:
            connection.execute(f"DROP INDEX {name}".encode())
        for part, made in _PARTS.items():
            begun[part] = instant
            insert = _INSERT.replace("{part}", made.replace("%", "%%"))
            count = connection.execute(insert.encode(), {"collection": BIG, "begun": instant}).rowcount
            instant += timedelta(seconds=count)
        for _, definition in found:
            connection.execute(definition.encode())
        connection.execute("DELETE FROM object_versions WHERE date_added <= %s", [begun["plain"]])
        connection.execute("ALTER TABLE object_versions ENABLE TRIGGER USER")
    return begun
