"""Make trust groups, members, collections and grants match alliance.yaml, and list the collections as they stand.

Applying reads, compares (`alliance_plan`) and changes in one transaction, and applies take turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

import structlog

from taxii_server.domain import permissions
from taxii_server.domain.access import Grant, Policy
from taxii_server.operations import alliance_audit
from taxii_server.operations.alliance_file import Alliance
from taxii_server.operations.alliance_plan import Plan, compare
from taxii_server.storage import alliance as storage
from taxii_server.storage import audit, clocks, levels
from taxii_server.storage.engine import Database

log = structlog.get_logger(__name__)


async def plan(db: Database, wanted: Alliance, *, prune: bool = False) -> Plan:
    """Compare, and change nothing.

    Raises:
        AllianceInvalid: if what is stored makes what the file wants impossible.
    """
    async with db.read() as connection:
        stored = await storage.read(connection)
        found = compare(stored, wanted, prune=prune, dry_run=True)
        counted = {
            one: await levels.census(connection, permissions.operator_whole(one)) for one in found.with_other_rules
        }
    return compare(stored, wanted, prune=prune, counted=counted, dry_run=True) if counted else found


async def apply(db: Database, wanted: Alliance, *, prune: bool = False, dry_run: bool = False) -> Plan:
    """Make what is stored match the file, all of it or nothing, and give what was done.

    Raises:
        AllianceInvalid: if what is stored makes what the file wants impossible.
    """
    if dry_run:
        return await plan(db, wanted, prune=prune)
    async with db.write() as connection:
        await storage.take_turn(connection)
        stored = await storage.read(connection)
        found = compare(stored, wanted, prune=prune)
        # All clocks before any change: whoever adds locks its collection's clock and only then refers to the
        # collection's row. And whoever waits for the clock meanwhile reads the rules again once it is free.
        for one in found.with_other_rules:
            await clocks.lock_clock(connection, one)
        counted = {
            one: await levels.census(connection, permissions.operator_whole(one)) for one in found.with_other_rules
        }
        if counted:
            found = compare(stored, wanted, prune=prune, counted=counted)
        if found.renamed:
            await storage.free_names(connection, found.renamed)
        for step in found.steps:
            if step.act is not None:
                done = await step.act(connection)
                for entry in alliance_audit.entries(step, done):
                    await audit.append(connection, entry)
    for step in found.changes:
        log.info("alliance_changed", kind=step.kind.value, what=step.what)
    return found


@dataclass(frozen=True, slots=True)
class ListedCollection:
    """A collection, what it asks of what is added to it, and who may do what with it, by member."""

    id: UUID
    name: str
    title: str
    policy: Policy
    retention: timedelta | None
    grants: Mapping[str, Grant]


async def collections(db: Database) -> list[ListedCollection]:
    """List the collections of all trust groups, by name."""
    async with db.read() as connection:
        stored = await storage.read(connection)
    groups = {group.id: group.slug for group in stored.trust_groups}
    listed = [
        ListedCollection(
            id=one.id,
            name=f"{groups[one.trust_group_id]}/{one.alias or one.id}",
            title=one.title,
            policy=one.policy,
            retention=one.retention,
            grants=one.grants,
        )
        for one in stored.collections
    ]
    return sorted(listed, key=lambda one: one.name)
