"""Statuses (§4.3): what became of an add request, for the member that sent it."""

from __future__ import annotations

import re
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from taxii_server.auth.signing_keys import SigningKeys
from taxii_server.operations import maintenance
from taxii_server.storage.engine import Database
from tests.factories import ipv4, malware, stix_id
from tests.taxii.alliance import GROUP, OTHER_GROUP, TAXII, Exchange, assert_error, basic

if TYPE_CHECKING:
    from typing import Any

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

_numbers = count(2000)
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


def another() -> dict[str, Any]:
    return malware(id=stix_id("malware", next(_numbers)))


async def mixed(exchange: Exchange) -> Any:
    """A push of which one object is refused."""
    answer = await exchange.post({"objects": [another(), {"type": "malware"}, ipv4()]}, name="fraud-intel/scratch")
    assert answer.status_code == 202
    return answer.json()


async def test_a_status_is_read_back_as_it_was_given(exchange: Exchange) -> None:
    """§4.3: the same resource as the POST's answer, and it never changes once it is complete."""
    status = await mixed(exchange)
    for path in (f"{GROUP}status/{status['id']}/", f"{GROUP}status/{status['id']}"):
        answer = await exchange.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == TAXII
        assert answer.json() == status
    await mixed(exchange)
    assert (await exchange.get(f"{GROUP}status/{status['id']}/")).json() == status


async def test_every_property_is_as_the_standard_has_it(exchange: Exchange) -> None:
    """§4.3.1: id is a UUIDv4, request_timestamp has microseconds, the counts add up and agree with their lists."""
    status = await mixed(exchange)

    assert UUID(status["id"]).version == 4
    assert status["status"] == "complete"
    assert TIMESTAMP.fullmatch(status["request_timestamp"])
    assert status["total_count"] == status["success_count"] + status["failure_count"] + status["pending_count"] == 3
    assert len(status["successes"]) == status["success_count"] == 2
    assert len(status["failures"]) == status["failure_count"] == 1
    assert status["pending_count"] == 0
    assert all(set(each) == {"id", "version"} for each in status["successes"])
    assert all(set(each) == {"id", "version", "message"} for each in status["failures"])


@pytest.mark.parametrize(("good", "lists"), [(True, {"successes"}), (False, {"failures"})])
async def test_empty_lists_are_left_out(exchange: Exchange, good: bool, lists: set[str]) -> None:
    """§2, §4.3.1: TAXII has no empty list, and nothing is ever pending here."""
    one = another() if good else {"type": "malware"}
    status = (await exchange.post({"objects": [one]}, name="fraud-intel/scratch")).json()
    read = (await exchange.get(f"{GROUP}status/{status['id']}/")).json()

    assert {"successes", "failures", "pendings"} & set(read) == lists


async def test_other_clients_of_the_member_may_read_it(exchange: Exchange) -> None:
    """D-13: whoever of the member's clients looks after the push, one that may only read included."""
    status = await mixed(exchange)
    for client in (exchange.alliance.client("north"), exchange.alliance.client("north", rights=("read",))):
        answer = await exchange.http.get(
            f"{GROUP}status/{status['id']}/",
            headers=basic(client.client_id, client.secret),
        )
        assert answer.json() == status


@pytest.mark.parametrize("member", ["harbour", "tide", "stranger", "constabulary", "court"])
async def test_to_other_members_it_does_not_exist(exchange: Exchange, member: str) -> None:
    """D-13: 404, in the words that an unknown status gets, also for members who see the same collections."""
    status = await mixed(exchange)
    hidden = assert_error(await exchange.get(f"{GROUP}status/{status['id']}/", member), 404)
    absent = assert_error(await exchange.get(f"{GROUP}status/{uuid4()}/", member), 404)

    assert {**hidden, "error_id": ""} == {**absent, "error_id": ""}


async def test_it_belongs_to_its_api_root(exchange: Exchange) -> None:
    """§4.3: a status is of the API Root that was posted to; another one doesn't know it."""
    exchange.alliance.member("both-sides")
    for name in ("fraud-intel/scratch", "crime-desk/cases"):
        exchange.alliance.grant("both-sides", name, ("read", "write"))
    exchange.clients["both-sides"] = exchange.alliance.client("both-sides")
    answer = await exchange.post({"objects": [another()]}, "both-sides", "crime-desk/cases")
    of = answer.json()["id"]

    assert (await exchange.get(f"{OTHER_GROUP}status/{of}/", "both-sides")).status_code == 200
    assert_error(await exchange.get(f"{GROUP}status/{of}/", "both-sides"), 404)


@pytest.mark.parametrize(
    "of",
    [
        "00000000-0000-0000-0000-000000000000",
        "7d558858-27b1-49dc-b62a-b03fe4362bd4",
        "status--2d086da7-4bdc-4f91-900e-d77486753710",
        "x",
        "%00",
        "-1",
        "{id}",
        "2d086da74bdc4f91900ed77486753710",
    ],
)
async def test_unknown_and_impossible_ids_are_not_found(exchange: Exchange, of: str) -> None:
    """§4.3: 404, never a complaint about the form of the id."""
    assert_error(await exchange.get(f"{GROUP}status/{of}/"), 404)


async def test_an_id_is_found_in_any_case(exchange: Exchange) -> None:
    """RFC 4122 §3: hexadecimal digits are read without regard to case."""
    status = await mixed(exchange)

    assert (await exchange.get(f"{GROUP}status/{status['id'].upper()}/")).json() == status


async def test_credentials_and_accept_are_checked(exchange: Exchange) -> None:
    """§4.3: 401 without credentials, 406 where TAXII isn't acceptable."""
    status = await mixed(exchange)
    path = f"{GROUP}status/{status['id']}/"

    assert_error(await exchange.http.get(path), 401)
    assert_error(await exchange.get(path, headers={"Accept": "text/html"}), 406)


async def test_a_refused_request_leaves_no_status(exchange: Exchange) -> None:
    """§4.3: only what was answered with 202 has one."""
    before = exchange.alliance.execute("SELECT count(*) FROM statuses")
    for body in (b"{", b"{}", b'{"objects": []}'):
        await exchange.post(body)

    assert exchange.alliance.execute("SELECT count(*) FROM statuses") == before


async def test_a_status_is_kept_for_a_day_and_then_for_as_long_as_set(
    exchange: Exchange,
    module_database_urls: DatabaseUrls,
) -> None:
    """§4.3: at least 24 hours after it finished; the purge takes what is older than the keep, and nothing else."""
    young, old = await mixed(exchange), await mixed(exchange)
    for status, age in ((young, "23 hours 59 minutes"), (old, "24 hours 1 minute")):
        exchange.alliance.execute(
            "UPDATE statuses SET completed_at = now() - %s::interval WHERE id = %s",
            age,
            status["id"],
        )
    database = Database(module_database_urls.server, connections=4)
    keys = SigningKeys(database, "k" * 32, key_lifetime=timedelta(days=90), token_lifetime=timedelta(minutes=15))
    try:
        await maintenance.maintain(database, status_keep=timedelta(hours=24), keys=keys)
    finally:
        await database.close()

    assert (await exchange.get(f"{GROUP}status/{young['id']}/")).json() == young
    assert_error(await exchange.get(f"{GROUP}status/{old['id']}/"), 404)
