"""The databases that tests run on are like the real ones: two roles, neither a superuser."""

import psycopg
from sqlalchemy.engine import make_url

from taxii_server.storage.embedded import DatabaseUrls


def connect(url: str) -> psycopg.Connection:
    return psycopg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))


def test_the_two_roles_are_not_superusers(database_urls: DatabaseUrls) -> None:
    """A superuser would make every later row-level policy green and void."""
    for role, url in (("taxii_owner", database_urls.owner), ("taxii_server", database_urls.server)):
        with connect(url) as connection:
            query = "SELECT rolname, rolsuper, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = current_user"

            assert connection.execute(query).fetchone() == (role, False, False, False)


def test_the_server_owns_nothing_and_makes_nothing(database_urls: DatabaseUrls) -> None:
    """The server's role has no table of its own and can't make one."""
    with connect(database_urls.server) as connection:
        owned = connection.execute("SELECT count(*) FROM pg_class WHERE relowner = current_user::regrole").fetchone()
        may = connection.execute(
            "SELECT has_schema_privilege('public', 'CREATE'), has_database_privilege(current_database(), 'CREATE, TEMP')"
        ).fetchone()

    assert owned == (0,)
    assert may == (False, False)


def test_databases_sort_by_code_point(fresh_database_urls: DatabaseUrls) -> None:
    """Order and equality of text are the same on every server we support."""
    with connect(fresh_database_urls.server) as connection:
        ordered = connection.execute(
            "SELECT string_agg(x, '' ORDER BY x) FROM unnest(ARRAY['é','a','Z','_','z']) x"
        ).fetchone()

    assert ordered == ("Z_azé",)
