"""Each fault of a server is named, and nothing else is called a fault."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from taxii_server.check.results import Outcome
from tests.check.conftest import look_at
from tests.check.fake import (
    COLLECTION,
    FEED,
    OBJECTS,
    ROOT,
    TAXII,
    Alter,
    Asked,
    Reply,
    error,
    fake_server,
    on,
    with_resource,
)


def test_a_good_server_has_neither_fault_nor_warning() -> None:
    """The fake does everything right, so what other tests find is their own fault and no other."""
    with fake_server(tokens=True) as fake:
        looked = look_at(fake.url)

    assert (looked.faults, looked.warnings) == ([], [])
    assert [one.check for one in looked.results if one.outcome is Outcome.SKIPPED] == [
        "tls.version",
        "tls.chain",
        "tls.name",
        "tls.expiry",
    ]
    assert "Basic and a token both work" in looked.of("way-in").seen
    assert {one.method for one in fake.asked if one.path.startswith("/taxii2")} == {"GET"}


@pytest.mark.parametrize("hours", [-3, 3])
def test_a_wrong_clock(hours: int) -> None:
    """The Date of the answers tells, and on which side it is wrong."""

    def late(_: Asked, reply: Reply) -> Reply:
        reply.headers["Date"] = format_datetime(datetime.now(UTC) + timedelta(hours=hours), usegmt=True)
        return reply

    with fake_server(late) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["clock"]
    assert "3:00:00 ahead of" in looked.of("clock").seen if hours > 0 else "behind" in looked.of("clock").seen
    assert "time server" in str(looked.of("clock").remedy)


@pytest.mark.parametrize("tokens", [True, False])
def test_a_wrong_secret(tokens: bool) -> None:
    """401 is told as what it is, once, though the token endpoint refuses the secret as well."""
    with fake_server(tokens=tokens) as fake:
        looked = look_at(fake.url, secret="another-secret")

    assert looked.faults == ["basic"]
    assert looked.of("basic").seen == "401: the server refuses this id and secret"
    assert looked.of("rights").because == "way-in"


def test_what_is_odd_about_a_secret_is_told_when_it_is_refused() -> None:
    """A hint of the caller's stands in place of the general advice, and only then."""
    with fake_server() as fake:
        refused = look_at(fake.url, secret="another-secret", doubt="It was cut off.")
        taken = look_at(fake.url, doubt="It was cut off.")

    assert refused.of("basic").remedy == "It was cut off."
    assert "cut off" not in taken.text


def test_a_mistyped_api_root() -> None:
    """One fault; those that discovery names are told, and the server isn't blamed for what a wrong URL gives."""
    with fake_server() as fake:
        looked = look_at(f"{fake.url}/taxii2/feed/")

    assert looked.faults == ["api-roots"]
    assert looked.warnings == ["discovery"]
    assert ROOT in looked.of("discovery").seen
    assert {looked.of("accept").outcome, looked.of("slashes").outcome} == {Outcome.SKIPPED}


def test_known_but_let_in_nowhere() -> None:
    """403 is not a wrong secret."""
    with fake_server(lambda _, reply: error(403, "Suspended") if reply.status == 200 else reply) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["basic"]
    assert "403" in looked.of("basic").seen
    assert "Suspended" in looked.of("basic").seen


@pytest.mark.parametrize(
    ("alter", "check"),
    [
        (on(f"{ROOT}collections/", with_resource(collections=None)), "rights"),
        (on("/taxii2/", with_resource(api_roots=None, default=None)), "discovery"),
        (
            on(
                f"{ROOT}collections/",
                with_resource(collections=[{"id": COLLECTION, "title": "F", "can_read": False, "can_write": False}]),
            ),
            "rights",
        ),
    ],
    ids=["no collection", "no API Root", "neither read nor write"],
)
def test_no_rights(alter: Alter, check: str) -> None:
    """Good credentials that see nothing: the operator has to grant something."""
    with fake_server(alter) as fake:
        looked = look_at(fake.url)

    assert looked.faults == [check]
    assert "ask the operator" in str(looked.of(check).remedy)
    assert "rant" in str(looked.of(check).remedy)


def test_a_web_page_at_a_wrong_url() -> None:
    """HTML is not TAXII, and no secret is sent to it."""
    page = Reply(200, headers={"Content-Type": "text/html"}, body=b"<html><title>Welcome</title></html>")
    with fake_server(lambda *_: page) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["answer"]
    assert "text/html, not TAXII" in looked.of("answer").seen
    assert fake.credentials == []


def test_nothing_at_a_wrong_url() -> None:
    """404: look at the URL."""
    with fake_server(lambda *_: error(404, "Not found")) as fake:
        looked = look_at(f"{fake.url}/nowhere/")

    assert looked.faults == ["answer"]
    assert "404" in looked.of("answer").seen


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_that_fails(status: int) -> None:
    """A 5xx is nobody's credentials."""
    with fake_server(lambda *_: Reply(status, headers={"Content-Type": "text/html"}, body=b"Oops")) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["answer"]
    assert str(status) in looked.of("answer").seen


def test_a_poll_that_fails() -> None:
    """A 500 on the objects is told with the words of the server."""
    with fake_server(on(OBJECTS, lambda *_: error(500, "Database gone"))) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["poll"]
    assert "Database gone" in looked.of("poll").seen


def test_a_taxii_20_server() -> None:
    """It refuses the media type of 2.1, and says what it speaks at its own place."""

    def old(asked: Asked, _: Reply) -> Reply:
        if asked.path == "/taxii/":
            return Reply(401, {}, {"Content-Type": "application/vnd.oasis.taxii+json; version=2.0"})
        return Reply(406, headers={"Content-Type": "text/html"}, body=b"")

    with fake_server(old) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["answer"]
    assert "TAXII 2.0" in looked.of("answer").seen


@pytest.mark.parametrize(
    ("media_type", "outcome"),
    [
        ("application/json", Outcome.FAULT),
        ("application/vnd.oasis.taxii+json; version=2.0", Outcome.FAULT),
        ("application/taxii+json", Outcome.WARNING),
        ("application/taxii+json; version=2.1", Outcome.GOOD),
        ('application/taxii+json; charset=utf-8; version="2.1"', Outcome.GOOD),
    ],
)
def test_another_media_type(media_type: str, outcome: Outcome) -> None:
    """It is told once, not with every answer."""

    def typed(_: Asked, reply: Reply) -> Reply:
        reply.headers["Content-Type"] = media_type
        return reply

    with fake_server(typed) as fake:
        looked = look_at(fake.url)

    assert looked.of("media-types").outcome is outcome
    assert looked.faults == (["media-types"] if outcome is Outcome.FAULT else [])


def test_refusals_that_are_not_taxii() -> None:
    """A proxy's own error pages are a warning: most clients look at the status alone."""

    def plain(_: Asked, reply: Reply) -> Reply:
        return (
            reply
            if reply.status == 200
            else Reply(reply.status, headers=reply.headers | {"Content-Type": "text/html"}, body=b"No")
        )

    with fake_server(plain) as fake:
        looked = look_at(fake.url)

    assert looked.faults == []
    assert looked.warnings == ["errors"]


def test_an_open_server() -> None:
    """It works without credentials, and somebody should know."""

    def open_to_all(asked: Asked, _: Reply) -> Reply:
        return fake._granted(asked) if asked.path.startswith("/taxii2") else error(404, "Not found")

    with fake_server(open_to_all) as fake:
        looked = look_at(fake.url, client_id=None, secret=None)

    assert looked.faults == []
    assert "without-credentials" in looked.warnings
    assert looked.of("poll.paging").outcome is Outcome.GOOD


def test_credentials_are_tried_behind_an_open_discovery() -> None:
    """OpenTAXII's discovery is open; a wrong secret is found where the server asks for it."""

    def half_open(asked: Asked, reply: Reply) -> Reply:
        return fake._granted(asked) if asked.path == "/taxii2/" else reply

    with fake_server(half_open) as fake:
        right, wrong = look_at(fake.url), look_at(fake.url, secret="another-secret")

    assert right.faults == []
    assert wrong.faults == ["basic"]


def test_no_credentials_given() -> None:
    """What lies behind them is not looked at, and that is no fault."""
    with fake_server() as fake:
        looked = look_at(fake.url, client_id=None, secret=None)

    assert looked.faults == []
    assert looked.of("rights").because == "way-in"
    assert fake.credentials == []


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        ({"default": "https://elsewhere.example/x/"}, "not one of api_roots"),
        ({"title": None}, "no title"),
        ({"api_roots": "x", "default": None}, "no list"),
        ({"api_roots": [3], "default": None}, "no list"),
        ({"api_roots": ["//evil.example/x/"], "default": None}, "no URL of an API Root"),
    ],
    ids=["default elsewhere", "no title", "api_roots a string", "api_roots of numbers", "two slashes"],
)
def test_a_wrong_discovery(resource: dict[str, Any], words: str) -> None:
    """Clients that begin there stumble."""
    with fake_server(on("/taxii2/", with_resource(**resource))) as fake:
        looked = look_at(fake.url)

    assert "discovery" in looked.faults
    assert words in looked.of("discovery").seen


@pytest.mark.parametrize(
    ("resource", "words"),
    [
        ({"versions": ["taxii-2.1"]}, "versions"),
        ({"versions": None}, "versions"),
        ({"max_content_length": None}, "max_content_length"),
        ({"max_content_length": "10"}, "max_content_length"),
        ({"max_content_length": 0}, "max_content_length"),
        ({"title": None}, "no title"),
    ],
    ids=["other version", "no versions", "no length", "length a string", "length 0", "no title"],
)
def test_a_wrong_api_root(resource: dict[str, Any], words: str) -> None:
    """§4.2.1; the poll goes on."""
    with fake_server(on(ROOT, with_resource(**resource))) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["api-roots"]
    assert words in looked.of("api-roots").seen
    assert looked.of("poll.paging").outcome is Outcome.GOOD


def test_titles_that_repeat() -> None:
    """XSOAR chooses by title."""
    entry = {"title": "Feed", "can_read": True, "can_write": False}
    twice = [entry | {"id": COLLECTION}, entry | {"id": "0b7f7c1e-2d2c-4a5b-8d57-6a7e9d1f2c22"}]
    with fake_server(on(f"{ROOT}collections/", with_resource(collections=twice))) as fake:
        looked = look_at(fake.url)

    assert looked.faults == []
    assert looked.warnings == ["collections"]


def test_gzip_that_is_offered() -> None:
    """Packed answers are unpacked, and told."""

    def packed(asked: Asked, reply: Reply) -> Reply:
        if asked.headers.get("accept-encoding") == "gzip":
            reply.headers["Content-Encoding"] = "gzip"
            reply.body = gzip.compress(b'{"objects": []}')
        return reply

    with fake_server(on(OBJECTS, packed)) as fake:
        looked = look_at(fake.url)

    assert looked.faults == []
    assert looked.of("gzip").seen.startswith("offered")


@pytest.mark.parametrize(
    "path", ["", "/", "/taxii2", "/taxii2/", ROOT, ROOT[:-1], f"{ROOT}collections/", FEED, OBJECTS, OBJECTS[:-1]]
)
def test_any_url_that_people_paste(path: str) -> None:
    """Host, discovery, API Root, collection, objects, with and without the last slash."""
    with fake_server() as fake:
        looked = look_at(f"{fake.url}{path}")

    assert looked.faults == []
    assert looked.of("poll.paging").outcome is Outcome.GOOD


def test_the_collection_that_was_named() -> None:
    """By id, alias and title; another name is said not to be there."""
    with fake_server() as fake:
        found = [look_at(fake.url, collection=name).faults for name in (COLLECTION, "feed", "Feed")]
        missed = look_at(fake.url, collection="fed")

    assert found == [[], [], []]
    assert missed.faults == ["poll"]
    assert "fed" in missed.of("poll").seen


def test_a_given_token() -> None:
    """It is used when there is no id; a refused one is named as such."""
    with fake_server() as fake:
        good = look_at(fake.url, client_id=None, secret=None, token="the-token-of-the-tests")
        bad = look_at(fake.url, client_id=None, secret=None, token="some-other-token")

    assert good.faults == []
    assert bad.faults == ["token"]
    assert bad.of("token").seen == "401: the server refuses the token that was given"


def test_nothing_is_taken_for_taxii_by_its_shape() -> None:
    """Whatever JSON a server sends, it is told in words."""
    for strange in _SHAPES:
        with fake_server(_always(strange)) as fake:
            looked = look_at(fake.url)

        assert looked.faults != []
        assert "stumbled" not in looked.text


_SHAPES: tuple[Any, ...] = (
    [],
    None,
    3,
    "x",
    {"collections": 3},
    {"collections": [{"id": 3, "title": [], "can_read": "yes"}]},
    {"objects": {"a": 1}},
    {"objects": [3]},
    {"api_roots": {}},
    {"title": 3, "api_roots": [{}], "default": []},
)


def _always(resource: Any) -> Alter:
    return lambda _, reply: Reply(200, resource) if reply.status == 200 else reply


def test_media_type_of_the_requests() -> None:
    """TAXII 2.1 is asked for by its full name."""
    with fake_server() as fake:
        look_at(fake.url)

    assert {one.headers["accept"] for one in fake.asked if one.path == OBJECTS} == {TAXII}
