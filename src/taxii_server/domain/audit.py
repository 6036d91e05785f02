"""The audit: which acts there are, how one is written down, and how each is chained to the one before it.

An act belongs to one stream and has the next number there. Its digest covers everything that is told of it and the digest
before it, so whoever changes, removes or reorders what is written leaves a place where the chain doesn't hold
(`audit_chain`), as long as somebody else knows a later digest.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from taxii_server.domain.timestamps import EPOCH, MICROSECOND, to_taxii

if TYPE_CHECKING:
    from uuid import UUID

    from taxii_server.domain.access import Principal


class Act(StrEnum):
    """Every act that is written down. A name is never given another meaning; one that is no longer used stays."""

    # of a collection's stream: its content
    OBJECTS_ADDED = "objects_added"
    OBJECTS_DELETED = "objects_deleted"
    OBJECTS_EXPIRED = "objects_expired"
    OBJECTS_PRUNED = "objects_pruned"
    OBJECTS_RELEVELED = "objects_releveled"
    OBJECT_RECALLED = "object_recalled"
    RECALL_LIFTED = "recall_lifted"

    # of a member's stream: its credentials
    CLIENT_ISSUED = "client_issued"
    CLIENT_CHANGED = "client_changed"
    CLIENT_ROTATED = "client_rotated"
    CLIENT_REVOKED = "client_revoked"
    CERTIFICATE_ADDED = "certificate_added"
    CERTIFICATE_REMOVED = "certificate_removed"
    MEMBER_SUSPENDED = "member_suspended"
    MEMBER_RESUMED = "member_resumed"
    TOKEN_ISSUED = "token_issued"  # noqa: S105 - the name of an act

    # of the stream of keys; tokens are taken back there by whomever, as an outside one tells no member of ours
    TOKEN_REVOKED = "token_revoked"  # noqa: S105 - the name of an act
    SIGNING_KEY_MADE = "signing_key_made"
    SIGNING_KEY_RETIRED = "signing_key_retired"
    SIGNING_KEY_FORGOTTEN = "signing_key_forgotten"

    # of the alliance's stream: who shares what with whom
    TRUST_GROUP_CREATED = "trust_group_created"
    TRUST_GROUP_CHANGED = "trust_group_changed"
    TRUST_GROUP_REMOVED = "trust_group_removed"
    MEMBER_CREATED = "member_created"
    MEMBER_CHANGED = "member_changed"
    MEMBER_REMOVED = "member_removed"
    COLLECTION_CREATED = "collection_created"
    COLLECTION_CHANGED = "collection_changed"
    COLLECTION_REMOVED = "collection_removed"
    GRANT_GIVEN = "grant_given"
    GRANT_CHANGED = "grant_changed"
    GRANT_WITHDRAWN = "grant_withdrawn"
    ISSUER_CREATED = "issuer_created"
    ISSUER_CHANGED = "issuer_changed"
    ISSUER_REMOVED = "issuer_removed"
    CLOCKS_ADVANCED = "clocks_advanced"

    # of the stream of checkpoints
    CHECKPOINT = "checkpoint"


ALLIANCE: Final = "alliance"
"""The stream of what `apply` does."""

KEYS: Final = "keys"
"""The stream of signing keys, and of tokens that are taken back."""

HEADS: Final = "heads"
"""The stream of checkpoints: where the other streams had got to."""

OPERATOR: Final = "operator"
SERVER: Final = "server"
"""Who did what nobody asked for at the moment: retention, a key past its time, a checkpoint."""

COLLECTION: Final = re.compile(r"collection:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""What the name of a collection's stream looks like."""

START: Final = bytes(32)
"""What the first act of a stream is chained to."""

_FORMAT: Final = b"taxii-server audit 1"
_NUMBER_BYTES: Final = 8


def of_collection(collection_id: UUID) -> str:
    """Name the stream of a collection's content."""
    return f"collection:{collection_id}"


def of_member(slug: str) -> str:
    """Name the stream of a member's credentials."""
    return f"member:{slug}"


def client(principal: Principal) -> str:
    """Name a client as the one who did it."""
    return f"{principal.member_slug}/{principal.client_id}"


@dataclass(frozen=True, slots=True)
class Entry:
    """An act that is to be written down. `details` hold ids, counts and rules: no secret, no token, no object."""

    stream: str
    act: Act
    who: str
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The details as they are kept: JSON in its one canonical spelling."""
        return canonical(self.details)

    @property
    def body(self) -> bytes:
        """The digest of everything but number, instant and chain."""
        return body_of(self.stream, self.act, self.who, self.text)


@dataclass(frozen=True, slots=True)
class Written:
    """An act as it stands in the database."""

    stream: str
    seq: int
    at: datetime
    act: str
    who: str
    details: str
    digest: bytes

    def link(self, previous: bytes) -> bytes:
        """Give the digest that this act has if it comes after the one of digest `previous`."""
        return link(previous, self.seq, self.at, body_of(self.stream, self.act, self.who, self.details))


def canonical(details: Mapping[str, Any]) -> str:
    """Write details in ASCII, with keys sorted and no blanks."""
    return json.dumps(details, sort_keys=True, separators=(",", ":"), allow_nan=False)


def pack(*fields: str | bytes) -> bytes:
    """Write fields one after the other, each behind its length, so that no two lists of fields look alike."""
    octets = [one.encode("utf-8", "surrogatepass") if isinstance(one, str) else one for one in fields]
    return b"".join([part for one in octets for part in (len(one).to_bytes(_NUMBER_BYTES, "big"), one)])


def body_of(stream: str, act: str, who: str, details: str) -> bytes:
    """Digest an act without its place."""
    return sha256(pack(_FORMAT, stream, act, who, details)).digest()


def link(previous: bytes, seq: int, at: datetime, body: bytes) -> bytes:
    """Chain an act to the one before it: SHA-256 over that one's digest, number, microseconds since 1970, and body.

    Each of the four has a fixed length. `storage.audit` says the same in SQL.
    """
    return sha256(previous + _number(seq) + _number((at - EPOCH) // MICROSECOND) + body).digest()


def _number(value: int) -> bytes:
    return value.to_bytes(_NUMBER_BYTES, "big", signed=True)


@dataclass(frozen=True, slots=True)
class Content:
    """What an act says of one version that it added or removed: enough to know it again, not the object."""

    date_added: datetime
    stix_id: str
    form: int
    version: str
    digest: bytes
    member: int


class Contents:
    """Versions that came or went, told one after the other in the order of their dates: how many, which, from when to when."""

    def __init__(self) -> None:
        """Begin with none."""
        self._total = sha256()
        self._span: tuple[datetime, datetime] | None = None
        self.versions = 0

    def add(self, one: Content) -> None:
        """Take in the next version."""
        date = str((one.date_added - EPOCH) // MICROSECOND)
        self._total.update(pack(date, one.stix_id, str(int(one.form)), one.version, one.digest, str(one.member)))
        self._span = (one.date_added if self._span is None else self._span[0], one.date_added)
        self.versions += 1

    @classmethod
    def of(cls, contents: Iterable[Content]) -> Contents:
        """Tell versions that come in whatever order."""
        told = cls()
        for one in sorted(contents, key=lambda each: each.date_added):
            told.add(one)
        return told

    @property
    def digest(self) -> str:
        """The digest of exactly these, as hexadecimal."""
        return self._total.hexdigest()

    @property
    def details(self) -> dict[str, Any]:
        """What an act says of them."""
        told = {"versions": self.versions, "digest": self.digest}
        if self._span is None:
            return told
        return {**told, "first": to_taxii(self._span[0]), "last": to_taxii(self._span[1])}


def digest_of(contents: Iterable[Content]) -> str:
    """Digest versions in the order of their dates, as hexadecimal."""
    return Contents.of(contents).digest
