"""What clients may do with `next` and `added_after` beside each other (D-15): nothing is missed, nothing comes twice.

Clients move `added_after` from page to page, repeat it, drop it, or send a `next` of an old run with it, while versions
are added and removed. Pages are those of the plain rule, so this is about cursors alone.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from taxii_server.domain.cursor import Cursor, Endpoint, resume
from taxii_server.domain.filters import ALL_VERSIONS, LAST_ONLY, Filter
from taxii_server.domain.stix_versions import Version, selected
from taxii_server.domain.tlp import Level

if TYPE_CHECKING:
    from taxii_server.domain.filters import VersionSpec

HERE = UUID("91a7b528-80eb-42ed-a74d-c6fbd5a26116")
BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
FORMS = (21,)

# what is added: microseconds since the addition before, which object, which of its versions
additions = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2), st.integers(0, 9)), max_size=4)
habits = st.sampled_from(["drops", "repeats", "moves", "anything between", "an old next"])
steps = st.lists(st.tuples(additions, st.none() | st.integers(0, 30), habits, st.integers(0, 30)), max_size=25)


@dataclass
class Feed:
    """A collection."""

    now: datetime = BEGINNING
    live: list[Version] = field(default_factory=list)

    def add(self, pause: int, number: int, version: int) -> None:
        """Add a version, unless it is there."""
        self.now += timedelta(microseconds=pause)
        new = Version(f"tool--{number}", FORMS[0], BEGINNING + timedelta(days=version), self.now, Level.CLEAR)
        if (new.stix_id, new.order) not in {(one.stix_id, one.order) for one in self.live}:
            self.live.append(new)

    def page(self, want: Filter, text: str | None, limit: int) -> tuple[list[datetime], str | None]:
        """Give a page's dates, and its next."""
        given = {"versions", "forms"} | ({"added_after"} if want.added_after else set())
        cursor = resume(text, Endpoint.OBJECTS, HERE, want, frozenset(given)) if text else None
        want, position = (cursor.want, cursor.position) if cursor else (want, BEGINNING)
        dates = [one.date_added for one in selected(self.live, Level.RED, want) if one.date_added > position]
        more = len(dates) > limit
        return dates[:limit], Cursor(Endpoint.OBJECTS, HERE, want, dates[limit - 1]).encode() if more else None


@dataclass
class Client:
    """A client: where its run began, what it got, and the cursors it was given."""

    feed: Feed
    versions: tuple[VersionSpec, ...]
    begun: datetime | None = None
    got: list[datetime] = field(default_factory=list)
    next: str | None = None
    old: list[str] = field(default_factory=list)

    def ask(self, habit: str, chance: int) -> None:
        """Ask for a page, in one habit or another."""
        last, text = max(self.got, default=None), self.next
        after = self.begun if text is None or habit == "repeats" else last
        if habit == "an old next" and last is not None and self.old:
            # a new run, whose filters it repeats from now on, with what it kept of an older one
            self.begun = after = last
            text = self.old[chance % len(self.old)]
        elif text is not None and habit == "anything between":
            known = [one for one in self.got if self.begun is None or one >= self.begun]
            after = known[chance % len(known)]
        elif text is not None and habit == "drops":
            after = None
        dates, self.next = self.feed.page(Filter(after, versions=self.versions, forms=FORMS), text, 1 + chance % 3)
        self.got += dates
        if self.next is None:
            self.begun = max(self.got, default=None)
        else:
            self.old.append(self.next)


@given(steps)
def test_every_version_comes_once(
    told: list[tuple[list[tuple[int, int, int]], int | None, str, int]],
) -> None:
    """With match[version]=all: whatever was removed before the client came to it aside."""
    client = Client(Feed(), ALL_VERSIONS)
    for added, removed, habit, chance in told:
        for one in added:
            client.feed.add(*one)
        if removed is not None and client.feed.live:
            client.feed.live.pop(removed % len(client.feed.live))
        client.ask(habit, chance)
    client.ask("moves", 0)
    while client.next is not None:
        client.ask("moves", 0)

    assert max(Counter(client.got).values(), default=1) == 1
    assert {one.date_added for one in client.feed.live} <= set(client.got)


@given(steps)
def test_the_latest_version_of_each_object_comes(
    told: list[tuple[list[tuple[int, int, int]], int | None, str, int]],
) -> None:
    """In the default view, late arrivals among what was added."""
    client = Client(Feed(), LAST_ONLY)
    for added, _, habit, chance in told:
        for one in added:
            client.feed.add(*one)
        client.ask(habit, chance)
    client.ask("moves", 0)
    while client.next is not None:
        client.ask("moves", 0)

    latest = {one.date_added for one in selected(client.feed.live, Level.RED, Filter(forms=FORMS))}
    assert max(Counter(client.got).values(), default=1) == 1
    assert latest <= set(client.got)
