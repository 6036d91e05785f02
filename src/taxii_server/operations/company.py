"""Waiting for company: requests on their way to what they can have together, a read of a page or a commit of the ledger.

Pollers that ask at the same time arrive a fraction of a millisecond apart. Who is first and goes at once reads, and commits, for
himself; who waits for those who are on their way just then does both for all of them. Nobody is waited for twice in vain, and
those who gather see to it that they do so only while there are others who ask for the same.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

MOMENT: Final = 0.002
"""Seconds that anybody waits for the others at most."""


@dataclass(slots=True, eq=False)
class _Gathering:
    """Somebody who waits for those who were on their way then."""

    missing: set[int]
    all_here: asyncio.Future[None]

    def end(self) -> None:
        """Go on."""
        if not self.all_here.done():
            self.all_here.set_result(None)


class Company:
    """Who is on the way to one thing, in this process."""

    def __init__(self, moment: float = MOMENT) -> None:
        """Take for how many seconds to wait at most."""
        self._moment = moment
        self._set_out = 0
        self._expected: set[int] = set()
        self._gatherings: list[_Gathering] = []

    def on_the_way(self) -> OnTheWay:
        """Be on the way, for as long as it is `with` this; who arrives has to be there before anything is awaited."""
        return OnTheWay(self)

    async def gather(self) -> None:
        """Wait until those who are on their way now have arrived, or gone elsewhere; for a moment at most."""
        if not self._expected:
            return
        loop = asyncio.get_running_loop()
        gathering = _Gathering(set(self._expected), loop.create_future())
        late = loop.call_later(self._moment, self._give_up, gathering)
        self._gatherings.append(gathering)
        try:
            await gathering.all_here
        finally:
            late.cancel()
            self._gatherings.remove(gathering)

    def set_out(self) -> int:
        """Set out; give by what number to `arrive`."""
        self._set_out += 1
        self._expected.add(self._set_out)
        return self._set_out

    def arrive(self, number: int) -> None:
        """Have arrived, or gone elsewhere."""
        self._expected.discard(number)
        for gathering in self._gatherings:
            gathering.missing.discard(number)
            if not gathering.missing:
                gathering.end()

    def _give_up(self, gathering: _Gathering) -> None:
        # who was waited for in vain is waited for no more, or whoever is slow would keep up all the others each time
        self._expected -= gathering.missing
        gathering.end()


class OnTheWay:
    """One of them. A class, for each request goes through it, and a generator's takes three times as long."""

    __slots__ = ("_company", "_number")

    def __init__(self, company: Company) -> None:
        """Take whose company it will be."""
        self._company = company

    def __enter__(self) -> None:
        """Set out."""
        self._number = self._company.set_out()

    def __exit__(self, *_: object) -> None:
        """Arrive, or go elsewhere."""
        self._company.arrive(self._number)
