"""Who had a recalled object, whether the recall reached them, and whether they asked since: ledger and activity, put together."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from taxii_server.operations.disclosures import received
from taxii_server.storage import activity
from taxii_server.storage import disclosures as storage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from taxii_server.domain.access import Traceable
    from taxii_server.operations.disclosures import Effort, Receipt, Receipts, Received
    from taxii_server.storage.engine import Database
    from taxii_server.storage.recalls import Recall

_VERSIONS: Final = 1_000


@dataclass(frozen=True, slots=True)
class RecallRecipient:
    """A client that was sent a version from before the recall; `content` is False where it was only told of one.

    `informed_at` is when it was first sent a version that says `revoked`, whole; `polled_at` when it last read of the
    collection at all, as far as workers saved it by now.
    """

    member: str
    name: str
    client_id: str
    content: bool
    first: datetime
    last: datetime
    informed_at: datetime | None
    polled_at: datetime | None
    polled_since: bool


@dataclass(frozen=True, slots=True)
class RecipientMember:
    """The same of a member, as its contributor learns it: which software a member uses is its own business.

    `informed` is whether the recall reached those of its clients that had been sent the object: all, some or none.
    """

    member: str
    name: str
    content: bool
    first: datetime
    last: datetime
    informed: Literal["all", "some", "none"]
    informed_at: datetime | None
    polled_at: datetime | None
    polled_since: bool


async def recipients(database: Database, where: Traceable, recall: Recall, effort: Effort) -> list[RecallRecipient]:
    """Tell who was sent what was recalled, removed versions from before included, by member and client.

    The recall itself is no transaction with it: what was sent meanwhile may or may not be told of. Where `effort` is spent
    at the end, something may be missing.
    """
    told = {one.date_added for one in recall.telling}
    before = [date for date in await _dates(database, where, recall) if date not in told]
    had = _by_client(await received(database, where, before, effort))
    informed = _by_client(await received(database, where, sorted(told), effort))
    async with database.read(where) as connection:
        named = await storage.recipients(connection, list(had))
        polls = await activity.last_polls(connection, where.collection_id, list(had))
    found = []
    for client, receipts in had.items():
        polled_at = polls[client].polled_at if client in polls else None
        whole = [receipt.first for what, receipt in informed.get(client, ()) if what.whole]
        found.append(
            RecallRecipient(
                member=named[client].member,
                name=named[client].name,
                client_id=named[client].client_id,
                content=any(what.whole for what, _ in receipts),
                first=min(receipt.first for _, receipt in receipts),
                last=max(receipt.last for _, receipt in receipts),
                informed_at=min(whole, default=None),
                polled_at=polled_at,
                polled_since=polled_at is not None and polled_at > recall.at,
            )
        )
    return sorted(found, key=lambda one: (one.member, one.client_id))


def by_member(found: Iterable[RecallRecipient]) -> list[RecipientMember]:
    """Put the clients of each member together."""
    of_member: dict[str, list[RecallRecipient]] = defaultdict(list)
    for one in found:
        of_member[one.member].append(one)
    return [
        RecipientMember(
            member=member,
            name=some[0].name,
            content=any(one.content for one in some),
            first=min(one.first for one in some),
            last=max(one.last for one in some),
            informed=_how_many(some),
            informed_at=min((one.informed_at for one in some if one.informed_at is not None), default=None),
            polled_at=max((one.polled_at for one in some if one.polled_at is not None), default=None),
            polled_since=any(one.polled_since for one in some),
        )
        for member, some in of_member.items()
    ]


def _how_many(some: Sequence[RecallRecipient]) -> Literal["all", "some", "none"]:
    informed = sum(one.informed_at is not None for one in some)
    return "none" if not informed else "all" if informed == len(some) else "some"


async def _dates(database: Database, where: Traceable, recall: Recall) -> list[datetime]:
    """Give the dates of the object's versions up to the newest that was recalled, those removed before it too."""
    newest = max(recall.withdrawn)
    found: list[datetime] = []
    while True:
        async with database.read(where) as connection:
            after = found[-1] if found else None
            some = await storage.versions_of(connection, where, recall.stix_id, after, limit=_VERSIONS)
        found += [one.date_added for one in some]
        if len(some) < _VERSIONS or found[-1] >= newest:
            return [date for date in found if date <= newest]


def _by_client(receipts: Receipts) -> dict[int, list[tuple[Received, Receipt]]]:
    found: dict[int, list[tuple[Received, Receipt]]] = defaultdict(list)
    for what, receipt in receipts.items():
        found[what.recipient.client].append((what, receipt))
    return found
