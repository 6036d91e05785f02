"""What a collection asks of what is added to it: levels, whose objects, who may be named; and what a refusal tells."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from tests.auth.alliance import BOTH
from tests.factories import TLP1, TLP2, custom, identity, indicator, ipv4, marking, tlp1, tlp2
from tests.taxii import laws
from tests.taxii.alliance import Exchange, assert_error, exchange_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from taxii_server.storage.embedded import DatabaseUrls
    from tests.factories import Stix

pytestmark = pytest.mark.anyio

CLEAR, GREEN, AMBER, STRICT, RED = range(5)
CAPPED, REFUSING, OWNED, QUIET, OPEN = (f"sharing/{name}" for name in ("capped", "refusing", "owned", "quiet", "open"))
LATER = "2024-06-01T00:00:00.000Z"
SCO = "ipv4-addr"


@pytest.fixture(scope="module")
async def exchange(module_database_urls: DatabaseUrls) -> AsyncIterator[Exchange]:
    """Five collections, each with a rule of its own; `red`, `amber` and `green` are members cleared so far."""
    async with exchange_on(module_database_urls) as running:
        running.http.event_hooks["response"].append(laws.hold)
        alliance = running.alliance
        alliance.group("sharing")
        alliance.collection("sharing", "capped", "structural", ceiling=AMBER, unmarked_level=GREEN)
        alliance.collection("sharing", "refusing", "structural", unmarked_refused=True, unmarked_level=RED)
        alliance.collection("sharing", "owned", "structural", owner_only=True)
        alliance.collection("sharing", "quiet", "structural", owner_only=True, attribution="anonymous")
        alliance.collection("sharing", "open", "structural", unmarked_level=AMBER)
        for member, clearance in {"red": RED, "amber": AMBER, "green": GREEN}.items():
            alliance.member(member)
            for name in (CAPPED, REFUSING, OWNED, QUIET, OPEN):
                alliance.grant(member, name, BOTH, clearance)
            running.clients[member] = alliance.client(member)
        yield running


def fresh(**over: Any) -> Stix:
    """An indicator of its own."""
    return indicator(id=f"indicator--{uuid4()}", **over)


def marked(*markings: str, **over: Any) -> Stix:
    """An indicator of its own with these markings."""
    return fresh(object_marking_refs=list(markings), **over)


async def verdict(exchange: Exchange, one: Stix, member: str, name: str) -> str | None:
    """Add one object; give what its failure says, None if it was taken."""
    answer = await exchange.post({"objects": [one]}, member, name)
    assert answer.status_code == 202, answer.text
    status = answer.json()
    assert status["success_count"] + status["failure_count"] == 1
    return status["failures"][0]["message"] if status["failure_count"] else None


async def seen(exchange: Exchange, one: Stix, member: str, name: str) -> list[Any]:
    """Give the versions of an object that a member can read."""
    path = exchange.path(f"objects/{one['id']}/", name)
    answer = await exchange.get(path, member, params={"match[version]": "all", "match[spec_version]": "2.0,2.1"})
    return answer.json()["objects"] if answer.status_code == 200 else []


# Levels


@pytest.mark.parametrize("above", [TLP1["red"], TLP2["red"], TLP2["amber+strict"], TLP2["red"].upper()])
async def test_nothing_above_the_ceiling_is_taken(exchange: Exchange, above: str) -> None:
    """Whoever sends it; the failure says which level it has, which the collection takes, and what to do."""
    one, other = marked(TLP2["green"], above.replace("MARKING-DEFINITION", "marking-definition")), marked(TLP1["amber"])
    said = await verdict(exchange, one, "red", CAPPED)

    assert said is not None
    assert "this collection takes nothing above TLP:AMBER" in said
    assert "is marked TLP:RED" in said or "is marked TLP:AMBER+STRICT" in said
    assert await seen(exchange, one, "red", CAPPED) == []
    assert await verdict(exchange, other, "red", CAPPED) is None


async def test_a_marking_on_a_part_counts_for_the_whole(exchange: Exchange) -> None:
    """The strictest of `object_marking_refs` and `granular_markings` is the object's level."""
    one = marked(TLP2["clear"], granular_markings=[{"marking_ref": TLP2["red"], "selectors": ["name"]}], name="x")

    assert "is marked TLP:RED" in str(await verdict(exchange, one, "red", CAPPED))


async def test_nobody_adds_what_they_could_not_read(exchange: Exchange) -> None:
    """A writer's own clearance holds for what it adds, though the ceiling would let it in."""
    said = await verdict(exchange, marked(TLP2["amber"]), "green", CAPPED)

    assert said is not None
    assert "is marked TLP:AMBER" in said
    assert "your member is cleared for no more than TLP:GREEN" in said
    assert await verdict(exchange, marked(TLP2["amber"]), "amber", CAPPED) is None


async def test_what_is_unmarked_counts_as_the_collection_says(exchange: Exchange) -> None:
    """Above the writer's clearance it is refused, with the rule in words; else only those cleared for it read it."""
    said = await verdict(exchange, fresh(), "green", OPEN)
    one = fresh(object_marking_refs=[f"marking-definition--{uuid4()}"])

    assert said is not None
    assert "carries no TLP marking, which counts as TLP:AMBER here" in said
    assert await verdict(exchange, one, "amber", OPEN) is None
    assert await seen(exchange, one, "amber", OPEN) == [one]
    assert await seen(exchange, one, "green", OPEN) == []


@pytest.mark.parametrize("refs", [[], [f"marking-definition--{uuid4()}"]], ids=["no marking", "an unknown marking"])
async def test_unmarked_objects_are_refused_where_the_collection_says_so(exchange: Exchange, refs: list[str]) -> None:
    """A marking that is none of TLP's is no marking; the failure says what to add."""
    one = fresh(object_marking_refs=refs or None)
    said = await verdict(exchange, one, "red", REFUSING)

    assert said is not None
    assert "carries no TLP marking, and this collection takes none such" in said
    assert await seen(exchange, one, "red", REFUSING) == []
    assert await verdict(exchange, marked(TLP2["red"]), "red", REFUSING) is None


async def test_tlps_own_markings_are_always_taken_and_seen(exchange: Exchange) -> None:
    """All nine, unmarked as they are published, by anybody and for everybody, whatever the rule for unmarked objects."""
    published = [*(tlp1(colour) for colour in TLP1), *(tlp2(colour) for colour in TLP2)]
    for name in (CAPPED, REFUSING, OPEN):
        status = await exchange.add(*published, member="green", name=name)
        assert status["success_count"] == 9
        for one in published:
            assert await seen(exchange, one, "green", name) == [one]
    assert "carries no TLP marking" in str(await verdict(exchange, marking(), "red", REFUSING))


@pytest.mark.parametrize("name", ["sharing/open", "fraud-intel/indicators"])
async def test_a_forged_tlp_marking_is_refused(exchange: Exchange, name: str) -> None:
    """Nobody explains RED's own id to the others as CLEAR; in strict collections neither, as TLP 2.0 is an extension."""
    member = "red" if name == OPEN else "north"
    clear = tlp2("clear")["extensions"]
    for forged in (tlp2("red", name="TLP:CLEAR"), tlp2("red", extensions=clear), tlp1("red", name="TLP:WHITE")):
        said = await verdict(exchange, forged, member, name)
        assert "has the id of the marking-definition of TLP:RED, and doesn't say TLP:RED" in str(said)


async def test_amber_strict_as_opencti_marks_it(exchange: Exchange) -> None:
    """Its own id counts, and its marking-definition is taken as TLP's own are."""
    strict = "marking-definition--826578e1-40ad-459f-bc73-ede076f81f37"
    definition = marking(id=strict, x_opencti_definition_type="TLP", x_opencti_definition="TLP:AMBER+STRICT")

    assert "is marked TLP:AMBER+STRICT" in str(await verdict(exchange, marked(strict), "red", CAPPED))
    for name in (CAPPED, REFUSING):
        assert await verdict(exchange, definition, "green", name) is None


async def test_refusals_and_additions_share_an_envelope(exchange: Exchange) -> None:
    """Each object has its own verdict, in one status, and the status can be read again."""
    good, bad = marked(TLP2["green"]), marked(TLP2["red"])
    answer = await exchange.post({"objects": [bad, good, bad]}, "green", CAPPED)
    status = answer.json()

    assert [one["id"] for one in status["successes"]] == [good["id"]]
    assert [one["id"] for one in status["failures"]] == [bad["id"], bad["id"]]
    assert [one["version"] for one in status["failures"]] == [bad["modified"], bad["modified"]]
    again = await exchange.get(f"/taxii2/sharing/status/{status['id']}/", "green")
    assert again.json() == status


# What a writer can find out


@pytest.mark.parametrize("hidden", [marked(TLP2["red"]), ipv4(value="203.0.113.77", object_marking_refs=[TLP1["red"]])])
async def test_a_refusal_is_the_same_whether_or_not_it_is_stored(exchange: Exchange, hidden: Stix) -> None:
    """It is judged by itself before anything stored is looked at: a repeat of what is hidden tells nothing."""
    before = await verdict(exchange, hidden, "amber", OPEN)
    assert await verdict(exchange, hidden, "red", OPEN) is None
    after = await verdict(exchange, hidden, "amber", OPEN)

    assert before is not None
    assert after == before


async def test_a_repeat_that_succeeds_is_of_what_the_writer_sees(exchange: Exchange) -> None:
    """Equal content has equal markings and so an equal level: an observable's repeat names a date that can be read."""
    one = ipv4(value="203.0.113.78")
    first = (await exchange.add(one, member="red", name=OPEN))["successes"][0]
    again = (await exchange.add(one, member="amber", name=OPEN))["successes"][0]

    assert again == first
    manifest = await exchange.get(exchange.path("manifest/", OPEN), "amber", params={"match[id]": one["id"]})
    assert [record["date_added"] for record in manifest.json()["objects"]] == [first["version"]]
    # and where what is unmarked is above the clearance, the repeat is refused as anything unmarked is
    assert await verdict(exchange, one, "green", OPEN) == await verdict(exchange, fresh(), "green", OPEN)


async def test_oracle_the_same_version_with_other_content(exchange: Exchange) -> None:
    """Who guesses id and instant of a hidden version is told that this version is stored: the key holds only one.

    Nothing but that it is there: the failure is the same as for a version that can be seen, and repeats what was sent.
    """
    hidden, visible = marked(TLP2["red"], name="hidden"), marked(TLP2["green"], name="visible")
    await exchange.add(hidden, visible, member="red", name=OPEN)
    told = [
        await verdict(exchange, {**one, "object_marking_refs": [TLP2["green"]], "name": "guessed"}, "green", OPEN)
        for one in (hidden, visible)
    ]

    assert told[0] == told[1]
    assert "stored already with other content" in str(told[0])
    assert await seen(exchange, hidden, "green", OPEN) == []
    # another instant tells nothing: it is simply added
    guess = {**hidden, "modified": LATER, "object_marking_refs": [TLP2["green"]]}
    assert await verdict(exchange, guess, "green", OPEN) is None
    assert await seen(exchange, hidden, "green", OPEN) == [guess]


async def test_oracle_whose_object_where_only_owners_add(exchange: Exchange) -> None:
    """Where only owners add, who guesses the id of a hidden object is told that another member's is there, and no more."""
    hidden, visible = marked(TLP2["red"]), marked(TLP2["green"])
    await exchange.add(hidden, visible, member="red", name=OWNED)
    told = [
        await verdict(exchange, {**one, "modified": LATER, "object_marking_refs": [TLP2["green"]]}, "green", OWNED)
        for one in (hidden, visible)
    ]
    # that the very version is there isn't told besides
    told.append(await verdict(exchange, {**hidden, "object_marking_refs": [TLP2["green"]]}, "green", OWNED))

    assert told[0] == told[1] == told[2]
    assert "another member was the first to bring this object" in str(told[0])


async def test_oracle_gaps_between_dates(exchange: Exchange) -> None:
    """While the clock is ahead of the time, dates go on by the microsecond, and a gap tells how many came between."""
    feed = exchange.collection_id(OPEN)
    exchange.alliance.execute(
        "UPDATE collection_clocks SET last_added = now() + interval '20 seconds' WHERE collection_id = %s", feed
    )

    async def date() -> int:
        one = ipv4(value="203.0.113.80", x_serial=str(uuid4()), object_marking_refs=[TLP2["green"]])
        version: str = (await exchange.add(one, member="green", name=OPEN))["successes"][0]["version"]
        return int(version[-7:-1])

    first = await date()
    await exchange.add(*(marked(TLP2["red"]) for _ in range(3)), member="red", name=OPEN)

    assert (await date() - first) % 1_000_000 == 4


async def test_deleting_neither_touches_nor_mentions_what_is_hidden(exchange: Exchange) -> None:
    """§5.7: hidden versions of another member don't make it 403, and stay; where all is hidden there is nothing: 404."""
    mine = marked(TLP2["green"])
    hidden = {**mine, "modified": LATER, "object_marking_refs": [TLP2["red"]]}
    await exchange.add(mine, member="green", name=OPEN)
    await exchange.add(hidden, member="red", name=OPEN)
    path = exchange.path(f"objects/{mine['id']}/", OPEN)
    gone = await exchange.delete(path, "green")
    nothing = await exchange.delete(path, "green")
    absent = await exchange.delete(exchange.path(f"objects/indicator--{uuid4()}/", OPEN), "green")

    assert gone.status_code == 200
    assert_error(nothing, 404)
    assert {**nothing.json(), "error_id": ""} == {**absent.json(), "error_id": ""}
    assert await seen(exchange, mine, "red", OPEN) == [hidden]


# Whose objects


async def test_only_the_member_that_began_adds_versions(exchange: Exchange) -> None:
    """Any client of it; others get a failure that says so, and what is there stays as it is."""
    one = fresh()
    later, earlier = {**one, "modified": LATER}, {**one, "modified": one["created"].replace("2024", "2023")}
    await exchange.add(one, member="red", name=OWNED)
    exchange.clients["red-2"] = exchange.alliance.client("red")

    for version in (later, earlier, {**one, "name": "other content"}):
        assert "only that member may add versions" in str(await verdict(exchange, version, "amber", OWNED))
    assert await seen(exchange, one, "red", OWNED) == [one]
    assert await verdict(exchange, later, "red-2", OWNED) is None


async def test_a_repeat_of_anothers_version_is_no_addition(exchange: Exchange) -> None:
    """§5.5: an exact duplicate is a success; nothing is stored, so nothing is added to another member's object."""
    one = fresh()
    await exchange.add(one, member="red", name=OWNED)

    assert await verdict(exchange, one, "amber", OWNED) is None
    assert len(await seen(exchange, one, "red", OWNED)) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ipv4(value="203.0.113.90"), ipv4(value="203.0.113.90", x_note="mine")),
        (tlp1("red"), tlp1("red", created="2018-01-20T00:00:00.000Z")),
        (marking(), marking(created=LATER)),
    ],
    ids=["observable", "TLP marking", "other marking"],
)
async def test_observables_and_markings_are_nobodys(exchange: Exchange, first: Stix, second: Stix) -> None:
    """Their ids come from their content, or from the standard: whoever is first has no claim."""
    assert await verdict(exchange, first, "red", OWNED) is None
    assert await verdict(exchange, second, "amber", OWNED) is None


async def test_leaving_out_the_timestamps_is_no_way_round(exchange: Exchange) -> None:
    """A version without them is dated now and would be the latest: of an owned object, only the owner adds it."""
    one = custom(id=f"x-alliance-case--{uuid4()}")
    await exchange.add(one, member="red", name=OWNED)
    bare = {name: value for name, value in one.items() if name not in {"created", "modified"}}

    assert "only that member may add versions" in str(await verdict(exchange, bare, "amber", OWNED))
    assert await verdict(exchange, bare, "red", OWNED) is None


async def test_what_is_live_decides_whose_it_is(exchange: Exchange) -> None:
    """When the first member's versions are gone, the object is free; versions from before the rule keep their order."""
    one = fresh()
    later = {**one, "modified": LATER}
    await exchange.add(one, member="red", name=OWNED)
    assert (await exchange.delete(exchange.path(f"objects/{one['id']}/", OWNED), "red")).status_code == 200

    assert await verdict(exchange, later, "amber", OWNED) is None
    assert "only that member" in str(await verdict(exchange, one, "red", OWNED))


async def test_of_members_at_once_one_begins(exchange: Exchange) -> None:
    """It is decided under the collection's lock: every version that is stored comes from one member."""
    for _ in range(5):
        one = fresh()
        versions = [{**one, "modified": f"2024-05-0{day}T00:00:00.000Z"} for day in range(3, 9)]
        await asyncio.gather(
            *(verdict(exchange, each, "red" if at % 2 else "amber", OWNED) for at, each in enumerate(versions))
        )
        brought = exchange.alliance.execute("SELECT DISTINCT member FROM object_versions WHERE stix_id = %s", one["id"])

        assert len(brought) == 1


# Who may be named


async def test_an_anonymous_collection_takes_nothing_that_names_its_creator(exchange: Exchange) -> None:
    """What is posted is never rewritten, so it is refused, with what to do; without the name it is taken as it is."""
    one = fresh(created_by_ref=identity()["id"])
    said = await verdict(exchange, one, "red", QUIET)
    left_out = {name: value for name, value in one.items() if name != "created_by_ref"}

    assert "leave created_by_ref out" in str(said)
    assert "leave created_by_ref out" in str(await verdict(exchange, {**one, "created_by_ref": None}, "red", QUIET))
    for nested in ({"x_origin": {"created_by_ref": identity()["id"]}}, {"x_parts": [[{"created_by_ref": ""}]]}):
        assert "leave created_by_ref out" in str(await verdict(exchange, left_out | nested, "red", QUIET))
    assert await verdict(exchange, left_out, "red", QUIET) is None
    assert await seen(exchange, one, "green", QUIET) == [left_out]
    assert await verdict(exchange, one, "red", OWNED) is None


async def test_no_answer_names_who_brought_what(exchange: Exchange) -> None:
    """Of an anonymous collection others learn from no page, status, refusal or header which member brought an object."""
    one = fresh()
    status = await exchange.add(one, member="red", name=QUIET)
    refused = await exchange.post({"objects": [{**one, "modified": LATER}]}, "amber", QUIET)
    answers = [
        refused,
        await exchange.get(f"/taxii2/sharing/status/{status['id']}/", "amber"),
        await exchange.delete(exchange.path(f"objects/{one['id']}/", QUIET), "amber"),
        await exchange.get(exchange.path("", QUIET), "amber"),
        await exchange.get("/taxii2/sharing/collections/", "amber"),
        *[
            await exchange.get(exchange.path(rest, QUIET), "amber")
            for rest in ("objects/", "manifest/", f"objects/{one['id']}/", f"objects/{one['id']}/versions/")
        ],
    ]

    assert [answer.status_code for answer in answers] == [202, 404, 403, 200, 200, 200, 200, 200, 200]
    row = exchange.alliance.execute("SELECT id FROM members WHERE slug = 'red'")[0][0]
    for answer in answers:
        told = f"{answer.headers}{answer.text}"
        assert exchange.clients["red"].client_id not in told
        assert "red" not in {word.strip('":,.{}[]').lower() for word in told.split()}
        assert "member" not in answer.json() if answer.content else True
    assert row == exchange.alliance.members["red"]


async def test_what_was_taken_while_it_was_named_stays_as_it_is(exchange: Exchange) -> None:
    """Octet for octet, created_by_ref included: the plan of `apply` says how many there are."""
    alliance = exchange.alliance
    alliance.collection("sharing", "turning", "structural")
    alliance.grant("red", "sharing/turning", BOTH)
    one = fresh(created_by_ref=identity()["id"])
    await exchange.add(one, member="red", name="sharing/turning")
    alliance.execute("UPDATE collections SET attribution = 'anonymous' WHERE alias = 'turning'")

    assert await seen(exchange, one, "red", "sharing/turning") == [one]
    # a repeat would be a statement of the same kind
    assert "leave created_by_ref out" in str(await verdict(exchange, one, "red", "sharing/turning"))
