"""Objects that are certainly in order: known without stix2, in a hundredth of its time.

Most of what is shared is plain: an indicator with a simple pattern, a relationship, a domain name, with the properties
that STIX 2.1 gives them, each of the plainest shape. Of these stix2 can but say yes, so it isn't asked. The tables here
say what is plain and no more; of anything else they say nothing, and it is judged by stix2 as ever (`stix2_rules`).
Whoever changes a line of them has `tests/operations/test_certain.py` to convince: what is accepted here is accepted
there, with the same columns.

Nothing here takes longer than in proportion to an object's length, and nothing here imports stix2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, TypeAlias

import msgspec

from taxii_server.domain.stix_objects import LARGEST_INTEGER, SCO_TYPES, VERSIONED_TYPES, Columns, Form
from taxii_server.domain.tlp import MARKING_LEVELS
from taxii_server.operations.plain_patterns import is_plain

_Fits: TypeAlias = Callable[[Any], bool]

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_TIMESTAMP = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?Z"
).fullmatch
_CUSTOM_NAME = re.compile("x_[a-z0-9_]{1,240}").fullmatch
_ESCAPES: Final = (rb"\u003a", rb"\u003A", rb"\u0000")

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder(order="sorted").encode


def read(octets: bytes) -> Columns | None:
    """Give the columns of an object that is certainly valid; None says nothing."""
    try:
        found = _decode(octets)
        kind = _KINDS.get(found["type"])
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    if kind is None or not _fits(found, kind):
        return None
    again = _encode(found)
    if not _read_whole(octets, again):
        return None
    markings = [MARKING_LEVELS[one] for one in found.get("object_marking_refs", ()) if one in MARKING_LEVELS]
    version = found.get("modified")
    return Columns(
        stix_id=found["id"],
        stix_type=kind.name,
        form=Form.STIX_2_1,
        version=version,
        version_at=None if version is None else datetime.fromisoformat(version),
        digest=sha256(again).digest(),
        level=max(markings) if markings else None,
        names_creator="created_by_ref" in found,
        revoked=found.get("revoked") is True,
    )


def _fits(found: dict[str, Any], kind: _Kind) -> bool:
    if not kind.required <= found.keys():
        return False
    texts, properties = kind.texts, kind.properties
    for name, value in found.items():
        if type(value) is str and name in texts:
            continue
        fits = properties.get(name)
        if not (_custom(name, value) if fits is None else fits(value)):
            return False
    for earlier, later, may_be_equal in kind.orders:
        if earlier in found and later in found:
            first, last = datetime.fromisoformat(found[earlier]), datetime.fromisoformat(found[later])
            if last < first or (last == first and not may_be_equal):
                return False
    return True


def _read_whole(octets: bytes, again: bytes) -> bool:
    """Whether what was read is all that is written: the reader keeps the last of several properties of one name.

    Written `again`, an object has a colon less for each that was lost, and no less anywhere else: unless one was spelled as an
    escape. NUL is JSON, and can't be stored.
    """
    if octets.count(b":") != again.count(b":"):
        return False
    return rb"\u" not in octets or not any(escape in octets for escape in _ESCAPES)


def _custom(name: str, value: Any) -> bool:
    if _CUSTOM_NAME(name) is None:
        return False
    return type(value) is str or _whole(value) or _boolean(value) or _strings(value)


def _string(value: Any) -> bool:
    return type(value) is str


def _some_string(value: Any) -> bool:
    return type(value) is str and value != ""


def _strings(value: Any) -> bool:
    # an empty one holds no type at all
    return type(value) is list and set(map(type, value)) == _STRING


def _boolean(value: Any) -> bool:
    return type(value) is bool


def _whole(value: Any) -> bool:
    return type(value) is int and -LARGEST_INTEGER <= value <= LARGEST_INTEGER


def _instant(value: Any) -> bool:
    if type(value) is not str or _TIMESTAMP(value) is None:
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _among(*values: Any) -> _Fits:
    return lambda value: type(value) is str and value in values


def _within(least: int, most: int) -> _Fits:
    return lambda value: type(value) is int and least <= value <= most


def _matching(pattern: str) -> _Fits:
    fullmatch = re.compile(pattern).fullmatch
    return lambda value: type(value) is str and fullmatch(value) is not None


def _id(types: Iterable[str]) -> _Fits:
    return _matching(f"(?:{'|'.join(sorted(types))})--{_UUID}")


def _list_of(fits: _Fits) -> _Fits:
    return lambda value: type(value) is list and bool(value) and all(map(fits, value))


def _reference(value: Any) -> bool:
    return (
        type(value) is dict
        and value.keys() <= _REFERENCE
        and "source_name" in value
        and len(value) > 1
        and set(map(type, value.values())) == _STRING
    )


def _phase(value: Any) -> bool:
    return type(value) is dict and value.keys() == _PHASE and set(map(type, value.values())) == _STRING


def _pattern(value: Any) -> bool:
    return type(value) is str and is_plain(value)


_STRING: Final = {str}
_REFERENCE: Final = {"source_name", "description", "url", "external_id"}
_PHASE: Final = {"kill_chain_name", "phase_name"}


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a plain object of one type looks like: `orders` has pairs of dates, and whether both may be the same.

    Of its `texts` it is enough that they are strings.
    """

    name: str
    required: frozenset[str]
    texts: frozenset[str]
    properties: Mapping[str, _Fits]
    orders: tuple[tuple[str, str, bool], ...]


_COMMON: Final[Mapping[str, _Fits]] = {
    "created_by_ref": _id(["identity"]),
    "created": _instant,
    "modified": _instant,
    "revoked": _boolean,
    "labels": _strings,
    "confidence": _within(0, 100),
    "lang": _string,
    "external_references": _list_of(_reference),
}
_SDO_TYPES: Final = VERSIONED_TYPES - {
    "relationship",
    "sighting",
    "marking-definition",
    "language-content",
    "extension-definition",
}
_RELATED: Final = _id(_SDO_TYPES | SCO_TYPES | {"x-[a-z0-9]+(?:-[a-z0-9]+)*"})


def _kind(name: str, required: str, /, *orders: tuple[str, str, bool], **properties: _Fits) -> _Kind:
    first = {
        "type": _among(name),
        "id": _id([name]),
        "spec_version": _among("2.1"),
        "object_marking_refs": _list_of(_id(["marking-definition"])),
    }
    plain = {**first, **properties}
    texts = frozenset(name for name, fits in plain.items() if fits is _string)
    return _Kind(name, frozenset(["id", *required.split()]), texts, plain, orders)


def _versioned(name: str, required: str, /, *orders: tuple[str, str, bool], **properties: _Fits) -> _Kind:
    return _kind(
        name,
        f"spec_version created modified {required}",
        ("created", "modified", True),
        *orders,
        **{**_COMMON, **properties},
    )


_SEEN: Final = ("first_seen", "last_seen", True)
_PHASES: Final = _list_of(_phase)
_KINDS: Final[Mapping[str, _Kind]] = {
    kind.name: kind
    for kind in (
        _versioned(
            "indicator",
            "pattern pattern_type valid_from",
            ("valid_from", "valid_until", False),
            name=_string,
            description=_string,
            indicator_types=_strings,
            pattern=_pattern,
            pattern_type=_among("stix"),
            pattern_version=_among("2.0", "2.1"),
            valid_from=_instant,
            valid_until=_instant,
            kill_chain_phases=_PHASES,
        ),
        _versioned(
            "relationship",
            "relationship_type source_ref target_ref",
            ("start_time", "stop_time", False),
            # an empty one is taken for none
            relationship_type=_some_string,
            description=_string,
            source_ref=_RELATED,
            target_ref=_RELATED,
            start_time=_instant,
            stop_time=_instant,
        ),
        _versioned(
            "sighting",
            "sighting_of_ref",
            _SEEN,
            description=_string,
            first_seen=_instant,
            last_seen=_instant,
            count=_within(0, 999_999_999),
            sighting_of_ref=_id(_SDO_TYPES),
            observed_data_refs=_list_of(_id(["observed-data"])),
            where_sighted_refs=_list_of(_id(["identity", "location"])),
            summary=_boolean,
        ),
        _versioned(
            "malware",
            "name is_family",
            _SEEN,
            name=_string,
            description=_string,
            malware_types=_strings,
            is_family=_boolean,
            aliases=_strings,
            kill_chain_phases=_PHASES,
            first_seen=_instant,
            last_seen=_instant,
            architecture_execution_envs=_strings,
            implementation_languages=_strings,
            capabilities=_strings,
        ),
        _versioned(
            "attack-pattern", "name", name=_string, description=_string, aliases=_strings, kill_chain_phases=_PHASES
        ),
        _versioned(
            "campaign",
            "name",
            _SEEN,
            name=_string,
            description=_string,
            aliases=_strings,
            first_seen=_instant,
            last_seen=_instant,
            objective=_string,
        ),
        _versioned("course-of-action", "name", name=_string, description=_string),
        _versioned(
            "identity",
            "name",
            name=_string,
            description=_string,
            roles=_strings,
            identity_class=_string,
            sectors=_strings,
            contact_information=_string,
        ),
        _versioned(
            "intrusion-set",
            "name",
            _SEEN,
            name=_string,
            description=_string,
            aliases=_strings,
            first_seen=_instant,
            last_seen=_instant,
            goals=_strings,
            resource_level=_string,
            primary_motivation=_string,
            secondary_motivations=_strings,
        ),
        _versioned(
            "report",
            "name published object_refs",
            name=_string,
            description=_string,
            report_types=_strings,
            published=_instant,
            object_refs=_list_of(_id(_SDO_TYPES | SCO_TYPES | {"relationship", "sighting"})),
        ),
        _versioned(
            "threat-actor",
            "name",
            _SEEN,
            name=_string,
            description=_string,
            threat_actor_types=_strings,
            aliases=_strings,
            first_seen=_instant,
            last_seen=_instant,
            roles=_strings,
            goals=_strings,
            sophistication=_string,
            resource_level=_string,
            primary_motivation=_string,
            secondary_motivations=_strings,
            personal_motivations=_strings,
        ),
        _versioned(
            "tool",
            "name",
            name=_string,
            description=_string,
            tool_types=_strings,
            aliases=_strings,
            kill_chain_phases=_PHASES,
            tool_version=_string,
        ),
        _versioned("vulnerability", "name", name=_string, description=_string),
        *(
            _kind(name, "value", value=_string, defanged=_boolean)
            for name in ("domain-name", "email-addr", "ipv4-addr", "ipv6-addr", "mac-addr", "url")
        ),
    )
}
