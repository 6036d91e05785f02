"""What else a check may say of a server: each has its name, its mark and its words, and nothing besides is a fault."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from taxii_server.check.results import Outcome
from tests.check.conftest import look_at
from tests.check.fake import (
    COLLECTION,
    FEED,
    FIRST,
    LAST,
    OBJECTS,
    ROOT,
    Alter,
    Asked,
    Reply,
    error,
    fake_server,
    on,
    stix,
    with_resource,
)

OTHER = "0b7f7c1e-2d2c-4a5b-8d57-6a7e9d1f2c22"
ENTRY = {"id": COLLECTION, "title": "Feed", "can_read": True, "can_write": False}
TOKEN_ENDPOINT = "/oauth2/token"


def when(condition: Any, change: Any) -> Alter:
    """Change the replies to some requests that were granted."""
    return lambda asked, reply: change(reply) if reply.status == 200 and condition(asked) else reply


def listed(*entries: dict[str, Any]) -> Alter:
    """List other collections."""
    return on(f"{ROOT}collections/", with_resource(collections=list(entries)))


def dated(*, seconds: float) -> Alter:
    """Tell another time."""

    def late(_: Asked, reply: Reply) -> Reply:
        reply.headers["Date"] = format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)
        return reply

    return late


def undated(_: Asked, reply: Reply) -> Reply:
    """Tell no time that can be read."""
    reply.headers["Date"] = "yesterday"
    return reply


def unauthorized(status: int, **headers: str) -> Alter:
    """Refuse whoever has no credentials in another way than with 401 and a challenge for Basic."""
    return lambda asked, reply: error(status, "No", **headers) if "authorization" not in asked.headers else reply


def dates_of(first: str, last: str) -> Any:
    """Change the dates of a page."""

    def change(reply: Reply) -> Reply:
        reply.headers |= {FIRST: first, LAST: last}
        return reply

    return change


def overlapping(asked: Asked, reply: Reply) -> Reply:
    """Begin each page with the first object of all."""
    if "next" in asked.query:
        kind = "indicator"
        first = {"type": kind, "spec_version": "2.1", "id": f"{kind}--00000000-0000-4000-8000-000000000000"}
        first |= dict.fromkeys(("created", "modified"), "2026-05-01T00:00:00.000Z")
        reply.resource["objects"] = [first, *reply.resource["objects"]][:6]
    return reply


VERDICTS: dict[str, tuple[Alter, str, Outcome, str]] = {
    "status of its own": (lambda *_: error(599, "?"), "answer", Outcome.FAULT, "HTTP 599"),
    "406 to TAXII 2.1": (lambda *_: error(406, "No"), "answer", Outcome.FAULT, "doesn't speak TAXII 2.1"),
    "no Date": (undated, "clock", Outcome.WARNING, "bear no Date"),
    "clock a little off": (dated(seconds=30), "clock", Outcome.WARNING, "ahead of this machine's"),
    "403 without credentials": (unauthorized(403), "without-credentials", Outcome.WARNING, "with 403"),
    "401 without challenge": (
        unauthorized(401),
        "without-credentials",
        Outcome.WARNING,
        "without the WWW-Authenticate",
    ),
    "406 to Accept without version": (
        lambda asked, reply: error(406, "No") if asked.headers["accept"] == "application/taxii+json" else reply,
        "accept",
        Outcome.WARNING,
        "406 to application/taxii+json without a version",
    ),
    "500 to Accept of nonsense": (
        lambda asked, reply: error(500, "Oops") if "nothing-of-the-kind" in asked.headers["accept"] else reply,
        "accept",
        Outcome.FAULT,
        "means nothing",
    ),
    "last slash needed": (
        lambda asked, reply: error(404, "No") if asked.path == "/taxii2" else reply,
        "slashes",
        Outcome.WARNING,
        "404 without the last slash",
    ),
    "last slash sent on to": (
        lambda asked, reply: Reply(301, {}, {"Location": "/taxii2/"}) if asked.path == "/taxii2" else reply,
        "slashes",
        Outcome.GOOD,
        "sent on to those with it",
    ),
    "last slash elsewhere": (
        lambda asked, reply: (
            Reply(301, {}, {"Location": "http://taxii.example.test/"}) if asked.path == "/taxii2" else reply
        ),
        "slashes",
        Outcome.FAULT,
        "another server",
    ),
    "little room": (on(ROOT, with_resource(max_content_length=900)), "api-roots", Outcome.WARNING, "900 octets"),
    "collections no list": (
        on(f"{ROOT}collections/", with_resource(collections=3)),
        "collections",
        Outcome.FAULT,
        "no list of collections",
    ),
    "rights missing": (listed(ENTRY | {"can_write": None}), "collections", Outcome.FAULT, "can_write is no boolean"),
    "id twice": (listed(ENTRY, ENTRY | {"title": "Other"}), "collections", Outcome.FAULT, "occurs twice"),
    "write only": (
        listed(ENTRY | {"can_read": False, "can_write": True}),
        "rights",
        Outcome.WARNING,
        "nothing that can be read",
    ),
    "envelope no object": (on(OBJECTS, lambda *_: Reply(200, [])), "poll", Outcome.FAULT, "no JSON object"),
    "objects no list": (on(OBJECTS, with_resource(objects={"a": 1})), "poll", Outcome.FAULT, "no list of objects"),
    "pages overlap": (on(OBJECTS, overlapping), "poll.paging", Outcome.FAULT, "sent more than once"),
    "First after Last": (
        when(
            lambda asked: asked.path == OBJECTS and not {"added_after", "next"} & set(asked.query),
            dates_of("2026-05-03T00:00:00.000000Z", "2026-05-02T00:00:00.000000Z"),
        ),
        "poll.order",
        Outcome.FAULT,
        "First later than its Last",
    ),
    "empty but more": (
        when(
            lambda asked: asked.query.get("added_after", "") > "2999", lambda _: Reply(200, {"more": True, "next": "x"})
        ),
        "poll.empty",
        Outcome.FAULT,
        "says that there is more",
    ),
    "empty but no page": (
        when(lambda asked: asked.query.get("added_after", "") > "2999", lambda _: Reply(200, [])),
        "poll.empty",
        Outcome.FAULT,
        "where nothing is newer",
    ),
    "no manifest": (on(f"{FEED}manifest/", lambda *_: error(501, "No")), "manifest", Outcome.WARNING, "HTTP 501"),
    "manifest no list": (
        on(f"{FEED}manifest/", with_resource(objects=3)),
        "manifest",
        Outcome.FAULT,
        "no list of records",
    ),
    "manifest without dates": (
        on(f"{FEED}manifest/", with_resource(objects=[{"id": "indicator--x"}])),
        "manifest",
        Outcome.FAULT,
        "lack id, date_added or version",
    ),
    "empty manifest": (
        on(f"{FEED}manifest/", with_resource(objects=None)),
        "manifest",
        Outcome.FAULT,
        "which is empty",
    ),
    "filter refused": (
        when(lambda asked: "match[type]" in asked.query, lambda _: error(400, "Unknown field")),
        "filter.type",
        Outcome.FAULT,
        "Unknown field",
    ),
    "filter hides": (
        when(lambda asked: "match[type]" in asked.query, lambda _: Reply(200, {})),
        "filter.type",
        Outcome.FAULT,
        "finds nothing, though a page had one",
    ),
    "403 for what isn't there": (
        lambda _, reply: error(403, "No") if reply.status == 404 else reply,
        "unknown",
        Outcome.WARNING,
        "403, where 404 is meant",
    ),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_a_verdict(case: str) -> None:
    """It is given by the check whose business it is, and only a ✗ counts as a fault."""
    alter, check, outcome, words = VERDICTS[case]
    with fake_server(alter) as fake:
        looked = look_at(fake.url)

    assert looked.of(check).outcome is outcome
    assert words in looked.of(check).seen
    assert (outcome is Outcome.GOOD) or looked.of(check).remedy
    assert looked.faults == ([check] if outcome is Outcome.FAULT else [])
    assert "stumbled" not in looked.text


@pytest.mark.parametrize(
    ("refusal", "secret", "outcome", "words"),
    [
        (Reply(401, {"error": "invalid_client"}), "the-secret-of-the-tests", Outcome.WARNING, "which work with Basic"),
        (Reply(401, {"error": "invalid_client"}), "another-secret", Outcome.SKIPPED, "refuses this id and secret too"),
        (
            Reply(400, {"error": "unsupported_grant_type"}),
            "the-secret-of-the-tests",
            Outcome.FAULT,
            "unsupported_grant",
        ),
        (Reply(200, {"token": "x"}), "the-secret-of-the-tests", Outcome.FAULT, "no access_token"),
    ],
)
def test_a_token_endpoint_that_gives_no_token(refusal: Reply, secret: str, outcome: Outcome, words: str) -> None:
    """Whether that matters depends on what Basic says of the same id and secret."""
    alter: Alter = lambda asked, reply: refusal if asked.path == TOKEN_ENDPOINT else reply  # noqa: E731 - as the others
    with fake_server(alter, tokens=True) as fake:
        looked = look_at(fake.url, secret=secret)

    assert looked.of("token").outcome is outcome
    assert words in looked.of("token").seen


def test_a_server_that_takes_tokens_alone() -> None:
    """Basic is not tried where only Bearer is offered; a refused secret is then the token endpoint's word."""

    def bearer_only(asked: Asked, reply: Reply) -> Reply:
        if reply.status == 401 and asked.path != TOKEN_ENDPOINT:
            reply.headers["WWW-Authenticate"] = 'Bearer realm="x"'
        return reply

    with fake_server(bearer_only, tokens=True) as fake:
        right, wrong = look_at(fake.url), look_at(fake.url, secret="another-secret")

    assert right.faults == []
    assert "doesn't offer Basic" in right.of("basic").seen
    assert right.of("way-in").seen == "a token"
    assert wrong.faults == ["token"]
    assert [one for one in fake.asked if one.headers.get("authorization", "").startswith("Basic")] == [
        one for one in fake.asked if one.path == TOKEN_ENDPOINT
    ]


def test_a_collection_that_may_not_be_read_is_said_to_be_so() -> None:
    """It was named, so no other is polled in its place."""
    with fake_server(listed(ENTRY, ENTRY | {"id": OTHER, "title": "Drop", "can_read": False})) as fake:
        looked = look_at(fake.url, collection="Drop")

    assert looked.faults == ["poll"]
    assert "can_read is false" in looked.of("poll").seen


def test_an_empty_collection_is_passed_over_for_one_with_objects() -> None:
    """There is more to look at in it."""
    entries = listed(ENTRY | {"id": OTHER, "title": "Empty"}, ENTRY)

    def alter(asked: Asked, reply: Reply) -> Reply | None:
        return Reply(200, {}) if OTHER in asked.path and reply.status == 404 else entries(asked, reply)

    with fake_server(alter) as fake:
        looked = look_at(fake.url)

    assert "Feed: 6 objects" in looked.of("poll").seen or "Feed: 10 objects" in looked.of("poll").seen


def test_no_answer_from_the_dns(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for longer than for any answer."""

    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.base_events.BaseEventLoop, "getaddrinfo", never)
    looked = look_at("https://taxii.example.test/", timeout=0.05)

    assert looked.faults == ["dns"]
    assert "no answer about taxii.example.test" in looked.of("dns").seen


def test_one_of_two_addresses_that_nobody_listens_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients may try it first, so it is told, and no fault."""
    real = socket.getaddrinfo

    def two(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        return [answer for one in ("127.0.0.1", "127.0.0.2") for answer in real(one, port, *rest, **named)]

    with fake_server() as fake:
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *rest, **named: (two if host == "localhost" else real)(host, *rest, **named),
        )
        looked = look_at(fake.url.replace("127.0.0.1", "localhost"))

    assert looked.of("tcp").outcome is Outcome.WARNING
    assert "127.0.0.2: refused" in looked.of("tcp").seen


@pytest.mark.parametrize(
    ("again", "outcome", "words"),
    [
        (slice(11, 12), Outcome.WARNING, "1 object of that date again"),
        (slice(10, 12), Outcome.FAULT, "objects that were added before it"),
        (slice(0, 1), Outcome.FAULT, "objects that were added before it"),
        (slice(12, 13), Outcome.FAULT, "objects that were added before it"),
    ],
    ids=["the last again", "the last page again", "the first again", "others, added before"],
)
def test_a_next_poll_that_gives_what_was_there(again: slice, outcome: Outcome, words: str) -> None:
    """Some of the same instant may come twice where dates are finer than a server writes them; nothing older may."""
    there = [one for _, one in stix(13)]

    def alter(asked: Asked, reply: Reply) -> Reply:
        if "2026" in asked.query.get("added_after", ""):
            early = "2026-05-02T00:00:00.000000Z"
            return Reply(200, {"objects": there[again]}, {FIRST: early, LAST: early})
        return reply

    with fake_server(on(OBJECTS, alter)) as fake:
        looked = look_at(fake.url)

    assert looked.of("poll.again").outcome is outcome
    assert words in looked.of("poll.again").seen
    assert looked.faults == (["poll.again"] if outcome is Outcome.FAULT else [])
