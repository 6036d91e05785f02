"""Random histories of writers and pollers at once, over real HTTP; what each poller noted is held against the ledger.

A poller notes what it reads: of content the `x_word` that each posted object has for itself, of a manifest the dates, of a
versions list the versions. Which version of the database a word or a version is, a trigger of the test's own has kept, also
of what was removed since; the ledger is not asked for it.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any, Final

from taxii_server.domain.errors import OperatorError
from taxii_server.domain.timestamps import to_taxii
from taxii_server.operations import disclosures
from taxii_server.storage.engine import Database
from tests.auth.alliance import BOTH
from tests.factories import TLP2, indicator, indicator_2_0, ipv4, malware, stix_id
from tests.taxii.alliance import TAXII, basic
from tests.taxii.live import Live, live_server

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taxii_server.storage.embedded import DatabaseUrls
    from tests.auth.alliance import Issued

_WRITER: Final = "north"
_MARKINGS: Final = [None, TLP2["clear"], TLP2["green"], TLP2["amber"], TLP2["red"]]
_FILTERS: Final[list[dict[str, str]]] = [
    {},
    {},
    {"match[version]": "all"},
    {"match[version]": "first,last"},
    {"match[version]": "all", "match[spec_version]": "2.0,2.1"},
    {"match[spec_version]": "2.0"},
    {"match[type]": "indicator,ipv4-addr"},
    {"added_after": "2099-01-01T00:00:00Z"},
]
_KEEP = """
    CREATE TABLE kept (collection_id uuid, date_added timestamptz, stix_id text, version text, body text);
    CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
        INSERT INTO kept VALUES (NEW.collection_id, NEW.date_added, NEW.stix_id, NEW.version, NEW.body); RETURN NULL;
    END $$;
    CREATE TRIGGER keep AFTER INSERT ON object_versions FOR EACH ROW EXECUTE FUNCTION keep();
"""

Read = tuple[str, str, str, bool]
"""By which client, in which collection, which word, date or version, and whether it was content."""

Sent = tuple[str, str, datetime, bool]
"""The same with the version's `date_added`."""


class History:
    """Two collections, members of several clearances, and what their pollers noted: when each page was asked for and read."""

    def __init__(self, live: Live, seed: int) -> None:
        """Describe who takes part."""
        self.live, self.random = live, Random(seed)
        self.read: dict[Read, list[tuple[datetime, datetime]]] = defaultdict(list)
        self.number = 0
        self.ids = [stix_id(kind, number) for kind in ("indicator", "malware") for number in range(8)]
        self.pollers: list[Issued] = []
        alliance = live.alliance
        alliance.execute(_KEEP)
        alliance.group("history")
        self.names = ["history/open", "history/shut"]
        for name, unmarked in zip(self.names, (0, 2), strict=True):
            alliance.collection("history", name.partition("/")[2], "structural", unmarked_level=unmarked)
            alliance.grant(_WRITER, name, BOTH)
        for number in range(3):
            alliance.member(f"poller-{number}")
            for name in self.names:
                alliance.grant(f"poller-{number}", name, ("read",), self.random.choice([0, 1, 2, 4]))
            self.pollers += [alliance.client(f"poller-{number}") for _ in range(self.random.choice([1, 2]))]

    async def run(self) -> None:
        """Let everybody work at once."""
        await self._push(20)
        await asyncio.gather(
            *(self._write() for _ in range(2)), self._remove(), *(self._poll(client) for client in self.pollers)
        )

    def _made(self) -> dict[str, Any]:
        """Make a version, often one from before those that are there, or an observable; no two have one version or word."""
        self.number += 1
        marking = self.random.choice(_MARKINGS)
        own = {"x_word": f"word-{self.number}"} | ({} if marking is None else {"object_marking_refs": [marking]})
        if self.random.random() < 0.15:
            return ipv4(value=f"192.0.2.{self.random.randint(1, 5)}", **own)
        of = self.random.choice(self.ids)
        modified = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(
            minutes=self.random.randint(0, 10**5), microseconds=self.number
        )
        over = {"id": of, "modified": to_taxii(modified), "created": "2023-01-01T00:00:00.000Z", **own}
        if of.startswith("malware"):
            return malware(**over)
        return (indicator_2_0 if self.random.random() < 0.2 else indicator)(**over)

    async def _push(self, count: int) -> None:
        objects = [self._made() for _ in range(count)]
        answer = await self.live.post({"objects": objects}, _WRITER, self.random.choice(self.names))
        assert answer.status_code == 202, answer.text

    async def _write(self) -> None:
        for _ in range(6):
            await self._push(self.random.randint(1, 8))

    async def _remove(self) -> None:
        for _ in range(5):
            path = self.live.path(f"objects/{self.random.choice(self.ids)}/", self.random.choice(self.names))
            spec = self.random.choice([{"match[version]": "last"}, {"match[version]": "first"}, {}])
            assert (await self.live.delete(path, _WRITER, params=spec)).status_code in {200, 404}

    async def _poll(self, client: Issued) -> None:
        for _ in range(8):
            name, of = self.random.choice(self.names), self.random.choice(self.ids)
            rest = self.random.choice(
                ["objects/", "objects/", "manifest/", f"objects/{of}/", f"objects/{of}/versions/"]
            )
            params = {"limit": str(self.random.randint(1, 20)), **self.random.choice(_FILTERS)}
            if self.random.random() < 0.2:
                params["match[id]"] = ",".join(self.random.sample(self.ids, 3))
            while params:
                params = await self._page(client, name, rest, params)

    async def _page(self, client: Issued, name: str, rest: str, params: dict[str, str]) -> dict[str, str]:
        """Read a page and note what it holds; give how the next one is asked for, if there is one and it is wanted."""
        head = self.random.random() < 0.1
        coding = {"Accept": TAXII, "Accept-Encoding": self.random.choice(["gzip", "identity"])}
        begun = datetime.now(UTC)
        answer = await self.live.http.request(
            "HEAD" if head else "GET",
            self.live.path(rest, name),
            params=params,
            headers=basic(client.client_id, client.secret) | coding,
        )
        between = (begun, datetime.now(UTC))
        assert answer.status_code in {200, 404}, answer.text
        if head or answer.status_code == 404:
            return {}
        page = answer.json()
        for what in _words(rest, page):
            self.read[client.client_id, name, what, rest.startswith("objects/") and "versions" not in rest].append(
                between
            )
        if not page["more"] or self.random.random() < 0.2:
            return {}
        return {"next": page["next"], "limit": params["limit"]}

    def noted(self) -> dict[Sent, list[tuple[datetime, datetime]]]:
        """Say of everything that was read which version it was."""
        dates: dict[tuple[str, str], datetime] = {}
        names = {str(self.live.collection_id(name)): name for name in self.names}
        for collection, date, of, version, body in self.live.alliance.execute("SELECT * FROM kept"):
            for word in (json.loads(body).get("x_word"), to_taxii(date), f"{of} {version}"):
                dates[names.get(str(collection), ""), word] = date
        noted: dict[Sent, list[tuple[datetime, datetime]]] = defaultdict(list)
        for (client, name, what, content), when in self.read.items():
            noted[client, name, dates[name, what], content] += when
        return {what: sorted(when) for what, when in noted.items()}


def _words(rest: str, page: dict[str, Any]) -> Iterable[str]:
    if rest.endswith("versions/"):
        of = rest.split("/")[1]
        return [f"{of} {version}" for version in page.get("versions", [])]
    return [one["date_added"] if rest == "manifest/" else one["x_word"] for one in page.get("objects", [])]


async def hold(urls: DatabaseUrls, seed: int) -> tuple[int, int]:
    """Run a history on an empty database and hold the ledger to what was noted; give how many versions were sent, to how many."""
    async with live_server(urls) as live:
        history = History(live, seed)
        await history.run()
        noted = history.noted()
        told = await _told(live, urls)
        live.alliance.execute("DROP TABLE kept; DROP FUNCTION keep CASCADE; DELETE FROM disclosures")

    said = {what: one.times for what, one in told.items()}
    read = {what: len(when) for what, when in noted.items()}
    assert sorted(said.items() ^ read.items(), key=str) == [], seed
    for what, one in told.items():
        # the database's clock is this machine's
        assert noted[what][0][0] <= one.first <= noted[what][0][1], what
        assert noted[what][-1][0] <= one.last <= noted[what][-1][1], what
    return len(noted), len({client for client, *_ in noted})


async def _told(live: Live, urls: DatabaseUrls) -> dict[Sent, disclosures.TracedReceipt]:
    """Ask the ledger about every object that ever was."""
    database = Database(urls.server, connections=2)
    found: dict[Sent, disclosures.TracedReceipt] = {}
    for (of,) in live.alliance.execute("SELECT DISTINCT stix_id FROM kept"):
        try:
            traced = await disclosures.trace(database, of)
        except OperatorError:
            continue
        there = {
            date for (date,) in live.alliance.execute("SELECT date_added FROM object_versions WHERE stix_id = %s", of)
        }
        for version in traced:
            assert version.removed == (version.date_added not in there)
            for one in version.received:
                found[one.client_id, version.collection, version.date_added, one.content] = one
    await database.close()
    return found
