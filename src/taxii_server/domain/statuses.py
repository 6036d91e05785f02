"""What became of an envelope: the status of an add request (§4.3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


@dataclass(frozen=True, slots=True)
class Detail:
    """What became of one object; `message` says why it was refused."""

    id: str
    version: str
    message: str | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """What became of every object of one request; requests are processed at once, so nothing is ever pending.

    `stored` counts the versions that are new; the other successes were there already. It is not kept: None when the
    status is read back.
    """

    id: UUID
    requested_at: datetime
    successes: tuple[Detail, ...]
    failures: tuple[Detail, ...]
    stored: int | None = None

    @property
    def total_count(self) -> int:
        """How many objects the request held."""
        return len(self.successes) + len(self.failures)
