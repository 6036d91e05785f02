"""What the server notes of its clients: truthfully, and at no cost to them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine

from tests.auth.alliance import statements
from tests.factories import indicator
from tests.taxii.alliance import Exchange, basic, exchange_on

if TYPE_CHECKING:
    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

SCRATCH = "fraud-intel/scratch"


@pytest.fixture
async def own(exchange: Exchange) -> Exchange:
    """The module's exchange, with nothing stored and nothing known of anybody."""
    await saved(exchange)
    for table in ("object_versions", "client_readings", "client_activity"):
        exchange.alliance.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names
    return exchange


async def saved(exchange: Exchange) -> None:
    await exchange.app.state.activity.save()


def readings(exchange: Exchange) -> dict[tuple[str, str], Any]:
    """What is known of who read what, by member and endpoint."""
    rows = exchange.alliance.execute(
        "SELECT members.slug, endpoint, polls, versions, polled_at, received_at, reached, ended_at, filtered_at"
        "  FROM client_readings JOIN clients ON clients.id = client JOIN members ON members.id = member_id"
    )
    return {row[:2]: row[2:] for row in rows}


def conduct(exchange: Exchange, member: str) -> Any:
    """What is known of how a member's client fares."""
    rows = exchange.alliance.execute(
        "SELECT requests, errors, failed_status, cardinality(failures), succeeded_at, refused_for"
        "  FROM client_activity WHERE client = %s",
        exchange.clients[member].row,
    )
    return rows[0] if rows else None


def dates(exchange: Exchange) -> list[datetime]:
    return [date for (date,) in exchange.alliance.execute("SELECT date_added FROM object_versions ORDER BY date_added")]


def some(count: int) -> list[dict[str, Any]]:
    return [indicator(id=f"indicator--{uuid4()}") for _ in range(count)]


async def test_noting_costs_a_poll_no_statement(own: Exchange) -> None:
    """What was noted waits in memory; an empty poll sends the caller statement, and writes nothing."""
    await own.add(*some(3))
    await saved(own)
    before = own.alliance.execute("SELECT xmin, client, requests FROM client_activity")
    with statements(Engine) as sent:
        last = (await own.get(own.path("objects/", SCRATCH))).headers["X-TAXII-Date-Added-Last"]
    with statements(Engine) as sent_empty:
        empty = await own.get(own.path(f"objects/?added_after={last}", SCRATCH))

    assert empty.json() == {"more": False}
    assert [one for one in sent if "client_readings" in one or "client_activity" in one] == []
    assert [one.split()[0] for one in sent_empty] == ["SELECT"]
    assert own.alliance.execute("SELECT xmin, client, requests FROM client_activity") == before
    assert readings(own) == {}


async def test_how_far_a_client_has_read(own: Exchange) -> None:
    """In the middle, up to the last version it was sent; at the end, up to all that the collection had given out."""
    await own.add(*some(5))
    first = await own.get(own.path("objects/?limit=2", SCRATCH))
    await saved(own)
    polls, versions, polled_at, received_at, reached, ended_at, filtered_at = readings(own)["north", "objects"]

    assert (polls, versions, ended_at, filtered_at) == (1, 2, None, None)
    assert polled_at == received_at
    assert reached == dates(own)[1]

    rest = f"objects/?next={first.json()['next']}"
    await own.get(own.path(rest, SCRATCH))
    await own.get(own.path("objects/?added_after=" + first.headers["X-TAXII-Date-Added-Last"], SCRATCH))
    await saved(own)
    polls, versions, polled_at, received_at, reached, ended_at, _ = readings(own)["north", "objects"]

    assert (polls, versions) == (3, 8)
    assert polled_at == received_at == ended_at
    assert reached == dates(own)[-1]


async def test_an_empty_page_is_a_poll(own: Exchange) -> None:
    """It says that the client lives and has everything, though it received nothing."""
    await own.add(*some(1))
    await own.get(own.path("objects/", SCRATCH))
    await own.add(*some(1))
    await own.get(own.path("objects/", SCRATCH))
    await saved(own)
    before = readings(own)["north", "objects"]
    last = dates(own)[-1].isoformat().replace("+00:00", "Z")
    await own.get(own.path(f"objects/?added_after={last}", SCRATCH))
    await saved(own)
    polls, versions, polled_at, received_at, reached, ended_at, _ = readings(own)["north", "objects"]

    assert (polls, versions, received_at, reached) == (3, 3, before[3], dates(own)[-1])
    assert polled_at == ended_at > before[2]


async def test_who_filters_is_told_apart_and_still_reaches_the_end(own: Exchange) -> None:
    """A client that asks for some types has all that it asks for, though newer versions are of other types."""
    await own.add(*some(2))
    await own.get(own.path("objects/?match[type]=malware", SCRATCH))
    await saved(own)
    _, versions, polled_at, _, reached, ended_at, filtered_at = readings(own)["north", "objects"]

    assert versions == 0
    assert polled_at == ended_at == filtered_at
    assert reached == dates(own)[-1]


async def test_who_asks_for_what_comes_after_a_time_to_come_misses_what_comes_before_it(own: Exchange) -> None:
    """Its clock or its cursor is wrong: it must not pass for one that has everything."""
    await own.add(*some(2))
    await own.get(own.path("objects/?added_after=2099-01-01T00:00:00Z", SCRATCH))
    await saved(own)
    polls, _, _, _, reached, ended_at, _ = readings(own)["north", "objects"]

    assert (polls, reached, ended_at) == (1, None, None)


async def test_objects_asked_for_by_id_say_nothing_of_the_feed(own: Exchange) -> None:
    """One object, its versions, or some by match[id] are polls, but tell nothing of how far a client is."""
    [thing] = some(1)
    await own.add(thing)
    for rest in (
        f"objects/{thing['id']}/",
        f"objects/{thing['id']}/versions/",
        f"objects/?match[id]={thing['id']}",
        f"manifest/?match[id]={thing['id']}",
    ):
        assert (await own.get(own.path(rest, SCRATCH))).status_code == 200
    await saved(own)

    assert {key: (row[0], row[4], row[5]) for key, row in readings(own).items()} == {
        ("north", "object"): (2, None, None),
        ("north", "versions"): (2, None, None),
    }


async def test_the_manifest_is_counted_apart(own: Exchange) -> None:
    """Who lists what there is has not fetched it."""
    await own.add(*some(2))
    await own.get(own.path("manifest/", SCRATCH), "harbour")
    await saved(own)

    assert list(readings(own)) == [("harbour", "manifest")]


async def test_what_is_no_page_is_no_poll(own: Exchange) -> None:
    """HEAD brings nothing; a refusal neither; other places are requests like any."""
    await own.add(*some(1))
    headers = own.as_("north") | {"Accept": "*/*"}
    await own.http.head(own.path("objects/", SCRATCH), headers=headers)
    await own.get(own.path("objects/?limit=x", SCRATCH))
    await own.get("/taxii2/")
    await saved(own)

    assert readings(own) == {}
    assert conduct(own, "north")[:4] == (4, 1, 400, 0)


async def test_errors_in_a_row_end_with_a_success(own: Exchange) -> None:
    """Counted for the client whose credentials held, whatever went wrong."""
    for rest in ("objects/?limit=x", "objects/?limit=y", "objects/?next=z"):
        await own.get(own.path(rest, SCRATCH), "harbour")
    await saved(own)

    assert conduct(own, "harbour") == (3, 3, 400, 3, None, None)

    await own.get(own.path("objects/", SCRATCH), "harbour")
    await saved(own)

    assert conduct(own, "harbour")[:4] == (4, 3, 400, 0)


async def test_refusals_are_noted_of_known_clients_alone(own: Exchange) -> None:
    """Apart from errors, since anybody may show a client's id; who shows an unknown one leaves nothing behind."""
    client = own.clients["north"]
    wrong = "txs_" + "0" * 64 + "8a1b6e5a"
    for client_id, secret in (
        (client.client_id, own.clients["harbour"].secret),
        ("nobody", client.secret),
        ("x", wrong),
    ):
        headers = basic(client_id, secret) | {"Accept": "*/*"}
        assert (await own.http.get(own.path("objects/", SCRATCH), headers=headers)).status_code == 401
    await saved(own)

    assert conduct(own, "north") == (0, 0, None, 0, None, "wrong secret")
    assert own.alliance.execute("SELECT count(*) FROM client_activity") == [(1,)]

    expires = "UPDATE clients SET expires_at = now() + %s WHERE id = %s"
    own.alliance.execute(expires, -timedelta(hours=1), client.row)
    form = {"grant_type": "client_credentials"}
    await own.http.post("/oauth2/token", data=form, headers=own.as_("north"))
    own.alliance.execute(expires, None, client.row)
    await saved(own)

    assert conduct(own, "north")[5] == "client has expired"


async def test_no_answer_tells_who_polls(own: Exchange) -> None:
    """What a member is answered is the same whether or not others polled, or failed to."""
    [thing] = some(1)
    await own.add(thing)
    paths = [
        "/taxii2/",
        "/taxii2/fraud-intel/",
        "/taxii2/fraud-intel/collections/",
        *(own.path(rest, SCRATCH) for rest in ("", "objects/", "manifest/", f"objects/{thing['id']}/versions/")),
        "/healthz",
        "/readyz",
    ]

    async def answers() -> list[Any]:
        found = [await own.get(path, "harbour") for path in paths]
        volatile = {"x-request-id", "date"}
        return [
            (one.status_code, one.content, {name: value for name, value in one.headers.items() if name not in volatile})
            for one in found
        ]

    before = await answers()
    for rest in ("objects/", "manifest/", "objects/?limit=x"):
        await own.get(own.path(rest, SCRATCH))
    await saved(own)

    assert await answers() == before


async def test_a_client_in_a_loop_is_seen_in_its_health(fresh_database_urls: DatabaseUrls) -> None:
    """What is refused before any look-up is noted all the same, once each, and at the time at which it was."""
    async with exchange_on(fresh_database_urls, client_rate="3/hour") as exchange:
        north = exchange.as_("north")
        for _ in range(3):
            assert (await exchange.http.get("/taxii2/", headers=north)).status_code == 200
        with statements(Engine) as sent:
            refusals = [await exchange.http.get("/taxii2/", headers=north) for _ in range(6)]
            refusals += [
                await exchange.http.post("/oauth2/token", data={"grant_type": "client_credentials"}, headers=north)
                for _ in range(2)
            ]
        await saved(exchange)
        noted = exchange.alliance.execute(
            "SELECT requests, errors, failed_status, cardinality(failures), failures[1] = failed_at,"
            "       failed_at > succeeded_at AND failed_at BETWEEN now() - interval '1 minute' AND now()"
            "  FROM client_activity WHERE client = %s",
            exchange.clients["north"].row,
        )

    assert {answer.status_code for answer in refusals} == {429}
    # one look-up for what it sent here, one for what it sent there
    assert len(sent) == 2
    assert noted == [(11, 8, 429, 8, True, True)]
