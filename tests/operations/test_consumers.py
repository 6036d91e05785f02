"""The operator is told who polls, who fell behind and who went silent, by what each client may see now."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY

from taxii_server.domain.access import Whole
from taxii_server.domain.errors import OperatorError
from taxii_server.operations import consumers
from taxii_server.operations.consumers import Consumer, Patience, Verdict
from taxii_server.storage import consumers as storage
from taxii_server.storage.alliance import remove_collection
from taxii_server.storage.engine import Database
from tests.auth.alliance import statements
from tests.auth.certified import certificate
from tests.factories import TLP2, indicator
from tests.taxii.alliance import Exchange, exchange_on, fill

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

SCRATCH = "fraud-intel/scratch"
AT_ONCE = Patience(behind=timedelta(0))
# what the members of the test alliance may read
READERS = [
    ("constabulary", "crime-desk/cases"),
    ("harbour", "fraud-intel/indicators"),
    ("harbour", SCRATCH),
    ("north", "fraud-intel/indicators"),
    ("north", SCRATCH),
]


@pytest.fixture(scope="module")
async def running(module_database_urls: DatabaseUrls) -> AsyncIterator[Exchange]:
    async with exchange_on(module_database_urls) as made:
        yield made


@pytest.fixture
async def own(running: Exchange) -> Exchange:
    """The alliance as it was made, with nothing stored and nothing known of anybody."""
    await saved(running)
    running.alliance.forget()
    fill(running)
    return running


@pytest.fixture
async def database(module_database_urls: DatabaseUrls) -> AsyncIterator[Database]:
    opened = Database(module_database_urls.server, connections=2)
    yield opened
    await opened.close()


async def saved(exchange: Exchange) -> None:
    await exchange.app.state.activity.save()


async def poll(exchange: Exchange, member: str = "north", query: str = "") -> None:
    answer = await exchange.get(exchange.path(f"objects/{query}", SCRATCH), member)
    assert answer.status_code == 200, answer.text
    await saved(exchange)


async def one(
    exchange: Exchange, database: Database, member: str = "north", patience: Patience | None = None
) -> Consumer:
    """What is told of a member's client and the scratch collection."""
    client_id = exchange.clients[member].client_id
    page = await consumers.consumers(database, patience or Patience(), client_id=client_id)
    [found] = [each for each in page.consumers if each.collection == SCRATCH]
    return found


def earlier(exchange: Exchange, hours: int) -> None:
    """Let all that happened so far have happened so many hours ago."""
    by = timedelta(hours=hours)
    exchange.alliance.execute("UPDATE object_versions SET date_added = date_added - %s", by)
    exchange.alliance.execute(
        "UPDATE client_readings SET polled_at = polled_at - %s, reached = reached - %s, ended_at = ended_at - %s",
        by,
        by,
        by,
    )
    exchange.alliance.execute(
        "UPDATE client_activity SET succeeded_at = succeeded_at - %s, failed_at = failed_at - %s, refused_at = refused_at - %s,"
        "  failures = ARRAY(SELECT each - %s FROM unnest(failures) AS each)",
        *[by] * 4,
    )


async def test_whoever_may_read_is_listed_with_each_collection(own: Exchange, database: Database) -> None:
    """Also who has never polled; not who may only write, or nothing."""
    page = await consumers.consumers(database, Patience())

    assert [(each.member, each.collection) for each in page.consumers] == READERS
    assert {each.words for each in page.consumers} == {"never polled"}
    assert page.next is None


async def test_pages_are_bounded_and_go_on_where_the_last_ended(own: Exchange, database: Database) -> None:
    """A console shows a page at a time; the pages are the list."""
    listed, after = [], None
    while True:
        page = await consumers.consumers(database, Patience(), after=after, limit=2)
        assert len(page.consumers) <= 2
        listed += [(each.member, each.collection) for each in page.consumers]
        if page.next is None:
            break
        after = page.next

    assert listed == READERS


async def test_a_page_costs_a_statement_and_one_for_each_collection_and_clearance(
    own: Exchange, database: Database
) -> None:
    """However many clients read the same."""
    for _ in range(5):
        own.alliance.client("north")
    with statements(database) as sent:
        page = await consumers.consumers(database, Patience())

    assert len(page.consumers) == 15
    assert len(sent) == 1 + 3, sent


async def test_up_to_date_then_behind_then_up_to_date(own: Exchange, database: Database) -> None:
    """What is added waits from then on, until it is fetched; a short wait is but the pause between polls."""
    await own.add(indicator(id=f"indicator--{uuid4()}"))
    await poll(own)
    now = await one(own, database)

    assert (now.words, now.waiting, now.behind, now.ended) == ("up to date", 0, timedelta(0), True)
    assert now.newest == now.reached

    earlier(own, 5)
    await own.add(indicator(id=f"indicator--{uuid4()}"), indicator(id=f"indicator--{uuid4()}"))
    patient, at_once = await one(own, database), await one(own, database, patience=AT_ONCE)

    assert (patient.verdict, at_once.verdict, at_once.waiting) == (Verdict.UP_TO_DATE, Verdict.BEHIND, 2)

    earlier(own, 3)
    own.alliance.execute("UPDATE client_readings SET polled_at = now(), reached = reached - interval '1 second'")
    late = await one(own, database)

    assert (late.words, late.waiting) == ("behind 8 h", 3)

    await poll(own)
    assert (await one(own, database)).words == "up to date"


async def test_in_the_middle_of_many_pages(own: Exchange, database: Database) -> None:
    """Pages are counted off as they are sent."""
    await own.add(*(indicator(id=f"indicator--{uuid4()}") for _ in range(5)))
    await poll(own, query="?limit=2")
    found = await one(own, database, patience=AT_ONCE)

    assert (found.verdict, found.waiting, found.ended, found.versions) == (Verdict.BEHIND, 3, False, 2)


async def test_more_than_is_counted_is_told_as_more(
    own: Exchange, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for a count of millions."""
    for module in (storage, consumers):
        monkeypatch.setattr(module, "MOST_WAITING", 3)
    await own.add(*(indicator(id=f"indicator--{uuid4()}") for _ in range(5)))
    await poll(own, query="?limit=2")
    exactly = await one(own, database)
    await poll(own, "harbour", "?limit=1")
    more = await one(own, database, "harbour")

    assert (exactly.waiting, exactly.more_waiting) == (3, False)
    assert (more.waiting, more.more_waiting) == (3, True)


async def test_what_a_client_may_not_see_does_not_wait_for_it(own: Exchange, database: Database) -> None:
    """A lower clearance takes it out of what waits, and out of what is newest; one that is withdrawn takes the line."""
    await own.add(indicator(id=f"indicator--{uuid4()}"))
    await poll(own)
    seen = (await one(own, database)).newest
    await own.add(indicator(id=f"indicator--{uuid4()}", object_marking_refs=[TLP2["amber"]]))

    cleared = await one(own, database)
    own.alliance.execute("UPDATE grants SET clearance = 1")
    lowered = await one(own, database)

    assert (cleared.waiting, cleared.clearance) == (1, "RED")
    assert (lowered.waiting, lowered.newest, lowered.clearance) == (0, seen, "GREEN")

    own.alliance.execute("DELETE FROM grants WHERE member_id = %s", own.alliance.members["north"])
    page = await consumers.consumers(database, Patience(), client_id=own.clients["north"].client_id)
    assert page.consumers == ()


async def test_narrowed_clients_are_told_of_with_what_is_left_to_them(own: Exchange, database: Database) -> None:
    """A client that may only write is no reader, one narrowed to a collection reads that."""
    own.alliance.client("north", rights=("write",), client_id="writer")
    own.alliance.client("north", collections=[own.alliance.collections[SCRATCH]], client_id="narrow")
    page = await consumers.consumers(database, Patience())

    assert [each.collection for each in page.consumers if each.client_id == "narrow"] == [SCRATCH]
    assert [each for each in page.consumers if each.client_id == "writer"] == []


async def test_the_newest_version_deleted(own: Exchange, database: Database) -> None:
    """What was removed waits for nobody, and who had fetched it is not ahead of anything."""
    await own.add(indicator(id=f"indicator--{uuid4()}"))
    await poll(own)
    await poll(own, "harbour")
    newest = indicator(id=f"indicator--{uuid4()}")
    await own.add(newest)
    await poll(own)
    await own.delete(own.path(f"objects/{newest['id']}/", SCRATCH))
    had_it, had_not = await one(own, database), await one(own, database, "harbour")

    assert (had_it.waiting, had_not.waiting) == (0, 0)
    assert (had_it.words, had_not.words) == ("up to date", "up to date")
    assert had_it.reached is not None
    assert had_it.newest is not None
    assert had_it.reached > had_it.newest


async def test_a_collection_made_anew_has_been_read_by_nobody(own: Exchange, database: Database) -> None:
    """Pruned and applied again, under the same id, it begins anew."""
    await own.add(indicator(id=f"indicator--{uuid4()}"))
    await poll(own)
    feed = own.alliance.collections[SCRATCH]
    async with database.write() as connection:
        await remove_collection(connection, Whole(feed))
    own.alliance.execute(
        "INSERT INTO collections (id, trust_group_id, alias, title, validation) VALUES (%s, %s, 'scratch', 'S', 'structural')",
        feed,
        own.alliance.groups["fraud-intel"],
    )
    own.alliance.execute("INSERT INTO collection_clocks (collection_id, last_added) VALUES (%s, now())", feed)
    own.alliance.grant("north", SCRATCH, ("read",))

    assert (await one(own, database)).words == "never polled"


async def test_silent(own: Exchange, database: Database) -> None:
    """Since when, and why if its id was shown since then with credentials that don't hold."""
    await poll(own)
    earlier(own, 25)
    silent = await one(own, database)

    assert silent.polled_at is not None
    assert silent.words == f"silent since {silent.polled_at:%Y-%m-%d %H:%MZ}"
    assert await consumers.count_silent(database, since=timedelta(hours=24)) == 1
    assert await consumers.count_silent(database, since=timedelta(hours=26)) == 0
    await own.app.state.activity.count_silent()
    assert REGISTRY.get_sample_value("taxii_clients_silent") == 1

    own.alliance.execute("DELETE FROM client_secrets WHERE client = %s", own.clients["north"].row)
    own.alliance.secret(own.clients["north"].row)
    assert (await own.get(own.path("objects/", SCRATCH))).status_code == 401
    await saved(own)

    assert (await one(own, database)).words == f"{silent.words}; since then refused: wrong secret"


async def test_what_is_about_to_end_is_told_in_time(own: Exchange, database: Database) -> None:
    """Certificates and clients that were given an end, thirty days before, or as the operator asks; never what is past."""
    client = own.clients["north"]
    await poll(own)
    for days in (-5, 3, 20):
        own.alliance.certificate(client.row, certificate(since=timedelta(days=-9), until=timedelta(days=days)))
    certified = await one(own, database)
    own.alliance.execute("UPDATE clients SET expires_at = now() + interval '40 days' WHERE id = %s", client.row)
    both = await one(own, database, patience=Patience(ending=timedelta(days=50)))
    none = await one(own, database, patience=Patience(ending=timedelta(days=10)))
    counted = [await consumers.count_ending(database, within=timedelta(days=days)) for days in (10, 30)]
    await own.app.state.activity.count_silent()

    assert certified.certified_until is not None
    assert certified.verdict is Verdict.UP_TO_DATE
    assert certified.words == f"up to date; its certificate ends {certified.certified_until:%Y-%m-%d %H:%MZ}"
    assert both.words == (
        f"up to date; it ends {both.expires_at:%Y-%m-%d %H:%MZ}; its certificate ends {both.certified_until:%Y-%m-%d %H:%MZ}"
    )
    assert none.words == "up to date"
    assert counted == [0, 1]
    assert REGISTRY.get_sample_value("taxii_clients_ending") == 1
    for ended in ("revoked_at = now()", "revoked_at = NULL, expires_at = now()"):
        own.alliance.execute(f"UPDATE clients SET {ended} WHERE id = %s", client.row)  # noqa: S608 - ours
        assert await consumers.count_ending(database, within=timedelta(days=90)) == 0


async def test_who_must_show_what_has_ended_is_refused(own: Exchange, database: Database) -> None:
    """A secret beside it makes no difference, and a certificate to come lets nobody in."""
    client = own.clients["north"]
    await poll(own)
    own.alliance.certificate(client.row, certificate(since=timedelta(days=-9), until=timedelta(days=-1)))
    own.alliance.certificate(client.row, certificate(since=timedelta(days=1)))
    told = {}
    for must in ("any", "both", "certificate"):
        own.alliance.must_show(client.row, must)
        told[must] = (await one(own, database)).verdict

    assert told == {"any": Verdict.UP_TO_DATE, "both": Verdict.REFUSED, "certificate": Verdict.REFUSED}


async def test_failing(own: Exchange, database: Database) -> None:
    """Requests of a client whose credentials hold come to nothing, again and again; once says nothing yet."""
    await poll(own)
    await own.get(own.path("objects/?limit=none", SCRATCH))
    await saved(own)
    once = await one(own, database)
    await own.get(own.path("objects/?limit=none", SCRATCH))
    await saved(own)
    failing = await one(own, database)

    assert (once.words, once.errors_in_row) == ("up to date", 1)
    assert (failing.words, failing.errors_in_row, failing.failed_status) == ("failing: 400, 2 in a row", 2, 400)

    await poll(own)
    assert (await one(own, database)).words == "up to date"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("UPDATE clients SET expires_at = now() WHERE id = %s", "refused: expired"),
        ("UPDATE clients SET revoked_at = now() WHERE id = %s", "refused: revoked"),
        ("DELETE FROM client_secrets WHERE client = %s", "refused: without credentials that hold"),
        (
            "UPDATE members SET suspended_at = now() WHERE id = (SELECT member_id FROM clients WHERE id = %s)",
            "refused: suspended",
        ),
    ],
)
async def test_who_is_not_let_in_any_more(own: Exchange, database: Database, change: str, words: str) -> None:
    """It is told why; the revoked are left out of the list, and told of if they are named."""
    await poll(own)
    own.alliance.execute(change, own.clients["north"].row)
    page = await consumers.consumers(database, Patience())

    assert (await one(own, database)).words == words
    assert ("north" in {each.member for each in page.consumers}) is (words != "refused: revoked")


async def test_who_asks_for_objects_by_id_alone_is_not_reading_the_feed(own: Exchange, database: Database) -> None:
    """Nothing tells what it misses."""
    await poll(own, query=f"?match[id]=indicator--{uuid4()}")
    found = await one(own, database)

    assert (found.verdict, found.waiting, found.behind, found.reached) == (Verdict.NOT_READING, None, None, None)


async def test_a_reader_of_manifests_is_where_its_manifests_are(own: Exchange, database: Database) -> None:
    """Some list first and fetch by id."""
    await own.add(indicator(id=f"indicator--{uuid4()}"))
    await own.get(own.path("manifest/", SCRATCH))
    await saved(own)
    found = await one(own, database)

    assert (found.words, found.reached, found.manifest_reached) == ("up to date", found.newest, found.newest)


async def test_an_unknown_client_is_refused(own: Exchange, database: Database) -> None:
    """With what was perhaps meant."""
    client_id = own.clients["north"].client_id
    with pytest.raises(OperatorError, match=f"did you mean '{client_id}'"):
        await consumers.consumers(database, Patience(), client_id=client_id[:-1])
