"""The order of versions, and which of them a request selects (§3.4.1).

The order of one object's versions is (form, version_at): a later form is later than any version of an earlier one.
What a caller sees is computed as if versions above the caller's clearance did not exist.

`selected` is the rule in the plainest form: it looks at every version. Postgres answers from kept columns instead
(`standing`); a property test holds that both agree.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from taxii_server.domain.filters import Exactly, Keyword
from taxii_server.domain.tlp import NEVER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from taxii_server.domain.filters import Filter, VersionSpec


@dataclass(frozen=True, slots=True)
class Version:
    """What order and visibility of one stored version depend on."""

    stix_id: str
    form: int
    version_at: datetime
    date_added: datetime
    level: int

    @property
    def stix_type(self) -> str:
        """The type, which the id begins with."""
        return self.stix_id.rpartition("--")[0]

    @property
    def order(self) -> tuple[int, datetime]:
        """The place among the object's versions."""
        return (self.form, self.version_at)


@dataclass(frozen=True, slots=True)
class Standing:
    """The kept levels of one version: the lowest level among what supersedes it, NEVER if nothing does."""

    superseded_level: int
    newer_form_level: int


ALONE: Final = Standing(superseded_level=NEVER, newer_form_level=NEVER)
"""How the only version of an object stands."""


def standings(versions: Iterable[Version]) -> dict[datetime, Standing]:
    """Work out the kept levels of all versions of one object, keyed by their `date_added`."""
    found: dict[datetime, Standing] = {}
    form, of_form, newer_form = 0, NEVER, NEVER
    for version in sorted(versions, key=lambda each: each.order, reverse=True):
        if version.form != form:
            newer_form, of_form, form = min(newer_form, of_form), NEVER, version.form
        found[version.date_added] = Standing(superseded_level=of_form, newer_form_level=newer_form)
        of_form = min(of_form, version.level)
    return found


def standings_after(versions: Iterable[Version], kept: Mapping[datetime, Standing]) -> dict[datetime, Standing]:
    """Work out the kept levels of some versions of one object from those that stored ones have, `kept` by `date_added`.

    The others are new. There is the one that comes next after each of these, so what else is stored shows in what is kept.
    """
    found: dict[datetime, Standing] = {}
    form, of_form, newer_form = 0, NEVER, NEVER
    for version in sorted(versions, key=lambda each: each.order, reverse=True):
        if version.form != form:
            newer_form, of_form, form = min(newer_form, of_form), NEVER, version.form
        if (was := kept.get(version.date_added)) is not None:
            of_form, newer_form = min(of_form, was.superseded_level), min(newer_form, was.newer_form_level)
        found[version.date_added] = Standing(superseded_level=of_form, newer_form_level=newer_form)
        of_form = min(of_form, version.level)
    return found


def selected(versions: Iterable[Version], clearance: int, want: Filter) -> list[Version]:
    """Give the versions that `want` selects for a caller with `clearance`, oldest addition first (§3.3, §3.4)."""
    visible = [version for version in versions if version.level <= clearance and _passes(version, want)]
    by_object: dict[str, list[Version]] = defaultdict(list)
    for version in visible:
        by_object[version.stix_id].append(version)
    chosen = {
        version.date_added: version
        for some in by_object.values()
        for spec in want.versions
        for version in _chosen(some, spec, want)
    }
    return [chosen[date_added] for date_added in sorted(chosen)]


def _passes(version: Version, want: Filter) -> bool:
    return (
        (want.added_after is None or version.date_added > want.added_after)
        and (want.ids is None or version.stix_id in want.ids)
        and (want.types is None or version.stix_type in want.types)
        and (want.forms is None or version.form in want.forms)
    )


def _chosen(of_object: Sequence[Version], spec: VersionSpec, want: Filter) -> list[Version]:
    left = [one for one in of_object if not isinstance(spec, Exactly) or one.version_at == spec.version_at]
    if not left:
        return []
    if want.forms is None:
        latest_form = max(one.form for one in left)
        left = [one for one in left if one.form == latest_form]
    if spec is Keyword.LAST:
        return [max(left, key=lambda one: one.order)]
    if spec is Keyword.FIRST:
        return [min(left, key=lambda one: one.order)]
    return left
