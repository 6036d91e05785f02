"""A collection with one object of every kind of version, added one after the other, and ways to read it.

    a1 b a2 m x20 s a3 x21 o20

`a` is an indicator with three versions; `b` malware with one; `m` a marking (`created` only); `s` an observable (neither
timestamp); `x` an indicator held as STIX 2.1 and, modified later, as STIX 2.0; `o` an indicator held as 2.0 alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.factories import indicator, indicator_2_0, ipv4, malware, marking, stix_id

if TYPE_CHECKING:
    import httpx

    from tests.factories import Stix
    from tests.taxii.alliance import Exchange

NAME: Final = "fraud-intel/scratch"
A, B, M, X, O = (  # noqa: E741 - the standard's own tests call them so
    stix_id("indicator", 1),
    stix_id("malware", 1),
    stix_id("marking-definition", 1),
    stix_id("indicator", 2),
    stix_id("indicator", 3),
)
CREATED: Final = "1999-01-01T00:00:00.000Z"
A1, A2, A3 = "2024-01-01T00:00:01.000Z", "2024-01-01T00:00:02.100Z", "2024-01-01T00:00:03Z"
X21, X20 = "2024-02-01T00:00:00.000Z", "2024-03-01T00:00:00.000Z"

OBJECTS: Final[dict[str, Stix]] = {
    "a1": indicator(id=A, created=CREATED, modified=A1, name="first"),
    "b": malware(id=B, created="1970-01-01T00:00:00Z", modified="2030-01-01T00:00:00Z"),
    "a2": indicator(id=A, created=CREATED, modified=A2, name="second: Grüße, \N{PILE OF POO} \\u0041"),
    "m": marking(id=M, created="2001-02-03T04:05:06.700Z"),
    "x20": indicator_2_0(id=X, created=CREATED, modified=X20),
    "s": ipv4(value="203.0.113.9", spec_version=None),
    "a3": indicator(id=A, created=CREATED, modified=A3, name="third"),
    "x21": indicator(id=X, created=CREATED, modified=X21),
    "o20": indicator_2_0(id=O, created=CREATED, modified=A1),
}
S: Final = OBJECTS["s"]["id"]
EVERY: Final = {"match[version]": "all", "match[spec_version]": "2.0,2.1"}
"""The filters that leave nothing out."""


PAGES: Final[dict[str, dict[str, str]]] = {
    "objects/": EVERY,
    "manifest/": EVERY,
    f"objects/{A}/": {"match[version]": "all"},
    f"objects/{A}/versions/": {"match[spec_version]": "2.0,2.1"},
}
"""The endpoints that page, each with the filters that leave it most to page through."""


@dataclass(frozen=True)
class Shelf:
    """The collection, filled; `dates` are the dates of addition by the names above."""

    exchange: Exchange
    dates: dict[str, str]

    async def get(self, rest: str = "objects/", **query: Any) -> httpx.Response:
        """GET something of the collection with filters; `match_type="x"` stands for `match[type]`."""
        answer = await self.exchange.get(self.path(rest), params=_brackets(query))
        assert answer.status_code == 200, answer.text
        return answer

    async def names(self, rest: str = "objects/", **query: Any) -> list[str]:
        """Read what the filters leave, by name, the same from objects and manifest."""
        found = (await self.get(rest, **query)).json().get("objects", [])
        by_content = {str(one): name for name, one in OBJECTS.items()}
        by_date = {date: name for name, date in self.dates.items()}
        return [by_date[one["date_added"]] if rest == "manifest/" else by_content[str(one)] for one in found]

    async def status(self, query: str, rest: str = "objects/") -> httpx.Response:
        """GET with a query string as it stands."""
        return await self.exchange.get(f"{self.path(rest)}?{query}")

    def path(self, rest: str = "objects/") -> str:
        """Give a path in the collection."""
        return self.exchange.path(rest, NAME)


def _brackets(query: dict[str, Any]) -> dict[str, str]:
    return {
        f"match[{name.removeprefix('match_')}]" if name.startswith("match_") else name: f"{value}"
        for name, value in query.items()
    }


async def fill(exchange: Exchange) -> Shelf:
    """Add the objects, one request each, and note their dates."""
    for one in OBJECTS.values():
        await exchange.add(one, name=NAME)
    answer = await exchange.get(exchange.path("manifest/", NAME), params=EVERY)
    dates = [record["date_added"] for record in answer.json()["objects"]]
    assert len(dates) == len(OBJECTS)
    return Shelf(exchange, dict(zip(OBJECTS, dates, strict=True)))


def items(answer: httpx.Response) -> list[Any]:
    """Give what a page holds: objects, records or versions."""
    body = answer.json()
    return list(body.get("objects", body.get("versions", [])))
