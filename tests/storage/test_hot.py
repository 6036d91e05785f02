"""Hot statements: what the driver is handed, and that it needn't convert it on every request."""

from __future__ import annotations

import importlib
import pkgutil

import pytest
from psycopg import _queries
from sqlalchemy import TextClause
from sqlalchemy.dialects.postgresql.psycopg import PGDialectAsync_psycopg

from taxii_server import storage
from taxii_server.storage import object_page_statements
from taxii_server.storage.callers import CALLER
from taxii_server.storage.hot import CONVERTED_ONCE, Statement


def _written() -> dict[str, TextClause | Statement]:
    modules = [
        importlib.import_module(f"{storage.__name__}.{one.name}") for one in pkgutil.iter_modules(storage.__path__)
    ]
    return {
        f"{module.__name__}.{name}": value
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, TextClause | Statement)
    }


WRITTEN = _written()
_DRIVER = PGDialectAsync_psycopg()  # type: ignore[no-untyped-call]


def test_the_hot_ones_are_among_those_looked_at() -> None:
    """What follows looks at the statements that requests are made of."""
    assert {id(CALLER), id(object_page_statements.LATEST)} <= {id(one) for one in WRITTEN.values()}


def test_the_bound_is_the_drivers_own() -> None:
    """A new driver may have another."""
    assert CONVERTED_ONCE == _queries.MAX_CACHED_STATEMENT_LENGTH


@pytest.mark.parametrize("name", WRITTEN)
def test_the_driver_converts_each_statement_once(name: str) -> None:
    """As SQLAlchemy hands it over, placeholders and all; a `hot.Statement` is sent as it is, and shall be no longer either."""
    written = WRITTEN[name]
    if isinstance(written, Statement):
        assert len(written.numbered) <= CONVERTED_ONCE
        return
    compiled = written.compile(dialect=_DRIVER)

    assert len(str(compiled).encode()) <= CONVERTED_ONCE
    assert len(compiled.params) <= _queries.MAX_CACHED_STATEMENT_PARAMS


def test_a_statement_says_what_was_written() -> None:
    """A comment ends where its line does, and what is within a line stays as it is."""
    made = Statement("""
        SELECT 'two  blanks',  -- why
               1

         WHERE true
    """)

    assert made.text == "SELECT 'two  blanks',  -- why\n1\nWHERE true"
