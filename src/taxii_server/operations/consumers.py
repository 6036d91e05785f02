"""How the readers of the alliance fare: who polls, who fell behind, who went silent. For the operator alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Final

from taxii_server.domain import permissions
from taxii_server.operations import durations
from taxii_server.operations.clients import no_client
from taxii_server.storage import clients
from taxii_server.storage import consumers as storage
from taxii_server.storage.activity import MOST_FAILURES
from taxii_server.storage.consumers import MOST_WAITING

if TYPE_CHECKING:
    from datetime import datetime

    from taxii_server.domain.access import Readable
    from taxii_server.storage.consumers import Known, Waiting
    from taxii_server.storage.engine import Database

PAGE: Final = 500
_BEGINNING: Final = ("", "")


class Verdict(StrEnum):
    """How a client fares with a collection."""

    UP_TO_DATE = "up to date"
    BEHIND = "behind"
    SILENT = "silent"
    FAILING = "failing"
    NEVER_POLLED = "never polled"
    NOT_READING = "not reading"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Patience:
    """When waiting is no longer taken for the pause between two polls."""

    behind: timedelta = timedelta(hours=1)
    silent: timedelta = timedelta(hours=24)
    ending: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Consumer:
    """One client and one collection that it may read.

    `reached`: it has what it asks for up to this `date_added`, by either endpoint. `waiting` is what it may see and
    hasn't fetched, `oldest_waiting` how long for; both are of the client's clearance of now. `ended`: the last page left
    nothing for a further one. Requests, errors and refusals are the client's, wherever it asked. `certified_until`: the last
    of its certificates ends.
    """

    client_id: str
    member: str
    collection: str
    clearance: str
    verdict: Verdict
    words: str
    polls: int
    versions: int
    polled_at: datetime | None
    received_at: datetime | None
    reached: datetime | None
    manifest_reached: datetime | None
    ended: bool
    filtered: bool
    newest: datetime | None
    waiting: int | None
    more_waiting: bool
    behind: timedelta | None
    requests: int
    errors: int
    errors_in_row: int
    more_in_row: bool
    failed_at: datetime | None
    failed_status: int | None
    refused_at: datetime | None
    refused_for: str | None
    expires_at: datetime | None
    certified_until: datetime | None


@dataclass(frozen=True, slots=True)
class Page:
    """Some consumers, by client and collection; `next` is where the following page begins, None on the last."""

    consumers: tuple[Consumer, ...]
    next: tuple[str, str] | None


async def consumers(
    db: Database,
    patience: Patience,
    *,
    client_id: str | None = None,
    after: tuple[str, str] | None = None,
    limit: int = PAGE,
) -> Page:
    """Tell how a page of clients fare with each collection that they may read; the revoked only if named.

    One statement, and one for each collection and clearance on the page, each in a transaction that sees that
    collection alone.

    Raises:
        OperatorError: if there is no such client.
    """
    async with db.read() as connection:
        if client_id is not None and await clients.find(connection, client_id) is None:
            raise await no_client(connection, client_id)
        known, more = await storage.listing(connection, client_id=client_id, after=after or _BEGINNING, limit=limit)
    found = await _waiting(db, known)
    listed = tuple(_consumer(one, found[place], patience) for place, one in enumerate(known))
    last = known[-1] if more else None
    return Page(listed, None if last is None else (last.caller.principal.client_id, last.collection))


async def count_silent(db: Database, *, since: timedelta) -> int:
    """Count the clients that could poll, once did, and were not answered within `since`."""
    async with db.statement() as connection:
        return await storage.count_silent(connection, since=since)


async def count_ending(db: Database, *, within: timedelta) -> int:
    """Count the clients that are let in now, and that end, or the last of their certificates does, `within` some time."""
    async with db.statement() as connection:
        return await storage.count_ending(connection, within=within)


async def _waiting(db: Database, known: list[Known]) -> list[Waiting]:
    """Find what waits for each, all who read the same of a collection in one statement."""

    def order(place: int) -> tuple[str, int]:
        return str(targets[place].collection_id), targets[place].clearance

    targets: list[Readable] = [permissions.readable(one.caller) for one in known]
    found: dict[int, Waiting] = {}
    for _, places in groupby(sorted(range(len(known)), key=order), order):
        group = list(places)
        where = targets[group[0]]
        async with db.read(where) as connection:
            of_group = await storage.waiting(connection, where, [_reached(known[place]) for place in group])
        found.update(zip(group, of_group, strict=True))
    return [found[place] for place in range(len(known))]


def _reached(one: Known) -> datetime | None:
    instants = [instant for instant in (one.objects_reached, one.manifest_reached) if instant is not None]
    return max(instants, default=None)


def _consumer(one: Known, waiting: Waiting, patience: Patience) -> Consumer:
    reached = _reached(one)
    # who never read of the feed has all of it before it, which says nothing
    counted = None if reached is None else waiting
    behind = None
    if counted is not None:
        behind = timedelta(0) if counted.oldest is None else max(one.now - counted.oldest, timedelta(0))
    verdict, words = _verdict(one, reached, behind, patience)
    grant = one.caller.place.grant
    return Consumer(
        client_id=one.caller.principal.client_id,
        member=one.caller.principal.member_slug,
        collection=one.collection,
        clearance="" if grant is None else grant.clearance.text,
        verdict=verdict,
        words=f"{words}{_ending(one, patience)}",
        polls=one.polls,
        versions=one.versions,
        polled_at=one.polled_at,
        received_at=one.received_at,
        reached=reached,
        manifest_reached=one.manifest_reached,
        ended=one.ended_at is not None and one.ended_at == one.feed_polled_at,
        filtered=one.filtered_at is not None and one.filtered_at == one.feed_polled_at,
        newest=waiting.newest,
        waiting=None if counted is None else min(counted.many, MOST_WAITING),
        more_waiting=counted is not None and counted.many > MOST_WAITING,
        behind=behind,
        requests=one.requests,
        errors=one.errors,
        errors_in_row=len(one.failures),
        more_in_row=len(one.failures) == MOST_FAILURES,
        failed_at=one.failed_at,
        failed_status=one.failed_status,
        refused_at=one.refused_at,
        refused_for=one.refused_for,
        expires_at=one.expires_at,
        certified_until=one.certified_until,
    )


def _verdict(one: Known, reached: datetime | None, behind: timedelta | None, patience: Patience) -> tuple[Verdict, str]:
    """Judge in the order in which an operator would ask."""
    # an object that isn't there is one honest 404: a failure alone says nothing yet
    last_failure = one.failures[0] if len(one.failures) > 1 else None
    if one.refused is not None:
        verdict, words = Verdict.REFUSED, f"refused: {one.refused}"
    elif last_failure is not None and one.now - last_failure < patience.silent:
        most = "+" if len(one.failures) == MOST_FAILURES else ""
        verdict, words = Verdict.FAILING, f"failing: {one.failed_status}, {len(one.failures)}{most} in a row"
    elif one.polled_at is None:
        verdict, words = Verdict.NEVER_POLLED, f"never polled{_because(one)}"
    elif one.now - one.polled_at >= patience.silent:
        verdict, words = Verdict.SILENT, f"silent since {one.polled_at:%Y-%m-%d %H:%MZ}{_because(one)}"
    elif reached is None:
        verdict, words = Verdict.NOT_READING, "polls, but reads no feed from which it could have everything"
    elif behind is not None and behind >= patience.behind:
        verdict, words = Verdict.BEHIND, f"behind {durations.about(behind)}"
    else:
        verdict, words = Verdict.UP_TO_DATE, "up to date"
    return verdict, words


def _ending(one: Known, patience: Patience) -> str:
    """Tell what is about to end, while it can still be exchanged."""
    if one.refused is not None:
        return ""
    ends = {"it ends": one.expires_at, "its certificate ends": one.certified_until}
    return "".join(
        f"; {what} {at:%Y-%m-%d %H:%MZ}"
        for what, at in ends.items()
        if at is not None and one.now < at <= one.now + patience.ending
    )


def _because(one: Known) -> str:
    """Tell if somebody showed its id since it was last answered: perhaps its own software with an old secret."""
    knocks = one.refused_at is not None and (one.succeeded_at is None or one.refused_at > one.succeeded_at)
    return f"; since then refused: {one.refused_for}" if knocks else ""
