"""Adding objects (§5.5): what each object of an envelope gets, and that it comes back as it was posted."""

from __future__ import annotations

import json
from itertools import count
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests import factories, strategies
from tests.factories import TLP1, as_json, envelope, indicator, ipv4, malware, marking, stix_id
from tests.taxii.alliance import PUBLIC_URL, TAXII, Exchange, assert_error

if TYPE_CHECKING:
    import httpx

    from tests.factories import Stix

pytestmark = pytest.mark.anyio

STRICT, STRUCTURAL = "fraud-intel/indicators", "fraud-intel/scratch"
_numbers = count(1000)


def new(stix_type: str = "indicator") -> str:
    """An id that no other test uses."""
    return stix_id(stix_type, next(_numbers))


def at(second: int) -> dict[str, str]:
    """A version: `modified` at this second."""
    return {"modified": f"2024-05-02T08:16:{second:02}.000Z"}


async def manifest(exchange: Exchange, of: str, name: str = STRUCTURAL, **query: str) -> list[dict[str, str]]:
    """Every version of one object that the server holds, oldest addition first."""
    parameters = {"match[id]": of, "match[version]": "all", "match[spec_version]": "2.0,2.1"} | query
    answer = await exchange.get(exchange.path("manifest/", name), params=parameters)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, str]] = answer.json().get("objects", [])
    return found


async def body_of(exchange: Exchange, of: str, name: str = STRUCTURAL) -> bytes:
    """One object's octets as they are served, cut out of the envelope by position."""
    answer = await exchange.get(exchange.path(f"objects/{of}/", name))
    assert answer.status_code == 200, answer.text
    head, tail = b'{"more":false,"objects":[', b"]}"
    assert answer.content.startswith(head)
    assert answer.content.endswith(tail)
    return answer.content[len(head) : -len(tail)]


async def verdicts(exchange: Exchange, *objects: Stix | bytes, name: str = STRUCTURAL, member: str = "north") -> Any:
    """POST objects; give the status."""
    answer = await exchange.post(envelope(*objects), member, name)
    assert answer.status_code == 202, answer.text
    return answer.json()


# Who may


@pytest.mark.parametrize("member", ["north", "tide"])
async def test_an_envelope_is_taken_with_202_and_a_status(exchange: Exchange, member: str) -> None:
    """§5.5: 202, a status resource in TAXII's content type, and none of the headers of pages (§3.2)."""
    one = indicator(id=new())
    answer = await exchange.post({"objects": [one]}, member)

    assert answer.status_code == 202
    assert answer.headers["content-type"] == TAXII
    assert not [name for name in answer.headers if name.startswith("x-taxii")]
    status = answer.json()
    assert UUID(status["id"]).version == 4
    assert status == {
        "id": status["id"],
        "status": "complete",
        "request_timestamp": status["request_timestamp"],
        "total_count": 1,
        "success_count": 1,
        "successes": [{"id": one["id"], "version": one["modified"]}],
        "failure_count": 0,
        "pending_count": 0,
    }


async def test_without_the_right_to_write_it_is_403(exchange: Exchange) -> None:
    """§5.5: `can_write` is false for a member that may only read; nothing is stored."""
    one = indicator(id=new())

    assert_error(await exchange.post({"objects": [one]}, "harbour"), 403)
    assert await manifest(exchange, one["id"], STRICT) == []


@pytest.mark.parametrize("member", ["stranger", "constabulary"])
async def test_a_hidden_collection_is_404_to_who_adds(exchange: Exchange, member: str) -> None:
    """§5.5: without any grant, the collection isn't there, whatever the body is."""
    assert_error(await exchange.post({"objects": [indicator()]}, member), 404)
    assert_error(await exchange.post(b"no JSON at all", member), 404)


async def test_rights_are_looked_at_before_the_body(exchange: Exchange) -> None:
    """D-16: who may not add learns nothing of what is wrong with the body."""
    assert_error(await exchange.post(b"no JSON at all", "harbour"), 403)


# What may be sent


@pytest.mark.parametrize(
    "media",
    [
        TAXII,
        "application/taxii+json",
        "Application/TAXII+JSON; version=2.1",
        'application/taxii+json; version="2.1"; charset=utf-8',
        "application/stix+json",
        "application/stix+json; version=2.1",
        "application/stix+json;version=2.0",
    ],
)
async def test_content_types_that_are_read(exchange: Exchange, media: str) -> None:
    """§1.6.8, D-19: TAXII with or without its version, and STIX, as which real clients post."""
    answer = await exchange.post({"objects": [malware(id=new("malware"))]}, headers={"Content-Type": media})

    assert answer.status_code == 202


@pytest.mark.parametrize(
    "media",
    [
        "application/json",
        "text/plain",
        "application/taxii+json;version=2.0",
        "application/stix+json;version=1.2",
        "",
        "x",
    ],
)
async def test_other_content_types_are_415(exchange: Exchange, media: str) -> None:
    """§3.1: a type that isn't read is refused before the body is."""
    assert_error(await exchange.post(b"{", headers={"Content-Type": media}), 415)


async def test_a_post_without_content_type_is_415(exchange: Exchange) -> None:
    """§3.1: a POST has a Content-Type."""
    headers = exchange.as_("north") | {"Accept": TAXII}
    answer = await exchange.http.post(exchange.path(), content=envelope(indicator()), headers=headers)

    assert_error(answer, 415)


async def test_an_accept_that_leaves_no_room_is_406(exchange: Exchange) -> None:
    """§3.1: and nothing is stored, since the caller couldn't read what became of it."""
    one = indicator(id=new())

    assert_error(await exchange.post({"objects": [one]}, headers={"Accept": "application/foo"}), 406)
    assert await manifest(exchange, one["id"], STRICT) == []


async def test_a_bundle_is_taken_as_an_envelope(exchange: Exchange) -> None:
    """D-19: `type` and `id` of the bundle mean nothing; its objects are stored, no bundle is."""
    one, other = malware(id=new("malware")), indicator(id=new())
    bundle_id = stix_id("bundle")
    bundle = {"type": "bundle", "id": bundle_id, "spec_version": "2.0", "objects": [one, other]}
    status = (await exchange.post(bundle)).json()

    assert [each["id"] for each in status["successes"]] == [one["id"], other["id"]]
    assert await manifest(exchange, bundle_id, STRICT) == []


async def test_a_bundle_inside_an_envelope_is_that_objects_failure(exchange: Exchange) -> None:
    """§3.7: every item of an envelope is a STIX object."""
    bundle = {"type": "bundle", "id": stix_id("bundle"), "objects": [malware()]}
    status = await verdicts(exchange, bundle, malware(id=new("malware")))

    [failure] = status["failures"]
    assert failure["id"] == bundle["id"]
    assert "send its objects" in failure["message"]
    assert status["success_count"] == 1


async def test_custom_properties_of_the_envelope_and_its_paging_mean_nothing(exchange: Exchange) -> None:
    """§7.1.1: unknown properties are ignored; `more`, `next` and a `date_added` are the server's to say."""
    one = indicator(id=new())
    answer = await exchange.post(
        {
            "more": True,
            "next": "bogus",
            "x_example_com_source": "feed 7",
            "date_added": "1999-01-01T00:00:00.000000Z",
            "objects": [one],
        },
    )

    assert answer.status_code == 202
    [record] = await manifest(exchange, one["id"], STRICT)
    assert record["date_added"] > "2025"


async def test_a_collection_is_named_by_its_alias_too(exchange: Exchange) -> None:
    """§5.2.1: the alias stands for the id in URLs."""
    one = malware(id=new("malware"))
    headers = exchange.as_("north") | {"Content-Type": TAXII}
    answer = await exchange.http.post(
        "/taxii2/fraud-intel/collections/scratch/objects/",
        content=envelope(one),
        headers=headers,
    )

    assert answer.status_code == 202
    assert len(await manifest(exchange, one["id"])) == 1


# A verdict for each object


async def test_bad_objects_fail_singly(exchange: Exchange) -> None:
    """§4.3.1: the good ones are stored, each bad one has a message that says what to mend."""
    good, other = indicator(id=new()), malware(id=new("malware"))
    bad = indicator(id=new(), pattern="[this is no pattern")
    status = await verdicts(exchange, good, bad, {"type": "indicator"}, other, name=STRICT)

    assert (status["total_count"], status["success_count"], status["failure_count"]) == (4, 2, 2)
    assert [each["id"] for each in status["successes"]] == [good["id"], other["id"]]
    first, second = status["failures"]
    assert first["id"] == bad["id"]
    assert first["version"] == bad["modified"]
    assert "pattern" in first["message"]
    assert "id is missing" in second["message"]
    stored = [len(await manifest(exchange, one["id"], STRICT)) for one in (good, other, bad)]
    assert stored == [1, 1, 0]


async def test_a_failed_object_without_id_or_version_is_told_by_its_place(exchange: Exchange) -> None:
    """§4.3.1, D-22: both are required of a failure, so its index and the request's time stand in."""
    status = await verdicts(exchange, malware(id=new("malware")), {"type": "malware"}, b"7", b'"text"', b"null")

    assert [each["id"] for each in status["failures"]] == ["unknown-1", "unknown-2", "unknown-3", "unknown-4"]
    assert {each["version"] for each in status["failures"]} == {status["request_timestamp"]}
    assert all(each["message"] for each in status["failures"])


@pytest.mark.parametrize("name", [STRICT, STRUCTURAL])
async def test_an_exact_repeat_is_a_success_and_keeps_its_date(exchange: Exchange, name: str) -> None:
    """§5.5: a duplicate yields no error; D-20: one stored version, with its first date."""
    one = malware(id=new("malware"))
    await verdicts(exchange, one, name=name)
    before = await manifest(exchange, one["id"], name)
    again = await verdicts(exchange, one, name=name)

    assert again["successes"] == [{"id": one["id"], "version": one["modified"]}]
    assert "failures" not in again
    assert await manifest(exchange, one["id"], name) == before
    assert len(before) == 1


async def test_a_repeat_is_told_by_what_it_says_not_by_its_spelling(exchange: Exchange) -> None:
    """§5.5: the same object with its keys in another order, other whitespace and escapes is still a duplicate."""
    one = malware(id=new("malware"), name="Zöllner")
    await verdicts(exchange, one)
    stored = await body_of(exchange, one["id"])
    turned = json.dumps(dict(reversed(one.items())), indent=3).encode()
    status = await verdicts(exchange, turned)

    assert status["failure_count"] == 0
    assert await body_of(exchange, one["id"]) == stored


async def test_the_same_version_with_other_content_fails(exchange: Exchange) -> None:
    """D-07: what is stored stays as it is; the message says what a changed object needs."""
    one = malware(id=new("malware"))
    await verdicts(exchange, one)
    status = await verdicts(exchange, {**one, "name": "another name"})

    [failure] = status["failures"]
    assert (failure["id"], failure["version"]) == (one["id"], one["modified"])
    assert "later modified" in failure["message"]
    assert json.loads(await body_of(exchange, one["id"])) == one


async def test_versions_are_told_apart_by_instant_not_by_spelling(exchange: Exchange) -> None:
    """D-07: `…30.1Z` and `…30.100Z` are one version, so other content under it is a conflict."""
    one = malware(id=new("malware"), modified="2024-05-02T08:16:30.1Z")
    await verdicts(exchange, one)
    status = await verdicts(exchange, {**one, "modified": "2024-05-02T08:16:30.100Z"})

    assert status["failure_count"] == 1
    [record] = await manifest(exchange, one["id"])
    assert record["version"] == "2024-05-02T08:16:30.1Z"


async def test_several_versions_in_one_envelope_are_all_stored(exchange: Exchange) -> None:
    """§5.3.1: each with a date of its own, in the order of the envelope, however their versions are ordered."""
    of = new()
    status = await verdicts(exchange, *(indicator(id=of, **at(second)) for second in (3, 1, 2)), name=STRICT)
    records = await manifest(exchange, of, STRICT)

    assert [each["version"] for each in status["successes"]] == [at(second)["modified"] for second in (3, 1, 2)]
    assert [each["version"] for each in records] == [at(second)["modified"] for second in (3, 1, 2)]
    dates = [each["date_added"] for each in records]
    assert dates == sorted(set(dates))


async def test_one_object_twice_in_an_envelope_counts_twice_and_is_stored_once(exchange: Exchange) -> None:
    """§4.3.1: total 2, success 2."""
    one = malware(id=new("malware"))
    status = await verdicts(exchange, one, one)

    assert (status["total_count"], status["success_count"]) == (2, 2)
    assert len(await manifest(exchange, one["id"])) == 1


async def test_contradicting_versions_in_one_envelope_the_first_wins(exchange: Exchange) -> None:
    """D-07: within one envelope as between two."""
    one = malware(id=new("malware"))
    status = await verdicts(exchange, one, {**one, "name": "other"})

    assert (status["success_count"], status["failure_count"]) == (1, 1)
    assert json.loads(await body_of(exchange, one["id"])) == one


async def test_an_observable_repeated_is_a_success_with_the_date_of_the_first(exchange: Exchange) -> None:
    """§4.3.1, D-17: an object with neither timestamp has its date of addition as version, everywhere the same."""
    one = ipv4(value="198.51.100.91")
    first = await verdicts(exchange, one)
    second = await verdicts(exchange, one)
    [record] = await manifest(exchange, one["id"])

    assert first["successes"] == second["successes"] == [{"id": one["id"], "version": record["date_added"]}]
    assert record["version"] == record["date_added"]
    exact = await exchange.get(
        exchange.path(f"objects/{one['id']}/", STRUCTURAL),
        params={"match[version]": record["version"]},
    )
    assert exact.json()["objects"] == [one]


async def test_an_observable_with_other_content_is_a_new_version(exchange: Exchange) -> None:
    """D-17: its version is its own date; the earlier one stays, and repeating it is still no addition."""
    one = ipv4(value="198.51.100.92")
    other = {**one, "x_seen": 2}
    await verdicts(exchange, one)
    await verdicts(exchange, other)
    await verdicts(exchange, one, other)
    records = await manifest(exchange, one["id"])

    assert len(records) == 2
    assert [each["version"] for each in records] == [each["date_added"] for each in records]
    assert json.loads(await body_of(exchange, one["id"])) == other


async def test_a_marking_has_created_as_its_version(exchange: Exchange) -> None:
    """§4.3.1: no `modified`: `created`, in the text of the object."""
    one = marking(id=new("marking-definition"), created="2024-01-01T00:00:00Z")
    status = await verdicts(exchange, one, name=STRICT)

    assert status["successes"] == [{"id": one["id"], "version": "2024-01-01T00:00:00Z"}]


async def test_both_forms_of_stix_are_stored_side_by_side(exchange: Exchange) -> None:
    """§5.2.1: the collection names both media types, and the manifest says which version is which."""
    of = new()
    await verdicts(exchange, factories.indicator_2_0(id=of), indicator(id=of), name=STRICT)
    records = await manifest(exchange, of, STRICT)

    assert [each["media_type"] for each in records] == [
        "application/stix+json;version=2.0",
        "application/stix+json;version=2.1",
    ]
    collection = (await exchange.get(exchange.path("", STRICT))).json()
    assert {each["media_type"] for each in records} <= set(collection["media_types"])


async def test_members_repeat_each_other_without_harm(exchange: Exchange) -> None:
    """§5.5: an exact duplicate is one whoever brings it; it stays its first bringer's."""
    one = malware(id=new("malware"))
    await verdicts(exchange, one, member="north")
    status = await verdicts(exchange, one, member="harbour")

    assert status["success_count"] == 1
    [(member,)] = exchange.alliance.execute("SELECT member FROM object_versions WHERE stix_id = %s", one["id"])
    assert member == exchange.alliance.members["north"]


async def test_collections_hold_objects_of_their_own(exchange: Exchange) -> None:
    """§5.5: the same version with other content in another collection is no conflict."""
    one = malware(id=new("malware"))
    await verdicts(exchange, one)
    status = await verdicts(exchange, {**one, "name": "another"}, name=STRICT)

    assert status["success_count"] == 1


async def test_what_was_acknowledged_is_there_at_once(exchange: Exchange) -> None:
    """§5.5: `complete` means stored: the next request of anybody who may read sees it."""
    one = indicator(id=new())
    await verdicts(exchange, one, name=STRICT, member="tide")
    seen = await exchange.get(exchange.path(f"objects/{one['id']}/", STRICT), "harbour")

    assert seen.json()["objects"] == [one]


async def test_a_full_envelope_is_stored_whole(exchange: Exchange) -> None:
    """§4.3.1: a thousand objects in one request: as many successes, with dates that rise in the envelope's order."""
    objects = [malware(id=new("malware"), name=f"number {number}") for number in range(1000)]
    status = await verdicts(exchange, *objects)

    assert [each["id"] for each in status["successes"]] == [each["id"] for each in objects]
    rows = exchange.alliance.execute(
        "SELECT stix_id FROM object_versions WHERE status_id = %s ORDER BY date_added",
        status["id"],
    )
    assert [of for (of,) in rows] == [each["id"] for each in objects]


async def test_levels_are_read_from_the_markings(exchange: Exchange) -> None:
    """Rows carry the TLP level of what marks them; an unmarked one takes the collection's."""
    marked, plain = (malware(id=new("malware")) for _ in range(2))
    await verdicts(exchange, {**marked, "object_marking_refs": [TLP1["amber"]]}, plain)
    rows = exchange.alliance.execute(
        "SELECT stix_id, level, marked FROM object_versions WHERE stix_id = ANY(%s)",
        [marked["id"], plain["id"]],
    )

    assert set(rows) == {(marked["id"], 2, True), (plain["id"], 0, False)}


# Byte for byte

SPELLINGS = {
    "numbers": '"x_numbers": [1, 1.0, 1e3, 1E+3, -0.0, -0, 0.10, 100000000000000000000.0, 1.7976931348623157e308, 5e-324]',
    "a fraction with more digits than a double": '"x_pi": 3.14159265358979323846264338327950288',
    "escapes": r'"x_escaped": "\u00e9\u20AC\ud83d\ude00\/\b\f\n\r\t\"\\"',
    "literals": '"x_literal": "é€😀/ \u2028\u2029\x7f\ufeff"',
    "both of them": r'"x_both": "é\u00e9"',
    "an escaped name": r'"\u0078_name": true',
    "whitespace": '"x_space"  :\t[ 1 ,\r\n 2 ,{ } , [ ] ]',
    "key order": '"x_zebra": 1, "x_apple": {"z": 1, "a": 2, "m": 3}',
    "empty things": '"x_empty": {"": "", "a": {}, "b": [], "c": null}',
    "the largest integers": '"x_integers": [9007199254740991, -9007199254740991]',
}


@pytest.mark.parametrize("name", [STRICT, STRUCTURAL])
@pytest.mark.parametrize("spelling", SPELLINGS.values(), ids=SPELLINGS)
async def test_every_spelling_comes_back_byte_for_byte(exchange: Exchange, spelling: str, name: str) -> None:
    """§5.4: objects come back as they were posted, whatever validation their collection asks for."""
    of = new("malware")
    text = (
        f'{{ "type":"malware","spec_version":"2.1", "id":"{of}","created": "2024-05-02T08:15:30Z",'
        f'"modified":"2024-05-02T08:15:30.00Z","is_family":true , {spelling},"name":"n" }}'
    ).encode()
    status = await verdicts(exchange, b" \n" + text + b" ", name=name)

    assert "failures" not in status
    assert status["successes"] == [{"id": of, "version": "2024-05-02T08:15:30.00Z"}]
    assert await body_of(exchange, of, name) == text


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(
    objects=st.lists(strategies.objects, min_size=1, max_size=6),
    indent=st.sampled_from([None, 0, 2]),
    ascii_=st.booleans(),
)
async def test_generated_objects_come_back_byte_for_byte(
    exchange: Exchange,
    objects: list[Stix],
    indent: int | None,
    ascii_: bool,
) -> None:
    """§5.4, §5.5: whatever is accepted comes back exactly; whatever is refused leaves nothing behind."""
    texts = [json.dumps(each, ensure_ascii=ascii_, indent=indent).encode() for each in objects]
    answer = await exchange.post(envelope(*texts), name=STRUCTURAL)
    assert answer.status_code == 202, answer.text
    status = answer.json()
    assert status["total_count"] == len(objects)
    rows = exchange.alliance.execute("SELECT body FROM object_versions WHERE status_id = %s", status["id"])
    stored = {body.encode() for (body,) in rows}

    assert stored <= set(texts)
    for text in stored:
        assert text in (await all_versions(exchange, json.loads(text)["id"])).content


async def all_versions(exchange: Exchange, of: str) -> httpx.Response:
    return await exchange.get(
        exchange.path(f"objects/{of}/", STRUCTURAL),
        params={"match[version]": "all", "match[spec_version]": "2.0,2.1"},
    )


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(
    objects=st.lists(strategies.mutated() | strategies.json_objects | strategies.json_values, min_size=1, max_size=8)
)
async def test_damaged_objects_get_verdicts_and_never_a_fault(exchange: Exchange, objects: list[Any]) -> None:
    """§4.3.1: every object of an envelope is told what became of it; the counts add up and lists agree with them."""
    for name in (STRICT, STRUCTURAL):
        answer = await exchange.post({"objects": objects}, name=name)
        assert answer.status_code == 202, answer.text
        status = answer.json()
        assert status["total_count"] == len(objects) == status["success_count"] + status["failure_count"]
        for kind in ("success", "failure"):
            details = status.get({"success": "successes", "failure": "failures"}[kind], [])
            assert len(details) == status[f"{kind}_count"]
            for one in details:
                assert one["id"]
                assert one["version"]
                assert kind == "success" or one["message"]


async def test_posted_with_a_token_as_well(exchange: Exchange) -> None:
    """§8.2.2: bearer tokens add what Basic adds, unless they are for reading only."""
    one = malware(id=new("malware"))
    writing, reading = await exchange.token("north"), await exchange.token("north", "taxii:read")

    assert (await exchange.post({"objects": [one]}, headers=writing)).status_code == 202
    assert_error(await exchange.post({"objects": [one]}, headers=reading), 403)


async def test_a_right_withdrawn_while_the_body_was_read_stops_the_write(exchange: Exchange) -> None:
    """Rights are read again inside the transaction that stores: what was withdrawn meanwhile no longer holds."""
    exchange.alliance.member("late")
    exchange.alliance.grant("late", STRUCTURAL, ("read", "write"))
    exchange.clients["late"] = exchange.alliance.client("late")
    one = malware(id=new("malware"))

    async def body() -> Any:
        yield envelope(one)[:10]
        exchange.alliance.execute(
            "UPDATE grants SET rights = ARRAY['read'] WHERE member_id = %s", exchange.alliance.members["late"]
        )
        yield envelope(one)[10:]

    headers = exchange.as_("late") | {"Content-Type": TAXII}
    answer = await exchange.http.post(f"{PUBLIC_URL}{exchange.path(name=STRUCTURAL)}", content=body(), headers=headers)

    assert_error(answer, 403)
    assert await manifest(exchange, one["id"]) == []


async def test_a_client_revoked_while_the_body_was_read_is_refused(exchange: Exchange) -> None:
    """A revocation bites at once, on a request under way too."""
    leaver = exchange.alliance.client("north")
    exchange.clients["leaver"] = leaver
    one = malware(id=new("malware"))

    async def body() -> Any:
        yield envelope(one)[:10]
        exchange.alliance.execute("UPDATE clients SET revoked_at = now() WHERE id = %s", leaver.row)
        yield envelope(one)[10:]

    headers = exchange.as_("leaver") | {"Content-Type": TAXII}
    answer = await exchange.http.post(exchange.path(name=STRUCTURAL), content=body(), headers=headers)

    assert_error(answer, 401)
    assert await manifest(exchange, one["id"]) == []


async def test_a_clock_far_ahead_refuses_additions_and_says_why(exchange: Exchange) -> None:
    """A date far in the future would hide whatever is added once the clock is right: 503, and nothing is stored."""
    set_clock = "UPDATE collection_clocks SET last_added = now() + %s::interval WHERE collection_id = %s"
    collection = exchange.collection_id("crime-desk/cases")
    one = malware(id=new("malware"))
    exchange.alliance.execute(set_clock, "2 minutes", collection)
    answer = await exchange.post({"objects": [one]}, "constabulary", "crime-desk/cases")

    error = assert_error(answer, 503)
    assert int(answer.headers["retry-after"]) > 0
    assert "ahead of the database's time" in error["description"]
    read = await exchange.get(exchange.path("objects/", "crime-desk/cases"), "constabulary")
    assert read.json() == {"more": False}
    exchange.alliance.execute(set_clock, "30 seconds", collection)
    assert (await exchange.post({"objects": [one]}, "constabulary", "crime-desk/cases")).status_code == 202


def test_octets_of_an_envelope_are_what_the_helper_says() -> None:
    """The helper these tests rest on doesn't respell what it is given."""
    assert envelope(b'{"a":1.0}') == b'{"objects": [{"a":1.0}]}'
    assert json.loads(envelope({"a": "é"})) == {"objects": [json.loads(as_json({"a": "é"}))]}
