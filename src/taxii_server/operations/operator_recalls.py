"""Recalls as operators make, see and lift them: over any object, in any collection."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

import structlog

from taxii_server.domain import audit, permissions
from taxii_server.domain.access import Recallable
from taxii_server.domain.audit import Act, Entry
from taxii_server.domain.errors import NotAllowed, NotFound, OperatorError
from taxii_server.operations import recalls
from taxii_server.operations.disclosures import Effort
from taxii_server.operations.members import unknown
from taxii_server.operations.recall_recipients import RecallRecipient, recipients
from taxii_server.operations.transfer import named_collection
from taxii_server.storage import alliance, clocks, members
from taxii_server.storage import audit as audit_rows
from taxii_server.storage import recalls as storage
from taxii_server.storage.alliance import NamedCollection
from taxii_server.storage.engine import Connection, Database
from taxii_server.storage.recalls import Recall, Telling

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Shown:
    """A recall as operators see it: `client` is None if the operator made it, `changed` False if it stood before."""

    collection: str
    id: str
    state: str
    outcome: str
    recalled_at: datetime
    lifted_at: datetime | None
    member: str
    client: str | None
    reason: str | None
    versions: tuple[Telling, ...]
    changed: bool | None = None
    recipients: list[RecallRecipient] | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A collection in which the object could not be recalled, and why."""

    collection: str
    message: str


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """What became of an object in one collection, or in all; `elsewhere` are those that hold it and were not named."""

    id: str
    dry_run: bool
    recalled: tuple[Shown, ...]
    refused: tuple[Refused, ...]
    elsewhere: tuple[str, ...]


async def recall(
    db: Database,
    *,
    collection: str,
    stix_id: str,
    member: str | None = None,
    reason: str | None = None,
    everywhere: bool = False,
    dry_run: bool = False,
) -> Withdrawal:
    """Withdraw an object from a collection, or from every one that holds it, each in a transaction of its own.

    With `member` in its name and by its rights: only where no other member brought a version.

    Raises:
        OperatorError: if there is no such collection or member, or the collection holds no such object.
    """
    async with db.read() as connection:
        first = await named_collection(connection, collection)
        acting = None
        if member is not None:
            found = await members.find(connection, member)
            if found is None:
                raise await unknown(connection, member)
            acting = found.id
        called = await alliance.collection_names(connection)
    others = [name for one, name in sorted(called.items(), key=lambda each: each[1]) if await _holds(db, one, stix_id)]
    others = [name for name in others if name != first.name]
    done: list[Shown] = []
    refused: list[Refused] = []
    for name in [first.name, *(others if everywhere else ())]:
        try:
            done.append(await _one(db, name, stix_id, (acting, member), reason, dry_run=dry_run))
        except NotAllowed as error:
            refused.append(Refused(name, error.message or error.title))
        except NotFound:
            refused.append(Refused(name, f"There is no {stix_id} here, and it was not recalled either."))
    return Withdrawal(stix_id, dry_run, tuple(done), tuple(refused), () if everywhere else tuple(others))


async def _holds(db: Database, collection_id: UUID, stix_id: str) -> bool:
    async with db.read(permissions.operator_whole(collection_id)) as connection:
        return await storage.holds(connection, collection_id, stix_id)


async def _one(
    db: Database, name: str, stix_id: str, who: tuple[int | None, str | None], reason: str | None, *, dry_run: bool
) -> Shown:
    acting, member = who

    async def target(connection: Connection) -> Recallable:
        # its rules may have changed since
        return permissions.operator_recallable((await named_collection(connection, name)).collection, acting)

    where = await _place(db, name)
    done = await recalls.carry_out(
        db,
        permissions.operator_recallable(where.collection, acting),
        where.collection.trust_group_id,
        stix_id,
        reason,
        recheck=target,
        who=audit.OPERATOR,
        told={} if acting is None else {"as": str(member)},
        dry_run=dry_run,
    )
    async with db.read() as connection:
        return await _shown(connection, where, done.recall, changed=done.changed)


async def show(db: Database, *, collection: str, stix_id: str) -> Shown:
    """Tell how the recall of an object stands, and who has learned of it.

    Raises:
        OperatorError: if there is no such collection, or the object was never recalled there.
    """
    where = await _place(db, collection)
    async with db.read(permissions.operator_whole(where.collection.id)) as connection:
        found = await _last(connection, where, stix_id)
        shown = await _shown(connection, where, found)
    had = await recipients(db, permissions.operator_traceable(where.collection.id), found, Effort())
    return replace(shown, recipients=had)


async def listing(db: Database, *, collection: str) -> list[Shown]:
    """List the last recall of every object of a collection, by each contributor.

    Raises:
        OperatorError: if there is no such collection.
    """
    where = await _place(db, collection)
    async with db.read(permissions.operator_whole(where.collection.id)) as connection:
        found = await storage.of_collection(connection, where.collection.id)
        return [await _shown(connection, where, one) for one in found]


async def lift(db: Database, *, collection: str, stix_id: str, reason: str | None = None) -> Shown:
    """Let a recalled object be added again, whoever recalled it. What says that it is revoked stays.

    Raises:
        OperatorError: if there is no such collection, or the object was never recalled there.
    """
    where = await _place(db, collection)
    async with db.write(permissions.operator_whole(where.collection.id)) as connection:
        await clocks.lock_clock(connection, where.collection.id)
        found = await _last(connection, where, stix_id)
        changed = found.lifted_at is None
        if changed:
            at = await storage.lift(connection, where.collection.id, stix_id, reason)
            found = replace(found, lifted_at=at)
            stream = audit.of_collection(where.collection.id)
            entry = Entry(stream, Act.RECALL_LIFTED, audit.OPERATOR, {"object": stix_id})
            await audit_rows.append(connection, entry)
        shown = await _shown(connection, where, found, changed=changed)
    if changed:
        log.info("recall_lifted", collection_id=str(where.collection.id))
    return shown


async def _place(db: Database, collection: str) -> NamedCollection:
    async with db.read() as connection:
        return await named_collection(connection, collection)


async def _last(connection: Connection, where: NamedCollection, stix_id: str) -> Recall:
    found = await storage.of_object(connection, where.collection.id, stix_id)
    if not found:
        message = (
            f"{stix_id} was never recalled from {where.name}; taxii-server recall list {where.name} shows what was."
        )
        raise OperatorError(message)
    # with what those of other contributors, which stand beside it, withdrew and published
    standing = [one for one in found if one.lifted_at is None] or found[-1:]
    telling = {version.date_added: version for one in standing for version in one.telling}
    return replace(
        found[-1],
        withdrawn=tuple(sorted({date for one in standing for date in one.withdrawn})),
        telling=tuple(telling.values()),
    )


async def _shown(connection: Connection, where: NamedCollection, one: Recall, *, changed: bool | None = None) -> Shown:
    member, client = await storage.names(connection, one)
    return Shown(
        collection=where.name,
        id=one.stix_id,
        state="recalled" if one.lifted_at is None else "lifted",
        outcome=one.outcome.value,
        recalled_at=one.at,
        lifted_at=one.lifted_at,
        member=member,
        client=client,
        reason=one.reason,
        versions=one.telling,
        changed=changed,
    )
