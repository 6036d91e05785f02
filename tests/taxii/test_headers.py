"""Headers and data types (§2, §3.2). What every answer obeys is in `tests.taxii.laws`; here, that the laws bite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import pytest
from jsonschema import ValidationError

from tests.factories import malware, stix_id
from tests.taxii import laws
from tests.taxii.alliance import TAXII, Exchange
from tests.taxii.laws import FIRST, LAST
from tests.taxii.shelf import A

if TYPE_CHECKING:
    from tests.taxii.shelf import Shelf

pytestmark = pytest.mark.anyio

EPOCH = "1970-01-01T00:00:00.000000Z"
COLLECTION = "/taxii2/g/collections/c/"
WHEN = "2024-01-01T00:00:00.000000Z"
DATES = {FIRST: WHEN, LAST: WHEN}
TAG = 'W/"0123456789abcdef0123456789abcdef"'
ALWAYS = {
    "content-type": TAXII,
    "vary": "Accept, Accept-Encoding, Authorization",
    "x-content-type-options": "nosniff",
    "x-request-id": "2b6c3a0e-6f3d-4f4e-8f0e-0c4b6f6f2f5e",
}
KEPT = ALWAYS | {"cache-control": "private, no-cache", "etag": TAG}
UNKEPT = ALWAYS | {"cache-control": "private, no-store"}


@pytest.mark.parametrize("rest", ["objects/", "manifest/", f"objects/{A}/", f"objects/{A}/versions/"])
async def test_content_tells_the_dates_of_its_first_and_last_item(filled: Shelf, rest: str) -> None:
    """§3.2: both headers on each of the four."""
    answer = await filled.get(rest)
    shown = [name for name in ("b", "m", "s", "a3", "x21", "o20") if A not in rest or name == "a3"]
    if "versions" in rest:
        shown = ["a1", "a2", "a3"]

    assert answer.headers[FIRST] == filled.dates[shown[0]]
    assert answer.headers[LAST] == filled.dates[shown[-1]]


@pytest.mark.parametrize("rest", ["objects/", "manifest/"])
async def test_an_empty_collection_tells_the_epoch(exchange: Exchange, rest: str) -> None:
    """§3.2, D-03: never the present time, past which something may yet be added."""
    answer = await exchange.get(exchange.path(rest, "crime-desk/cases"), "constabulary")

    assert answer.json() == {"more": False}
    assert answer.headers[FIRST] == answer.headers[LAST] == EPOCH
    asked = await exchange.get(
        exchange.path(rest, "crime-desk/cases"), "constabulary", params={"added_after": "2024-05-02T08:15:30.5Z"}
    )
    assert asked.headers[FIRST] == asked.headers[LAST] == "2024-05-02T08:15:30.500000Z"


async def test_other_answers_carry_no_dates(exchange: Exchange) -> None:
    """§3.2: undefined elsewhere, so left off: on writes, collections, statuses and errors."""
    one = malware(id=stix_id("malware", 710))
    posted = await exchange.post({"objects": [one]})
    answers = [
        posted,
        await exchange.get(f"/taxii2/fraud-intel/status/{posted.json()['id']}/"),
        await exchange.get("/taxii2/fraud-intel/collections/"),
        await exchange.delete(exchange.path(f"objects/{one['id']}/")),
        await exchange.get(exchange.path("objects/?limit=0")),
        await exchange.get(exchange.path(f"objects/{one['id']}/")),
    ]

    assert [answer.status_code for answer in answers] == [202, 200, 200, 200, 400, 404]
    for answer in answers:
        assert not {FIRST, LAST} & set(answer.headers)


async def test_a_version_is_the_objects_own_text(exchange: Exchange) -> None:
    """§4.3.1, §5.3.1, §5.8.1: not padded, not cut, the same in status, manifest and versions."""
    texts = [
        "2024-01-01T00:00:00Z",
        "2024-01-01T00:00:01.000Z",
        "2024-01-01T00:00:02.5Z",
        "2024-01-01T00:00:03.000001Z",
    ]
    of = stix_id("malware", 711)
    status = await exchange.add(
        *(malware(id=of, created=texts[0], modified=text) for text in texts), name="fraud-intel/indicators"
    )
    path, query = exchange.path("manifest/"), {"match[version]": "all", "match[id]": of}
    manifest = (await exchange.get(path, params=query)).json()["objects"]
    versions = (await exchange.get(exchange.path(f"objects/{of}/versions/"))).json()["versions"]

    assert [one["version"] for one in status["successes"]] == texts
    assert [one["version"] for one in manifest] == texts
    assert versions == texts


@pytest.mark.parametrize(
    ("path", "status", "body", "headers"),
    [
        ("/taxii2/", 200, {"title": "t", "api_roots": []}, {}),
        ("/taxii2/", 200, {"title": "t", "description": None}, {}),
        ("/taxii2/", 200, {"title": "t"}, {"content-type": "application/json"}),
        ("/taxii2/", 200, {"title": "t"}, {"content-type": f"{TAXII}; charset=utf-8"}),
        ("/taxii2/", 200, {"title": "t"}, DATES),
        ("/taxii2/g/", 200, {"title": "t", "versions": ["taxii-2.1"], "max_content_length": 1}, {}),
        (COLLECTION, 200, {"id": "91a7b528-80eb-12ed-a74d-c6fbd5a26116", "title": "t", "can_read": True, "can_write": True}, {}),
        (COLLECTION, 200, {"id": "91a7b528-80eb-42ed-a74d-c6fbd5a26116", "title": "t", "can_read": 1, "can_write": True}, {}),
        (f"{COLLECTION}objects/", 200, {}, {}),
        (f"{COLLECTION}objects/", 200, {}, {FIRST: WHEN}),
        (f"{COLLECTION}objects/", 200, {}, {FIRST: "None", LAST: "None"}),
        (f"{COLLECTION}objects/", 200, {}, {FIRST: "2024-01-01T00:00:01.000000Z", LAST: WHEN}),
        (f"{COLLECTION}objects/", 200, {}, {FIRST: "2024-01-01T00:00:00Z", LAST: WHEN}),
        (f"{COLLECTION}objects/", 200, {"objects": []}, DATES),
        (f"{COLLECTION}objects/", 200, {"more": True, "objects": [{"type": "x", "id": "y"}]}, DATES),
        (f"{COLLECTION}objects/", 200, {"more": True, "next": "x"}, DATES),
        (f"{COLLECTION}objects/", 200, {"more": False, "next": "x"}, DATES),
        (f"{COLLECTION}objects/", 200, {"next": "x"}, DATES),
        (f"{COLLECTION}objects/", 200, {"type": "bundle", "id": "x"}, DATES),
        (f"{COLLECTION}manifest/", 200, {"objects": [{"id": "x", "version": "y", "date_added": "2024-01-01T00:00:00.000Z"}]}, DATES),
        (f"{COLLECTION}objects/x/versions/", 200, {"versions": [None]}, DATES),
        ("/taxii2/", 404, {"title": "t", "http_status": 404}, {}),
        ("/taxii2/", 404, {"title": "t", "http_status": "400"}, {}),
        ("/taxii2/", 404, {"detail": "Not Found"}, {}),
        ("/taxii2/", 201, {"title": "t"}, {}),
        ("/taxii2/", 200, {"title": "t"}, {"cache-control": "private, no-store"}),
        ("/taxii2/", 200, {"title": "t"}, {"cache-control": "no-cache"}),
        ("/taxii2/", 200, {"title": "t"}, {"etag": TAG.removeprefix("W/")}),
        ("/taxii2/", 200, {"title": "t"}, {"vary": "Accept, Accept-Encoding"}),
        ("/taxii2/", 200, {"title": "t"}, {"x-content-type-options": "nosniff, nosniff"}),
        (f"{COLLECTION}objects/", 200, {}, DATES | KEPT),
        (f"{COLLECTION}objects/", 304, None, KEPT),
        ("/taxii2/", 304, None, {}),
        ("/taxii2/", 404, {"title": "t"}, KEPT),
    ],
)  # fmt: skip
async def test_the_laws_bite(path: str, status: int, body: dict[str, Any] | None, headers: dict[str, str]) -> None:
    """§2, §3.2, §3.6, §3.7, §3.8: each of these answers breaks the standard, and is found to."""
    with pytest.raises((AssertionError, ValidationError)):
        await laws.hold(_answer(path, status, body, headers))


@pytest.mark.parametrize(
    ("path", "status", "body", "headers"),
    [
        ("/taxii2/", 200, {"title": "t"}, {}),
        ("/taxii2/g/", 200, {"title": "t", "versions": [TAXII], "max_content_length": 1}, {}),
        (f"{COLLECTION}objects/", 200, {}, DATES),
        ("/taxii2/", 404, {"title": "t"}, {}),
    ],
)
async def test_the_laws_bite_nobody_else(path: str, status: int, body: dict[str, Any], headers: dict[str, str]) -> None:
    """What those above are broken from is right: so each is found for what is wrong with it alone."""
    await laws.hold(_answer(path, status, body, headers))


def _answer(path: str, status: int, body: dict[str, Any] | None, headers: dict[str, str]) -> httpx.Response:
    usual = KEPT if laws.is_description(path) and status == 200 else UNKEPT
    request = httpx.Request("GET", f"http://test{path}")
    return httpx.Response(status, json=body, headers=usual | headers, request=request)
