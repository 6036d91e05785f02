"""What a request asks for, once its query string is understood (§3.4)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class Keyword(Enum):
    """The words `match[version]` knows."""

    LAST = "last"
    FIRST = "first"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Exactly:
    """One version by its instant; spellings of the same instant are equal."""

    version_at: datetime


VersionSpec = Keyword | Exactly

LAST_ONLY: tuple[VersionSpec, ...] = (Keyword.LAST,)
ALL_VERSIONS: tuple[VersionSpec, ...] = (Keyword.ALL,)


@dataclass(frozen=True, slots=True)
class Filter:
    """The filters of one request.

    None means "not asked for"; empty `forms` or `versions` mean that only such were named as nothing stored can have.
    `types` and `ids` are never empty. Where `versions` holds `Keyword.ALL` it holds nothing else.
    """

    added_after: datetime | None = None
    ids: tuple[str, ...] | None = None
    types: tuple[str, ...] | None = None
    versions: tuple[VersionSpec, ...] = LAST_ONLY
    forms: tuple[int, ...] | None = None

    @property
    def matches_nothing(self) -> bool:
        """Whether no stored version can be what was asked for."""
        return self.forms == () or not self.versions
