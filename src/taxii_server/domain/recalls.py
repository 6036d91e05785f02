"""Withdrawing an object: what of it is withdrawn, what tells of it, and whom a recall keeps from adding it again.

A recall is judged by what its caller can see, like everything else. It holds for whoever is cleared for the lowest level
at which the object could be seen: to anybody else there never was such an object, nor a recall.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from taxii_server.domain.errors import BadReason
from taxii_server.domain.stix_objects import is_revocable
from taxii_server.domain.timestamps import MILLISECOND
from taxii_server.domain.words import printable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime

    from taxii_server.domain.stix_objects import Columns
    from taxii_server.domain.stix_versions import Version
    from taxii_server.domain.tlp import Level

MOST_REASON = 300
"""Characters of a reason; it stands in every refusal that the recall causes."""


def reason_of(text: str | None) -> str | None:
    """Make what somebody gave as a reason fit to be passed on: one line of printable text; None if nothing is left.

    Raises:
        BadReason: if it is too long.
    """
    reason = printable(" ".join((text or "").split()))
    if len(reason) > MOST_REASON:
        message = f"A reason has at most {MOST_REASON} characters."
        raise BadReason(message)
    return reason or None


class Outcome(StrEnum):
    """What became of a recalled object."""

    REVOKED = "revoked"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class StandingRecall:
    """A recall that has not been lifted, as far as an addition needs to know it.

    `newest` is the date of the newest version that it withdrew or published.
    """

    level: int
    by_operator: bool
    at: datetime
    newest: datetime
    reason: str | None

    def is_known_to(self, clearance: Level, stored: Iterable[Version]) -> bool:
        """Whether a writer may learn of it: one who could see the object then, or can see now what was there then.

        What was added since tells nobody anything: it may be the writer's own.
        """
        return self.level <= clearance or any(
            version.level <= clearance and version.date_added <= self.newest for version in stored
        )

    def stops(self, columns: Columns) -> bool:
        """Whether an object may not be added: everything but what says itself that the object is revoked."""
        return not columns.revoked


def heads(visible: Sequence[Version]) -> list[Version]:
    """Give the versions that readers have as the newest, the ones that need a revoked version after them.

    Of each form, for each clearance. The stricter ones come later, so that whoever sees several ends with its own.
    """
    found: list[Version] = []
    for form in sorted({version.form for version in visible}):
        of_form = [version for version in visible if version.form == form]
        for level in sorted({version.level for version in of_form}):
            head = max((version for version in of_form if version.level <= level), key=lambda one: one.order)
            if head not in found:
                found.append(head)
    return found


def is_revoked_by_a_new_version(head: Version, *, has_modified: bool) -> bool:
    """Whether STIX lets the object be revoked: it has versions, and its type has the property."""
    return has_modified and is_revocable(head.stix_type)


def moment_after(newest: datetime, now: datetime, taken: Collection[datetime]) -> datetime:
    """Choose the `modified` of a revoked version: now or later than all, to the millisecond, which STIX 2.0 asks for.

    Raises:
        OverflowError: if there is no later instant.
    """
    latest = max(newest, now)
    chosen = latest.replace(microsecond=latest.microsecond // 1000 * 1000)
    if chosen <= newest:
        chosen += MILLISECOND
    while chosen in taken:
        chosen += MILLISECOND
    return chosen
