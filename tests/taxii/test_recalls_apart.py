"""What members above one's clearance recall, and what they bring and delete besides, changes nothing that one sees.

The same history of two members runs in two collections; in one of them others, cleared for more, work on the same ids at
levels above. Whatever the two are answered has to be the same in both.
"""

from __future__ import annotations

import json
import re
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest

from taxii_server.domain.errors import NotAllowed
from taxii_server.operations import operator_recalls
from taxii_server.storage.engine import Database
from tests.auth.alliance import BOTH
from tests.factories import TLP2, indicator, indicator_2_0, ipv4, stix_id
from tests.taxii.alliance import TAXII, Exchange, exchange_on

if TYPE_CHECKING:
    from taxii_server.storage.embedded import DatabaseUrls

pytestmark = pytest.mark.anyio

BUSY, QUIET = "apart/busy", "apart/quiet"
LOW: Final = {"green": 1, "pale": 1}
HIGH: Final = {"red": 4, "crimson": 4, "amber": 2}
_INSTANT: Final = re.compile(r"20(2[5-9]|3\d)-\d\d-\d\dT[\d:.]+Z")


class Twins:
    """Two collections, members below and above, and one history for both."""

    def __init__(self, exchange: Exchange, database: Database, seed: int) -> None:
        """Describe who takes part."""
        self.exchange, self.database, self.random, self.number = exchange, database, Random(seed), 0
        self.ids = [stix_id("indicator", 9000 + seed * 10 + number) for number in range(2)]
        self.ids.append(ipv4(value=f"198.51.100.{seed % 250}")["id"])

    def made(self, of: str, colours: tuple[str, ...]) -> dict[str, Any]:
        """Make a version that no other is equal to."""
        self.number += 1
        own: dict[str, Any] = {
            "id": of,
            "object_marking_refs": [TLP2[self.random.choice(colours)]],
            "x_note": f"note {self.number}",
        }
        if of.startswith("ipv4"):
            return ipv4(**own)
        minute, second = divmod(self.random.randint(0, 59) * 60 + self.number % 60, 60)
        own |= {"modified": f"2024-05-02T08:{minute:02}:{second:02}.{self.number % 1000:03}Z"}
        if self.random.random() < 0.3:
            own["revoked"] = True
        return (indicator_2_0 if self.random.random() < 0.3 else indicator)(**own)

    async def ask(self, method: str, name: str, rest: str, member: str, content: Any = None, **params: str) -> Any:
        """Send a request; give what tells anything of its answer, instants that follow from the clock aside."""
        headers = self.exchange.as_(member) | {"Accept": TAXII} | ({} if content is None else {"Content-Type": TAXII})
        answer = await self.exchange.http.request(
            method,
            self.exchange.path(rest, name),
            headers=headers,
            params=params,
            content=None if content is None else json.dumps(content),
        )
        assert answer.status_code < 500, answer.text
        body = answer.json() if answer.content else {}
        for unique in ("error_id", "id") if rest == "objects/" or answer.status_code >= 400 else ():
            body.pop(unique, None)
        return answer.status_code, _INSTANT.sub("then", json.dumps(body).replace(name, "here"))

    async def both(self, member: str) -> None:
        """Let a member below do something in both collections; the answers are the same."""
        of, dice = self.random.choice(self.ids), self.random.random()
        if dice < 0.5:
            asked: tuple[Any, ...] = ("POST", "objects/", {"objects": [self.made(of, ("clear", "green"))]}, {})
        elif dice < 0.75:
            self.number += 1
            asked = ("POST", f"objects/{of}/recall/", {"reason": f"reason {self.number} of {member}"}, {})
        else:
            spec = self.random.choice([{}, {"match[version]": "last"}, {"match[version]": "first"}])
            asked = ("DELETE", f"objects/{of}/", None, spec)
        method, rest, content, params = asked
        told = [await self.ask(method, name, rest, member, content, **params) for name in (BUSY, QUIET)]
        assert told[0] == told[1], (asked, member)

    async def above(self, member: str) -> None:
        """Let a member above do something at a level above."""
        of, dice = self.random.choice(self.ids), self.random.random()
        if dice < 0.5:
            colours = ("amber",) if member == "amber" else ("amber", "red")
            await self.ask("POST", BUSY, "objects/", member, {"objects": [self.made(of, colours)]})
        elif dice < 0.8:
            await self.ask("POST", BUSY, f"objects/{of}/recall/", member, {"reason": f"the secret of {member}"})
        else:
            await self.ask("DELETE", BUSY, f"objects/{of}/", member)

    async def operate(self) -> None:
        """Let the operator recall what there is in both collections, or let it in again."""
        of = self.random.choice(self.ids)
        if self.random.random() < 0.5:
            held = self.exchange.alliance.execute(
                "SELECT count(DISTINCT collection_id) FROM object_versions WHERE stix_id = %s AND level < 2", of
            )
            if held == [(2,)]:
                for name in (BUSY, QUIET):
                    told = await operator_recalls.recall(self.database, collection=name, stix_id=of, reason="ordered")
                    assert told.refused == ()
            return
        stands = "SELECT count(*) FROM recalls WHERE collection_id = %s AND stix_id = %s AND act = 'recall'"
        for name in (BUSY, QUIET):
            if self.exchange.alliance.execute(stands, self.exchange.collection_id(name), of) != [(0,)]:
                await operator_recalls.lift(self.database, collection=name, stix_id=of)

    async def look(self) -> None:
        """Hold all that members below can see of the two collections to be the same."""
        for member in LOW:
            for of in self.ids:
                for rest in (f"objects/{of}/", f"objects/{of}/recall/", f"objects/{of}/disclosures/"):
                    told = [
                        await self.ask("GET", name, rest, member, **{"match[version]": "all"}) for name in (BUSY, QUIET)
                    ]
                    assert told[0] == told[1], (rest, member)

    async def run(self, steps: int, rarely: int) -> None:
        """Run a history, and look after every so many steps."""
        for step in range(1, steps + 1):
            dice = self.random.random()
            if dice < 0.45:
                await self.both(self.random.choice(list(LOW)))
            elif dice < 0.9:
                await self.above(self.random.choice(list(HIGH)))
            else:
                await self.operate()
            if step % rarely == 0:
                await self.look()


async def hold(urls: DatabaseUrls, seeds: range, steps: int, rarely: int = 1) -> None:
    database = Database(urls.server, connections=2)
    async with exchange_on(urls) as exchange:
        exchange.alliance.group("apart")
        for name in (BUSY, QUIET):
            exchange.alliance.collection("apart", name.partition("/")[2], "structural")
        for member, clearance in (LOW | HIGH).items():
            exchange.alliance.member(member)
            for name in (BUSY, QUIET):
                exchange.alliance.grant(member, name, BOTH, clearance)
            exchange.clients[member] = exchange.alliance.client(member)
        for seed in seeds:
            try:
                await Twins(exchange, database, seed).run(steps, rarely)
            except (AssertionError, NotAllowed) as error:
                error.add_note(f"seed {seed}")
                raise
    await database.close()


async def test_recalls_above_change_nothing_below(fresh_database_urls: DatabaseUrls) -> None:
    """Additions, refusals and their reasons, recalls, deletions, and what is told of who received what."""
    await hold(fresh_database_urls, range(1), 16, 8)


@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_recalls_above_change_nothing_below_many_times(fresh_database_urls: DatabaseUrls) -> None:
    """The same with many other histories."""
    await hold(fresh_database_urls, range(2, 14), 30)
