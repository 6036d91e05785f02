"""`disclosures`: who was sent an object, told to people and to programs."""

import asyncio
import json
from pathlib import Path
from uuid import UUID

import pytest

from taxii_server.domain.cursor import Endpoint
from taxii_server.domain.disclosures import Recipient
from taxii_server.domain.filters import Filter
from taxii_server.domain.permissions import operator_readable
from taxii_server.operations import reading
from taxii_server.operations.ledger import Ledger
from taxii_server.storage import alliance as stored
from taxii_server.storage.engine import Database
from taxii_server.storage.object_pages import Bounds
from tests.cli.conftest import Run
from tests.cli.test_import_export import BODY, bundle

FEED = "91a7b528-80eb-42ed-a74d-c6fbd5a26116"
THING = "indicator--00000001-0000-4000-8000-000000000000"


async def _poll(url: str, endpoint: Endpoint, client: str) -> None:
    """Read what the collection holds in a client's name, as a poll of its would."""
    database = Database(url)
    ledger = Ledger(database)
    async with database.read() as connection:
        named = await stored.collection_named(connection, FEED)
        row = (
            await connection.exec_driver_sql("SELECT member_id, id FROM clients WHERE client_id = %s", (client,))
        ).one()
    assert named is not None
    asked = reading.Asked(endpoint, Filter(), None, Bounds(100, 10**6))
    recipient = Recipient(row.member_id, row.id)
    await reading.Reader(database, ledger).read(operator_readable(named.collection), asked, recipient)
    await ledger.close()
    await database.close()


@pytest.fixture
def reader(run: Run, alliance: Path, tmp_path: Path) -> str:
    """A client that may read, and one object in the feed."""
    run("import", FEED, str(bundle(tmp_path, BODY % (1, 1))), "--as", "north-bank")
    client: str = run("client", "issue", "harbour-bank", "--name", "siem", "--json").json["client_id"]
    return client


def test_it_tells_who_was_sent_which_version(
    run: Run, reader: str, environment: dict[str, str], tmp_path: Path
) -> None:
    """Content and listings apart, first and last and how often; a version nobody got is told as well."""
    url = environment["TAXII_DATABASE_URL"]
    for endpoint in (Endpoint.OBJECTS, Endpoint.MANIFEST, Endpoint.OBJECTS):
        asyncio.run(_poll(url, endpoint, reader))
    run("import", FEED, str(bundle(tmp_path, BODY % (1, 2))), "--as", "north-bank")

    told = run("disclosures", THING)
    [first, second] = run("disclosures", THING, "--collection", "fraud-intel/indicators", "--json").json

    assert told.code == 0
    assert [line.split()[6:10] for line in told.out.splitlines()[1:3]] == [
        ["harbour-bank", reader, "content", told.out.splitlines()[1].split()[9]],
        ["harbour-bank", reader, "listing", told.out.splitlines()[2].split()[9]],
    ]
    assert "nobody" in told.out.splitlines()[3]
    assert told.err == "Its content was sent to harbour-bank.\n"
    assert (first["collection"], first["brought_by"]) == ("fraud-intel/indicators", "north-bank")
    assert [(one["member"], one["client_id"], one["content"], one["times"]) for one in first["received"]] == [
        ("harbour-bank", reader, True, 2),
        ("harbour-bank", reader, False, 1),
    ]
    assert first["received"][0]["first"] < first["received"][1]["last"] < first["received"][0]["last"]
    assert second["received"] == []


def test_a_removed_collection_is_answered_for(
    run: Run, reader: str, environment: dict[str, str], alliance: Path, tmp_path: Path
) -> None:
    """What was sent stays known when the object, its collection and the reader's client are gone."""
    asyncio.run(_poll(environment["TAXII_DATABASE_URL"], Endpoint.OBJECTS, reader))
    run("client", "revoke", reader)
    kept = tmp_path / "smaller.yaml"
    text = alliance.read_text()
    begun, end = text.index("      - alias: indicators"), text.index("      - {alias: other")
    kept.write_text(text[:begun] + text[end:])
    assert run("apply", str(kept), "--prune").code == 0

    for collection in ((), ("--collection", FEED)):
        [version] = run("disclosures", THING, "--json", *collection).json
        assert version["removed"]
        assert version["collection_id"] == str(UUID(FEED))
        assert [one["client_id"] for one in version["received"]] == [reader]
    assert f"{FEED} (removed)" in run("disclosures", THING).out


def test_what_never_was_is_refused(run: Run, reader: str) -> None:
    """A typing error must not read like 'nobody received it'."""
    unknown = run("disclosures", THING.replace("1", "2"))
    elsewhere = run("disclosures", THING, "--collection", "fraud-intel/other")
    nowhere = run("disclosures", THING, "--collection", "fraud-intel/indicator")

    assert (unknown.code, elsewhere.code, nowhere.code) == (1, 1, 1)
    assert "never was" in unknown.err
    assert "did you mean 'fraud-intel/indicators'?" in nowhere.err


def test_nobody_is_told_in_words(run: Run, reader: str) -> None:
    """An object that was not sent to anybody."""
    told = run("disclosures", THING)

    assert told.err == "No version of it was sent to anybody.\n"
    assert json.loads(run("disclosures", THING, "--json").out)[0]["received"] == []
