"""Query strings, understood once (§3.4). A field occurs at most once; unknown fields are ignored."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl

from taxii_server.domain import timestamps, trace_cursor
from taxii_server.domain.cursor import Endpoint, resume
from taxii_server.domain.errors import BadParameter
from taxii_server.domain.filters import ALL_VERSIONS, Exactly, Filter, Keyword
from taxii_server.domain.stix_objects import FORMS, LARGEST_INTEGER

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from taxii_server.domain.filters import VersionSpec
    from taxii_server.domain.trace_cursor import TraceCursor

_PAGING = frozenset({"added_after", "limit", "next"})
FIELDS: Mapping[Endpoint, frozenset[str]] = {
    Endpoint.OBJECTS: _PAGING | {"match[id]", "match[type]", "match[version]", "match[spec_version]"},
    Endpoint.MANIFEST: _PAGING | {"match[id]", "match[type]", "match[version]", "match[spec_version]"},
    Endpoint.OBJECT: _PAGING | {"match[version]", "match[spec_version]"},
    Endpoint.VERSIONS: _PAGING | {"match[spec_version]"},
}
"""Which fields each endpoint that pages takes; a field an endpoint doesn't list is ignored there."""

_REMEMBERED = 256  # characters of a query and of the object its path names, so that what is made up takes little memory
_DELETE_FIELDS = frozenset({"match[version]", "match[spec_version]"})
_WHOLE_NUMBER = re.compile(r"[0-9]+")
_SURPLUS_ZEROS = re.compile(r"(\.[0-9]{6})0+Z$")


@dataclass(frozen=True, slots=True)
class PageQuery:
    """One page as the query string asks for it; `limit` is None where it doesn't say."""

    want: Filter
    position: datetime | None
    limit: int | None


def page_query(
    query: str,
    endpoint: Endpoint,
    collection_id: UUID,
    stix_id: str | None = None,
) -> PageQuery:
    """Read the query string of an endpoint that pages; `stix_id` is the one object the path names.

    Raises:
        BadParameter: naming the parameter and what is wrong with it.
    """
    read = _page_query if len(query) + len(stix_id or "") > _REMEMBERED else _remembered
    return read(query, endpoint, collection_id, stix_id)


def _page_query(query: str, endpoint: Endpoint, collection_id: UUID, stix_id: str | None) -> PageQuery:
    given = _fields(query, FIELDS[endpoint])
    wanted = _read(given)
    if stix_id is not None:
        wanted["ids"] = (stix_id,)
    # the versions endpoint takes no match[version]: all is its point
    asked = Filter(**wanted, versions=ALL_VERSIONS) if endpoint is Endpoint.VERSIONS else Filter(**wanted)
    limit = _limit(given["limit"]) if "limit" in given else None
    if "next" in given:
        cursor = resume(given["next"], endpoint, collection_id, asked, frozenset(wanted))
        if cursor is not None:
            return PageQuery(cursor.want, cursor.position, limit)
    return PageQuery(asked, None, limit)


# a poller asks for the same until there is something new, and so do all of them that are at the end
_remembered = lru_cache(maxsize=1024)(_page_query)


def delete_query(query: str) -> Filter | None:
    """Read which versions a DELETE names; None if it names none, which means the whole object.

    Raises:
        BadParameter: naming the parameter and what is wrong with it.
    """
    given = _fields(query, _DELETE_FIELDS)
    if not given:
        return None
    return Filter(**{"versions": ALL_VERSIONS, **_read(given)})


def trace_query(query: str, collection_id: UUID, stix_id: str) -> TraceCursor | None:
    """Read where the question who received an object goes on; None at its beginning.

    Raises:
        BadParameter: naming the parameter and what is wrong with it.
    """
    given = _fields(query, frozenset({"next"}))
    return trace_cursor.resume(given["next"], collection_id, stix_id) if given else None


def _fields(query: str, known: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    try:
        pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
    except ValueError as error:
        message = "The query string is not UTF-8."
        raise BadParameter("?", message) from error
    for name, value in pairs:
        if name not in known:
            continue
        if name in found:
            message = f"{name} occurs more than once: give its values in one field, with commas between."
            raise BadParameter(name, message)
        if not value or "\0" in value:
            message = f"{name} {'has no value' if not value else 'holds a NUL character'}."
            raise BadParameter(name, message)
        found[name] = value
    return found


def _read(given: Mapping[str, str]) -> dict[str, Any]:
    """Read the fields that filter, by what `Filter` calls them."""
    return {_READERS[name].field: _READERS[name].read(name, text) for name, text in given.items() if name in _READERS}


def _values(name: str, text: str) -> tuple[str, ...]:
    values = tuple(text.split(","))
    if not all(values):
        message = f"{name} has an empty value between its commas."
        raise BadParameter(name, message)
    return values


def _added_after(name: str, text: str) -> datetime:
    try:
        # an unescaped + of an offset arrives as a space
        return timestamps.from_parameter(text.replace(" ", "+"))
    except timestamps.BadTimestamp as error:
        message = f"{name} is {error}."
        raise BadParameter(name, message) from error


def _limit(text: str) -> int:
    if not _WHOLE_NUMBER.fullmatch(text) or not text.strip("0"):
        message = "limit must be a whole number above zero."
        raise BadParameter("limit", message)
    digits = text.lstrip("0")
    if len(digits) > len(str(LARGEST_INTEGER)) or int(digits) > LARGEST_INTEGER:
        message = "limit is beyond 2^53 - 1."
        raise BadParameter("limit", message)
    return int(digits)


def _versions(name: str, text: str) -> tuple[VersionSpec, ...]:
    read = [_version(name, value) for value in _values(name, text)]
    specs = tuple(spec for spec in read if spec is not None)
    if len(set(specs)) != len(specs):
        message = f"{name} names a version twice."
        raise BadParameter(name, message)
    if Keyword.ALL in specs and len(specs) > 1:
        message = f"{name}: all stands alone."
        raise BadParameter(name, message)
    return specs


def _version(name: str, text: str) -> VersionSpec | None:
    """Read one version; None for an instant between two that this server can keep apart, which nothing stored has."""
    if text in {word.value for word in Keyword}:
        return Keyword(text)
    try:
        return Exactly(timestamps.from_stix(_SURPLUS_ZEROS.sub(r"\1Z", text)))
    except timestamps.TooPrecise:
        return None
    except timestamps.BadTimestamp as error:
        message = f"{name} takes first, last, all or a STIX timestamp; a value {error}."
        raise BadParameter(name, message) from error


def _forms(name: str, text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(int(FORMS[value]) for value in _values(name, text) if value in FORMS))


class _Reader(NamedTuple):
    field: str
    read: Callable[[str, str], object]


_READERS: Mapping[str, _Reader] = {
    "added_after": _Reader("added_after", _added_after),
    "match[id]": _Reader("ids", _values),
    "match[type]": _Reader("types", _values),
    "match[version]": _Reader("versions", _versions),
    "match[spec_version]": _Reader("forms", _forms),
}
