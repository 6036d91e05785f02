"""Where an act can't be written down, nothing is done: both, or neither."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from psycopg.errors import CheckViolation
from sqlalchemy.exc import IntegrityError

from taxii_server.domain.audit import Act
from taxii_server.operations import clients, maintenance, members, operator_recalls
from taxii_server.storage.engine import Database
from tests.factories import indicator, ipv4, stix_id
from tests.taxii.alliance import Exchange, exchange_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

SCRATCH = "fraud-intel/scratch"
NUMBERS = count(60_000)
CHANGED = (
    "object_versions",
    "deleted_versions",
    "stored_octets",
    "recalls",
    "statuses",
    "clients",
    "client_secrets",
    "revoked_tokens",
    "members",
)


@pytest.fixture(scope="module")
async def exchange(module_database_urls: DatabaseUrls) -> AsyncIterator[Exchange]:
    async with exchange_on(module_database_urls) as running:
        yield running


@pytest.fixture(scope="module")
async def db(module_database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    database = Database(module_database_urls.server)
    yield database
    await database.close()


@contextmanager
def no_room_for(exchange: Exchange, act: Act) -> Iterator[None]:
    """Let the database refuse rows of one act."""
    exchange.alliance.execute(
        f"ALTER TABLE audit_events ADD CONSTRAINT refusing CHECK (act <> '{act.value}') NOT VALID"
    )
    try:
        yield
    finally:
        exchange.alliance.execute("ALTER TABLE audit_events DROP CONSTRAINT refusing")


def stored(exchange: Exchange) -> dict[str, Any]:
    """All rows of what acts change, and of the audit."""
    return {
        table: exchange.alliance.execute(f"SELECT t::text FROM {table} AS t ORDER BY 1")  # noqa: S608 - our own names
        for table in (*CHANGED, "audit_events", "collection_clocks")
    }


def some() -> dict[str, Any]:
    return indicator(id=stix_id("indicator", next(NUMBERS)))


@pytest.mark.parametrize(
    "act", [Act.OBJECTS_ADDED, Act.OBJECTS_DELETED, Act.OBJECT_RECALLED, Act.TOKEN_ISSUED, Act.TOKEN_REVOKED]
)
async def test_a_request_whose_act_is_not_written_changes_nothing(exchange: Exchange, act: Act) -> None:
    """And isn't answered as if it had: no object added or removed, no token given out or taken back."""
    one, observable = some(), ipv4(value=f"198.51.100.{next(NUMBERS) % 250}")
    await exchange.add(one, observable)
    held = await exchange.token("north")
    token = {"token": held["Authorization"].removeprefix("Bearer ")}
    before = stored(exchange)
    with no_room_for(exchange, act):
        match act:
            case Act.OBJECTS_ADDED:
                answer = await exchange.post({"objects": [some()]}, name=SCRATCH)
            case Act.OBJECTS_DELETED:
                answer = await exchange.delete(exchange.path(f"objects/{one['id']}/", SCRATCH))
            case Act.OBJECT_RECALLED:
                path = exchange.path(f"objects/{observable['id']}/recall/", SCRATCH)
                answer = await exchange.http.post(path, headers=exchange.as_("north"))
            case Act.TOKEN_ISSUED:
                form = {"grant_type": "client_credentials"}
                answer = await exchange.http.post("/oauth2/token", data=form, headers=exchange.as_("north"))
            case _:
                answer = await exchange.http.post("/oauth2/revoke", data=token, headers=exchange.as_("north"))

    assert answer.status_code == 500
    assert stored(exchange) == before


@pytest.mark.parametrize(
    "act",
    [
        Act.CLIENT_ISSUED,
        Act.CLIENT_ROTATED,
        Act.CLIENT_REVOKED,
        Act.MEMBER_SUSPENDED,
        Act.RECALL_LIFTED,
        Act.CLOCKS_ADVANCED,
    ],
)
async def test_a_command_whose_act_is_not_written_changes_nothing(exchange: Exchange, db: Database, act: Act) -> None:
    """The operator's as well."""
    one = some()
    await exchange.add(one)
    await operator_recalls.recall(db, collection=SCRATCH, stix_id=one["id"])
    issued = await clients.issue(db, "tide", name=f"tide-{next(NUMBERS)}")
    before = stored(exchange)
    command: Callable[[], Awaitable[object]] = {
        Act.CLIENT_ISSUED: lambda: clients.issue(db, "tide", name="never"),
        Act.CLIENT_ROTATED: lambda: clients.rotate(db, issued.client_id),
        Act.CLIENT_REVOKED: lambda: clients.revoke(db, issued.client_id),
        Act.MEMBER_SUSPENDED: lambda: members.suspend(db, "tide"),
        Act.RECALL_LIFTED: lambda: operator_recalls.lift(db, collection=SCRATCH, stix_id=one["id"]),
        Act.CLOCKS_ADVANCED: lambda: maintenance.advance_clocks(db, by=timedelta(seconds=1)),
    }[act]
    with no_room_for(exchange, act), pytest.raises((IntegrityError, CheckViolation)):
        await command()

    assert stored(exchange) == before
