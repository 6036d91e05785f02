"""Content negotiation on the wire (§1.6.8, §3.1); the grammar itself is tested in tests/web/test_media_types.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from taxii_server.web import media_types
from tests.factories import as_json, envelope, indicator, malware, stix_id
from tests.taxii.alliance import GROUP, TAXII, Exchange, assert_error
from tests.taxii.laws import RESOURCES
from tests.taxii.shelf import A

if TYPE_CHECKING:
    from tests.taxii.shelf import Shelf

pytestmark = pytest.mark.anyio

SCRATCH = f"{GROUP}collections/scratch/"
GETS = [
    "/taxii2/",
    GROUP,
    f"{GROUP}collections/",
    SCRATCH,
    f"{SCRATCH}manifest/",
    f"{SCRATCH}objects/",
    f"{SCRATCH}objects/{A}/",
    f"{SCRATCH}objects/{A}/versions/",
]
every_get = pytest.mark.parametrize("path", GETS)


def test_the_media_type_is_the_standards() -> None:
    """§1.6.8.1, §1.6.8.2: one media type, its version as n.m."""
    assert media_types.TAXII == TAXII == "application/taxii+json;version=2.1"
    # and of what is ours besides, the same
    ours = ["disclosures", "recall", "POST of a recall"]
    assert len(RESOURCES) == len(GETS) + len(["status", "POST"]) + len(ours)


@every_get
@pytest.mark.parametrize(
    "accept",
    [
        TAXII,
        "application/taxii+json",
        "application/taxii+json; version=2.1",
        'Application/TAXII+JSON;version="2.1"',
        f"{TAXII}, application/stix+json;version=2.1",
        f"{TAXII};q=0.5, */*;q=0.1",
        "*/*",
        "application/*",
        "application/json",
        "application/stix+json",
        "",
    ],
)
async def test_what_can_be_satisfied_is(filled: Shelf, path: str, accept: str) -> None:
    """§3.1, D-02: 200, and always TAXII with its version, whatever else was named beside it."""
    answer = await filled.exchange.get(path, headers={"Accept": accept})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == TAXII


@every_get
async def test_no_accept_is_any_accept(filled: Shelf, path: str) -> None:
    """D-02, §8.2.1: a request without Accept, and without User-Agent, is answered."""
    request = filled.exchange.http.build_request("GET", path, headers=filled.exchange.as_("north"))
    del request.headers["accept"], request.headers["user-agent"]
    answer = await filled.exchange.http.send(request)

    assert answer.status_code == 200


@every_get
async def test_several_accept_lines_are_one_list(filled: Shelf, path: str) -> None:
    """RFC 9110 §5.3: a list may come in several lines."""
    lines = [("Accept", "text/html"), ("Accept", TAXII), *filled.exchange.as_("north").items()]

    assert (await filled.exchange.http.get(path, headers=lines)).status_code == 200


@every_get
@pytest.mark.parametrize(
    "accept",
    [
        "application/taxii+json;version=2.0",
        "application/vnd.oasis.taxii+json",
        "application/vnd.oasis.taxii+json; version=2.0",
        "application/foo",
        "text/html, application/xhtml+xml",
        f"{TAXII};q=0",
        "rubbish",
    ],
)
async def test_what_cannot_be_satisfied_is_406(filled: Shelf, path: str, accept: str) -> None:
    """§3.1, D-02: told as TAXII all the same."""
    error = assert_error(await filled.exchange.get(path, headers={"Accept": accept}), 406)

    assert TAXII in error["description"]


async def test_status_and_writes_negotiate_alike(exchange: Exchange) -> None:
    """§3.1: the endpoints that only a write leads to."""
    one = malware(id=stix_id("malware", 700))
    status = await exchange.add(one, name="fraud-intel/indicators")
    path, foo = exchange.path(f"objects/{one['id']}/"), {"Accept": "application/foo"}
    told = f"{GROUP}status/{status['id']}/"

    assert_error(await exchange.get(told, headers=foo), 406)
    assert (await exchange.get(told, headers={"Accept": "application/taxii+json"})).status_code == 200
    assert_error(await exchange.post(envelope(one), headers=foo), 406)
    assert_error(await exchange.delete(path, headers=foo), 406)
    deleted = await exchange.delete(path, headers={"Accept": "*/*"})
    assert (deleted.status_code, deleted.content, deleted.headers["content-type"]) == (200, b"", TAXII)


async def test_json_is_utf_8_without_a_mark(exchange: Exchange) -> None:
    """§1.6.7, RFC 8259: text beyond ASCII comes back octet for octet, no byte order mark before it."""
    one = indicator(id=stix_id("indicator", 701), name="Zahlungsbetrüger \N{EURO SIGN} \U0001f3e6 \u202e")
    assert (await exchange.post(envelope(one))).status_code == 202
    answer = await exchange.get(exchange.path(f"objects/{one['id']}/"))

    assert answer.content == b'{"more":false,"objects":[' + as_json(one) + b"]}"
