"""What the server itself needs of a STIX object, whichever validation its collection asks for.

Everything here is pure: the octets of one object in, its `Columns` out, or `Refused` with words for whoever sent it.
Version order lives in `stix_versions`, the marking levels in `tlp`.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from enum import IntEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from taxii_server.domain import timestamps, tlp
from taxii_server.domain.words import printable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

MOST_LEVELS = 100
"""Levels of nesting inside one object, the object itself counting as the first."""

LARGEST_INTEGER = 2**53 - 1
"""Beyond it, JSON readers that use doubles read another number (RFC 7493 §2.2)."""

_LONGEST_ECHO = 300
_TYPE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,248}[a-z0-9])?")
_ID = re.compile(
    r"(?P<type>[a-z0-9-]{1,250})--[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE
)

SCO_TYPES = frozenset(
    (  # noqa: SIM905 - a column of names would say no more
        "artifact autonomous-system directory domain-name email-addr email-message file ipv4-addr ipv6-addr mac-addr "
        "mutex network-traffic process software url user-account windows-registry-key x509-certificate"
    ).split(),
)
VERSIONED_TYPES = frozenset(
    (  # noqa: SIM905
        "attack-pattern campaign course-of-action extension-definition grouping identity incident indicator "
        "infrastructure intrusion-set language-content location malware malware-analysis marking-definition note "
        "observed-data opinion relationship report sighting threat-actor tool vulnerability"
    ).split(),
)
"""Types that STIX gives a `created`; all but the marking-definition also have a `modified`."""
NOT_REVOCABLE = SCO_TYPES | {"marking-definition"}
"""Types that have no `revoked`; every other that has versions has it (STIX 2.1 §3.2)."""


class Form(IntEnum):
    """The STIX specification version of an object version; a later form is a larger number."""

    STIX_2_0 = 20
    STIX_2_1 = 21

    @property
    def text(self) -> str:
        """The form as `spec_version` and `match[spec_version]` write it."""
        return f"{self // 10}.{self % 10}"

    @property
    def media_type(self) -> str:
        """The form's media type (§5.2.1)."""
        return f"application/stix+json;version={self.text}"


FORMS: Mapping[str, Form] = {form.text: form for form in Form}


class NotJson(ValueError):
    """The octets are no JSON by RFC 8259 and 7493, so the envelope around them isn't either."""


class Refused(ValueError):
    """The object can't be taken; the message tells its sender what to mend."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What is stored beside an object's text.

    `version` and `version_at` are None for an object with neither `modified` nor `created`: the server's date of
    addition stands in (§3.4.1). `level` is None for an object without a known TLP marking. `names_creator`: it has a
    `created_by_ref`, on whatever level of nesting and whatever stands in it. `revoked`: it says that its object is no
    longer valid.
    """

    stix_id: str
    stix_type: str
    form: Form
    version: str | None
    version_at: datetime | None
    digest: bytes
    level: tlp.Level | None
    names_creator: bool = False
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class Parsed:
    """One object, read once. `problems` are what JSON itself allows but this server doesn't."""

    value: Any
    digest: bytes
    problems: tuple[str, ...]
    names_creator: bool = False


def parse(octets: bytes) -> Parsed:
    """Read one JSON text.

    Raises:
        NotJson: if it isn't JSON, or holds what can't be written as UTF-8 (a lone surrogate).
    """
    hooks = _Hooks()
    try:
        text = octets.decode()
        value = json.loads(
            text,
            object_pairs_hook=hooks.pairs,
            parse_int=hooks.integer,
            parse_float=hooks.real,
            parse_constant=hooks.constant,
        )
        digest = sha256(json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()).digest()
    except RecursionError:
        return Parsed(None, b"", (f"nested more than {MOST_LEVELS} levels deep",))
    except (UnicodeError, ValueError) as error:
        raise NotJson(str(error)) from error
    if _too_deep(octets, value):
        hooks.problems.append(f"nested more than {MOST_LEVELS} levels deep")
    elif b"\\u0000" in octets and _holds_nul(value):
        hooks.problems.append("holds the character NUL (\\u0000)")
    return Parsed(value, digest, tuple(hooks.problems), hooks.names_creator)


def columns(parsed: Parsed) -> Columns:
    """Read off what the server needs to store and order the object.

    Raises:
        Refused: naming the first thing to mend.
    """
    if parsed.problems:
        raise Refused(parsed.problems[0])
    if not isinstance(parsed.value, dict):
        message = "is not a JSON object"
        raise Refused(message)
    found: dict[str, Any] = parsed.value
    stix_type = _type_of(found)
    stix_id = _id_of(found, stix_type)
    version, version_at = _version_of(found, stix_type)
    pretended = tlp.misstated(found)
    if pretended is not None:
        message = (
            f"has the id of the marking-definition of TLP:{pretended.text}, and doesn't say TLP:{pretended.text}: "
            "leave it out, or send it as it is published"
        )
        raise Refused(message)
    return Columns(
        stix_id=stix_id,
        stix_type=stix_type,
        form=_form_of(found, stix_type, versioned=version is not None),
        version=version,
        version_at=version_at,
        digest=parsed.digest,
        level=tlp.level_of(found),
        names_creator=parsed.names_creator,
        revoked=found.get("revoked") is True and "modified" in found and is_revocable(stix_type),
    )


def is_revocable(stix_type: str) -> bool:
    """Whether objects of this type have the property `revoked`, as far as they have versions."""
    return stix_type not in NOT_REVOCABLE


def shown_id(value: object) -> str | None:
    """Give what the object calls itself, for the status of a refused one; None if it has no usable id."""
    return _echo(value, "id")


def shown_version(value: object) -> str | None:
    """Give the version a refused object claims, if it claims one."""
    return _echo(value, "modified") or _echo(value, "created")


def _echo(value: object, name: str) -> str | None:
    text = value.get(name) if isinstance(value, dict) else None
    return printable(text[:_LONGEST_ECHO]) if isinstance(text, str) and text else None


def _shown(text: str) -> str:
    return printable(text if len(text) <= 40 else text[:40] + "…")  # noqa: PLR2004 - enough to find the place


class _Hooks:
    """What the JSON reader calls, and what it noticed."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.names_creator = False

    def pairs(self, items: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(items)
        self.names_creator = self.names_creator or "created_by_ref" in found
        if len(found) != len(items):
            twice = next(name for name, count in Counter(name for name, _ in items).items() if count > 1)
            self.problems.append(f"property {_shown(twice)} occurs twice in one JSON object")
        return found

    def integer(self, text: str) -> int:
        # the length is looked at first: Python refuses to convert very long digit strings
        if len(text) > len(str(-LARGEST_INTEGER)) or abs(int(text)) > LARGEST_INTEGER:
            self.problems.append(f"integer {_shown(text)} is beyond ±(2^53 - 1)")
            return 0
        return int(text)

    def real(self, text: str) -> float:
        number = float(text)
        if number in {float("inf"), float("-inf")}:
            self.problems.append(f"number {_shown(text)} is beyond the range of a double")
            return 0.0
        return number

    @staticmethod
    def constant(name: str) -> float:
        message = f"{name} is not JSON"
        raise ValueError(message)


def _too_deep(octets: bytes, value: Any) -> bool:
    if octets.count(b"{") + octets.count(b"[") <= MOST_LEVELS:
        return False
    level = [value]
    for _ in range(MOST_LEVELS):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def _holds_nul(value: object) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(name) or _holds_nul(child) for name, child in value.items())
    return isinstance(value, list) and any(map(_holds_nul, value))


def _type_of(found: Mapping[str, Any]) -> str:
    stix_type = found.get("type")
    if not isinstance(stix_type, str):
        message = "required property type is missing" if stix_type is None else "type must be a string"
        raise Refused(message)
    if stix_type == "bundle":
        message = "a bundle can't be stored: send its objects, or send the bundle itself as the envelope"
        raise Refused(message)
    if not _TYPE.fullmatch(stix_type):
        message = f"type {_shown(stix_type)} is not a STIX type: a-z, 0-9 and hyphen, at most 250 characters"
        raise Refused(message)
    return stix_type


def _id_of(found: Mapping[str, Any], stix_type: str) -> str:
    stix_id = found.get("id")
    if not isinstance(stix_id, str):
        message = "required property id is missing" if stix_id is None else "id must be a string"
        raise Refused(message)
    parts = _ID.fullmatch(stix_id)
    if parts is None:
        message = f"id is not a STIX identifier: {stix_type}--, then a UUID"
        raise Refused(message)
    if parts["type"] != stix_type:
        message = f"id begins with {_shown(parts['type'])}, but type is {_shown(stix_type)}"
        raise Refused(message)
    return stix_id


def _version_of(found: Mapping[str, Any], stix_type: str) -> tuple[str, datetime] | tuple[None, None]:
    chosen: tuple[str, datetime] | tuple[None, None] = (None, None)
    for name in ("created", "modified"):
        if name in found:
            try:
                chosen = (found[name], timestamps.from_stix(found[name]))
            except timestamps.BadTimestamp as error:
                message = f"{name} {error}"
                raise Refused(message) from error
    if chosen[0] is None and stix_type in VERSIONED_TYPES:
        message = f"required property {'created' if stix_type == 'marking-definition' else 'modified'} is missing"
        raise Refused(message)
    return chosen


def _form_of(found: Mapping[str, Any], stix_type: str, *, versioned: bool) -> Form:
    stated = found.get("spec_version")
    if stated is None and "spec_version" not in found:
        # STIX 2.0 objects have no spec_version; STIX 2.1 lets only observables go without
        return Form.STIX_2_1 if stix_type in SCO_TYPES or not versioned else Form.STIX_2_0
    if not isinstance(stated, str) or stated not in FORMS:
        message = f"spec_version must be one of {', '.join(FORMS)}"
        raise Refused(message)
    return FORMS[stated]
