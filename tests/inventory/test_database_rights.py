"""What the server's role may do in the database, table by table, read off the live catalog.

A table that comes new needs its row here: what the server may do with it, why anything but adding, and whether a policy
holds it to what a transaction was opened for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psycopg
import pytest

from taxii_server.storage.tables import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taxii_server.storage.embedded import DatabaseUrls

ROLE: Final = "taxii_server"


@dataclass(frozen=True)
class Expected:
    """Rights on one table; `why` gives the reason for each UPDATE and DELETE, `policy` the commands that a policy is for."""

    rights: frozenset[str]
    why: str = ""
    columns: frozenset[str] = frozenset()
    """The columns that can be updated where the others can't."""
    policy: tuple[str, ...] = ()


def may(*rights: str, why: str = "", columns: tuple[str, ...] = (), policy: tuple[str, ...] = ()) -> Expected:
    return Expected(frozenset({"SELECT", *rights}), why, frozenset(columns), policy)


WHOLLY: Final = ("ALL",)
APPLIED: Final = "apply makes the alliance what the file says, on the server's connection"
TABLES: Final = {
    "alembic_version": may(),
    "trust_groups": may("INSERT", "UPDATE", "DELETE", why=APPLIED),
    "members": may("INSERT", "UPDATE", "DELETE", why=APPLIED),
    "collections": may("INSERT", "UPDATE", "DELETE", why=APPLIED),
    "removed_collections": may("INSERT"),
    "grants": may("INSERT", "UPDATE", "DELETE", why=APPLIED),
    "issuers": may("INSERT", "UPDATE", why=APPLIED),
    "clients": may("INSERT", "UPDATE", "DELETE", why="clients are revoked; a purge may come"),
    "client_secrets": may("INSERT", "UPDATE", "DELETE", why="secrets are rotated, and end"),
    "client_certificates": may("INSERT", "DELETE", why="a certificate is taken from its client"),
    "signing_keys": may("INSERT", "UPDATE", "DELETE", why="keys are retired, and purged a month after"),
    "revoked_tokens": may("INSERT", "DELETE", why="purged once they would have expired anyway"),
    "collection_clocks": may("INSERT", "UPDATE", "DELETE", why="the clock moves with each change, and goes with its collection"),
    "client_readings": may("INSERT", "UPDATE", "DELETE", why="merged by each worker; go with their collection"),
    "client_activity": may("INSERT", "UPDATE", "DELETE", why="merged by each worker; goes with its client"),
    "activity_batches": may("INSERT", "UPDATE", "DELETE", why="each worker's last; maintain forgets old workers"),
    "audit_events": may("INSERT"),
    "audit_heads": may("INSERT"),
    # adding is free of a policy's bounds: one statement writes what a worker's clients were sent of all collections
    "disclosures": may("INSERT", policy=("INSERT", "SELECT")),
    "object_versions": may(
        "INSERT",
        "DELETE",
        why="withdrawal, retention and prune delete; bodies and dates are never rewritten",
        columns=("level", "superseded_level", "newer_form_level"),
        policy=WHOLLY,
    ),
    "deleted_versions": may("INSERT", policy=WHOLLY),
    "recalls": may("INSERT", policy=WHOLLY),
    "statuses": may("INSERT", "DELETE", why="purged past their keep", policy=WHOLLY),
    "stored_octets": may(),
}  # fmt: skip
ALL_RIGHTS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")


@pytest.fixture(scope="module")
def catalog(database_urls: DatabaseUrls) -> Iterator[psycopg.Connection]:
    """The catalog, as the server's role sees it."""
    with psycopg.connect(database_urls.server.replace("+psycopg", ""), autocommit=True) as connection:
        yield connection


def test_every_table_is_listed(catalog: psycopg.Connection) -> None:
    """Views, foreign and partitioned tables would count too; there are none."""
    relations = {
        name
        for (name,) in catalog.execute(
            "SELECT relname::text FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relkind IN ('r', 'p', 'v', 'm', 'f')"
        )
    }

    assert relations == set(TABLES) == set(metadata.tables) | {"alembic_version"}


@pytest.mark.parametrize("table", sorted(TABLES))
def test_the_server_may_do_with_a_table_exactly_what_is_listed(catalog: psycopg.Connection, table: str) -> None:
    """No more, no less, and nothing is left to PUBLIC."""
    given = {
        right
        for right in ALL_RIGHTS
        if catalog.execute("SELECT has_table_privilege(%s, %s, %s)", (ROLE, table, right)).fetchone() == (True,)
    }
    updatable = {
        column
        for (column,) in catalog.execute(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
            " AND has_column_privilege(%s, attrelid, attnum, 'UPDATE')",
            (table, ROLE),
        )
    }
    expected = TABLES[table]

    assert given == expected.rights
    assert "UPDATE" in given or updatable == expected.columns
    assert bool(expected.why) == bool(expected.rights & {"UPDATE", "DELETE"} or expected.columns)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_policies_stand_where_they_are_listed(catalog: psycopg.Connection, table: str) -> None:
    """Each is for the server's role, and no second one for the same command lets more through."""
    secured = catalog.execute(
        "SELECT relrowsecurity, pg_get_userbyid(relowner) FROM pg_class WHERE oid = %s::regclass", (table,)
    ).fetchone()
    policies = catalog.execute(
        "SELECT cmd, permissive, roles::text[] FROM pg_policies WHERE tablename = %s ORDER BY cmd", (table,)
    ).fetchall()
    policy = TABLES[table].policy

    assert secured == (bool(policy), "taxii_owner")
    assert policies == [(command, "PERMISSIVE", [ROLE]) for command in policy]


def test_the_server_owns_and_calls_nothing_of_ours(catalog: psycopg.Connection) -> None:
    """It owns no relation, no schema, no function, and no role stands behind it."""
    for query in (
        "SELECT relname FROM pg_class WHERE relowner = %s::regrole",
        "SELECT nspname FROM pg_namespace WHERE nspowner = %s::regrole",
        "SELECT datname FROM pg_database WHERE datdba = %s::regrole",
        "SELECT proname FROM pg_proc WHERE proowner = %s::regrole",
        "SELECT roleid::regrole FROM pg_auth_members WHERE member = %s::regrole",
        "SELECT defaclobjtype FROM pg_default_acl WHERE defaclrole <> %s::regrole",
    ):
        assert catalog.execute(query.encode(), (ROLE,)).fetchall() == []


def test_functions_are_the_owners_and_only_triggers_call_them(catalog: psycopg.Connection) -> None:
    """One counts what members store, with the owner's rights and a search path of its own; one has the caller's, and reads nothing."""
    functions = catalog.execute(
        "SELECT proname::text, pg_get_userbyid(proowner), prorettype::regtype::text, prosecdef, proconfig,"
        " has_function_privilege(%s, oid, 'EXECUTE') FROM pg_proc WHERE pronamespace = 'public'::regnamespace ORDER BY proname",
        (ROLE,),
    ).fetchall()

    path = ["search_path=pg_catalog, public, pg_temp"]
    assert functions == [
        ("count_stored_octets", "taxii_owner", "trigger", True, path, False),
        ("tell_lateness", "taxii_owner", "trigger", False, None, False),
    ]


def test_the_server_has_no_sequence(catalog: psycopg.Connection) -> None:
    """Identity columns draw their numbers as the table's owner: no right on their sequences is needed."""
    for right in ("USAGE", "SELECT", "UPDATE"):
        given = catalog.execute(
            "SELECT seqrelid::regclass FROM pg_sequence WHERE has_sequence_privilege(%s, seqrelid, %s)",
            (ROLE, right),
        ).fetchall()

        assert given == []


def test_the_server_can_become_nobody_else(catalog: psycopg.Connection) -> None:
    """Its role passes by no policy, and can make neither roles nor databases, schemas nor temporary tables."""
    attributes = catalog.execute(
        "SELECT rolsuper, rolbypassrls, rolcreaterole, rolcreatedb, rolreplication FROM pg_roles WHERE rolname = %s",
        (ROLE,),
    ).fetchone()
    makes = catalog.execute(
        "SELECT has_schema_privilege(%(role)s, 'public', 'CREATE'),"
        " has_database_privilege(%(role)s, current_database(), 'CREATE, TEMP')",
        {"role": ROLE},
    ).fetchone()

    assert attributes == (False,) * 5
    assert makes == (False, False)
