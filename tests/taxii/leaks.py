"""What every caller may see, worked out from plain lists: the model that `test_leaks` holds whole answers to.

Objects come in histories: versions at random levels, by markings of both generations, on the object or on a part,
unknown ones and none; both specification versions; observables; late arrivals; deletions. Each carries a word that occurs
nowhere else, so that one octet of it in a wrong answer is found.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from taxii_server.domain.cursor import Cursor, Endpoint
from taxii_server.domain.filters import ALL_VERSIONS, Exactly, Filter, Keyword, VersionSpec
from taxii_server.domain.stix_versions import Version, selected
from taxii_server.domain.timestamps import to_taxii
from tests.factories import TLP1, TLP2, indicator, indicator_2_0, ipv4, malware

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.factories import Stix

CLEAR, GREEN, AMBER, STRICT, RED = range(5)
NOTHING: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BEGIN: Final = datetime(2024, 1, 1, tzinfo=UTC)
_OF_LEVEL: Final = {
    CLEAR: (TLP1["white"], TLP2["clear"]),
    GREEN: (TLP1["green"], TLP2["green"]),
    AMBER: (TLP1["amber"], TLP2["amber"]),
    STRICT: (TLP2["amber+strict"],),
    RED: (TLP1["red"], TLP2["red"], TLP2["red"].replace("e828b379", "E828B379")),
}
_UNKNOWN: Final = "marking-definition--00000000-0000-4000-8000-000000000001"


@dataclass
class Stored:
    """One version as it lies in a collection: its place in the rule's eyes, its text, and the word only it has."""

    place: Version
    body: str
    version: str
    word: str


@dataclass
class Book:
    """A collection as the model knows it; `unmarked` is what its unmarked objects count as."""

    name: str
    id: UUID
    unmarked: int
    live: list[Stored] = field(default_factory=list)
    gone: list[Stored] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """Every id that was ever there."""
        return sorted({one.place.stix_id for one in self.live + self.gone})

    @property
    def dates(self) -> list[datetime]:
        """Every date that was ever given."""
        return sorted(one.place.date_added for one in self.live + self.gone)


@dataclass(frozen=True)
class Request:
    """A GET as it is sent, and what it means."""

    endpoint: Endpoint
    book: Book
    want: Filter
    position: datetime | None
    limit: int
    one: str | None
    params: dict[str, str]
    packed: bool
    head: bool

    @property
    def rest(self) -> str:
        """The end of its path."""
        match self.endpoint:
            case Endpoint.OBJECT:
                return f"objects/{self.one}/"
            case Endpoint.VERSIONS:
                return f"objects/{self.one}/versions/"
            case _:
                return f"{self.endpoint.value}/"


@dataclass(frozen=True)
class Expected:
    """What has to come back: no more, no less; `body` is None for a refusal, which says nothing of what is stored."""

    status: int
    body: dict[str, Any] | None
    dates: tuple[str, str] | None
    shown: tuple[Stored, ...]


def history(random: Random, number: int, unmarked: int) -> tuple[list[Stix], list[int]]:
    """Make one object's versions in a random order of arrival, with the level of each."""
    stix_id = str(UUID(int=random.getrandbits(128), version=4))
    kind = random.choice(["indicator", "indicator", "indicator", "malware", "ipv4-addr"])
    made, levels = [], []
    for second in random.sample(range(6), random.randint(1, 5)):
        level, markings = _markings(random, unmarked)
        word = f"word{number}x{second}x{random.getrandbits(40):010x}"
        over = {"x_word": word, "x_padding": "-" * random.choice([0, 0, 400]), **markings}
        modified = to_taxii(_BEGIN + timedelta(seconds=number * 10 + second))
        versions = {"created": to_taxii(_BEGIN), "modified": modified}
        match kind:
            case "ipv4-addr":
                made.append(ipv4(id=f"ipv4-addr--{stix_id}", **over))
            case "malware":
                made.append(malware(id=f"malware--{stix_id}", **versions, **over))
            case _ if random.random() < 0.4:
                made.append(indicator_2_0(id=f"indicator--{stix_id}", **versions, **over))
            case _:
                made.append(indicator(id=f"indicator--{stix_id}", **versions, **over))
        levels.append(level)
    return made, levels


def twins(random: Random, number: int, old: int, new: int) -> tuple[list[Stix], list[int]]:
    """Make one instant of an object in both forms, and a later version of the newer form, each at a level of its own."""
    stix_id = f"indicator--{UUID(int=random.getrandbits(128), version=4)}"
    levels = [old, new, random.randrange(5)]
    made: list[Stix] = []
    for build, second, level in zip((indicator_2_0, indicator, indicator), (0, 0, 1), levels, strict=True):
        modified = to_taxii(_BEGIN + timedelta(seconds=number * 10 + second))
        word = f"word{number}x{len(made)}x{random.getrandbits(40):010x}"
        refs = [_some(random, level)]
        made.append(build(id=stix_id, created=modified, modified=modified, x_word=word, object_marking_refs=refs))
    return made, levels


def _markings(random: Random, unmarked: int) -> tuple[int, Stix]:
    """Choose markings; the level they mean is worked out here, not by the code under test."""
    match random.randrange(6):
        case 0:
            return unmarked, {}
        case 1:
            return unmarked, {"object_marking_refs": [_UNKNOWN]}
        case 2:
            level = random.randrange(5)
            return level, {"granular_markings": [{"marking_ref": _some(random, level), "selectors": ["x_word"]}]}
        case 3:
            low, high = sorted((random.randrange(5), random.randrange(5)))
            refs = [_some(random, low), _UNKNOWN, _some(random, high)]
            return high, {"object_marking_refs": refs}
        case _:
            level = random.randrange(5)
            return level, {"object_marking_refs": [_some(random, level)]}


def _some(random: Random, level: int) -> str:
    return random.choice(_OF_LEVEL[level])


def requests(random: Random, books: list[Book], count: int) -> Iterable[Request]:
    """Ask for anything, with a preference for what is hidden from somebody."""
    for _ in range(count):
        yield _request(random, random.choice(books))


def _request(random: Random, book: Book) -> Request:
    endpoint = random.choice([*Endpoint, Endpoint.OBJECTS, Endpoint.MANIFEST])
    of_one = endpoint in {Endpoint.OBJECT, Endpoint.VERSIONS}
    one = random.choice(book.ids) if of_one else None
    params: dict[str, str] = {}
    added_after = None
    if random.random() < 0.5:
        added_after = random.choice(book.dates) + random.choice([-1, 0, 0, 1]) * timedelta(microseconds=1)
        params["added_after"] = to_taxii(added_after)
    ids: tuple[str, ...] | None = None if one is None else (one,)
    types: tuple[str, ...] | None = None
    if not of_one and random.random() < 0.3:
        ids = tuple(random.sample(book.ids, random.randint(1, min(4, len(book.ids)))))
        params["match[id]"] = ",".join(ids)
    if not of_one and random.random() < 0.4:
        types = tuple(random.sample(["indicator", "malware", "ipv4-addr", "tool"], random.randint(1, 3)))
        params["match[type]"] = ",".join(types)
    versions: tuple[VersionSpec, ...] = ALL_VERSIONS if endpoint is Endpoint.VERSIONS else (Keyword.LAST,)
    if endpoint is not Endpoint.VERSIONS and random.random() < 0.7:
        versions, params["match[version]"] = _versions(random, book)
    forms: tuple[int, ...] | None = None
    if random.random() < 0.4:
        forms = random.choice([(20,), (21,), (20, 21)])
        params["match[spec_version]"] = ",".join(f"{form // 10}.{form % 10}" for form in forms)
    want = Filter(added_after, ids, types, versions, forms)
    position = None
    if random.random() < 0.3:
        # a cursor that this caller was never given: anybody can make one
        position = random.choice(book.dates) + random.choice([-1, 0, 0, 1]) * timedelta(microseconds=1)
        params["next"] = Cursor(endpoint, book.id, want, position).encode()
        if random.random() < 0.5:
            params = {"next": params["next"]}
    limit = random.choice([1, 2, 3, 5, 100])
    params["limit"] = str(limit)
    return Request(
        endpoint, book, want, position, limit, one, params, packed=random.random() < 0.3, head=random.random() < 0.15
    )


def _versions(random: Random, book: Book) -> tuple[tuple[VersionSpec, ...], str]:
    if random.random() < 0.4:
        return ALL_VERSIONS, "all"
    specs: dict[VersionSpec, str] = {}
    for _ in range(random.randint(1, 3)):
        match random.randrange(3):
            case 0:
                specs[Keyword.FIRST] = "first"
            case 1:
                specs[Keyword.LAST] = "last"
            case _:
                at = random.choice(book.live).place.version_at
                specs[Exactly(at)] = to_taxii(at)
    return tuple(specs), ",".join(specs.values())


def expected(asked: Request, clearance: int, page_bytes: int) -> Expected:
    """Work out the whole answer for a caller of this clearance."""
    book = asked.book
    by_date = {one.place.date_added: one for one in book.live}
    places = [one.place for one in book.live]
    if asked.one is not None and not any(one.stix_id == asked.one and one.level <= clearance for one in places):
        return Expected(404, None, None, ())
    found = [by_date[place.date_added] for place in selected(places, clearance, asked.want)]
    if asked.position is not None:
        found = [one for one in found if one.place.date_added > asked.position]
    page: list[Stored] = []
    octets = 0
    for one in found[: asked.limit]:
        octets += len(one.body.encode())
        if page and octets > page_bytes and asked.endpoint in {Endpoint.OBJECTS, Endpoint.OBJECT}:
            break
        page.append(one)
    body: dict[str, Any] = {"more": len(page) < len(found)}
    if body["more"]:
        body["next"] = Cursor(asked.endpoint, book.id, asked.want, page[-1].place.date_added).encode()
    if page:
        name = "versions" if asked.endpoint is Endpoint.VERSIONS else "objects"
        body[name] = [_item(asked.endpoint, one) for one in page]
    instants = [one for one in (asked.position, asked.want.added_after) if one is not None]
    ends = (page[0].place.date_added, page[-1].place.date_added) if page else (max(instants, default=NOTHING),) * 2
    return Expected(200, body, (to_taxii(ends[0]), to_taxii(ends[1])), tuple(page))


def _item(endpoint: Endpoint, one: Stored) -> Any:
    if endpoint is Endpoint.VERSIONS:
        return one.version
    if endpoint is Endpoint.MANIFEST:
        form = one.place.form
        return {
            "id": one.place.stix_id,
            "date_added": to_taxii(one.place.date_added),
            "version": one.version,
            "media_type": f"application/stix+json;version={form // 10}.{form % 10}",
        }
    return json.loads(one.body)


def traces(asked: Request, answer: str, shown: tuple[Stored, ...]) -> list[str]:
    """Find in the text of an answer, headers included, any word, id or date of what it may not show.

    What the request itself named may be repeated to it; ids may also be those of visible versions.
    """
    said = " ".join([*asked.params.values(), asked.rest])
    visible = {one.place.stix_id for one in shown}
    # both are written in base64 inside a cursor, which may hold only what was shown or asked for
    found = []
    for one in asked.book.live + asked.book.gone:
        if one in shown:
            continue
        date = to_taxii(one.place.date_added)
        found += [word for word in (one.word,) if word in answer]
        found += [word for word in (one.place.stix_id,) if word not in visible and word not in said and word in answer]
        if date not in said and "next" not in asked.params and date in answer:
            found.append(date)
    return found
