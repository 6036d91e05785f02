"""Each fault of a poll is named, and nothing else is called a fault: pages, dates, filters, the manifest."""

from __future__ import annotations

import itertools

import pytest

from taxii_server.check.results import Outcome
from tests.check.conftest import look_at
from tests.check.fake import FEED, FIRST, LAST, OBJECTS, Asked, Reply, error, fake_server, on, with_resource


def test_more_without_next() -> None:
    """Real clients then ask for page 1 for ever; what else is looked at is well."""
    with fake_server(on(OBJECTS, with_resource(next=None))) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["poll.paging"]
    assert looked.of("poll.paging").seen == "1 page, 10 objects; more is true, but there is no next"
    assert "added_after" in str(looked.of("poll.paging").remedy)


def test_next_that_leads_back() -> None:
    """The same page again and again."""

    def back(asked: Asked, reply: Reply) -> Reply:
        if "next" in asked.query:
            reply.resource = {"objects": first, "more": True, "next": "again"}
            reply.headers |= {FIRST: "2026-05-02T00:00:00.000000Z", LAST: "2026-05-02T00:00:00.000009Z"}
        return reply

    with fake_server(on(OBJECTS, back)) as fake:
        first = [one for _, one in fake.objects[:10]]
        looked = look_at(fake.url)

    assert looked.faults == ["poll.paging"]
    assert "nothing but what was sent before" in looked.of("poll.paging").seen


def test_next_that_never_ends() -> None:
    """Empty pages that promise more."""
    endless = itertools.count(1)

    def more(asked: Asked, reply: Reply) -> Reply:
        if "next" in asked.query:
            next(endless)
            return Reply(200, {"more": True, "next": "again"})
        return reply

    with fake_server(on(OBJECTS, more)) as fake:
        looked = look_at(fake.url, pages=50)

    assert looked.faults == ["poll.paging"]
    assert next(endless) < 10


def test_the_same_next_is_well_where_pages_move_on() -> None:
    """With medallion the server keeps the place, and next stays as it is."""
    places: dict[str, str] = {}

    def same(asked: Asked, reply: Reply) -> Reply | None:
        if asked.query.get("next") == "session":
            reply = fake.reply(Asked(asked.method, asked.path, asked.query | {"next": places["at"]}, asked.headers))
        if reply.resource.get("next"):
            places["at"], reply.resource["next"] = reply.resource["next"], "session"
        return reply

    with fake_server(on(OBJECTS, same)) as fake:
        looked = look_at(fake.url, pages=9)

    assert looked.faults == []
    assert "12 objects" in looked.of("poll.paging").seen


def test_next_that_is_refused() -> None:
    """A next that gives an error breaks every poll of more than a page."""
    alter = on(OBJECTS, lambda asked, reply: error(400, "Bad next") if "next" in asked.query else reply)
    with fake_server(alter) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["poll.paging"]
    assert "Bad next" in looked.of("poll.paging").seen


def test_next_where_nothing_follows() -> None:
    """Clients that follow next whatever more says ask once too often."""
    with fake_server(on(OBJECTS, with_resource(more=False, next="x"))) as fake:
        looked = look_at(fake.url)

    assert looked.faults == []
    assert looked.warnings == ["poll.paging"]


@pytest.mark.parametrize("lacking", [FIRST, LAST])
def test_missing_dates(lacking: str) -> None:
    """A client can't tell where to go on; what needs the dates is not looked at."""

    def without(_: Asked, reply: Reply) -> Reply:
        reply.headers.pop(lacking, None)
        return reply

    with fake_server(on(OBJECTS, without)) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["poll.dates"]
    assert lacking in looked.of("poll.dates").seen
    assert looked.of("poll.again").because == "poll.dates"


@pytest.mark.parametrize(
    ("value", "outcome"),
    [
        ("undefined", Outcome.FAULT),
        ("None", Outcome.FAULT),
        ("2026-05-02T00:00:00.000Z", Outcome.WARNING),
        ("2026-05-02T00:00:00+00:00", Outcome.WARNING),
    ],
)
def test_dates_in_another_form(value: str, outcome: Outcome) -> None:
    """§2 asks for six digits and Z; what is no timestamp at all is worse."""

    def written(_: Asked, reply: Reply) -> Reply:
        reply.headers = {FIRST: value, LAST: value}
        return reply

    with fake_server(on(OBJECTS, written)) as fake:
        looked = look_at(fake.url)

    assert looked.of("poll.dates").outcome is outcome


def test_added_after_without_effect() -> None:
    """Every poll would bring everything again."""
    with fake_server() as fake:
        fake.alter = on(OBJECTS, lambda asked, _: fake.reply(asked.without("added_after")))
        looked = look_at(fake.url)

    assert looked.faults == ["poll.again", "poll.empty"]


def test_limit_without_effect() -> None:
    """Pages larger than a client asked for."""
    with fake_server() as fake:
        fake.alter = on(OBJECTS, lambda asked, _: fake.reply(asked.without("limit")))
        looked = look_at(fake.url)

    assert looked.faults == ["poll.limit"]


def test_pages_out_of_order() -> None:
    """A client that keeps the last date loses what comes with an earlier one."""

    def backwards(asked: Asked, reply: Reply) -> Reply:
        if "next" in asked.query:
            reply.headers |= {FIRST: "2020-01-01T00:00:00.000000Z"}
        return reply

    with fake_server(on(OBJECTS, backwards)) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["poll.order"]


def test_a_filter_without_effect() -> None:
    """match[type] that lets others through."""
    with fake_server() as fake:
        fake.alter = on(OBJECTS, lambda asked, _: fake.reply(asked.without("match[type]")))
        looked = look_at(fake.url)

    assert looked.faults == ["filter.type"]


def test_a_manifest_that_differs() -> None:
    """A client that fetches what the manifest lists would miss objects."""

    def turned(_: Asked, reply: Reply) -> Reply:
        reply.resource["objects"].reverse()
        return reply

    with fake_server(on(f"{FEED}manifest/", turned)) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["manifest"]


def test_objects_without_an_id() -> None:
    """What is no STIX object is dropped by a SIEM without a word."""

    def nameless(_: Asked, reply: Reply) -> Reply:
        reply.resource["objects"] = [{**one, "id": "5"} for one in reply.resource.get("objects", [])]
        return reply

    with fake_server(on(OBJECTS, nameless)) as fake:
        looked = look_at(fake.url)

    assert "poll.objects" in looked.faults


def test_404_for_an_empty_poll() -> None:
    """§5.4: nothing new is 200."""
    alter = on(OBJECTS, lambda _, reply: reply if "objects" in reply.resource else error(404, "Nothing"))
    with fake_server(alter) as fake:
        looked = look_at(fake.url)

    assert set(looked.faults) == {"poll.empty", "poll.again"}


def test_200_for_what_is_not_there() -> None:
    """A slip in the URL would look like an empty feed."""

    def anything(asked: Asked, reply: Reply) -> Reply:
        return Reply(200, {}) if asked.path.endswith("/objects/") and reply.status == 404 else reply

    with fake_server(anything) as fake:
        looked = look_at(fake.url)

    assert looked.faults == ["unknown"]


def test_an_empty_collection_is_no_fault() -> None:
    """There is nothing to page through, and that is said."""
    with fake_server() as fake:
        fake.objects = []
        looked = look_at(fake.url)

    assert looked.faults == []
    assert looked.warnings == ["poll"]
    assert looked.of("poll.again").outcome is Outcome.SKIPPED
