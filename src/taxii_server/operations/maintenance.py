"""Upkeep and checks: what can wait, one run at a time; and whether the database is as it should be."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog

from taxii_server.auth.signing_keys import SigningKeys
from taxii_server.domain import permissions
from taxii_server.domain.audit import ALLIANCE, KEYS, OPERATOR, SERVER, Act, Entry
from taxii_server.domain.errors import NotFound, OperatorError
from taxii_server.domain.stix_versions import standings
from taxii_server.domain.timestamps import to_taxii
from taxii_server.domain.tlp import Level
from taxii_server.operations import content_audit, durations
from taxii_server.storage import (
    activity,
    alliance,
    audit,
    clocks,
    migrations,
    removals,
    revoked_tokens,
    signing_keys,
    stored_octets,
    stored_versions,
)
from taxii_server.storage import maintenance as storage
from taxii_server.storage.clocks import FURTHEST_AHEAD
from taxii_server.storage.engine import Connection, Database
from taxii_server.storage.maintenance import ClockReading, KeptLevels, Retention

log = structlog.get_logger(__name__)

BATCH: Final = 1_000
_OLD_KEYS_KEPT: Final = timedelta(days=30)  # in case somebody asks which key signed a token
_ENDED_TOKENS_KEPT: Final = timedelta(hours=1)  # far more than the clocks of nodes differ
_WORKERS_KEPT: Final = timedelta(days=2)  # far longer than a batch waits to be saved
_REVOKED_KEPT: Final = timedelta(days=90)  # in case somebody asks when a client last polled
_MOST_FINDINGS: Final = 1_000
_TOLD_EVERY: Final = 1_000

Progress = Callable[[int], None]
"""Told now and then how many versions are done."""


@dataclass(frozen=True, slots=True)
class Maintained:
    """What one run did; nothing at all if another run was under way."""

    ran: bool
    statuses: int = 0
    expired: dict[str, int] = field(default_factory=dict)
    signing_key: str | None = None
    old_signing_keys: int = 0
    revoked_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be, and what to do about it."""

    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check looked at and found; `more` findings were left out of the list."""

    revision: str | None
    collections: int = 0
    versions: int = 0
    findings: tuple[Finding, ...] = ()
    more: int = 0

    @property
    def sound(self) -> bool:
        """Whether all is as it should be."""
        return not self.findings


async def maintain(db: Database, *, status_keep: timedelta, keys: SigningKeys) -> Maintained:
    """Purge old statuses, signing keys and revoked tokens, remove what collections no longer keep, replace a key past its time.

    Works in small transactions: stopped in the middle, the next run goes on.
    """
    async with _sole_turn(db) as ours:
        if not ours:
            return Maintained(ran=False)
        purged = await _purge_statuses(db, status_keep)
        expired = {}
        async with db.read() as connection:
            due = await storage.retentions(connection)
        for retention in due:
            expired[retention.name] = await _expire(db, retention)
        key = await keys.current()
        async with db.write() as connection:
            await signing_keys.take_turns(connection)
            old_keys = await signing_keys.purge(connection, keep=_OLD_KEYS_KEPT)
            for kid, public_jwk in old_keys.items():
                # heads that it signed must stay checkable
                forgotten = {"kid": kid, "key": json.loads(public_jwk)}
                await audit.append(connection, Entry(KEYS, Act.SIGNING_KEY_FORGOTTEN, SERVER, forgotten))
            ended_tokens = await revoked_tokens.purge(connection, keep=_ENDED_TOKENS_KEPT)
            await activity.purge(connection, workers=_WORKERS_KEPT, revoked=_REVOKED_KEPT)
    log.info("maintained", statuses=purged, expired=sum(expired.values()), old_signing_keys=len(old_keys))
    return Maintained(
        ran=True,
        statuses=purged,
        expired=expired,
        signing_key=key.kid,
        old_signing_keys=len(old_keys),
        revoked_tokens=ended_tokens,
    )


@asynccontextmanager
async def _sole_turn(db: Database) -> AsyncIterator[bool]:
    async with db.statement() as connection:
        ours = await storage.take_sole_turn(connection)
        try:
            yield ours
        finally:
            if ours:
                await storage.end_turn(connection)


async def _purge_statuses(db: Database, keep: timedelta) -> int:
    async with db.read() as connection:
        senders = await storage.members_of_all_times(connection)
    return sum([await _purge_statuses_of(db, member, keep) for member in senders])


async def _purge_statuses_of(db: Database, member: int, keep: timedelta) -> int:
    theirs = permissions.operator_submissions(member)
    purged = 0
    while True:
        async with db.write(theirs) as connection:
            some = await storage.purge_statuses(connection, theirs, keep=keep, limit=BATCH)
        purged += some
        if some < BATCH:
            return purged


async def _expire(db: Database, retention: Retention) -> int:
    removed = 0
    where = permissions.operator_whole(retention.collection_id)
    while True:
        async with db.write(where) as connection:
            try:
                await clocks.lock_clock(connection, retention.collection_id)
            except NotFound:  # pruned meanwhile
                return removed
            old = await stored_versions.added_before(connection, retention.collection_id, retention.before, BATCH)
            if old:
                await removals.remove(connection, retention.collection_id, old, reason="retention")
                contents = [one.content for one in old]
                before = {"before": to_taxii(retention.before)}
                await content_audit.write(
                    connection, retention.collection_id, Act.OBJECTS_EXPIRED, SERVER, contents, before
                )
        removed += len(old)
        if len(old) < BATCH:
            return removed


async def advance_clocks(db: Database, *, by: timedelta) -> int:
    """Move every collection's clock past anything that may have been given out before; how many clocks there are.

    Raises:
        OperatorError: if that is so far ahead that writes would be refused.
    """
    if by > FURTHEST_AHEAD:
        furthest = durations.write(FURTHEST_AHEAD)
        raise OperatorError(f"A clock more than {furthest} ahead of the database's time refuses writes: name less.")
    async with db.write() as connection:
        await alliance.take_turn(connection)
        moved = await storage.advance_clocks(connection, by=by)
        advanced = {"clocks": moved, "by": durations.write(by)}
        await audit.append(connection, Entry(ALLIANCE, Act.CLOCKS_ADVANCED, OPERATOR, advanced))
    log.info("clocks_advanced", collections=moved, by=str(by))
    return moved


async def schema_behind(db: Database) -> bool:
    """Tell whether the database needs `db upgrade`.

    Raises:
        OperatorError: if a newer server made it.
    """
    async with db.read() as connection:
        heads = await migrations.current(connection)
    migrations.refuse_newer(heads)
    return heads != (migrations.newest(),)


def upgrade(owner_url: str) -> str:
    """Bring the schema up to this code's, and name its revision.

    Raises:
        OperatorError: if the database can't be reached or was made by a newer server.
    """
    migrations.upgrade(owner_url)
    return migrations.newest()


async def estimated_versions(db: Database) -> int:
    """Tell about how many versions a check will look at."""
    async with db.read() as connection:
        return await storage.estimated_versions(connection)


async def check(db: Database, progress: Progress | None = None) -> Checked:
    """Look whether schema, roles, clocks and kept levels are as they should be; changes nothing."""
    findings = _Findings()
    async with db.read() as connection:
        heads = await migrations.current(connection)
        revision = ", ".join(heads) or None
        if heads != (migrations.newest(),):
            findings.add(
                f"the schema is at {revision or 'nothing'}, this taxii-server knows {migrations.newest()}",
                "run taxii-server db upgrade with the newest taxii-server you use",
            )
            return findings.checked(revision)
        await _check_role(connection, findings)
        names = await storage.names(connection)
    versions = 0
    for collection_id, name in names.items():
        where = permissions.operator_whole(collection_id)
        async with db.read(where) as connection:
            reading = await storage.clock(connection, collection_id)
            if reading is not None:
                _check_clock(name, reading, findings)
            await _check_sums(connection, collection_id, name, findings)
            levels = storage.kept_levels(connection, collection_id)
            versions = await _check_levels(name, levels, findings, versions, progress or (lambda _: None))
    return findings.checked(revision, len(names), versions)


class _Findings:
    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.more = 0

    def add(self, what: str, remedy: str) -> None:
        if len(self.kept) < _MOST_FINDINGS:
            self.kept.append(Finding(what, remedy))
        else:
            self.more += 1

    def checked(self, revision: str | None, collections: int = 0, versions: int = 0) -> Checked:
        return Checked(revision, collections, versions, tuple(self.kept), self.more)


async def _check_role(connection: Connection, findings: _Findings) -> None:
    role = await storage.role(connection)
    remedy = "let TAXII_DATABASE_URL name the role taxii_server, and an owner only TAXII_MIGRATION_DATABASE_URL"
    faults = {
        "is a superuser": role.superuser,
        "passes by row-level policies": role.bypasses_policies,
        f"owns {role.owned} tables or indexes": role.owned,
        "owns the database": role.owns_database,
        "may create tables": role.may_create,
        f"is a member of the owner, {', '.join(role.acts_as)}": role.acts_as and not role.superuser,
    }
    for fault, is_so in faults.items():
        if is_so:
            findings.add(f"the server's role {role.name} {fault}", remedy)


def _check_clock(name: str, reading: ClockReading, findings: _Findings) -> None:
    last = reading.last_added
    if last is None:
        findings.add(f"{name} has no clock", "restore the table collection_clocks from the backup")
        return
    if reading.newest is not None and reading.newest > last:
        findings.add(
            f"the clock of {name} stands at {to_taxii(last)}, behind a date it gave out, {to_taxii(reading.newest)}",
            "stop the servers and run taxii-server db advance-clock",
        )
    if reading.stops_writes:
        findings.add(
            f"the clock of {name} stands at {to_taxii(last)}, ahead of the database's {to_taxii(reading.now)}: "
            "objects added to it are refused",
            "look at the time of the database's machine; objects are taken again once it is past the clock",
        )


async def _check_sums(connection: Connection, collection_id: UUID, name: str, findings: _Findings) -> None:
    for one in await stored_octets.differences(connection, collection_id):
        findings.add(
            f"{name}: {one.member} stores {one.versions} versions of {one.octets} octets, and "
            f"{one.kept_versions} of {one.kept_octets} are counted",
            "its quota counts wrongly: report this, with what was done to the database",
        )


async def _check_levels(
    name: str, levels: AsyncIterator[KeptLevels], findings: _Findings, done: int, progress: Progress
) -> int:
    """Hold the kept levels of each object against the rule, one object in memory at a time."""
    of_object: list[KeptLevels] = []
    async for one in levels:
        if of_object and of_object[0].version.stix_id != one.version.stix_id:
            _compare(name, of_object, findings)
            of_object = []
        of_object.append(one)
        done += 1
        if done % _TOLD_EVERY == 0:
            progress(done)
    _compare(name, of_object, findings)
    progress(done)
    return done


def _compare(name: str, of_object: list[KeptLevels], findings: _Findings) -> None:
    right = standings(one.version for one in of_object)
    for one in of_object:
        version, kept, due = one.version, one.standing, right[one.version.date_added]
        if kept != due:
            findings.add(
                f"{name}: {version.stix_id} added {to_taxii(version.date_added)} keeps levels "
                f"{kept.superseded_level}/{kept.newer_form_level} and should keep "
                f"{due.superseded_level}/{due.newer_form_level}",
                "it may be shown or hidden wrongly: report this, with what was done to the database",
            )
        if one.ruled is not None and version.level != one.ruled:
            findings.add(
                f"{name}: {version.stix_id} added {to_taxii(version.date_added)} carries no TLP marking and counts as "
                f"{Level(version.level).text}, where the collection's rule says {one.ruled.text}",
                "give the collection another unmarked level with taxii-server apply, then the right one again: "
                "each time all levels are set anew",
            )
