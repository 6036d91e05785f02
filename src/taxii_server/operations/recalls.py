"""Withdrawing an object from a collection, and letting it in again (docs/rulings.md, recalling).

What STIX can revoke gets a new version that says `revoked`, through the way of every other addition, so that pollers
learn of it like of anything new; what it can't is deleted. Either way the object isn't taken again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import groupby
from types import MappingProxyType
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

import structlog

from taxii_server.domain import audit, permissions
from taxii_server.domain.additions import Store
from taxii_server.domain.audit import Act, Content
from taxii_server.domain.errors import NotFound
from taxii_server.domain.recalls import Outcome, heads
from taxii_server.domain.statuses import Detail, Status
from taxii_server.domain.timestamps import to_taxii
from taxii_server.operations import content_audit
from taxii_server.operations.disclosures import Effort
from taxii_server.operations.recall_recipients import by_member, recipients
from taxii_server.operations.revoking import revocation
from taxii_server.storage import bounds, clocks, object_writes, recalls, removals, statuses, stored_versions
from taxii_server.storage.recalls import Recall, Telling

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence

    from taxii_server.domain.access import Caller, Recallable
    from taxii_server.domain.stix_objects import Columns
    from taxii_server.domain.stix_versions import Version
    from taxii_server.operations.objects import Again
    from taxii_server.operations.recall_recipients import RecipientMember
    from taxii_server.operations.revoking import Revocation
    from taxii_server.storage.clocks import Clock
    from taxii_server.storage.engine import Connection, Database
    from taxii_server.storage.stored_versions import StoredVersion

log = structlog.get_logger(__name__)

NOTHING_MORE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Recalled:
    """A recall as it stands; `changed` is False where it stood already and everything tells of it."""

    recall: Recall
    changed: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """How a recall stands, and whom it reached; `more`: the ledger may tell of others, and was not read to its end."""

    recall: Recall
    recipients: list[RecipientMember]
    more: bool


async def recall_object(database: Database, caller: Caller, again: Again, stix_id: str, reason: str | None) -> Recalled:
    """Withdraw an object that the caller's member brought. What was recalled already is so once more, and nothing is done.

    Raises:
        NotFound: if the caller sees no version of it, and recalled none.
        NotAllowed: if another member brought a version of it.
        Unavailable: if nothing can be stored now; nothing was.
    """

    async def target(connection: Connection) -> Recallable:
        return permissions.recallable(await again(connection))

    collection, _ = permissions.visible(caller)
    return await carry_out(
        database,
        permissions.recallable(caller),
        collection.trust_group_id,
        stix_id,
        reason,
        recheck=target,
        who=audit.client(caller.principal),
    )


async def carry_out(
    database: Database,
    target: Recallable,
    trust_group_id: UUID,
    stix_id: str,
    reason: str | None,
    *,
    recheck: Callable[[Connection], Awaitable[Recallable]],
    who: str,
    told: Mapping[str, str] = NOTHING_MORE,
    dry_run: bool = False,
) -> Recalled:
    """Withdraw an object in one transaction, under the collection's lock; `recheck` is asked whether the right stands.

    `who` does it, and `told` is what the audit is told besides. A dry run tells what would become of the object, and
    changes nothing.
    """
    async with database.write(target) as connection:
        clock = await clocks.lock_clock(connection, target.collection_id)
        target = await recheck(connection)
        stored = await stored_versions.of_objects(connection, target.collection_id, [stix_id])
        visible = sorted((one for one in stored if one.place.level <= target.clearance), key=lambda one: one.date_added)
        theirs = [one for one in await _theirs(connection, target, stix_id) if one.lifted_at is None]
        standing = theirs[-1] if theirs else None
        if not visible:
            if standing is None:
                raise NotFound
            return Recalled(standing, changed=False)
        permissions.check_recall(target, stix_id, [one.member for one in visible])
        plan = await _plan(connection, target, clock, visible, stored)
        outcome = Outcome.REVOKED if plan.new or plan.already else Outcome.DELETED
        contributors = _contributors(target, visible, plan, {one.member for one in theirs})
        if standing is not None and not contributors:
            return Recalled(standing, changed=False)
        levels = [one.place.level for one in visible] + [one.level for one in theirs]
        recall = Recall(
            stix_id=stix_id,
            at=clock.now,
            member=contributors[-1],
            client=target.client,
            reason=reason,
            outcome=outcome,
            level=min(levels),
            withdrawn=tuple(one.date_added for one in visible),
            telling=(),
        )
        if dry_run:
            return Recalled(recall, changed=True)
        if outcome is Outcome.REVOKED:
            telling, contents, request = await _tell(connection, target, trust_group_id, clock, visible, plan)
            recall = replace(recall, telling=telling)
        else:
            contents, request = [one.content for one in visible], {}
            await removals.remove(
                connection,
                target.collection_id,
                visible,
                reason="recall",
                member=target.member,
                client=target.client,
            )
        recall = await recalls.add(connection, target.collection_id, recall, contributors[:-1])
        details = {
            "object": stix_id,
            # which tells whether the versions of the digest came or went
            "outcome": outcome.value,
            "withdrawn": [to_taxii(date) for date in recall.withdrawn],
            "telling": [to_taxii(one.date_added) for one in recall.telling],
            **request,
            **told,
        }
        await content_audit.write(connection, target.collection_id, Act.OBJECT_RECALLED, who, contents, details)
    log.info("object_recalled", collection_id=str(target.collection_id), outcome=outcome.value)
    return Recalled(recall, changed=True)


async def read_recall(database: Database, caller: Caller, stix_id: str) -> Standing:
    """Read the last recall of an object that the caller's member had brought, and which members have learned of it.

    It reads no more of the ledger than an answer may cost.

    Raises:
        NotFound: if there was none, or it is not the caller's to know.
    """
    target = permissions.recallable(caller)
    async with database.read(target) as connection:
        found = await _theirs(connection, target, stix_id)
    if not found:
        raise NotFound
    effort = Effort.of_an_answer()
    had = by_member(await recipients(database, permissions.traceable(caller), found[-1], effort))
    return Standing(found[-1], had, more=effort.spent)


async def _theirs(connection: Connection, target: Recallable, stix_id: str) -> list[Recall]:
    """Read the recalls of an object that are the caller's to know: its member's, as far as it is cleared for them."""
    found = await recalls.of_object(connection, target.collection_id, stix_id)
    if target.member is None:
        return found
    theirs = [one for one in found if one.member == target.member and one.level <= target.clearance]
    dates = [version.date_added for one in theirs for version in one.telling]
    # the operator's withdrew what the member never saw, and its own clearance may have been lowered
    seen = await recalls.seen(connection, target.collection_id, dates, target.clearance) if dates else set()
    return [replace(one, telling=tuple(told for told in one.telling if told.date_added in seen)) for one in theirs]


def _contributors(
    target: Recallable, visible: Sequence[StoredVersion], plan: Revocation, stood: Collection[int]
) -> list[int]:
    """Give the members in whose names it is recalled, whoever brought the newest version last.

    What several had brought the operator recalls in all their names, so that each sees how it stands as if it were alone.
    A member whose recall stands already and has nothing new to tell keeps that one.
    """
    in_order = [one.member for one in sorted(visible, key=lambda one: one.place.order, reverse=True)]
    found = list(dict.fromkeys(in_order)) if target.member is None else [target.member]
    if plan.already and not plan.new:
        found = [member for member in found if member not in stood]
    elif plan.new and target.member is None:
        brought = {one.date_added: one.member for one in visible}
        telling = {brought[head.date_added] for head, _, _ in plan.new}
        found = [member for member in found if member in telling or member not in stood]
    return found[::-1]


async def _plan(
    connection: Connection,
    target: Recallable,
    clock: Clock,
    visible: Sequence[StoredVersion],
    stored: Sequence[StoredVersion],
) -> Revocation:
    places = [one.place for one in visible]
    bodies = await recalls.bodies(connection, target.collection_id, [head.date_added for head in heads(places)])
    return await asyncio.to_thread(revocation, places, [one.place for one in stored], bodies, clock.now)


async def _tell(
    connection: Connection,
    target: Recallable,
    trust_group_id: UUID,
    clock: Clock,
    visible: Sequence[StoredVersion],
    plan: Revocation,
) -> tuple[tuple[Telling, ...], list[Content], dict[str, str | list[str]]]:
    """Add the revoked versions: a member's own, the operator's each in the name of who brought the version before.

    So nobody finds from whose it is that there are versions above its clearance. Give them with those that said so
    already, what was added, and the statuses for the audit.
    """
    brought = {one.date_added: one for one in visible}
    telling = [Telling(one.date_added, brought[one.date_added].version) for one in plan.already]
    contents: list[Content] = []
    requests: list[str] = []

    def contributor(new: tuple[Version, Columns, bytes]) -> int:
        return brought[new[0].date_added].member if target.member is None else target.member

    for member, some in groupby(plan.new, contributor):
        texts = [(columns, body) for _, columns, body in some]
        writable = permissions.telling(target, member)
        if target.member is None:
            # in the name of a member that is known only by now
            await bounds.hold_to(connection, writable)
        status_id, requested_at = uuid4(), datetime.now(UTC)
        outcomes = await object_writes.add(connection, writable, clock, status_id, texts)
        added = [(columns, one) for (columns, _), one in zip(texts, outcomes, strict=True) if isinstance(one, Store)]
        details = tuple(Detail(columns.stix_id, one.version) for columns, one in added)
        statuses.write(
            connection,
            Status(status_id, requested_at, details, (), len(added)),
            trust_group_id=trust_group_id,
            collection_id=target.collection_id,
            member=member,
            client=target.client,
        )
        for columns, one in added:
            place = one.place
            telling.append(Telling(place.date_added, one.version))
            contents.append(Content(place.date_added, place.stix_id, place.form, one.version, columns.digest, member))
            clock = replace(clock, last_added=place.date_added)
        requests.append(str(status_id))
    if len(requests) == 1:
        return tuple(telling), contents, {"status": requests[0]}
    return tuple(telling), contents, {"statuses": requests} if requests else {}
