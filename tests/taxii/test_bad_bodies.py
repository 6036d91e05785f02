"""Bodies that are wrong, hostile or too large: what each gets, and that none of them is a fault of this server."""

from __future__ import annotations

import asyncio
import gzip
import json
import tracemalloc
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.factories import as_json, envelope, indicator, ipv4, malware, stix_id
from tests.taxii.alliance import MAX_CONTENT_LENGTH, TAXII, Exchange, assert_error, exchange_on

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import httpx

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

SCRATCH = "fraud-intel/scratch"
_numbers = count(4000)


def another(**over: Any) -> dict[str, Any]:
    return malware(id=stix_id("malware", next(_numbers)), **over)


async def post(exchange: Exchange, body: Any, **headers: str) -> httpx.Response:
    """POST octets, or pieces of them, which are sent chunked."""
    return await exchange.post(body, name=SCRATCH, headers={name.replace("_", "-"): headers[name] for name in headers})


def stored(exchange: Exchange) -> int:
    [(rows,)] = exchange.alliance.execute("SELECT count(*) FROM object_versions")
    return int(rows)


# 400: it can't be read


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"nonsense",
        b"{'objects': []}",
        b'{"objects": [{}]',
        b'{"objects": [{}]}}',
        b'{"objects": [{}]} x',
        b'{"objects": [{"a": }]}',
        b'{"objects": [{"a": 01}]}',
        b'{"objects": [{"a": NaN}]}',
        b'{"objects": [{"a": Infinity}]}',
        b'{"objects": [{"a": 1,}]}',
        b'{"objects": [{}], "x": NaN}',
        b'{"objects": ["a\nb"]}',
        b'{"objects": ["\\x41"]}',
        b'{"objects": ["\\ud83d"]}',
        b'{"objects": [{"x_\\udc00": 1}]}',
        b'{"objects": [{}], "\\ud83d": 1}',
        b'{"objects": ["\xff"]}',
        b'{"objects": ["\xed\xa0\xbd"]}',
        b'{"objects": ["\xc0\x80"]}',
        b'{"objects": [{}], "x": "\xe9"}',
        '{"objects": [{}]}'.encode("utf-16"),
        b"\xef\xbb\xbf" + b'{"objects": [{}]}',
        b"\0",
        envelope(malware())[:-1],
        envelope(malware())[:40],
        b'{"objects": [' + b"[" * 1500 + b"]" * 1500 + b"]}",
        b'{"objects": [' + b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    ],
    ids=range(32),
)
async def test_a_body_that_is_no_json_is_400(exchange: Exchange, body: bytes) -> None:
    """§5.5, D-12: unparseable, cut short, not UTF-8, lone surrogates, or so deep that it can't be cut."""
    before = stored(exchange)
    error = assert_error(await post(exchange, body), 400)

    assert error["description"]
    assert stored(exchange) == before


async def test_one_lone_surrogate_sinks_the_envelope(exchange: Exchange) -> None:
    """A lone surrogate is not JSON (RFC 7493 §2.1): the whole body is 400, the good objects in it aren't stored."""
    good, before = another(), stored(exchange)
    bad = as_json(another()).replace(b'"Tollkeeper"', b'"\\ud83dx"')
    assert_error(await post(exchange, envelope(good, bad)), 400)

    assert stored(exchange) == before


# 422: JSON, but no envelope


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b"null",
        b"1",
        b'"objects"',
        b"{}",
        b'{"objects": []}',
        b'{"objects": {}}',
        b'{"objects": null}',
        b'{"objects": "x"}',
        b'{"Objects": [{}]}',
        b'{"more": false}',
        b'{"objects": [{}], "objects": [{}]}',
        b'{"objects": [{}], "\\u006fbjects": [{}]}',
        b'[{"objects": [{}]}]',
    ],
)
async def test_json_that_is_no_envelope_is_422(exchange: Exchange, body: bytes) -> None:
    """§3.7, §5.5, D-11, D-12: another root, `objects` missing, empty, no list, or twice."""
    assert assert_error(await post(exchange, body), 422)["description"]


# 413: too large


def of_size(octets: int) -> bytes:
    """A good envelope of exactly so many octets; whitespace between objects belongs to nobody."""
    body = envelope(another())
    return body[:-1] + b" " * (octets - len(body)) + body[-1:]


@pytest.mark.parametrize("short_of_it", [0, 1])
async def test_up_to_max_content_length_it_is_never_413(exchange: Exchange, short_of_it: int) -> None:
    """§4.2.1: the number in the API Root is true, of a body sent whole or in chunks."""
    objects = [another(x_padding="x" * 200_000) for _ in range(10)] + [another(x_padding="")]
    objects[-1]["x_padding"] = "x" * (MAX_CONTENT_LENGTH - short_of_it - len(envelope(*objects)))
    body = envelope(*objects)
    assert len(body) == MAX_CONTENT_LENGTH - short_of_it
    for sent in (body, pieces(body)):
        answer = await post(exchange, sent)
        assert answer.status_code == 202, answer.text
        assert answer.json()["success_count"] == 11


async def pieces(body: bytes, size: int = 65_536) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]


async def test_over_max_content_length_is_413(exchange: Exchange) -> None:
    """§5.5: declared or chunked; the description names the limit."""
    body = of_size(MAX_CONTENT_LENGTH + 1)
    for sent in (body, pieces(body)):
        error = assert_error(await post(exchange, sent), 413)
        assert str(MAX_CONTENT_LENGTH) in error["description"]


async def test_an_endless_body_is_given_up_at_the_limit(exchange: Exchange) -> None:
    """§5.5: octets are counted as they arrive, so memory stays bounded however much is sent."""
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 65_536
            yield b" " * 65_536

    tracemalloc.start()
    try:
        assert_error(await post(exchange, endless()), 413)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert taken <= MAX_CONTENT_LENGTH + 2 * 65_536
    assert peak < 4 * MAX_CONTENT_LENGTH


# Content-Encoding


async def test_gzip_is_read(exchange: Exchange) -> None:
    """A packed envelope is an envelope, of one member or several."""
    one, other = another(), another()
    body = envelope(one, other)
    for packed in (gzip.compress(body), gzip.compress(body[:50]) + gzip.compress(body[50:])):
        answer = await post(exchange, packed, Content_Encoding="gzip")
        assert answer.json()["success_count"] == 2


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (gzip.compress(envelope(malware()))[:-3], 400),
        (gzip.compress(envelope(malware())) + b"more", 400),
        (envelope(malware()), 400),
        (b"", 400),
        (gzip.compress(b""), 400),
        (gzip.compress(b"nonsense"), 400),
        (gzip.compress(b"{}"), 422),
        (gzip.compress(b" " * (MAX_CONTENT_LENGTH + 1)), 422),
        (gzip.compress(b"\0" * (64 << 20)), 422),
        (gzip.compress(gzip.compress(envelope(malware()))), 400),
    ],
    ids=[
        "cut",
        "rubbish after it",
        "not packed",
        "empty",
        "nothing in it",
        "no JSON",
        "no envelope",
        "too large",
        "a bomb",
        "twice",
    ],
)
async def test_gzip_that_is_wrong(exchange: Exchange, body: bytes, status: int) -> None:
    """What can't be unpacked is 400; what unpacks to too much 422, since 413 is for what was sent."""
    assert_error(await post(exchange, body, Content_Encoding="gzip"), status)


async def test_a_packed_body_too_large_as_sent_is_413(exchange: Exchange) -> None:
    """The limit is on the octets of the body as they are sent (§4.2.1)."""
    assert_error(
        await post(exchange, gzip.compress(b"") * (MAX_CONTENT_LENGTH // 20 + 1), Content_Encoding="gzip"), 413
    )


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "zstd"])
async def test_other_codings_are_415(exchange: Exchange, coding: str) -> None:
    """§3.1: the answer names what is read."""
    error = assert_error(await post(exchange, envelope(malware()), Content_Encoding=coding), 415)

    assert "gzip" in error["description"]


# Slow


async def test_a_body_that_stops_coming_is_408(fresh_database_urls: DatabaseUrls) -> None:
    """A sender that falls silent is given up after the patience of the settings, and nothing is stored."""

    async def stops() -> AsyncIterator[bytes]:
        yield envelope(another())[:20]
        await asyncio.sleep(30)

    async with exchange_on(fresh_database_urls, body_timeout=timedelta(seconds=1)) as exchange:
        assert_error(await post(exchange, stops()), 408)
        assert stored(exchange) == 0


@pytest.mark.slow
async def test_a_body_that_trickles_is_408_and_gives_its_place_back(fresh_database_urls: DatabaseUrls) -> None:
    """An octet within each patience: it would hold one of its client's places for as long as it likes."""
    sent = 0

    async def trickles() -> AsyncIterator[bytes]:
        nonlocal sent
        for octet in envelope(another()):
            yield bytes([octet])
            sent += 1
            await asyncio.sleep(0.2)

    over: dict[str, Any] = {"body_timeout": timedelta(seconds=1), "client_concurrency": 1}
    async with exchange_on(fresh_database_urls, **over) as exchange:
        error = assert_error(await post(exchange, trickles()), 408)
        assert "too slowly" in error["description"]
        assert sent <= 5
        assert (await post(exchange, envelope(another()))).status_code == 202


# One object's failure

LARGE = 256 * 1024


def edited(old: str, to: str, **over: Any) -> bytes:
    """A good object in which a piece of its text was replaced."""
    text = as_json(another(**over))
    assert old.encode() in text
    return text.replace(old.encode(), to.encode(), 1)


def nested(levels: int) -> bytes:
    """An object with so many levels, its own counted."""
    inner = "[" * (levels - 1) + "]" * (levels - 1)
    return edited('"Tollkeeper"', f'"Tollkeeper", "x_deep": {inner}')


NAME = '"Tollkeeper"'
BAD_OBJECTS: dict[str, tuple[Any, str]] = {
    "no object": (b"[1]", "not a JSON object"),
    "101 levels": (lambda: nested(101), "more than 100 levels"),
    "900 levels": (lambda: nested(900), "more than 100 levels"),
    "a key twice": (lambda: edited(NAME, NAME + ', "x_a": 1, "x_a": 1'), "x_a occurs twice"),
    "an escaped key twice": (lambda: edited(NAME, NAME + ', "x_a": 1, "\\u0078_a": 1'), "x_a occurs twice"),
    "a key twice within": (lambda: edited(NAME, NAME + ', "x_b": [{"c": 1, "c": 2}]'), "c occurs twice"),
    "the id twice": (lambda: edited(NAME, NAME + f', "id": "{stix_id("malware")}"'), "id occurs twice"),
    "NUL": (lambda: edited(NAME, '"Toll\\u0000keeper"'), "NUL"),
    "NUL in a name": (lambda: edited(NAME, NAME + ', "x_\\u0000": 1'), "NUL"),
    "NUL within": (lambda: edited(NAME, NAME + ', "x_c": [{"d": ["\\u0000"]}]'), "NUL"),
    "2^53": (lambda: edited(NAME, NAME + ', "x_n": 9007199254740992'), "beyond"),
    "-2^53": (lambda: edited(NAME, NAME + ', "x_n": -9007199254740992'), "beyond"),
    "5,000 digits": (lambda: edited(NAME, NAME + ', "x_n": ' + "9" * 5000), "beyond"),
    "1e999": (lambda: edited(NAME, NAME + ', "x_n": 1e999'), "beyond"),
    "no type": (lambda: edited('"type": "malware", ', ""), "type is missing"),
    "type a number": (lambda: edited('"type": "malware"', '"type": 1'), "type must be a string"),
    "type no type": (lambda: edited('"type": "malware"', '"type": "MALWARE"'), "not a STIX type"),
    "no id": ({"type": "malware"}, "id is missing"),
    "id a number": ({"type": "malware", "id": 1}, "id must be a string"),
    "id empty": ({"type": "malware", "id": ""}, "not a STIX identifier"),
    "id without UUID": ({"type": "malware", "id": "malware--1"}, "not a STIX identifier"),
    "id with a tail": ({"type": "malware", "id": stix_id("malware") + "\n"}, "not a STIX identifier"),
    "id of SQL": ({"type": "malware", "id": "malware--'; DROP TABLE object_versions; --"}, "not a STIX identifier"),
    "id of another type": ({"type": "malware", "id": stix_id("indicator")}, "but type is malware"),
    "no modified": (lambda: another(modified=None, created=None), "modified is missing"),
    "modified null": (lambda: edited('"modified": "2024-05-02T08:15:30.000Z"', '"modified": null'), "modified must be"),
    "modified a number": (lambda: another(modified=17), "modified must be"),
    "modified no timestamp": (lambda: another(modified="yesterday"), "modified must be"),
    "modified without zone": (lambda: another(modified="2024-05-02T08:15:30"), "modified must be"),
    "modified with an offset": (lambda: another(modified="2024-05-02T08:15:30+02:00"), "modified must be"),
    "modified the 30th of February": (lambda: another(modified="2024-02-30T08:15:30Z"), "no such date"),
    "modified in the year 0": (lambda: another(modified="0000-01-01T00:00:00Z"), "no such date"),
    "modified in Arabic digits": (lambda: another(modified="٢٠٢٤-05-02T08:15:30Z"), "modified must be"),
    "created no timestamp": (lambda: another(created="x"), "created must be"),
    "seven digits": (lambda: another(modified="2024-05-02T08:15:30.1234567Z"), "more than six fractional digits"),
    "spec_version 3": (lambda: another(spec_version="3.0"), "spec_version must be"),
    "spec_version a number": (lambda: another(spec_version=2.1), "spec_version must be"),
    "too large": (lambda: another(x_padding="x" * LARGE), "larger than this server takes"),
    "a bundle": ({"type": "bundle", "id": stix_id("bundle"), "objects": [malware()]}, "send its objects"),
}


@pytest.mark.parametrize("kind", BAD_OBJECTS)
@pytest.mark.parametrize("name", ["fraud-intel/indicators", SCRATCH])
async def test_a_bad_object_fails_alone_and_is_told_why(exchange: Exchange, kind: str, name: str) -> None:
    """§4.3.1: the good objects before and after it are stored; its message says what to mend."""
    bad, reason = BAD_OBJECTS[kind]
    bad = bad() if callable(bad) else bad
    good = another(), ipv4(value="198.51.100.3"), another()
    answer = await exchange.post(envelope(good[0], bad, *good[1:]), name=name)
    assert answer.status_code == 202, answer.text
    status = answer.json()

    assert [each["id"] for each in status["successes"]] == [each["id"] for each in good]
    [failure] = status["failures"]
    assert reason in failure["message"]
    assert len(failure["message"]) < 500
    assert failure["id"]
    assert failure["version"]
    seen = await exchange.get(
        exchange.path("objects/", name), params={"match[id]": ",".join(each["id"] for each in good)}
    )
    assert len(seen.json()["objects"]) == 3


@pytest.mark.parametrize("levels", [2, 99, 100])
async def test_a_hundred_levels_are_taken(exchange: Exchange, levels: int) -> None:
    """The bound is told truly: the hundredth level still passes."""
    status = (await post(exchange, envelope(nested(levels)))).json()

    assert status["success_count"] == 1, status


async def test_timestamps_at_the_ends_of_time_are_kept(exchange: Exchange) -> None:
    """The earliest and latest instants there are, and six digits of fraction."""
    for version in ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z", "2024-05-02T08:15:30.123456Z"):
        one = another(created=version, modified=version)
        assert (await post(exchange, envelope(one))).json()["successes"] == [{"id": one["id"], "version": version}]
        for place in (f"objects/{one['id']}/", "objects/"):
            query = {"match[version]": version} | ({} if place != "objects/" else {"match[id]": one["id"]})
            answer = await exchange.get(exchange.path(place, SCRATCH), params=query)
            assert answer.json()["objects"] == [one]


async def test_hostile_text_in_an_id_or_version_is_told_back_harmlessly(exchange: Exchange) -> None:
    """What a refused object calls itself is shown shortened, without control characters."""
    bad = {"type": "malware", "id": "\u202e\0\x1b[31m" + "x" * 100_000, "modified": "\0" * 1000}
    status = (await post(exchange, envelope(bad))).json()

    [failure] = status["failures"]
    assert len(failure["id"]) <= 300
    assert len(failure["version"]) <= 300
    assert failure["id"].isprintable()
    read = await exchange.get(f"/taxii2/fraud-intel/status/{status['id']}/")
    assert read.json() == status


async def test_far_too_many_items_are_refused_at_once(exchange: Exchange) -> None:
    """A list of a million numbers costs a hundred times its size to cut: 422."""
    assert_error(await post(exchange, b'{"objects": [' + b"0," * 900_000 + b"0]}"), 422)


# Anything at all


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(
    body=st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.text(alphabet='{}[]":,\\u0d8objects1e-. \0', max_size=60).map(str.encode),
        st.recursive(
            st.none() | st.integers() | st.text(max_size=5),
            lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["objects", "type", "id"]), inner),
            max_leaves=8,
        ).map(
            lambda value: json.dumps(value).encode(),
        ),
    ),
    packed=st.booleans(),
)
@example(body=b'{"objects": [1]}', packed=False)
async def test_whatever_is_posted_nothing_is_a_fault(exchange: Exchange, body: bytes, packed: bool) -> None:
    """Nothing that a client sends yields a 500."""
    answer = await post(
        exchange, gzip.compress(body) if packed else body, Content_Encoding="gzip" if packed else "identity"
    )

    assert answer.status_code in {202, 400, 422}
    assert answer.headers["content-type"] == TAXII
    if answer.status_code != 202:
        assert_error(answer, answer.status_code)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Octets of a good envelope cut, doubled, removed or replaced."""
    body = bytearray(envelope(malware(), indicator()))
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 20)))
        body[start:end] = draw(st.sampled_from([b"", bytes(body[start:end]) * 2]) | st.binary(max_size=4))
    return bytes(body)


@settings(max_examples=80, suppress_health_check=list(HealthCheck))
@given(body=damaged())
async def test_damaged_envelopes_are_no_fault(exchange: Exchange, body: bytes) -> None:
    """Each is taken, or refused as what it is by now."""
    assert (await post(exchange, body)).status_code in {202, 400, 422}
