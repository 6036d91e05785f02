"""What replays of real clients are made of: a collection that fills while they poll, and requests with no header too many.

A replay is a class that imitates one client's loop, request by request. Its tests compare what it read with what the
writers were told is stored.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx

from tests.factories import indicator, stix_id
from tests.taxii.laws import LAST

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.taxii.live import Live

Stix = dict[str, Any]
Key = tuple[str, str | None]

_feeds = count(1)
_objects = count(100_000)


def key(stix: Stix) -> Key:
    """Tell a version from all others."""
    return stix["id"], stix.get("modified", stix.get("created"))


@dataclass
class Feed:
    """A collection that north writes and harbour reads, and every version that it was told is stored."""

    live: Live
    name: str
    stored: list[Stix] = field(default_factory=list)

    @classmethod
    def opened(cls, live: Live, group: str = "fraud-intel", validation: str = "structural") -> Feed:
        """Make a collection that only this feed writes to."""
        alias = f"feed-{next(_feeds)}"
        live.alliance.collection(group, alias, validation)
        live.alliance.grant("north", f"{group}/{alias}", ("read", "write"))
        live.alliance.grant("harbour", f"{group}/{alias}", ("read",))
        return cls(live, f"{group}/{alias}")

    @property
    def id(self) -> str:
        """The collection's id."""
        return str(self.live.collection_id(self.name))

    @property
    def title(self) -> str:
        """The collection's title."""
        return f"Title of {self.name.partition('/')[2]}"

    @property
    def root(self) -> str:
        """The URL of the API Root."""
        return f"{self.live.base_url}/taxii2/{self.name.partition('/')[0]}/"

    @property
    def url(self) -> str:
        """The URL of the collection."""
        return f"{self.root}collections/{self.id}/"

    async def add(self, number: int = 1, **over: Any) -> list[Stix]:
        """Let a writer add so many new indicators, in one envelope."""
        return await self.put(*(indicator(id=stix_id("indicator", next(_objects)), **over) for _ in range(number)))

    async def put(self, *objects: Stix) -> list[Stix]:
        """Let a writer add these objects."""
        await self.live.add(*objects, name=self.name)
        self.stored += objects
        return list(objects)

    def missed_by(self, got: Iterable[Stix]) -> list[Key]:
        """Name what is stored and was never read."""
        read = {key(one) for one in got}
        return [key(one) for one in self.stored if key(one) not in read]

    @staticmethod
    def repeated_to(got: Iterable[Stix]) -> list[Key]:
        """Name what was read more than once."""
        return [each for each, times in Counter(key(one) for one in got).items() if times > 1]


class Wire:
    """Sends the headers it is given, `Host` and the body's length, and none of those that HTTP libraries add."""

    def __init__(self, live: Live, headers: dict[str, str]) -> None:
        self.live = live
        self.headers = headers
        self.answers: list[httpx.Response] = []

    async def send(self, method: str, url: str, params: Any = None, content: bytes | None = None) -> httpx.Response:
        """Send one request as it is; the answer is held to the standard's form, as every answer to `live.http` is."""
        request = httpx.Request(method, url, params=params, headers=self.headers, content=content)
        assert set(request.headers) <= {"host", "content-length", *(name.lower() for name in self.headers)}
        answer = await self.live.http.send(request)
        self.answers.append(answer)
        return answer

    async def get(self, url: str, params: Any = None) -> httpx.Response:
        """GET what must be there."""
        answer = await self.send("GET", url, params)
        assert answer.status_code == 200, answer.text
        return answer


def last_added(answer: httpx.Response) -> str:
    """Give the date that a page ends with."""
    return answer.headers[LAST]
