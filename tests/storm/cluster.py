"""A primary and its standby, one of which takes writes: for storms that go over a failover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

from tests.postgres import DATABASE, PORT, Postgres

BEHIND: Final = 30
"""Seconds that the standby's clock is behind the primary's."""
# found before PostgreSQL's own by whoever names no schema, as the server does
OTHER_CLOCK: Final = f"""
    CREATE SCHEMA skewed;
    GRANT USAGE ON SCHEMA skewed TO PUBLIC;
    CREATE FUNCTION skewed.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
        SELECT pg_catalog.clock_timestamp()
             - coalesce(nullif(current_setting('taxii_test.behind', true), ''), '0')::interval
    $$;
    ALTER DATABASE {DATABASE} SET search_path = skewed, pg_catalog, public;
"""


@dataclass
class Cluster:
    """A primary and its standby, as servers and we reach whichever takes writes."""

    primary: Postgres
    standby: Postgres
    failed_over: bool = False
    last: object = None
    """The last date that the primary gave out, as far as the standby knows."""

    @property
    def url(self) -> str:
        """Both, for who wants to write."""
        hosts = "&".join(f"host={quote(f'{each.folder}:{PORT}')}" for each in (self.primary, self.standby))
        return f"postgresql+psycopg://taxii_server@/{DATABASE}?{hosts}&target_session_attrs=read-write"

    def execute(self, statement: str, *values: object) -> Any:
        """Ask the one that takes writes."""
        return (self.standby if self.failed_over else self.primary).execute(statement, *values)

    def cut_off(self) -> None:
        """Have the standby follow nobody any more."""
        self.standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
        self.standby.execute("SELECT pg_reload_conf()")
        self.standby.until("SELECT count(*) = 0 FROM pg_stat_wal_receiver")

    def fail_over(self) -> None:
        """Lose the primary for good, and have the standby take its place."""
        self.primary.kill()
        [(self.last, behind)] = self.standby.execute(
            "SELECT max(last_added), max(last_added) > clock_timestamp() FROM collection_clocks"
        )
        assert behind is True, "the new primary's clock is not behind: nothing is shown"
        self.standby.promote()
        self.failed_over = True
