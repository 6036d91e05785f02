"""A collection of any size, as the server would have stored it: some thousand objects imported, and the rows multiplied.

Every copy has ids of its own, in its text too, dates before those of the copy after it, and the digest of its own text,
for which texts are written with their keys sorted. References go on naming the objects that were imported. What each
member stores is counted by the database as ever. The audit knows of the import alone: a chain can't be multiplied.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg

from benchmarks import objects, site

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.objects import Stix
    from benchmarks.site import Site

BASE = 10_000
"""Versions that are imported; there are as many in the collection that others are compared with."""
RARE = "tool"
RARE_VERSIONS = 20
HISTORY = "malware--00000000-0000-4000-8000-000000000001"
"""An object with many versions, not multiplied."""
HISTORY_VERSIONS = 100
PLACE = site.COLLECTIONS["structural"]
NAME = "fraud/structural"
EACH_OF_MORE = 100
_COPIES_AT_ONCE = 20
_COLUMNS = """
    collection_id, date_added, stix_id, form, version_at, version, stix_type, digest, body_bytes, level, marked,
    superseded_level, newer_form_level, late_after, member, client, status_id, body
"""
# The copies from one number to another of what was imported, the furthest back first.
MULTIPLY = f"""
    INSERT INTO object_versions ({_COLUMNS})
    SELECT collection_id, at, own_id, form, CASE WHEN dated THEN at ELSE version_at END,
           CASE WHEN dated THEN to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') ELSE version END, stix_type,
           sha256(convert_to(own_body, 'UTF8')), octet_length(own_body), level, marked, superseded_level,
           newer_form_level, late_after - copy * CAST(%(span)s AS interval), member, client, status_id, own_body
      FROM (SELECT *, date_added - copy * CAST(%(span)s AS interval) AS at, version_at = date_added AS dated,
                   replace(body, stix_id, own_id) AS own_body
              FROM (SELECT *, stix_type || '--' || overlay(overlay(
                           CAST(md5(stix_id || copy) AS uuid)::text PLACING '4' FROM 15) PLACING 'a' FROM 20) AS own_id
                      FROM object_versions
                     CROSS JOIN generate_series(CAST(%(first)s AS integer), %(last)s) AS copy
                     WHERE collection_id = %(place)s AND stix_type <> %(rare)s AND stix_id <> %(history)s
                       AND date_added >= %(from)s
                   ) AS copies
           ) AS told
     ORDER BY at
"""  # noqa: S608
MORE = f"""
    INSERT INTO object_versions ({_COLUMNS})
    SELECT CAST(%(place)s AS uuid), date_added, stix_id, form, version_at, version, stix_type, digest, body_bytes, level,
           marked, superseded_level, newer_form_level, late_after, member, client, status_id, body
      FROM (SELECT * FROM object_versions
             WHERE collection_id = %(from)s AND superseded_level = 5 AND late_after IS NULL
             ORDER BY date_added DESC LIMIT %(versions)s) AS newest
"""  # noqa: S608
CLOCKS = """
    UPDATE collection_clocks AS clock
       SET last_added = held.newest, changes = changes + 1
      FROM (SELECT collection_id, max(date_added) AS newest FROM object_versions WHERE collection_id <> %s
             GROUP BY collection_id) AS held
     WHERE clock.collection_id = held.collection_id
"""
STATUSES = """
    INSERT INTO statuses (id, trust_group_id, collection_id, member, client, requested_at, completed_at, total_count,
                          success_count, failure_count, successes, failures)
    SELECT gen_random_uuid(), trust_group_id, collection_id, member, client, requested_at, completed_at, 0, 0, 0, '[]', '[]'
      FROM (SELECT * FROM statuses LIMIT 1) AS one CROSS JOIN generate_series(1, %s)
"""


def seed() -> list[Stix]:
    """Give what is imported: mixed objects, some with an earlier version that comes late, a rare type, a long history."""
    mixed = objects.objects(77)
    later = list(itertools.islice(mixed, BASE - BASE // 10 - RARE_VERSIONS - HISTORY_VERSIONS))
    earlier = [one | {"modified": one["created"]} for one in later if one.get("modified", "") != one.get("created", "")]
    late = [one | {"description": "as it was first told"} for one in earlier[: BASE // 10]]
    common = {"spec_version": "2.1", "created": "2026-01-05T06:30:00.000Z", "modified": "2026-01-05T06:30:00.000Z"}
    rare = [
        {"type": RARE, "id": f"{RARE}--00000000-0000-4000-8000-{number:012}", "name": f"Tool {number}"} | common
        for number in range(RARE_VERSIONS)
    ]
    history = [
        {"type": "malware", "id": HISTORY, "name": "Loader", "is_family": False, "description": f"Seen {number} times"}
        | common
        | {"modified": f"2026-02-01T{number // 60:02}:{number % 60:02}:00.000Z"}
        for number in range(HISTORY_VERSIONS)
    ]
    return [*rare, *history, *later, *late]


def bundle(some: list[Stix], file: Path) -> None:
    """Write a bundle whose objects have their keys sorted."""
    with file.open("w") as out:
        out.write('{"type":"bundle","id":"bundle--0b0b0b0b-0000-4000-8000-000000000000","objects":[')
        for number, one in enumerate(some):
            out.write("," * (number > 0) + json.dumps(one, separators=(",", ":"), ensure_ascii=False, sort_keys=True))
        out.write("]}")


def command(here: Site, *arguments: str) -> float:
    """Run taxii-server and give the seconds it took."""
    begun = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "taxii_server.cli", *arguments],
        env=here.environment,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - begun


def fill(here: Site, versions: int, folder: Path, more: int = 0) -> None:
    """Bring the collection to about this many versions, unless it has them; PostgreSQL syncs nothing meanwhile."""
    with psycopg.connect(here.administration, autocommit=True) as admin:
        held = admin.execute("SELECT count(*) FROM (SELECT FROM object_versions LIMIT 1) AS found").fetchone()
        if held == (1,):
            return
        bundle(seed(), folder / "seed.json")
        command(here, "import", NAME, str(folder / "seed.json"), "--as", "bank-0")
        for parameter in ("fsync", "full_page_writes"):
            admin.execute(f"ALTER SYSTEM SET {parameter} = off")
        admin.execute("SELECT pg_reload_conf()")
        begun = time.perf_counter()
        _multiply(admin, versions)
        for number in range(more):
            place = {"place": site.more_collection(number), "from": PLACE, "versions": EACH_OF_MORE}
            admin.execute(MORE, place)
        admin.execute(CLOCKS, [PLACE])
        admin.execute(STATUSES, [versions // 100])
        print(f"  filled in {time.perf_counter() - begun:,.0f} s", flush=True)
        for parameter in ("fsync", "full_page_writes"):
            admin.execute(f"ALTER SYSTEM RESET {parameter}")
        admin.execute("SELECT pg_reload_conf()")
        admin.execute("VACUUM (ANALYZE)")
        admin.execute("CHECKPOINT")
        print(f"  vacuumed and analysed after {time.perf_counter() - begun:,.0f} s", flush=True)


def _multiply(admin: psycopg.Connection[Any], versions: int) -> None:
    found = admin.execute(
        "SELECT min(date_added), max(date_added) FROM object_versions WHERE collection_id = %s", [PLACE]
    ).fetchone()
    assert found is not None
    first, last = found
    span = last - first + timedelta(seconds=1)
    copies = max(0, round(versions / BASE) - 1)
    for start in range(copies, 0, -_COPIES_AT_ONCE):
        asked = {"place": PLACE, "span": span, "rare": RARE, "history": HISTORY, "from": first}
        admin.execute(MULTIPLY, asked | {"first": max(1, start - _COPIES_AT_ONCE + 1), "last": start})
        if (start // _COPIES_AT_ONCE) % 10 == 0:
            print(f"  {(copies - start) * BASE:,} versions", flush=True)
