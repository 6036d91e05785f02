"""What has to be done so that what is stored matches alliance.yaml: a pure comparison.

The plan has steps in an order in which they can be taken, each with a line for the operator. The file is the truth for
whatever it names, grants included. What it doesn't name is told and left alone, unless asked to prune.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Final
from uuid import UUID, uuid4

from taxii_server.domain import permissions
from taxii_server.domain.access import Policy, Validation
from taxii_server.domain.errors import AllianceInvalid
from taxii_server.operations import alliance_steps as steps
from taxii_server.operations import issuers
from taxii_server.operations.alliance_file import Alliance, WantedCollection, WantedTrustGroup
from taxii_server.operations.alliance_steps import Kind, Step
from taxii_server.storage import alliance as storage
from taxii_server.storage.alliance import StoredAlliance, StoredCollection, StoredTrustGroup
from taxii_server.storage.engine import Connection
from taxii_server.storage.levels import Census

_UNCOUNTED: Final[Mapping[UUID, Census]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Plan:
    """All differences, in the order in which they are removed."""

    steps: tuple[Step, ...]
    renamed: tuple[UUID, ...] = ()
    """Collections that get another alias or title: all let go of their names first, so that two may swap."""
    with_other_rules: tuple[UUID, ...] = ()
    """Collections whose rules for what is added change: they are counted first, with nobody adding to them."""

    @property
    def changes(self) -> tuple[Step, ...]:
        """The steps that change something."""
        return tuple(step for step in self.steps if step.act is not None)

    @property
    def absent(self) -> tuple[Step, ...]:
        """What is stored but not in the file, and stays."""
        return tuple(step for step in self.steps if step.kind is Kind.ABSENT)


def compare(
    stored: StoredAlliance,
    wanted: Alliance,
    *,
    prune: bool,
    counted: Mapping[UUID, Census] = _UNCOUNTED,
    dry_run: bool = False,
) -> Plan:
    """Work out the steps from what is stored to what is wanted; `counted` are the collections `with_other_rules`.

    A dry run tells no id that was made up here: nobody shall hand it out, because the next run makes another one.

    Raises:
        AllianceInvalid: if what is stored makes what the file wants impossible.
    """
    comparison = _Comparison(stored, wanted, prune=prune, counted=counted, dry_run=dry_run)
    steps = tuple(comparison.steps())
    if comparison.problems:
        raise AllianceInvalid([f"{wanted.file}:{line}: {what}" for line, what in sorted(comparison.problems)])
    return Plan(steps, comparison.renamed, comparison.with_other_rules)


_Pair = tuple[StoredTrustGroup, WantedCollection, StoredCollection | None]
"""A wanted collection, the trust group it is to be in, and what is stored of it."""


class _Comparison:
    def __init__(
        self, stored: StoredAlliance, wanted: Alliance, *, prune: bool, counted: Mapping[UUID, Census], dry_run: bool
    ) -> None:
        self.stored = stored
        self.wanted = wanted
        self.prune = prune
        self.counted = counted
        self.dry_run = dry_run
        self.problems: list[tuple[int, str]] = []
        self.renamed: tuple[UUID, ...] = ()
        self.with_other_rules: tuple[UUID, ...] = ()
        self._groups = {group.slug: group for group in stored.trust_groups}
        self._slugs = {group.id: group.slug for group in stored.trust_groups}
        self._by_id = {collection.id: collection for collection in stored.collections}
        self._claimed = {one.id for group in wanted.trust_groups for one in group.collections if one.id is not None}

    def steps(self) -> Iterator[Step]:
        matches = [(group, self._target(group)) for group in self.wanted.trust_groups]
        pairs = [
            (target, wanted, self._match(target, wanted)) for group, target in matches for wanted in group.collections
        ]
        kept = {before.id for _, _, before in pairs if before is not None}
        absent = [one for one in self.stored.collections if one.id not in kept]
        if not self.prune:
            self._refuse_taken_names(pairs, absent)
        self.renamed = tuple(
            before.id
            for _, wanted, before in pairs
            if before is not None and (before.alias, before.title) != (wanted.alias, wanted.title)
        )
        self.with_other_rules = tuple(
            sorted(
                before.id
                for _, wanted, before in pairs
                if before is not None and _rules(before.policy) != _rules(_policy(wanted, before))
            )
        )
        yield from self._issuers()
        yield from self._members()
        yield from self._absent_collections(absent)
        yield from self._trust_groups(matches)
        yield from self._collections(pairs)
        yield from self._absent_trust_groups()
        yield from self._absent_members()

    def _target(self, wanted: WantedTrustGroup) -> StoredTrustGroup:
        before = self._groups.get(wanted.slug)
        return StoredTrustGroup(
            id=before.id if before else uuid4(),
            slug=wanted.slug,
            title=wanted.title,
            description=wanted.description,
        )

    def _match(self, target: StoredTrustGroup, wanted: WantedCollection) -> StoredCollection | None:
        """Find the stored collection that is meant: by id, else by its alias in the group."""
        if wanted.id is None:
            return next(
                (
                    one
                    for one in self.stored.collections
                    if (one.trust_group_id, one.alias) == (target.id, wanted.alias) and one.id not in self._claimed
                ),
                None,
            )
        before = self._by_id.get(wanted.id)
        if before is not None and before.trust_group_id != target.id:
            home = self._slugs[before.trust_group_id]
            self._problem(wanted, f"collection {wanted.id} is in {home}: it can't move to another trust group")
        return before

    def _refuse_taken_names(self, pairs: Sequence[_Pair], absent: Sequence[StoredCollection]) -> None:
        """Find names that belong to collections which are not in the file and stay."""
        homes = defaultdict(list)
        for other in absent:
            homes[other.trust_group_id].append(other)
        for target, wanted, before in pairs:
            for other in homes[target.id]:
                way_out = f"if it is that collection, give it its id here, {other.id}; else choose another"
                if other.alias == wanted.alias and before is None:
                    self._problem(
                        wanted, f"{self._name(other)} has the id {other.id}, and ids never change: name that id or none"
                    )
                elif other.alias == wanted.alias:
                    self._problem(wanted, f"the alias {wanted.alias!r} is that of another collection: {way_out}")
                elif other.title == wanted.title:
                    self._problem(wanted, f"the title {wanted.title!r} is that of {self._name(other)}: {way_out}")

    def _issuers(self) -> Iterator[Step]:
        for one in issuers.differences(self.stored.issuers, self.wanted.issuers, prune=self.prune):
            if one.problem:
                self.problems.append((one.line, one.problem))
            yield Step(Kind(one.kind), one.what, one.act)

    def _members(self) -> Iterator[Step]:
        stored = {member.slug: member for member in self.stored.members}
        for wanted in self.wanted.members:
            yield from steps.of_member(wanted, stored.get(wanted.slug))

    def _trust_groups(self, matches: Sequence[tuple[WantedTrustGroup, StoredTrustGroup]]) -> Iterator[Step]:
        for _, target in matches:
            yield from steps.of_trust_group(target, self._groups.get(target.slug))

    def _collections(self, pairs: Sequence[_Pair]) -> Iterator[Step]:
        for target, wanted, before in pairs:
            name = f"{target.slug}/{wanted.alias}"
            collection = StoredCollection(
                id=before.id if before else wanted.id or uuid4(),
                trust_group_id=target.id,
                alias=wanted.alias,
                title=wanted.title,
                description=wanted.description,
                policy=_policy(wanted, before),
                retention=wanted.retention,
                grants=wanted.grants,
            )
            if before is None:
                made_up = wanted.id is None
                yield from steps.new_collection(name, collection, tell_id=not (self.dry_run and made_up))
            else:
                yield from steps.changed_collection(
                    name, collection, before, called=self._name(before), counted=self.counted.get(before.id)
                )

    def _absent_collections(self, absent: Sequence[StoredCollection]) -> Iterator[Step]:
        for one in absent:
            yield self._absent(
                f"collection {self._name(one)} ({one.title})",
                " with all it holds",
                partial(storage.remove_collection, where=permissions.operator_whole(one.id)),
            )

    def _absent_trust_groups(self) -> Iterator[Step]:
        wanted = {group.slug for group in self.wanted.trust_groups}
        for group in self.stored.trust_groups:
            if group.slug not in wanted:
                yield self._absent(
                    f"trust group {group.slug} ({group.title})",
                    "",
                    partial(storage.remove_trust_group, trust_group_id=group.id),
                )

    def _absent_members(self) -> Iterator[Step]:
        wanted = {member.slug for member in self.wanted.members}
        for member in self.stored.members:
            if member.slug not in wanted and not member.removed:
                yield self._absent(
                    f"member {member.slug} ({member.name})",
                    ", its grants and clients",
                    partial(storage.remove_member, slug=member.slug),
                )

    def _absent(self, what: str, with_it: str, removal: Callable[[Connection], Awaitable[object]]) -> Step:
        if self.prune:
            return Step(Kind.DELETE, what + with_it, removal)
        return Step(Kind.ABSENT, f"{what} is not in the file and stays", None)

    def _problem(self, wanted: WantedCollection, what: str) -> None:
        self.problems.append((wanted.line, what))

    def _name(self, collection: StoredCollection) -> str:
        return f"{self._slugs[collection.trust_group_id]}/{collection.alias or collection.id}"


def _policy(wanted: WantedCollection, before: StoredCollection | None) -> Policy:
    """Give the policy that is wanted; refusing what is unmarked leaves the level of what is stored as it is."""
    if before is None or not wanted.policy.unmarked_refused:
        return wanted.policy
    return replace(wanted.policy, unmarked_level=before.policy.unmarked_level)


def _rules(policy: Policy) -> Policy:
    """Leave out of a policy what is looked at before the collection is locked."""
    return replace(policy, validation=Validation.STRICT)
