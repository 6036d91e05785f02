"""Cursors (§3.4, §3.5, Appendix B): what `next` is good for, and for whom. Their own rules: tests/domain/test_cursor.py."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taxii_server.app import create_app
from tests.factories import indicator, stix_id
from tests.taxii.alliance import assert_error, settings_for
from tests.taxii.laws import LAST
from tests.taxii.shelf import EVERY, NAME, OBJECTS, PAGES, A, B, Shelf, items

if TYPE_CHECKING:
    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

INDICATORS = "fraud-intel/indicators"
every_page = pytest.mark.parametrize("rest", PAGES)


async def _cursor(filled: Shelf, rest: str, query: dict[str, str] | None = None) -> str:
    answer = await filled.exchange.get(filled.path(rest), params={**PAGES[rest], **(query or {}), "limit": "1"})
    return str(answer.json()["next"])


@pytest.mark.parametrize(
    "query",
    [
        {"match[type]": "malware"},
        {"match[type]": "indicator"},
        {"match[id]": B},
        {"match[version]": "last"},
        {"match[version]": "first"},
        {"match[spec_version]": "2.1"},
    ],
)
@pytest.mark.parametrize("rest", PAGES)
async def test_a_cursor_with_other_filters_is_400(filled: Shelf, rest: str, query: dict[str, str]) -> None:
    """§3.4, D-15: what the request spells out has to be what the cursor continues, where the endpoint has the field."""
    cursor = await _cursor(filled, rest, {"match[type]": "indicator,malware", "match[id]": f"{A},{B}"})
    answer = await filled.exchange.get(filled.path(rest), params=query | {"next": cursor})
    ignored = A in rest and ("type" in str(query) or "[id]" in str(query))

    if ignored or ("versions/" in rest and "match[version]" in query):
        assert answer.status_code == 200
    else:
        assert_error(answer, 400)


async def test_the_same_filters_in_other_words_are_the_same(filled: Shelf) -> None:
    """§3.4, D-15: the order of values and the spelling of an instant are not part of the question."""
    first = await filled.exchange.get(
        filled.path(),
        params={
            "limit": "1",
            "added_after": "1970-01-01T00:00:00.500Z",
            "match[id]": f"{A},{B}",
            "match[type]": "malware,indicator",
            "match[version]": "first,last,2024-01-01T00:00:02.100Z",
            "match[spec_version]": "2.0,2.1",
        },
    )
    again = await filled.exchange.get(
        filled.path(),
        params={
            "next": first.json()["next"],
            "added_after": "1970-01-01T01:00:00.5+01:00",
            "match[id]": f"{B},{A}",
            "match[type]": "indicator,malware",
            "match[version]": "2024-01-01T00:00:02.1Z,last,first",
            "match[spec_version]": "2.1,2.0",
        },
    )

    assert items(first) + items(again) == [OBJECTS[name] for name in ("a1", "b", "a2", "a3")]


@pytest.mark.parametrize("other", PAGES)
@pytest.mark.parametrize("rest", PAGES)
async def test_a_cursor_is_of_its_endpoint(filled: Shelf, rest: str, other: str) -> None:
    """§3.5, D-15: continued at another endpoint it is 400."""
    answer = await filled.exchange.get(filled.path(other), params={"next": await _cursor(filled, rest)})

    if rest == other:
        assert answer.status_code == 200
    else:
        assert_error(answer, 400)


@pytest.mark.parametrize("part", ["", "versions/"])
async def test_a_cursor_of_one_object_is_of_no_other(filled: Shelf, part: str) -> None:
    """§5.6, D-15: the object the path names is part of the question."""
    cursor = await _cursor(filled, f"objects/{A}/{part}")

    assert_error(await filled.exchange.get(filled.path(f"objects/{B}/{part}"), params={"next": cursor}), 400)


@every_page
async def test_a_cursor_of_another_collection_is_set_aside(filled: Shelf, rest: str) -> None:
    """D-15: a real client sends the `next` of one collection to the next one; its own filters are what is answered."""
    exchange = filled.exchange
    if A in rest:
        await exchange.add(OBJECTS["a1"], name=INDICATORS)
    cursor = await _cursor(filled, rest)
    plain = await exchange.get(exchange.path(rest), params={"limit": "3"})
    answer = await exchange.get(exchange.path(rest), params={"limit": "3", "next": cursor})

    assert answer.status_code == 200
    assert answer.content == plain.content
    assert answer.headers[LAST] == plain.headers[LAST]


@pytest.mark.parametrize("begun", [None, "a1", "b"])
@pytest.mark.parametrize("rest", ["objects/", "manifest/"])
async def test_a_cursor_under_another_added_after_misses_nothing(filled: Shelf, rest: str, begun: str | None) -> None:
    """D-15: real clients move `added_after` from page to page, or send an old run's `next` with a new run's dates.

    Up to the cursor's place nothing has to be served again; from there on, and before its beginning, the date decides.
    """
    dates = filled.dates
    start = {} if begun is None else {"added_after": dates[begun]}
    first = await filled.get(rest, **EVERY, **start, limit=2)
    place = first.headers[LAST]

    for name, date in dates.items():
        after = await filled.names(rest, **EVERY, next=first.json()["next"], added_after=date)
        fresh = await filled.names(rest, **EVERY, added_after=date)
        walked_past = date <= place and (begun is None or date >= dates[begun])
        assert after == ([one for one in dates if dates[one] > place] if walked_past else fresh), name


async def test_a_cursor_gives_no_rights(filled: Shelf) -> None:
    """Appendix B: it is evaluated for the present caller: others get what they may see, and no more."""
    exchange = filled.exchange
    cursor = await _cursor(filled, "objects/")
    north, harbour = [
        await exchange.get(filled.path(), member, params={"next": cursor}) for member in ("north", "harbour")
    ]
    assert harbour.content == north.content

    path = exchange.path()
    await exchange.add(*(indicator(id=stix_id("indicator", number)) for number in (910, 911)), name=INDICATORS)
    cursor = (await exchange.get(path, params={"limit": "1"})).json()["next"]
    for member, status in {"tide": 403, "court": 403, "constabulary": 404, "stranger": 404}.items():
        assert_error(await exchange.get(path, member, params={"next": cursor}), status)
    assert_error(await exchange.http.get(path, params={"next": cursor}), 401)


async def test_a_cursor_ends_with_the_right_to_read(filled: Shelf) -> None:
    """Appendix B: a right withdrawn between two pages is withdrawn from the second."""
    exchange = filled.exchange
    alliance = exchange.alliance
    alliance.member("passing")
    alliance.grant("passing", NAME, ("read",))
    exchange.clients["passing"] = alliance.client("passing")
    first = await exchange.get(filled.path(), "passing", params={"limit": "1"})
    alliance.execute("DELETE FROM grants WHERE member_id = %s", alliance.members["passing"])

    assert_error(await exchange.get(filled.path(), "passing", params={"next": first.json()["next"]}), 404)


async def test_a_cursor_outlives_the_process(filled: Shelf, module_database_urls: DatabaseUrls) -> None:
    """§3.5: cursors are values: another worker, or this one started anew, continues from them."""
    cursor = await _cursor(filled, "objects/")
    here = await filled.exchange.get(filled.path(), params={"next": cursor})
    another = create_app(settings_for(module_database_urls))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(another), base_url="http://127.0.0.1:8000") as http:
        there = await http.get(filled.path(), params={"next": cursor}, headers=filled.exchange.as_("north"))

    assert there.content == here.content


def _pack(plain: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(plain, separators=(",", ":")).encode()).rstrip(b"=").decode()


def _unpack(cursor: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))


async def test_every_truncation_of_a_cursor_is_400(filled: Shelf) -> None:
    """§3.4, Appendix B: half a cursor is no cursor."""
    cursor = await _cursor(filled, "objects/")
    for length in range(1, len(cursor)):
        assert_error(await filled.exchange.get(filled.path(), params={"next": cursor[:length]}), 400)
    for longer in (f"{cursor}=", f"{cursor}A", f" {cursor}", f"{cursor}\n", f"{cursor}{cursor}", f"{cursor},{cursor}"):
        assert_error(await filled.exchange.get(filled.path(), params={"next": longer}), 400)


_odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["all", "last", A, "objects"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(place=st.integers(0, 8), value=_odd)
async def test_a_forged_cursor_is_400_or_a_plain_page(filled: Shelf, place: int, value: Any) -> None:
    """Appendix B: with any value in any place, it is refused, or understood as a question that could be asked plainly."""
    plain = _unpack(await _cursor(filled, "objects/"))
    plain[place] = value
    answer = await filled.exchange.get(filled.path(), params={"next": _pack(plain)})

    assert answer.status_code in {200, 400}
    if answer.status_code == 200:
        assert all(one in OBJECTS.values() for one in items(answer))


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
async def test_a_tampered_cursor_is_never_a_fault(filled: Shelf, data: st.DataObject) -> None:
    """Appendix B: random text is refused; one letter changed is refused or shows what the caller may see anyway."""
    cursor = await _cursor(filled, "objects/")
    if data.draw(st.booleans()):
        tampered = data.draw(
            st.text(min_size=1, max_size=60)
            | st.binary(min_size=1, max_size=60).map(lambda octets: base64.urlsafe_b64encode(octets).decode())
        )
        assert_error(await filled.exchange.get(filled.path(), params={"next": tampered.replace("\ud800", "")}), 400)
        return
    at = data.draw(st.integers(0, len(cursor) - 1))
    letter = data.draw(st.characters(min_codepoint=33, max_codepoint=126))
    answer = await filled.exchange.get(filled.path(), params={"next": cursor[:at] + letter + cursor[at + 1 :]})

    assert answer.status_code in {200, 400}
    if answer.status_code == 200:
        assert all(one in OBJECTS.values() for one in items(answer))
