"""What can be done with a collection's objects: read a page, add, remove (§5.3 to §5.8)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from prometheus_client import Counter

from taxii_server.domain import audit, permissions, stix_versions
from taxii_server.domain.additions import Conflict, NoRoom, NotYours, Outcome, Store, Withdrawn, is_small
from taxii_server.domain.audit import Act, Content
from taxii_server.domain.errors import NotAllowed, NotFound
from taxii_server.domain.filters import Exactly, Filter, Keyword
from taxii_server.domain.statuses import Detail, Status
from taxii_server.domain.timestamps import to_taxii
from taxii_server.operations import content_audit
from taxii_server.operations.content_audit import NOTHING_MORE
from taxii_server.operations.validation import Accepted, Rejected
from taxii_server.storage import (
    clocks,
    object_writes,
    recalls,
    removals,
    statuses,
    stored_octets,
    stored_versions,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from taxii_server.domain.access import Caller, Erasable, Writable
    from taxii_server.domain.recalls import StandingRecall
    from taxii_server.operations.validation import Validators, Verdict
    from taxii_server.storage.engine import Connection, Database

Again = Callable[["Connection"], Awaitable["Caller"]]
"""Asks the database once more, inside the transaction that acts, who the caller is and what it may."""


NO_ROOM = Counter("taxii_quota_refusals", "Objects refused because their member's quota has no room for them.")


async def add_objects(
    database: Database,
    validators: Validators,
    caller: Caller,
    again: Again,
    slices: Sequence[bytes],
) -> Status:
    """Add the objects of one envelope in the caller's name; each gets its own verdict (§5.5).

    Raises:
        NotFound, NotAllowed: if the right to add was withdrawn meanwhile.
        BadBody: if one of the slices is no JSON.
        Unavailable: if nothing can be stored now; nothing was.
    """

    async def target(connection: Connection) -> Writable:
        return permissions.writable(await again(connection))

    collection, _ = permissions.visible(caller)
    may = permissions.writable(caller)
    requested_at = datetime.now(UTC)
    return await keep(
        database,
        may,
        collection.trust_group_id,
        await validators.judge(slices, may.policy.validation),
        requested_at=requested_at,
        recheck=target,
        who=audit.client(caller.principal),
    )


async def keep(
    database: Database,
    target: Writable,
    trust_group_id: UUID,
    verdicts: Sequence[Verdict],
    *,
    requested_at: datetime,
    recheck: Callable[[Connection], Awaitable[Writable]],
    who: str,
    told: Mapping[str, str] = NOTHING_MORE,
) -> Status:
    """Store what is good and new of objects that were judged in one transaction, with the status that tells of it.

    `recheck` is asked under the collection's lock whether the right still stands, and what the collection asks by now:
    a change of its rules takes the same lock. `who` brings them, and `told` is what the audit is told besides.
    """
    status_id = uuid4()
    async with database.write(target) as connection:
        clock = await clocks.lock_clock(connection, target.collection_id)
        target = await recheck(connection)
        small = is_small([len(each.body) if isinstance(each, Accepted) else 0 for each in verdicts])
        verdicts = _admitted(verdicts, target) if small else await asyncio.to_thread(_admitted, verdicts, target)
        accepted = [verdict for verdict in verdicts if isinstance(verdict, Accepted)]

        async def add(room: int | None) -> tuple[Status, Sequence[Outcome]]:
            outcomes = await object_writes.add(
                connection,
                target,
                clock,
                status_id,
                [(verdict.columns, verdict.body) for verdict in accepted],
                room,
            )
            work = partial(_status, status_id, requested_at, verdicts, outcomes, target.quota)
            status = work() if small else await asyncio.to_thread(work)
            statuses.write(
                connection,
                status,
                trust_group_id=trust_group_id,
                collection_id=target.collection_id,
                member=target.member,
                client=target.client,
            )
            if status.stored:
                added = {"status": str(status_id), "refused": len(status.failures), **told}
                contents = _contents(accepted, outcomes, target.member)
                await content_audit.write(connection, target.collection_id, Act.OBJECTS_ADDED, who, contents, added)
            return status, outcomes

        if target.quota is None or not accepted:
            status, outcomes = await add(None)
        else:
            status, outcomes = await stored_octets.within(
                connection, target.member, target.quota, add, lambda added: bool(added[0].stored)
            )
    NO_ROOM.inc(sum(isinstance(outcome, NoRoom) for outcome in outcomes))
    return status


async def read_status(database: Database, caller: Caller, status_id: UUID | None) -> Status:
    """Read what became of an add request of the caller's member (§4.3); None stands for an id that can't be one.

    Raises:
        NotFound: if there is none, or it is another member's.
    """
    group = permissions.trust_group(caller)
    async with database.read(permissions.submissions(caller)) as connection:
        found = await statuses.find(
            connection,
            # the nil UUID is no status: an impossible id costs the same statement
            status_id or UUID(int=0),
            trust_group_id=group.id,
            principal=caller.principal,
        )
    if found is None:
        raise NotFound
    return found


async def delete_object(database: Database, caller: Caller, again: Again, stix_id: str, want: Filter | None) -> None:
    """Remove one object, or the versions of it that `want` selects (§5.7).

    None selects every version of every form. A version of another member among those selected stops it all.

    Raises:
        NotFound: if nothing that the caller can see matches.
        NotAllowed: if one of the versions was brought by another member, or what is left would undo a recall.
    """
    target = permissions.erasable(caller)
    async with database.write(target) as connection:
        await clocks.lock_clock(connection, target.collection_id)
        target = permissions.erasable(await again(connection))
        stored = await stored_versions.of_objects(connection, target.collection_id, [stix_id])
        chosen = _dates(stored, target, want)
        going = [version for version in stored if version.date_added in chosen]
        if not going:
            raise NotFound
        if any(version.member != target.member for version in going):
            message = "Another member brought what you asked to remove; nothing was removed."
            raise NotAllowed(message)
        withdrawals = await recalls.of_object(connection, target.collection_id, stix_id)
        left = {one.date_added for one in stored if one.place.level <= target.clearance} - chosen
        if any(recall.is_undone_by(chosen, left) for recall in withdrawals):
            message = (
                "The object was recalled, and without the versions that say so the ones before would count again; "
                "nothing was removed. Remove all its versions, or those before."
            )
            raise NotAllowed(message)
        await removals.remove(
            connection,
            target.collection_id,
            going,
            reason="delete",
            member=target.member,
            client=target.client,
        )
        await content_audit.write(
            connection,
            target.collection_id,
            Act.OBJECTS_DELETED,
            audit.client(caller.principal),
            [one.content for one in going],
            {"object": stix_id},
        )


def _dates(
    stored: Sequence[stored_versions.StoredVersion],
    target: Erasable,
    want: Filter | None,
) -> set[datetime]:
    """Choose what goes; after it, nothing that the same request would name may be left (§5.7).

    So `all` and an exact version mean every form, unless forms are named; `first` and `last` mean what a GET shows.
    """
    places = [version.place for version in stored]
    if want is None:
        return {place.date_added for place in places if place.level <= target.clearance}
    chosen: set[datetime] = set()
    every_form = tuple({place.form for place in places})
    for spec in want.versions:
        of_all_forms = isinstance(spec, Exactly) or spec is Keyword.ALL
        forms = every_form if want.forms is None and of_all_forms else want.forms
        wanted = Filter(versions=(spec,), forms=forms)
        chosen |= {place.date_added for place in stix_versions.selected(places, target.clearance, wanted)}
    return chosen


def _admitted(verdicts: Sequence[Verdict], target: Writable) -> list[Verdict]:
    """Refuse what the collection's rules or the caller's clearance don't let in, before what is stored is looked at."""
    admitted: list[Verdict] = []
    for verdict in verdicts:
        refusal = permissions.refusal(target, verdict.columns) if isinstance(verdict, Accepted) else None
        if refusal is None or not isinstance(verdict, Accepted):
            admitted.append(verdict)
        else:
            admitted.append(Rejected(verdict.columns.stix_id, verdict.columns.version, refusal))
    return admitted


def _contents(accepted: Sequence[Accepted], outcomes: Sequence[Outcome], member: int) -> list[Content]:
    return [
        Content(
            outcome.place.date_added,
            outcome.place.stix_id,
            outcome.place.form,
            outcome.version,
            verdict.columns.digest,
            member,
        )
        for verdict, outcome in zip(accepted, outcomes, strict=True)
        if isinstance(outcome, Store)
    ]


def _status(
    status_id: UUID,
    requested_at: datetime,
    verdicts: Sequence[Verdict],
    outcomes: Sequence[Outcome],
    quota: int | None,
) -> Status:
    successes: list[Detail] = []
    failures: list[Detail] = []
    rest = iter(outcomes)
    for index, verdict in enumerate(verdicts):
        if isinstance(verdict, Rejected):
            # both are required of a status; any value will do for what has none (§4.3.1)
            stix_id, version = verdict.stix_id or f"unknown-{index}", verdict.version or to_taxii(requested_at)
            failures.append(Detail(stix_id, version, verdict.message))
            continue
        outcome = next(rest)
        if isinstance(outcome, Conflict):
            failures.append(Detail(verdict.columns.stix_id, outcome.version, _CONFLICT))
        elif isinstance(outcome, NotYours):
            failures.append(Detail(verdict.columns.stix_id, outcome.version or to_taxii(requested_at), _NOT_YOURS))
        elif isinstance(outcome, NoRoom):
            said = _NO_ROOM.format(quota=quota, left=outcome.left, octets=outcome.octets)
            failures.append(Detail(verdict.columns.stix_id, outcome.version or to_taxii(requested_at), said))
        elif isinstance(outcome, Withdrawn):
            failures.append(
                Detail(verdict.columns.stix_id, outcome.version or to_taxii(requested_at), _withdrawn(outcome.recall))
            )
        else:
            successes.append(Detail(verdict.columns.stix_id, outcome.version))
    stored = sum(isinstance(outcome, Store) for outcome in outcomes)
    return Status(status_id, requested_at, tuple(successes), tuple(failures), stored)


def _withdrawn(recall: StandingRecall) -> str:
    who = "the operator" if recall.by_operator else "the member that had brought it"
    why = f": {recall.reason!r}" if recall.reason else ""
    return (
        f"was recalled by {who} at {to_taxii(recall.at)}{why}. It is not taken again, in whatever version, unless the "
        "operator lifts the recall; what says itself that it is revoked is"
    )


_NO_ROOM = (
    "your member has a quota of {quota} octets, and of these {left} are left; this version takes {octets}. Delete what your "
    "member brought and nobody needs any more, or ask the operator for a larger quota"
)
_NOT_YOURS = (
    "another member was the first to bring this object, and in this collection only that member may add versions of it: "
    "share yours as an object with an id of its own"
)
_CONFLICT = (
    "this version of the object is stored already with other content, and stays as it is: "
    "a changed object needs a later modified"
)
