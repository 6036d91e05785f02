"""`next` as a value: where a page ended, and of which request (§3.5, D-15 in docs/rulings.md).

A cursor carries its request's filters, so a client may repeat or drop them. It is not signed: whatever it says is
evaluated again under the present caller's rights, so a forged one shows nothing that a plain request wouldn't.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from taxii_server.domain import timestamps
from taxii_server.domain.errors import BadCursor
from taxii_server.domain.filters import Exactly, Filter, Keyword, VersionSpec
from taxii_server.domain.stix_objects import Form

_VERSION = 1
_SPELLED = {"ids": "match[id]", "types": "match[type]", "versions": "match[version]", "forms": "match[spec_version]"}


class Endpoint(StrEnum):
    """The endpoints that page; a cursor of one is no cursor of another."""

    OBJECTS = "objects"
    MANIFEST = "manifest"
    OBJECT = "object"
    VERSIONS = "versions"


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in one request's results: everything up to `position` (a `date_added`) has been served."""

    endpoint: Endpoint
    collection_id: UUID
    want: Filter
    position: datetime

    def encode(self) -> str:
        """Write the cursor as the text of `next`."""
        want = self.want
        plain = [
            _VERSION,
            self.endpoint.value,
            self.collection_id.hex,
            timestamps.to_taxii(self.position),
            None if want.added_after is None else timestamps.to_taxii(want.added_after),
            want.ids,
            want.types,
            [_spec_text(spec) for spec in want.versions],
            want.forms,
        ]
        octets = json.dumps(plain, separators=(",", ":"), ensure_ascii=False).encode()
        return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Read `next`.

        Raises:
            BadCursor: for anything this server would not have written letter for letter.
        """
        try:
            octets = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
            cursor = _from_plain(json.loads(octets))
            again = cursor.encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise BadCursor from error
        if again != text:
            raise BadCursor
        return cursor


def resume(text: str, endpoint: Endpoint, collection_id: UUID, asked: Filter, given: frozenset[str]) -> Cursor | None:
    """Read `next` for the present request; None for a stale one, which is set aside.

    Stale is what another collection gave, or a request that a new `added_after` has left behind: real clients keep
    `next` from one collection, and from one run, to the next. `given` names the fields of `asked` that the request
    spelled out: all of them but `added_after` must be the cursor's own.

    Raises:
        BadCursor: if it is malformed, of another endpoint, or contradicts the request.
    """
    cursor = Cursor.decode(text)
    if cursor.endpoint is not endpoint:
        message = f"this next continues {cursor.endpoint.value}, not {endpoint.value}"
        raise BadCursor(message)
    if cursor.collection_id != collection_id:
        return None
    for name in (field.name for field in fields(Filter) if field.name in given and field.name != "added_after"):
        if _as_set(getattr(asked, name)) != _as_set(getattr(cursor.want, name)):
            message = (
                f"this next continues a request with another {_SPELLED[name]}: "
                "repeat the first filters, or leave them out"
            )
            raise BadCursor(message)
    return cursor if _covers(cursor, asked.added_after) else None


def _covers(cursor: Cursor, added_after: datetime | None) -> bool:
    """Whether going on at the cursor misses nothing added after this: what lies between its own and its position was
    served, so only an earlier beginning, or one past its position, asks for something else.
    """
    begun = cursor.want.added_after
    if added_after is None or added_after == begun:
        return True
    return (begun is None or begun < added_after) and added_after <= cursor.position


def _as_set(value: object) -> object:
    return frozenset(value) if isinstance(value, tuple) else value


def _spec_text(spec: VersionSpec) -> str:
    return spec.value if isinstance(spec, Keyword) else timestamps.to_taxii(spec.version_at)


def _spec(text: str) -> VersionSpec:
    if text in {word.value for word in Keyword}:
        return Keyword(text)
    return Exactly(timestamps.from_parameter(text))


def _from_plain(plain: Any) -> Cursor:
    version, endpoint, collection, position, added_after, ids, types, versions, forms = plain
    if version != _VERSION or version is True:
        raise BadCursor
    want = Filter(
        added_after=None if added_after is None else timestamps.from_parameter(added_after),
        ids=_texts(ids),
        types=_texts(types),
        versions=tuple(_spec(text) for text in versions),
        forms=None if forms is None else tuple(int(Form(form)) for form in forms),
    )
    if want.matches_nothing:
        # what has no first page has no next one
        raise BadCursor
    return Cursor(Endpoint(endpoint), UUID(hex=str(collection)), want, timestamps.from_parameter(position))


def _texts(value: Any) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, list) and value and all(isinstance(text, str) and "\0" not in text for text in value):
        return tuple(value)
    raise BadCursor
