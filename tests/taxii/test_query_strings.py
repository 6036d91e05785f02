"""Query strings that are malformed, repeated, unknown or out of place (§3.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from tests.taxii.alliance import assert_error
from tests.taxii.shelf import A1, PAGES, A, B

if TYPE_CHECKING:
    from tests.taxii.alliance import Exchange
    from tests.taxii.shelf import Shelf

pytestmark = pytest.mark.anyio

MALFORMED = {
    "added_after": [
        "",
        "yesterday",
        "2024-13-01T00:00:00Z",
        "2024-02-30T00:00:00Z",
        "2024-01-01",
        "2024-01-01T00:00:00",
        "2024-01-01t00:00:00z",
        "2024-01-01T24:00:00Z",
        "2024-01-01T00:00:60Z",
        "2024-01-01T00:00:00.Z",
        "2024-01-01T00:00:00.1234567890Z",
        "2024-01-01T00:00:00%2B25:00",
        "2024-01-01T00:00:00Z,2024-01-02T00:00:00Z",
        "0001-01-01T00:00:00%2B23:00",
        "9999-12-31T23:59:59-23:00",
        "2024-01-01T00:00:00Z%00",
        "\N{ARABIC-INDIC DIGIT TWO}024-01-01T00:00:00Z",
        "1704067200",
    ],
    "limit": [
        "",
        "0",
        "00",
        "-1",
        "1.5",
        "1.0",
        "abc",
        "%2B1",
        "+1",
        "%201",
        "1_0",
        "1e3",
        "\N{ARABIC-INDIC DIGIT ONE}",
        "9007199254740992",
        "1" * 5000,
    ],
    "next": ["", "x", "%00", "null"],
    "match[id]": ["", ",", f"{A},,{B}", f"{A},", "a%00b"],
    "match[type]": ["", ",", "indicator,", ",indicator", "%00"],
    "match[spec_version]": ["", ",", "2.1,", "%00"],
    "match[version]": [
        "",
        ",",
        "last,",
        "LAST",
        "latest",
        "all,first",
        f"all,{A1}",
        "all,all",
        "last,last",
        f"{A1},{A1}",
        "2024-01-01T00:00:02.1Z,2024-01-01T00:00:02.100Z",
        "2024-01-01",
        "v2",
        "2024-01-01T00:00:00",
        "2024-01-01T00:00:00%2B00:00",
        "2024-02-30T00:00:00Z",
        "last%20",
        "%00",
    ],
}
FIELDS = {
    "objects/": set(MALFORMED),
    "manifest/": set(MALFORMED),
    f"objects/{A}/": set(MALFORMED) - {"match[id]", "match[type]"},
    f"objects/{A}/versions/": set(MALFORMED) - {"match[id]", "match[type]", "match[version]"},
}


@pytest.mark.parametrize("rest", PAGES)
@pytest.mark.parametrize("field", MALFORMED)
async def test_a_malformed_value_is_400_where_the_field_belongs(filled: Shelf, rest: str, field: str) -> None:
    """§3.4: every malformed query parameter is 400, told by name; on an endpoint without the field it is ignored."""
    for value in MALFORMED[field]:
        answer = await filled.status(f"{field}={value}", rest)
        if field in FIELDS[rest]:
            assert assert_error(answer, 400)["details"] == {"parameter": field}, value
        else:
            assert answer.status_code == 200, value


@pytest.mark.parametrize("rest", PAGES)
@pytest.mark.parametrize(
    ("field", "one", "other"),
    [
        ("added_after", "2024-01-01T00:00:00Z", "2024-01-01T00:00:00Z"),
        ("limit", "1", "1"),
        ("limit", "1", ""),
        ("match[id]", A, B),
        ("match[type]", "indicator", "malware"),
        ("match[version]", "first", "last"),
        ("match[spec_version]", "2.0", "2.1"),
    ],
)
async def test_a_field_occurs_once(filled: Shelf, rest: str, field: str, one: str, other: str) -> None:
    """§3.4: a field that is given twice is 400, encoded or not; where it isn't known it is ignored."""
    for query in (f"{field}={one}&{field}={other}", f"{field}={one}&{quote(field)}={quote(other)}"):
        answer = await filled.status(query, rest)
        if field in FIELDS[rest]:
            assert_error(answer, 400)
        else:
            assert answer.status_code == 200


@pytest.mark.parametrize("query", ["%FF=1", "match[type]=%FF", "x=%C3%28"])
async def test_a_query_string_that_is_no_utf_8_is_400(filled: Shelf, query: str) -> None:
    """§2, §3.4: text is Unicode in UTF-8."""
    assert_error(await filled.status(query), 400)


@pytest.mark.parametrize(
    "query",
    [
        "match[x_foo]=1",
        "match[x_foo]=1&match[x_foo]=2",
        "foo=1",
        "foo=&foo=",
        "foo",
        "&&",
        "Limit=0",
        "match=1",
        "match[]=1",
        "match[TYPE]=malware",
    ],
)
@pytest.mark.parametrize("rest", PAGES)
async def test_unknown_fields_are_ignored(filled: Shelf, rest: str, query: str) -> None:
    """§3.4, D-04: the answer is the one without them."""
    plain = await filled.get(rest)

    assert (await filled.status(query, rest)).content == plain.content


@pytest.mark.parametrize(
    ("rest", "query"),
    [
        (f"objects/{A}/", f"match[type]=malware&match[id]={B}"),
        (f"objects/{A}/versions/", f"match[version]=first&match[type]=malware&match[id]={B}"),
    ],
)
async def test_fields_of_other_endpoints_are_ignored(filled: Shelf, rest: str, query: str) -> None:
    """§5.6, §5.8, D-04: one object takes no id and no type, its versions no version."""
    plain = await filled.get(rest)

    assert (await filled.status(query, rest)).content == plain.content


@pytest.mark.parametrize("path", ["/taxii2/", "/taxii2/fraud-intel/", "/taxii2/fraud-intel/collections/", None])
async def test_endpoints_without_parameters_ignore_them(exchange: Exchange, path: str | None) -> None:
    """§4, §5.1, §5.2: discovery, API Root, collections and collection define no parameters."""
    at = path or exchange.path("")
    plain = await exchange.get(at)
    asked = await exchange.get(f"{at}?limit=0&added_after=yesterday&next=x&match[type]=")

    assert asked.status_code == 200
    assert asked.content == plain.content
