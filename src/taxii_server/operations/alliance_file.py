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

from taxii_server.domain.access import Attribution, Grant, Policy, Right, Validation
from taxii_server.domain.errors import AllianceInvalid
from taxii_server.domain.tlp import LEVELS, Level
from taxii_server.domain.words import did_you_mean
from taxii_server.operations import durations, sizes
from taxii_server.operations.issuers_file import WantedIssuer, read_issuers
from taxii_server.operations.yaml_nodes import Entry, Reader, compose, is_empty

KINDS: Final = ("bank", "law-enforcement", "vendor", "other")
"""What a member can be."""

SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
RESERVED_TRUST_GROUPS: Final = frozenset({"api", "collections", "discovery", "status", "taxii", "taxii2"})
RESERVED_MEMBERS: Final = frozenset({"operator"})

_ALIAS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~-]{0,62}")
_LOOKS_LIKE_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[0-9a-fA-F]{32}")
_UUID_VERSION: Final = 4
_LARGEST_FILE: Final = 8 * 1024 * 1024
_LONGEST_DESCRIPTION: Final = 10_000
_REFUSE: Final = "refuse"
_OLD_WORDS: Final = {"WHITE": "CLEAR", "AMBER_STRICT": "AMBER+STRICT", "AMBER-STRICT": "AMBER+STRICT"}


_POLICY: Final = ("validation", "ceiling", "unmarked", "owner_only", "attribution")
_STRICT: Final = Policy(Validation.STRICT)


@dataclass(frozen=True, slots=True)
class WantedCollection:
    """A collection as the file wants it; `id` is None where the file leaves the choice to us."""

    alias: str
    title: str
    line: int
    id: UUID | None = None
    description: str | None = None
    policy: Policy = _STRICT
    retention: timedelta | None = None
    grants: dict[str, Grant] = field(default_factory=dict)


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
    quota: int | None = None


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


class _Reader(Reader):
    def alliance(self, root: yaml.Node) -> Alliance:
        entries = self.mapping(root, "the file", required=("trust_groups", "members"), optional=("issuers",))
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
        for entry in self.entries(node, "members"):
            slug = self._slug(entry, "member", RESERVED_MEMBERS)
            parts = self.mapping(entry.value, f"member {slug}", required=("name",), optional=("kind", "quota"))
            name = self.words(parts.get("name"), "name")
            kind = self.choice(parts.get("kind"), "kind", KINDS) or "other"
            yield WantedMember(slug, name or "", entry.line, kind, self._quota(parts.get("quota")))

    def _quota(self, entry: Entry | None) -> int | None:
        if entry is None:
            return None
        if not isinstance(entry.value, yaml.ScalarNode) or is_empty(entry.value):
            self.problem(entry.line, "quota must be an amount, like 10GiB: leave the line out for none")
            return None
        try:
            return sizes.parse(str(entry.value.value))  # a bare number is told about its unit, not about quotes
        except sizes.SizeError as error:
            self.problem(entry.value, f"quota: {error}")
            return None

    def _trust_groups(self, node: yaml.Node, members: set[str]) -> Iterator[WantedTrustGroup]:
        for entry in self.entries(node, "trust_groups"):
            slug = self._slug(entry, "trust group", RESERVED_TRUST_GROUPS)
            parts = self.mapping(
                entry.value, f"trust group {slug}", required=("title",), optional=("description", "collections")
            )
            collections: tuple[WantedCollection, ...] = ()
            if "collections" in parts:
                collections = tuple(self._collections(parts["collections"].value, slug, members))
            self._unique_names(collections, slug)
            yield WantedTrustGroup(
                slug=slug,
                title=self.words(parts.get("title"), "title") or "",
                line=entry.line,
                description=self.words(parts.get("description"), "description", _LONGEST_DESCRIPTION),
                collections=collections,
            )

    def _collections(self, node: yaml.Node, group: str, members: set[str]) -> Iterator[WantedCollection]:
        if not isinstance(node, yaml.SequenceNode):
            if not is_empty(node):
                self.problem(node, f"collections of {group} must be a list: begin each with '- alias: …'")
            return
        for item in node.value:
            parts = self.mapping(
                item,
                f"a collection of {group}",
                required=("alias", "title"),
                optional=("id", "description", "retention", "grants", *_POLICY),
            )
            alias = self._alias(parts.get("alias"))
            grants = self._grants(parts["grants"].value, f"{group}/{alias}", members) if "grants" in parts else {}
            yield WantedCollection(
                alias=alias,
                title=self.words(parts.get("title"), "title") or "",
                line=item.start_mark.line + 1,
                id=self._id(parts.get("id")),
                description=self.words(parts.get("description"), "description", _LONGEST_DESCRIPTION),
                policy=self._policy(parts),
                retention=self._retention(parts.get("retention")),
                grants=grants,
            )

    def _policy(self, parts: dict[str, Entry]) -> Policy:
        validation = self.choice(parts.get("validation"), "validation", tuple(one.value for one in Validation))
        attribution = self.choice(parts.get("attribution"), "attribution", tuple(one.value for one in Attribution))
        ceiling = self._level(parts.get("ceiling"), "ceiling")
        ceiling = Level.RED if ceiling is None else ceiling
        unmarked = self._level(parts.get("unmarked"), "unmarked", or_word=_REFUSE)
        if unmarked is not None and unmarked > ceiling:
            self.problem(
                parts["unmarked"].line,
                f"unmarked counts as {unmarked.text}, above the ceiling {ceiling.text}: nothing unmarked could be added. "
                f"Raise the ceiling, or say unmarked: {_REFUSE}",
            )
        return Policy(
            validation=Validation(validation or Validation.STRICT),
            ceiling=ceiling,
            # what nothing has yet; where something is stored, it keeps the level it has
            unmarked_level=Level.RED if self._says(parts.get("unmarked"), _REFUSE) else unmarked or Level.CLEAR,
            unmarked_refused=self._says(parts.get("unmarked"), _REFUSE),
            owner_only=self.flag(parts.get("owner_only"), "owner_only", default=False),
            attribution=Attribution(attribution or Attribution.NAMED),
        )

    def _level(self, entry: Entry | None, what: str, *, or_word: str | None = None) -> Level | None:
        text = self.words(entry, what)
        if entry is None or text is None or text == or_word:
            return None
        if text not in LEVELS:
            words = [*LEVELS, or_word] if or_word else list(LEVELS)
            meant = text.upper().removeprefix("TLP:")
            meant = _OLD_WORDS.get(meant, meant)
            hint = f": did you mean {meant!r}?" if meant in LEVELS else did_you_mean(text, words)
            self.problem(entry.value, f"{what} must be {', '.join(words[:-1])} or {words[-1]}, not {text!r}{hint}")
        return LEVELS.get(text)

    @staticmethod
    def _says(entry: Entry | None, word: str) -> bool:
        return entry is not None and isinstance(entry.value, yaml.ScalarNode) and entry.value.value == word

    def _grants(self, node: yaml.Node, where: str, members: set[str]) -> dict[str, Grant]:
        grants: dict[str, Grant] = {}
        for entry in self.entries(node, f"grants of {where}"):
            if entry.key not in members:
                hint = did_you_mean(entry.key, sorted(members))
                self.problem(entry.line, f"grant for {entry.key!r}, which is no member of this file{hint}")
            grants[entry.key] = self._grant(entry)
        return grants

    def _grant(self, entry: Entry) -> Grant:
        if not isinstance(entry.value, yaml.MappingNode):
            return Grant(self._rights(entry, entry.key), Level.RED)
        what = f"the grant of {entry.key}"
        parts = self.mapping(entry.value, what, required=("rights",), optional=("clearance",))
        rights = self._rights(parts["rights"], entry.key) if "rights" in parts else frozenset()
        clearance = self._level(parts.get("clearance"), "clearance")
        return Grant(rights, Level.RED if clearance is None else clearance)

    def _rights(self, entry: Entry, member: str) -> frozenset[Right]:
        known = [right.value for right in Right]
        if not isinstance(entry.value, yaml.SequenceNode):
            self.problem(
                entry.value,
                f"the grant of {member} must be a list, like [read] or [read, write], "
                "or {rights: [read], clearance: AMBER}",
            )
            return frozenset()
        rights: set[Right] = set()
        for node in entry.value.value:
            if not isinstance(node, yaml.ScalarNode) or node.value not in known:
                told = node.value if isinstance(node, yaml.ScalarNode) else "a list or mapping"
                self.problem(
                    node, f"unknown right {told!r}: there are {' and '.join(known)}{did_you_mean(told, known)}"
                )
            elif Right(node.value) in rights:
                self.problem(node, f"the right {node.value} is given twice to {member}")
            else:
                rights.add(Right(node.value))
        if not entry.value.value:
            self.problem(entry.line, f"the grant of {member} is empty: name its rights, or leave the member out")
        return frozenset(rights)

    def _alias(self, entry: Entry | None) -> str:
        alias = self.words(entry, "alias") or ""
        if entry is not None and alias:
            if _LOOKS_LIKE_UUID.fullmatch(alias):
                self.problem(entry.value, f"alias {alias!r} looks like an id: choose a word")
            elif not _ALIAS.fullmatch(alias):
                self.problem(
                    entry.value,
                    f"alias {alias!r} doesn't fit into a URL: use up to 63 letters, digits, '-', '.', '_' or '~', "
                    "beginning with a letter or digit",
                )
        return alias

    def _id(self, entry: Entry | None) -> UUID | None:
        text = self.words(entry, "id")
        if entry is None or text is None:
            return None
        try:
            found = UUID(text)
        except ValueError:
            found = None
        if found is None or found.version != _UUID_VERSION or str(found) != text.lower():
            self.problem(entry.value, f"id {text!r} is not a UUIDv4: leave the line out, and one is made")
            return None
        return found

    def _retention(self, entry: Entry | None) -> timedelta | None:
        if entry is None:
            return None
        if isinstance(entry.value, yaml.ScalarNode) and not is_empty(entry.value):
            text = str(entry.value.value)  # a bare number is told about its unit, not about quotes
        else:
            self.problem(entry.line, "retention must be a length of time, like 90d")
            return None
        try:
            retention = durations.parse(text)
        except durations.DurationError as error:
            self.problem(entry.value, f"retention: {error}")
            return None
        if not retention:
            self.problem(entry.value, "retention must be longer than nothing: leave the line out to keep all")
        return retention or None

    def _slug(self, entry: Entry, what: str, reserved: frozenset[str]) -> str:
        if not SLUG.fullmatch(entry.key):
            self.problem(
                entry.line,
                f"{what} {entry.key!r} must be called by 1 to 63 small letters, digits or '-', with no '-' at the ends",
            )
        elif entry.key in reserved:
            self.problem(entry.line, f"{what} {entry.key!r}: the name is reserved, choose another")
        return entry.key

    def _unique_names(self, collections: tuple[WantedCollection, ...], group: str) -> None:
        aliases: dict[str, int] = {}
        titles: dict[str, int] = {}
        for wanted in collections:
            for what, name, lines in (("alias", wanted.alias, aliases), ("title", wanted.title, titles)):
                if name and name in lines:
                    first = lines[name]
                    self.problem(wanted.line, f"{group} has two collections with the {what} {name!r}; see line {first}")
                lines[name] = wanted.line

    def _unique_ids(self, groups: tuple[WantedTrustGroup, ...]) -> None:
        lines: dict[UUID, int] = {}
        for wanted in (collection for group in groups for collection in group.collections):
            if wanted.id is None:
                continue
            if wanted.id in lines:
                self.problem(wanted.line, f"the id {wanted.id} is there twice; see line {lines[wanted.id]}")
            lines[wanted.id] = wanted.line
