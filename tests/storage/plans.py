"""How Postgres goes about a statement: a large collection, and the scans of what was sent, with their rows."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import event

from taxii_server.storage import held

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from taxii_server.storage.engine import Connection, Database
    from taxii_server.storage.hot import Step
    from taxii_server.storage.pipeline import Rows

BIG: Final = UUID("00000000-0000-4000-8000-00000000000b")
OTHER: Final = UUID("00000000-0000-4000-8000-00000000000c")
_PLACEHOLDER: Final = re.compile(r"%\((\w+)\)s")

_PLACES: Final = """
    INSERT INTO trust_groups (id, slug, title) VALUES (%(collection)s, %(collection)s::text, 't')
    ON CONFLICT DO NOTHING
"""
_COLLECTION: Final = """
    INSERT INTO collections (id, trust_group_id, title, validation)
    VALUES (%(collection)s, %(collection)s, 't', 'structural')
    ON CONFLICT DO NOTHING
"""
_CLOCK: Final = """
    INSERT INTO collection_clocks (collection_id, last_added) VALUES (%(collection)s, now()) ON CONFLICT DO NOTHING
"""
# Objects of two versions each, of all levels and three types. One in ten has them in two forms, one in a thousand got
# the older one late. Kept levels are what the rule gives.
_VERSIONS: Final = """
    INSERT INTO object_versions (
           collection_id, date_added, stix_id, form, version_at, version, stix_type, digest, body_bytes, level, marked,
           superseded_level, newer_form_level, late_after, member, status_id, body)
    SELECT %(collection)s, '2024-01-01Z'::timestamptz + place * interval '1 second', stix_type || '--' || uuid, form,
           '2020-01-01Z'::timestamptz + version * interval '1 day', 'v', stix_type, sha256(uuid::bytea), 700, level, true,
           CASE WHEN version = 1 AND n %% 10 > 0 THEN later ELSE 5 END,
           CASE WHEN version = 1 AND n %% 10 = 0 THEN later ELSE 5 END,
           CASE WHEN late AND version = 1 THEN '2024-01-01Z'::timestamptz + (2 * n) * interval '1 second' END,
           n %% 7, %(collection)s, '{"x":"' || repeat(uuid, 19) || '"}'
      FROM (SELECT n, version, md5(n::text)::uuid::text AS uuid, n %% 1000 = 1 AS late,
                   CASE WHEN n %% 1000 = 1 THEN 2 * n + 2 - version ELSE 2 * n + version - 1 END AS place,
                   (ARRAY['indicator', 'indicator', 'malware', 'identity'])[1 + n %% 4] AS stix_type,
                   CASE WHEN version = 1 AND n %% 10 = 0 THEN 20 ELSE 21 END AS form,
                   CASE version WHEN 1 THEN n * 7 / 3 %% 5 ELSE n * 3 / 2 %% 5 END AS level,
                   n * 3 / 2 %% 5 AS later
              FROM generate_series(1, %(objects)s) AS n, generate_series(1, 2) AS version) AS made
    ON CONFLICT DO NOTHING
"""


def place(connection: psycopg.Connection[Any], collection: UUID) -> None:
    """Make a collection in a trust group of its own, unless it is there."""
    for statement in (_PLACES, _COLLECTION, _CLOCK):
        connection.execute(statement.encode(), {"collection": collection})


def fill(owner_url: str, versions: int, *, analyze: bool = True) -> None:
    """Fill two collections, the second with a tenth as many, or up to that; as the owner, who is held to nothing.

    Without `analyze` Postgres is told nothing of them, and finds out nothing by itself.
    """
    with psycopg.connect(owner_url.replace("+psycopg", ""), autocommit=True) as connection:
        if not analyze:
            connection.execute("ALTER TABLE object_versions SET (autovacuum_enabled = false)")
        for collection, count in ((BIG, versions), (OTHER, versions // 10)):
            place(connection, collection)
            connection.execute(_VERSIONS.encode(), {"collection": collection, "objects": count // 2})
        if analyze:
            connection.execute("VACUUM (ANALYZE) object_versions")


@dataclass(frozen=True, slots=True)
class Scan:
    """One look at a table: by which index (None: all of it), and how many rows it read in all its rounds."""

    index: str | None
    rows: int


@contextmanager
def sent(database: Database) -> Iterator[list[tuple[str, Mapping[str, Any]]]]:
    """Collect statements with their parameters as the driver gets them."""
    collected: list[tuple[str, Mapping[str, Any]]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if not statement.startswith("BEGIN "):
            collected.append((statement, parameters))

    def note_steps(steps: Sequence[Step]) -> None:
        for step in steps:
            written = re.sub(r"(?<![:\w]):(\w+)", r"%(\1)s", step.statement.text)
            collected.append((written, dict(zip(step.statement.names, step.values, strict=True))))

    async def run(connection: Connection, *steps: Step) -> Rows:
        note_steps(steps)
        return await untold_run(connection, *steps)

    def later(connection: Connection, *steps: Step) -> None:
        note_steps(steps)
        untold_later(connection, *steps)

    untold_run, untold_later = held.run, held.later
    held.run, held.later = run, later
    event.listen(database.engine.sync_engine, "before_cursor_execute", note)
    try:
        yield collected
    finally:
        event.remove(database.engine.sync_engine, "before_cursor_execute", note)
        held.run, held.later = untold_run, untold_later


async def scans(
    connection: Connection,
    statement: str,
    values: Mapping[str, Any],
    *,
    generic: bool,
    table: str = "object_versions",
) -> list[Scan]:
    """Run a statement as prepared, planned for any values or for these, and tell how it went through a table."""
    driver = await _driver(connection)
    mode = "force_generic_plan" if generic else "force_custom_plan"
    await driver.execute(f"SET LOCAL plan_cache_mode = {mode}")
    await prepare(connection, "looked_at", statement)
    found = await prepared_scans(connection, "looked_at", statement, values, table=table)
    await driver.execute("DEALLOCATE looked_at")
    return found


async def prepare(connection: Connection, name: str, statement: str) -> None:
    """Prepare a statement as the driver does."""
    names = list(dict.fromkeys(_PLACEHOLDER.findall(statement)))
    numbered = _PLACEHOLDER.sub(lambda found: f"${names.index(found.group(1)) + 1}", statement).replace("%%", "%")
    driver = await _driver(connection)
    await driver.execute(sql.SQL("PREPARE {} AS ").format(sql.Identifier(name)) + sql.SQL(numbered))


async def prepared_scans(
    connection: Connection, name: str, statement: str, values: Mapping[str, Any], table: str = "object_versions"
) -> list[Scan]:
    """Run a statement that was prepared, and tell how it went through a table."""
    return scans_of(await prepared_plan(connection, name, statement, values), table)


async def prepared_plan(
    connection: Connection, name: str, statement: str, values: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Run a statement that was prepared; give the nodes of its plan."""
    names = list(dict.fromkeys(_PLACEHOLDER.findall(statement)))
    given = sql.SQL(", ").join(map(sql.Literal, (values[one] for one in names)))
    explain = sql.SQL("EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) EXECUTE {}" + ("({})" if names else ""))
    driver = await _driver(connection)
    cursor = await driver.execute(explain.format(sql.Identifier(name), *([given] if names else [])))
    [(plan,)] = await cursor.fetchall()
    return list(_nodes(plan[0]["Plan"]))


async def _driver(connection: Connection) -> Any:
    """Give the driver's connection, with the transaction begun that waits for its first statement."""
    await connection.exec_driver_sql("SELECT")
    return (await connection.get_raw_connection()).driver_connection


def scans_of(plan: list[Mapping[str, Any]], table: str | None = None) -> list[Scan]:
    """Tell how a plan went through a table, or all of them."""
    return [one for node in plan if node["Actual Loops"] for one in _scan(node, table)]


def sorts_of(plan: list[Mapping[str, Any]]) -> list[int]:
    """Tell how many rows each sort of a plan took in."""
    return [
        round(node["Plans"][0]["Actual Rows"] * node["Plans"][0]["Actual Loops"])
        for node in plan
        if node["Node Type"] in {"Sort", "Incremental Sort"}
    ]


def _nodes(node: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield node
    for child in node.get("Plans", []):
        yield from _nodes(child)


def _scan(node: Mapping[str, Any], table: str | None) -> Iterator[Scan]:
    if node["Node Type"] in {"Index Scan", "Index Only Scan", "Seq Scan"}:
        if table in {None, node["Relation Name"]}:
            read = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
            yield Scan(node.get("Index Name"), round(read * node["Actual Loops"]))
    elif node["Node Type"] == "Bitmap Index Scan" and (table or "") in node["Index Name"]:
        yield Scan(node["Index Name"], round(node["Actual Rows"] * node["Actual Loops"]))
