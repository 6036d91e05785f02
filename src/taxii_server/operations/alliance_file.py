"""alliance.yaml: read whole, refused with file and line for everything in it that makes no sense.

The file is composed into YAML nodes, which know their lines, and never constructed into Python objects; anchors,
aliases and merge keys have no use here and are refused, so a small file can't unfold into a large one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import UUID

import yaml

from taxii_server.domain.access import Right, Validation
from taxii_server.domain.errors import AllianceInvalid
from taxii_server.domain.words import did_you_mean
from taxii_server.operations import durations
from taxii_server.operations.issuers_file import WantedIssuer, read_issuers
from taxii_server.operations.yaml_nodes import compose, is_empty

KINDS: Final = ("bank", "law-enforcement", "vendor", "other")
"""What a member can be."""

SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
RESERVED_TRUST_GROUPS: Final = frozenset({"api", "collections", "discovery", "status", "taxii", "taxii2"})
RESERVED_MEMBERS: Final = frozenset({"operator"})

_ALIAS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,62}")
_LOOKS_LIKE_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")
_UUID_VERSION: Final = 4
_LARGEST_FILE: Final = 8 * 1024 * 1024
_LONGEST_TITLE: Final = 500
_LONGEST_DESCRIPTION: Final = 10_000
_TEXT: Final = "tag:yaml.org,2002:str"
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class WantedCollection:
    """A collection as the file wants it; `id` is None where the file leaves the choice to us."""

    alias: str
    title: str
    line: int
    id: UUID | None = None
    description: str | None = None
    validation: Validation = Validation.STRICT
    retention: timedelta | None = None
    grants: dict[str, frozenset[Right]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WantedTrustGroup:
    """A trust group as the file wants it."""

    slug: str
    title: str
    line: int
    description: str | None = None
    collections: tuple[WantedCollection, ...] = ()


@dataclass(frozen=True, slots=True)
class WantedMember:
    """A member as the file wants it."""

    slug: str
    name: str
    line: int
    kind: str = "other"


@dataclass(frozen=True, slots=True)
class Alliance:
    """What a whole file asks for."""

    file: str
    trust_groups: tuple[WantedTrustGroup, ...]
    members: tuple[WantedMember, ...]
    issuers: tuple[WantedIssuer, ...] = ()


def load(path: Path) -> Alliance:
    """Read a file.

    Raises:
        AllianceInvalid: naming every problem with its line.
    """
    try:
        with path.open("rb") as file:
            octets = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise AllianceInvalid([f"{path}: can't be read: {error.strerror}"]) from error
    if len(octets) > _LARGEST_FILE:
        raise AllianceInvalid([f"{path}: is larger than {_LARGEST_FILE} octets: this can't be an alliance file"])
    try:
        text = octets.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = octets.count(b"\n", 0, error.start) + 1
        raise AllianceInvalid([f"{path}:{line}: is not UTF-8: save the file in that encoding"]) from error
    return parse(text, str(path))


def parse(text: str, file: str = "alliance.yaml") -> Alliance:
    """Understand the text of a file, called `file` in messages.

    Raises:
        AllianceInvalid: naming every problem with its line.
    """
    reader = _Reader(file)
    root = compose(text, file)
    if root is None:
        raise AllianceInvalid([f"{file}:1: is empty: it needs trust_groups and members"])
    alliance = reader.alliance(root)
    if reader.problems:
        raise AllianceInvalid([f"{file}:{line}: {what}" for line, what in sorted(reader.problems)])
    return alliance


@dataclass(frozen=True, slots=True)
class _Entry:
    """One key of a mapping."""

    key: str
    line: int
    value: yaml.Node


class _Reader:
    """Walks the nodes and collects what is wrong, so that an operator mends a file in one go."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: set[tuple[int, str]] = set()

    def alliance(self, root: yaml.Node) -> Alliance:
        entries = self._mapping(root, "the file", required=("trust_groups", "members"), optional=("issuers",))
        members = tuple(self._members(entries["members"].value)) if "members" in entries else ()
        groups: tuple[WantedTrustGroup, ...] = ()
        if "trust_groups" in entries:
            known = {member.slug for member in members}
            groups = tuple(self._trust_groups(entries["trust_groups"].value, known))
        self._unique_ids(groups)
        issuers, problems = read_issuers(entries["issuers"].value if "issuers" in entries else None, self.file, SLUG)
        self.problems |= problems
        return Alliance(self.file, groups, members, issuers)

    def _members(self, node: yaml.Node) -> Iterator[WantedMember]:
        for entry in self._entries(node, "members"):
            slug = self._slug(entry, "member", RESERVED_MEMBERS)
            parts = self._mapping(entry.value, f"member {slug}", required=("name",), optional=("kind",))
            name = self._text(parts.get("name"), "name")
            kind = self._choice(parts.get("kind"), "kind", KINDS) or "other"
            yield WantedMember(slug, name or "", entry.line, kind)

    def _trust_groups(self, node: yaml.Node, members: set[str]) -> Iterator[WantedTrustGroup]:
        for entry in self._entries(node, "trust_groups"):
            slug = self._slug(entry, "trust group", RESERVED_TRUST_GROUPS)
            parts = self._mapping(
                entry.value, f"trust group {slug}", required=("title",), optional=("description", "collections")
            )
            collections: tuple[WantedCollection, ...] = ()
            if "collections" in parts:
                collections = tuple(self._collections(parts["collections"].value, slug, members))
            self._unique_names(collections, slug)
            yield WantedTrustGroup(
                slug=slug,
                title=self._text(parts.get("title"), "title") or "",
                line=entry.line,
                description=self._text(parts.get("description"), "description", _LONGEST_DESCRIPTION),
                collections=collections,
            )

    def _collections(self, node: yaml.Node, group: str, members: set[str]) -> Iterator[WantedCollection]:
        if not isinstance(node, yaml.SequenceNode):
            if not is_empty(node):
                self._problem(node, f"collections of {group} must be a list: begin each with '- alias: …'")
            return
        for item in node.value:
            parts = self._mapping(
                item,
                f"a collection of {group}",
                required=("alias", "title"),
                optional=("id", "description", "validation", "retention", "grants"),
            )
            alias = self._alias(parts.get("alias"))
            validation = self._choice(parts.get("validation"), "validation", tuple(one.value for one in Validation))
            grants = self._grants(parts["grants"].value, f"{group}/{alias}", members) if "grants" in parts else {}
            yield WantedCollection(
                alias=alias,
                title=self._text(parts.get("title"), "title") or "",
                line=item.start_mark.line + 1,
                id=self._id(parts.get("id")),
                description=self._text(parts.get("description"), "description", _LONGEST_DESCRIPTION),
                validation=Validation(validation) if validation else Validation.STRICT,
                retention=self._retention(parts.get("retention")),
                grants=grants,
            )

    def _grants(self, node: yaml.Node, where: str, members: set[str]) -> dict[str, frozenset[Right]]:
        grants: dict[str, frozenset[Right]] = {}
        for entry in self._entries(node, f"grants of {where}"):
            if entry.key not in members:
                hint = did_you_mean(entry.key, sorted(members))
                self._problem(entry.line, f"grant for {entry.key!r}, which is no member of this file{hint}")
            grants[entry.key] = self._rights(entry)
        return grants

    def _rights(self, entry: _Entry) -> frozenset[Right]:
        known = [right.value for right in Right]
        if not isinstance(entry.value, yaml.SequenceNode):
            self._problem(entry.value, f"the grant of {entry.key} must be a list, like [read] or [read, write]")
            return frozenset()
        rights: set[Right] = set()
        for node in entry.value.value:
            if not isinstance(node, yaml.ScalarNode) or node.value not in known:
                told = node.value if isinstance(node, yaml.ScalarNode) else "a list or mapping"
                self._problem(
                    node, f"unknown right {told!r}: there are {' and '.join(known)}{did_you_mean(told, known)}"
                )
            elif Right(node.value) in rights:
                self._problem(node, f"the right {node.value} is given twice to {entry.key}")
            else:
                rights.add(Right(node.value))
        if not entry.value.value:
            self._problem(entry.line, f"the grant of {entry.key} is empty: name its rights, or leave the member out")
        return frozenset(rights)

    def _alias(self, entry: _Entry | None) -> str:
        alias = self._text(entry, "alias") or ""
        if entry is not None and alias:
            if _LOOKS_LIKE_UUID.fullmatch(alias):
                self._problem(entry.value, f"alias {alias!r} looks like an id: choose a word")
            elif not _ALIAS.fullmatch(alias):
                self._problem(
                    entry.value,
                    f"alias {alias!r} doesn't fit into a URL: use up to 63 letters, digits, '-', '.', '_' or '~', "
                    "beginning with a letter or digit",
                )
        return alias

    def _id(self, entry: _Entry | None) -> UUID | None:
        text = self._text(entry, "id")
        if entry is None or text is None:
            return None
        try:
            found = UUID(text)
        except ValueError:
            found = None
        if found is None or found.version != _UUID_VERSION or str(found) != text.lower():
            self._problem(entry.value, f"id {text!r} is not a UUIDv4: leave the line out, and one is made")
            return None
        return found

    def _retention(self, entry: _Entry | None) -> timedelta | None:
        if entry is None:
            return None
        if isinstance(entry.value, yaml.ScalarNode) and not is_empty(entry.value):
            text = str(entry.value.value)  # a bare number is told about its unit, not about quotes
        else:
            self._problem(entry.line, "retention must be a length of time, like 90d")
            return None
        try:
            retention = durations.parse(text)
        except durations.DurationError as error:
            self._problem(entry.value, f"retention: {error}")
            return None
        if not retention:
            self._problem(entry.value, "retention must be longer than nothing: leave the line out to keep all")
        return retention or None

    def _slug(self, entry: _Entry, what: str, reserved: frozenset[str]) -> str:
        if not SLUG.fullmatch(entry.key):
            self._problem(
                entry.line,
                f"{what} {entry.key!r} must be called by 1 to 63 small letters, digits or '-', with no '-' at the ends",
            )
        elif entry.key in reserved:
            self._problem(entry.line, f"{what} {entry.key!r}: the name is reserved, choose another")
        return entry.key

    def _choice(self, entry: _Entry | None, what: str, choices: tuple[str, ...]) -> str | None:
        text = self._text(entry, what)
        if entry is None or text is None:
            return None
        if text not in choices:
            self._problem(
                entry.value, f"{what} must be {' or '.join(choices)}, not {text!r}{did_you_mean(text, choices)}"
            )
            return None
        return text

    def _text(self, entry: _Entry | None, what: str, longest: int = _LONGEST_TITLE) -> str | None:
        if entry is None:
            return None
        node = entry.value
        if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
            self._problem(node if node.value else entry.line, f"{what} must be text")
            return None
        if node.tag != _TEXT:
            self._problem(node, f'{what} must be text: put it in quotes, "{node.value}"')
            return None
        text = str(node.value).strip()
        if len(text) > longest:
            self._problem(node, f"{what} is longer than {longest} characters")
        if _CONTROL.search(text):
            self._problem(node, f"{what} holds control characters")
        return text

    def _mapping(
        self,
        node: yaml.Node,
        what: str,
        *,
        required: tuple[str, ...],
        optional: tuple[str, ...] = (),
    ) -> dict[str, _Entry]:
        known = (*required, *optional)
        if not isinstance(node, yaml.MappingNode):
            self._problem(node, f"{what} must be a mapping with {', '.join(required)}")
            return {}
        found: dict[str, _Entry] = {}
        for entry in self._entries(node, what):
            if entry.key in known:
                found[entry.key] = entry
            else:
                hint = did_you_mean(entry.key, known) or f": {what} takes {', '.join(known)}"
                self._problem(entry.line, f"unknown key {entry.key!r}{hint}")
        for name in required:
            if name not in found:
                self._problem(node, f"{what} needs {name}")
        return found

    def _entries(self, node: yaml.Node, what: str) -> Iterator[_Entry]:
        if not isinstance(node, yaml.MappingNode):
            if not is_empty(node):
                self._problem(node, f"{what} must be a mapping of names to what they are")
            return
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._problem(key, f"{what}: a key must be a plain word")
            elif key.value in lines:
                self._problem(key, f"{key.value!r} is there twice; the first is in line {lines[key.value]}")
            else:
                lines[key.value] = line
                yield _Entry(key.value, line, value)

    def _unique_names(self, collections: tuple[WantedCollection, ...], group: str) -> None:
        aliases: dict[str, int] = {}
        titles: dict[str, int] = {}
        for wanted in collections:
            for what, name, lines in (("alias", wanted.alias, aliases), ("title", wanted.title, titles)):
                if name and name in lines:
                    first = lines[name]
                    self._problem(
                        wanted.line, f"{group} has two collections with the {what} {name!r}; see line {first}"
                    )
                lines[name] = wanted.line

    def _unique_ids(self, groups: tuple[WantedTrustGroup, ...]) -> None:
        lines: dict[UUID, int] = {}
        for wanted in (collection for group in groups for collection in group.collections):
            if wanted.id is None:
                continue
            if wanted.id in lines:
                self._problem(wanted.line, f"the id {wanted.id} is there twice; see line {lines[wanted.id]}")
            lines[wanted.id] = wanted.line

    def _problem(self, where: yaml.Node | int, what: str) -> None:
        self.problems.add((where if isinstance(where, int) else where.start_mark.line + 1, what))
