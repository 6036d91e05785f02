"""What only a real server on a real socket can show: uploads that break off, odd clients, and headers of the server's."""

from __future__ import annotations

import asyncio
import logging
from email.utils import parsedate_to_datetime
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from tests.factories import envelope, malware, stix_id
from tests.taxii.alliance import GROUP, MAX_CONTENT_LENGTH, TAXII, assert_error
from tests.taxii.live import Live, live_server, read_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

SCRATCH = "fraud-intel/scratch"
_numbers = count(6000)


@pytest.fixture(scope="module")
async def live(module_database_urls: DatabaseUrls) -> AsyncIterator[Live]:
    async with live_server(module_database_urls) as running:
        yield running


def another() -> dict[str, Any]:
    return malware(id=stix_id("malware", next(_numbers)))


def posting(live: Live, **headers: str) -> bytes:
    """The head of a POST."""
    return live.head("POST", live.path(name=SCRATCH), Content_Type=TAXII, Accept=TAXII, **headers)


def chunk(octets: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(octets), octets)


def somebody_waits(live: Live) -> bool:
    """Whether a connection waits for a lock that the test itself holds."""
    asked = "SELECT pid FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    return bool(live.alliance.execute(asked))


async def until(holds: Callable[[], bool]) -> None:
    """Wait for something that others do."""
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)


def counts(live: Live) -> tuple[Any, ...]:
    [row] = live.alliance.execute("SELECT (SELECT count(*) FROM object_versions), (SELECT count(*) FROM statuses)")
    return tuple(row)


# Uploads


async def test_a_chunked_upload_is_taken(live: Live) -> None:
    """A body without Content-Length, in pieces."""
    one = another()
    body = envelope(one)
    answer = await live.raw(
        posting(live, Transfer_Encoding="chunked"), chunk(body[:30]), chunk(body[30:]), b"0\r\n\r\n"
    )

    assert answer.status_code == 202
    assert answer.json()["successes"] == [{"id": one["id"], "version": one["modified"]}]


async def test_an_oversize_chunked_upload_gets_a_readable_413(live: Live) -> None:
    """§5.5: the sender reads the answer though it was in the middle of sending; what follows is not kept."""
    async with live.connection() as (reader, writer):
        writer.write(posting(live, Transfer_Encoding="chunked"))
        piece = chunk(b" " * 65_536)
        for _ in range(MAX_CONTENT_LENGTH // 65_536 + 20):
            writer.write(piece)
            await writer.drain()
        assert_error(await read_answer(reader), 413)


async def test_an_oversize_announcement_gets_413_before_it_is_sent(live: Live) -> None:
    """§5.5: a sender that waits for 100 Continue is spared the upload."""
    answer = await live.raw(posting(live, Content_Length=str(MAX_CONTENT_LENGTH + 1), Expect="100-continue"))

    assert_error(answer, 413)


async def test_an_ordinary_client_reads_the_413(live: Live) -> None:
    """Httpx sends the whole body before it looks for an answer."""
    assert_error(await live.post(b" " * (MAX_CONTENT_LENGTH * 2), name=SCRATCH), 413)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(MAX_CONTENT_LENGTH // 65_536 * 2):
            yield b" " * 65_536

    answer = await live.http.post(
        live.path(name=SCRATCH),
        content=pieces(),
        headers=live.as_("north") | {"Content-Type": TAXII},
    )
    assert_error(answer, 413)


async def test_who_waits_for_100_continue_gets_it(live: Live) -> None:
    """RFC 9110 §10.1.1: once the checks that need no body have passed."""
    body = envelope(another())
    async with live.connection() as (reader, writer):
        writer.write(posting(live, Content_Length=str(len(body)), Expect="100-continue"))
        async with asyncio.timeout(10):
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        assert (await read_answer(reader)).status_code == 202


async def test_who_may_not_write_is_refused_before_the_body(live: Live) -> None:
    """Hidden, forbidden and unauthenticated end before a body is read: no 100 Continue."""
    path = live.path(name="fraud-intel/indicators")
    for member, status in (("harbour", 403), ("stranger", 404), (None, 401)):
        head = live.head("POST", path, member, Content_Type=TAXII, Content_Length="1000", Expect="100-continue")
        assert_error(await live.raw(head), status)


async def test_a_client_that_leaves_in_the_middle_leaves_nothing(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    """A broken upload stores nothing, has no status, and is no fault of the server's."""
    before = counts(live)
    body = envelope(another(), another())
    with structlog.testing.capture_logs() as lines, caplog.at_level(logging.INFO):
        for head, part in (
            (posting(live, Content_Length=str(len(body))), body[:-1]),
            (posting(live, Content_Length=str(len(body))), b""),
            (posting(live, Transfer_Encoding="chunked"), chunk(body)),
            (posting(live, Transfer_Encoding="chunked"), chunk(body)[:50]),
        ):
            async with live.connection() as (_, writer):
                writer.write(head + part)
                await writer.drain()
                await asyncio.sleep(0.05)
        await until(lambda: len([line for line in lines if line["event"] == "request"]) == 4)

    assert [line["status"] for line in lines if line["event"] == "request"] == [499] * 4
    assert {line["event"] for line in lines} == {"request"}
    assert caplog.records == []
    assert counts(live) == before


async def test_a_client_that_leaves_after_its_body_was_sent_finds_it_stored_whole(live: Live) -> None:
    """The answer is lost, the work isn't cut in the middle: all or nothing."""
    objects = [another() for _ in range(200)]
    body = envelope(*objects)
    before = counts(live)
    live.alliance.execute("BEGIN")
    try:
        # holds the request up when its body was read and judged
        live.alliance.execute(
            "SELECT FROM collection_clocks WHERE collection_id = %s FOR UPDATE",
            live.collection_id(SCRATCH),
        )
        async with live.connection() as (_, writer):
            writer.write(posting(live, Content_Length=str(len(body))) + body)
            await writer.drain()
            await until(lambda: somebody_waits(live))
    finally:
        live.alliance.execute("COMMIT")
    await until(lambda: counts(live) != before)
    assert counts(live) == (before[0] + 200, before[1] + 1)


async def test_requests_on_one_connection_are_answered_in_order(live: Live) -> None:
    """RFC 9112 §9.3.2: pipelined additions and reads, each complete."""
    objects = [another() for _ in range(3)]
    async with live.connection() as (reader, writer):
        for one in objects:
            body = envelope(one)
            writer.write(posting(live, Content_Length=str(len(body))) + body)
            writer.write(live.head("GET", live.path(f"objects/{one['id']}/", SCRATCH)))
        for one in objects:
            assert (await read_answer(reader)).json()["successes"][0]["id"] == one["id"]
            assert (await read_answer(reader)).json()["objects"] == [one]


async def test_a_pipelined_upload_cut_short_leaves_the_first_only(live: Live) -> None:
    """What was whole is stored, what was cut isn't."""
    first, second = another(), another()
    async with live.connection() as (reader, writer):
        for one, cut in ((first, None), (second, -5)):
            body = envelope(one)
            writer.write(posting(live, Content_Length=str(len(body))) + body[:cut])
        assert (await read_answer(reader)).json()["successes"][0]["id"] == first["id"]
    for one, status in ((first, 200), (second, 404)):
        assert (await live.get(live.path(f"objects/{one['id']}/", SCRATCH))).status_code == status


# Odd clients


async def test_http_1_0_is_spoken(live: Live) -> None:
    """Without Host and without keep-alive; an addition too."""
    one = another()
    body = envelope(one)
    answer = await live.raw(
        live.head("POST", live.path(name=SCRATCH), version="1.0", Content_Type=TAXII, Content_Length=str(len(body)))
        + body,
    )
    assert answer.status_code == 202
    answer = await live.raw(live.head("GET", live.path(f"objects/{one['id']}/", SCRATCH), version="1.0"))
    assert answer.json()["objects"] == [one]


async def test_a_megabyte_of_authorization_is_401(live: Live) -> None:
    """Refused by its size, before anything is decoded or asked of the database."""
    for scheme in ("Basic ", "Bearer ", ""):
        answer = await live.raw(live.head("GET", "/taxii2/", None, Authorization=scheme + "a" * (1 << 20)))
        assert_error(answer, 401)
        assert "www-authenticate" in answer.headers


@pytest.mark.parametrize(
    "octets",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /taxii2/ HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST /taxii2/ HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /taxii2/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /taxii2/ HTTP/1.1\r\nHost: x\r\nA\0: b\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused_and_the_server_goes_on(live: Live, octets: bytes) -> None:
    """400 from the protocol's own reader; the next client is served."""
    assert (await live.raw(octets)).status_code in {400, 401}
    assert (await live.get("/taxii2/")).status_code == 200


async def test_a_slash_less_post_is_served_and_not_redirected(live: Live) -> None:
    """D-01: a redirect would lose the body, or send credentials in clear behind a proxy."""
    one = another()
    headers = live.as_("north") | {"Content-Type": TAXII}
    answer = await live.http.post(
        live.path(name=SCRATCH).removesuffix("/"),
        content=envelope(one),
        headers=headers,
        follow_redirects=False,
    )

    assert answer.status_code == 202
    assert "location" not in answer.headers


# Headers of every answer


async def test_every_answer_has_a_date_and_an_id(live: Live) -> None:
    """RFC 9110 §6.6.1: clients correct their clocks by it before they choose `added_after` (§3.4)."""
    answers = [
        await live.get("/taxii2/"),
        await live.get(GROUP),
        await live.get(live.path("objects/", SCRATCH)),
        await live.post(envelope(another()), name=SCRATCH),
        await live.post(b"{", name=SCRATCH),
        await live.delete(live.path(f"objects/{stix_id('malware')}/", SCRATCH)),
        await live.get("/taxii2/absent/"),
        await live.get("/taxii2/", headers={"Accept": "text/html"}),
        await live.http.get("/taxii2/"),
        await live.http.put("/taxii2/"),
        await live.http.get("/healthz"),
        await live.http.get("/absent"),
        await live.http.post("/oauth2/token", headers=live.as_("north"), data={"grant_type": "client_credentials"}),
    ]

    assert [answer.status_code for answer in answers] == [
        200,
        200,
        200,
        202,
        400,
        404,
        404,
        406,
        401,
        405,
        200,
        404,
        200,
    ]
    for answer in answers:
        assert parsedate_to_datetime(answer.headers["date"]).tzinfo is not None
        assert len(answer.headers.get_list("date")) == 1
        assert "server" not in answer.headers
    assert len({answer.headers["x-request-id"] for answer in answers}) == len(answers)


async def test_bodiless_and_head_answers_keep_the_connection_in_step(live: Live) -> None:
    """RFC 9110 §9.3.2: an answer to HEAD has no body, or the next answer on the connection would be misread."""
    async with live.connection() as (reader, writer):
        for member, status in (("north", b"200"), (None, b"401")):
            writer.write(live.head("HEAD", "/taxii2/", member))
            async with asyncio.timeout(10):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 " + status)
        writer.write(live.head("GET", "/healthz", None))
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200")


async def test_options_of_the_whole_server(live: Live) -> None:
    """RFC 9110 §9.3.7: `*` stands for the server; it tells what is taken anywhere, and asks nobody who they are."""
    answer = await live.raw(live.head("OPTIONS", "*", None))

    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["allow"] == "DELETE, GET, HEAD, OPTIONS, POST"
    assert (await live.raw(live.head("GET", "*", None))).status_code == 404


async def test_a_request_head_without_end_is_cut_off(live: Live) -> None:
    """A header that never ends costs a bounded amount of memory; other connections don't notice."""
    async with live.connection() as (_, writer):
        writer.write(live.head("GET", "/taxii2/").removesuffix(b"\r\n") + b"X-Endless: ")
        sent = 0
        try:
            while sent < 64 * 1024 * 1024:
                writer.write(b"x" * 65536)
                sent += 65536
                await writer.drain()
        except ConnectionError:
            pass

    assert sent < 32 * 1024 * 1024
    assert (await live.get("/taxii2/")).status_code == 200


async def test_a_connection_carries_many_requests_with_bodies(live: Live) -> None:
    """Only heads are counted, each for itself: a kept connection is never cut for what it carried before."""
    body = b'{"objects":["' + b"x" * 900_000 + b'"]}'
    async with live.connection() as (reader, writer):
        for _ in range(4):
            head = live.head(
                "POST",
                live.path(name="fraud-intel/scratch"),
                Content_Length=str(len(body)),
                Content_Type=TAXII,
            )
            writer.write(head + body)
            assert (await read_answer(reader)).status_code == 202
