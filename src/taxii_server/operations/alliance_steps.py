"""The steps of a plan: what is done about one member, trust group, collection or grant, in words and in deed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Final

from taxii_server.domain import permissions
from taxii_server.domain.access import Attribution, Grant, Policy, Right
from taxii_server.domain.tlp import Level
from taxii_server.operations import durations, sizes
from taxii_server.operations.alliance_file import WantedMember
from taxii_server.storage import alliance as storage
from taxii_server.storage import levels
from taxii_server.storage.alliance import StoredCollection, StoredMember, StoredTrustGroup
from taxii_server.storage.engine import Connection
from taxii_server.storage.levels import Census

_ENOUGH_WRITERS: Final = 3


class Kind(StrEnum):
    """What a step does."""

    CREATE = "create"
    CHANGE = "change"
    DELETE = "delete"
    ABSENT = "absent"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Step:
    """One difference between the file and what is stored; `act` removes it, None where something is only told."""

    kind: Kind
    what: str
    act: Callable[[Connection], Awaitable[object]] | None

    @property
    def line(self) -> str:
        """The step in words."""
        return f"{self.kind} {self.what}"


def of_member(wanted: WantedMember, before: StoredMember | None) -> Iterator[Step]:
    """Add a member, give one that was removed its place again, or change its name, kind and quota."""
    act = partial(storage.put_member, slug=wanted.slug, name=wanted.name, kind=wanted.kind, quota=wanted.quota)
    if before is None:
        yield Step(Kind.CREATE, f"member {wanted.slug} ({wanted.name}, {wanted.kind})", act)
    elif before.removed:
        yield Step(Kind.CREATE, f"member {wanted.slug} again; it needs new clients", act)
    else:
        changes = _changes(
            ("name", before.name, wanted.name),
            ("kind", before.kind, wanted.kind),
            ("quota", _size(before.quota), _size(wanted.quota)),
        )
        if changes:
            yield Step(Kind.CHANGE, f"member {wanted.slug}: {changes}", act)
    if before is not None and wanted.quota is not None and before.octets > wanted.quota != before.quota:
        stores = f"member {wanted.slug} stores {sizes.about(before.octets)}, more than its quota"
        yield Step(Kind.NOTE, f"{stores}: all of it stays, and nothing more is taken", None)


def of_trust_group(wanted: StoredTrustGroup, before: StoredTrustGroup | None) -> Iterator[Step]:
    """Add a trust group, or change its title and description."""
    if before is None:
        yield Step(
            Kind.CREATE,
            f"trust group {wanted.slug} ({wanted.title})",
            partial(storage.add_trust_group, trust_group=wanted),
        )
        return
    changes = _changes(("title", before.title, wanted.title), ("description", before.description, wanted.description))
    if changes:
        yield Step(
            Kind.CHANGE,
            f"trust group {wanted.slug}: {changes}",
            partial(storage.change_trust_group, trust_group=wanted),
        )


def new_collection(name: str, wanted: StoredCollection, *, tell_id: bool) -> Iterator[Step]:
    """Add a collection and its grants."""
    identified = f"id {wanted.id}" if tell_id else "with a new id"
    yield Step(
        Kind.CREATE,
        f"collection {name} ({wanted.title}), {identified}",
        partial(storage.add_collection, collection=wanted, where=permissions.operator_whole(wanted.id)),
    )
    yield from _grants(name, wanted, {})
    yield from _few_writers(name, wanted)


def changed_collection(
    name: str, wanted: StoredCollection, before: StoredCollection, *, called: str, counted: Census | None
) -> Iterator[Step]:
    """Change a collection, which was `called` something until now, its grants, and what its rules give a level."""
    if replace(before, grants=wanted.grants) != wanted:
        yield Step(
            Kind.CHANGE,
            f"collection {called}: {_collection_changes(before, wanted)}",
            partial(storage.change_collection, collection=wanted),
        )
    if counted is not None:
        yield from _consequences(name, before, wanted, counted)
    yield from _grants(name, wanted, before.grants)
    yield from _few_writers(name, wanted)


def _few_writers(name: str, wanted: StoredCollection) -> Iterator[Step]:
    """Warn where attribution can be counted out, as often as it is so."""
    writers = sum(Right.WRITE in grant.rights for grant in wanted.grants.values())
    if wanted.policy.attribution is Attribution.ANONYMOUS and 0 < writers < _ENOUGH_WRITERS:
        known = "everything there is that member's" if writers == 1 else "each of the two knows what the other brought"
        may = "1 member may" if writers == 1 else f"{writers} members may"
        yield Step(Kind.NOTE, f"{name} is anonymous, but only {may} add to it: {known}", None)


def _grants(name: str, collection: StoredCollection, had: Mapping[str, Grant]) -> Iterator[Step]:
    for member in sorted(had.keys() | collection.grants.keys()):
        old, new = had.get(member), collection.grants.get(member)
        if new is None:
            yield Step(
                Kind.DELETE,
                f"grant of {member} on {name}: {_told_grant(old)}",
                partial(storage.remove_grant, collection_id=collection.id, member=member),
            )
        elif new != old:
            act = partial(storage.put_grant, collection_id=collection.id, member=member, grant=new)
            if old is None:
                yield Step(Kind.CREATE, f"grant of {member} on {name}: {_told_grant(new)}", act)
            else:
                yield Step(Kind.CHANGE, f"grant of {member} on {name}: {_told_grant(old)} → {_told_grant(new)}", act)


def _consequences(name: str, before: StoredCollection, after: StoredCollection, counted: Census) -> Iterator[Step]:
    """Tell what other rules mean for what is stored: unmarked versions get another level, nothing else changes."""
    was, now = before.policy, after.policy
    moving = counted.moving_to(now.unmarked_level)
    if now.unmarked_level is not was.unmarked_level and moving:
        yield Step(
            Kind.CHANGE,
            f"{_versions(moving)} of {name} without a TLP marking: {now.unmarked_level.text} instead of "
            f"{was.unmarked_level.text}",
            partial(levels.relevel, where=permissions.operator_whole(after.id), level=now.unmarked_level),
        )
    if now.unmarked_refused and not was.unmarked_refused and counted.unmarked:
        stay = f"{_versions(counted.unmarked.total())} of {name} without a TLP marking"
        yield Step(Kind.NOTE, f"{stay}: they stay, as {was.unmarked_level.text}", None)
    above = counted.above(now.ceiling, unmarked=now.unmarked_level)
    if above:
        yield Step(Kind.NOTE, f"{_versions(above)} of {name} above the ceiling {now.ceiling.text}: they stay", None)
    if now.attribution is Attribution.ANONYMOUS and was.attribution is Attribution.NAMED and counted.total:
        stay = f"{_versions(counted.total)} of {name} from before it was anonymous"
        yield Step(Kind.NOTE, f"{stay}: they stay as they are, created_by_ref included", None)


def _versions(count: int) -> str:
    return f"{count} stored version{'' if count == 1 else 's'}"


def _collection_changes(before: StoredCollection, after: StoredCollection) -> str:
    return _changes(
        ("alias", before.alias, after.alias),
        ("title", before.title, after.title),
        ("description", before.description, after.description),
        ("validation", before.policy.validation.value, after.policy.validation.value),
        ("ceiling", before.policy.ceiling.text, after.policy.ceiling.text),
        ("unmarked", unmarked(before.policy), unmarked(after.policy)),
        ("owner_only", _flag(before.policy.owner_only), _flag(after.policy.owner_only)),
        ("attribution", before.policy.attribution.value, after.policy.attribution.value),
        ("retention", _length(before.retention), _length(after.retention)),
    )


def _changes(*parts: tuple[str, str | None, str | None]) -> str:
    return ", ".join(f"{what} {_told(old)} → {_told(new)}" for what, old, new in parts if old != new)


def _told(value: str | None) -> str:
    return "none" if value is None else repr(value)


def _size(quota: int | None) -> str | None:
    return None if quota is None else sizes.write(quota)


def _length(retention: timedelta | None) -> str | None:
    return None if retention is None else durations.write(retention)


def unmarked(policy: Policy) -> str:
    """The rule for unmarked objects, as the file writes it."""
    return "refuse" if policy.unmarked_refused else policy.unmarked_level.text


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _told_grant(grant: Grant | None) -> str:
    if grant is None:
        return "none"
    rights = ", ".join(sorted(grant.rights))
    return rights if grant.clearance is Level.RED else f"{rights} up to {grant.clearance.text}"
