"""Who asks, about what, and what they were found to be allowed.

`Readable`, `Writable`, `Erasable`, `Recallable`, `Traceable`, `Whole` and `Submissions` are proof of a check: `permissions`
constructs them and nothing else does. Storage takes collection and clearance from them only, and a transaction is held to the one that it
was opened with, so no query can forget either.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from taxii_server.domain.tlp import Level

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


class Right(StrEnum):
    """What a grant may allow."""

    READ = "read"
    WRITE = "write"


BOTH = frozenset(Right)


class Validation(StrEnum):
    """How closely a collection looks at what is added to it."""

    STRICT = "strict"
    STRUCTURAL = "structural"


class Authentication(StrEnum):
    """What a client must show with each request; a token stands for what it was got with."""

    ANY = "any"
    """A secret or a certificate of its own, whichever it has."""

    CERTIFICATE = "certificate"
    """A certificate of its own. It has no secret."""

    BOTH = "both"
    """A certificate of its own, and its secret."""


class Attribution(StrEnum):
    """Whether a collection's readers may learn who brought what."""

    NAMED = "named"
    ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a collection asks of what is added to it.

    `unmarked_level` is the level of what carries no TLP marking: of all that is stored, and of what is added unless
    `unmarked_refused`. With `owner_only` an object's versions all come from the member that brought the first of them.
    """

    validation: Validation
    ceiling: Level = Level.RED
    unmarked_level: Level = Level.CLEAR
    unmarked_refused: bool = False
    owner_only: bool = False
    attribution: Attribution = Attribution.NAMED


@dataclass(frozen=True, slots=True)
class Principal:
    """A client whose credentials hold.

    `rights` and `collections` are what its issue and, with a token, the token's scope leave of its member's grants;
    `collections` is None where the client was not narrowed to some; `quota` is the most octets its member may store.
    """

    client: int
    client_id: str
    member: int
    member_slug: str
    rights: frozenset[Right] = BOTH
    collections: frozenset[UUID] | None = None
    quota: int | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """What a member may do with one collection."""

    rights: frozenset[Right]
    clearance: Level


@dataclass(frozen=True, slots=True)
class TrustGroup:
    """A circle that shares; an API Root on the wire."""

    id: UUID
    slug: str
    title: str
    description: str | None


@dataclass(frozen=True, slots=True)
class Collection:
    """A feed inside one trust group."""

    id: UUID
    trust_group_id: UUID
    alias: str | None
    title: str
    description: str | None
    policy: Policy


@dataclass(frozen=True, slots=True)
class Place:
    """What the path names, as far as this caller can see: None alike for what is absent and what is hidden.

    `last_added` is the last date that the collection's clock had given out by then, and `changes` its number of changes.
    """

    trust_group: TrustGroup | None = None
    collection: Collection | None = None
    grant: Grant | None = None
    last_added: datetime | None = field(default=None, compare=False)
    changes: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Presented:
    """What names a token and its key; proves nothing by itself."""

    issuer: str
    kid: str
    jti: str | None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and the place the request is about: the answer of the caller statement.

    `token` is the one that was shown, if one was; `certificate` the thumbprint of one of the client's own; `credential`
    says in a word for the log how it authenticated; `asked_at` is the database's time.
    """

    principal: Principal
    place: Place
    token: Presented | None = field(default=None, compare=False)
    certificate: bytes | None = field(default=None, compare=False)
    credential: str = field(default="", compare=False)
    asked_at: datetime | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Readable:
    """A collection that the caller may read, up to a clearance.

    `changes` is the collection's number of changes when that was looked up: a replica has to have the same one.
    """

    collection_id: UUID
    clearance: Level
    changes: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Writable:
    """A collection that the caller may add to, and as whom; `client` is None for the operator, `quota` if there is none."""

    collection_id: UUID
    member: int
    client: int | None
    clearance: Level
    policy: Policy
    quota: int | None = None


@dataclass(frozen=True, slots=True)
class Erasable:
    """A collection in which the caller may remove what its own member brought."""

    collection_id: UUID
    member: int
    client: int
    clearance: Level


@dataclass(frozen=True, slots=True)
class Traceable:
    """A collection in which the caller may ask who received what its own member brought.

    `member` is None for the operator, who may ask about everything.
    """

    collection_id: UUID
    member: int | None
    clearance: Level


@dataclass(frozen=True, slots=True)
class Recallable:
    """A collection in which the caller may recall objects: its own member's, or as the operator any, with no `member`.

    `sees_others` is whether it may learn that another member brought an object.
    """

    collection_id: UUID
    member: int | None
    client: int | None
    clearance: Level
    policy: Policy
    sees_others: bool


@dataclass(frozen=True, slots=True)
class Whole:
    """A collection with all it holds, whatever its level and whoever brought it: for the operator and for upkeep."""

    collection_id: UUID


@dataclass(frozen=True, slots=True)
class Submissions:
    """What became of the add requests of one member."""

    member: int


Proof = Readable | Writable | Erasable | Recallable | Traceable | Whole | Submissions
"""What a transaction can be held to."""
