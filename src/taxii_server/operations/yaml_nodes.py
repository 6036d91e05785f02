"""YAML read as nodes, which know their lines, and never constructed into Python objects.

Anchors, aliases and merge keys are refused, so a small file can't unfold into a large one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import yaml

from taxii_server.domain.errors import AllianceInvalid
from taxii_server.domain.words import did_you_mean

_LONGEST_TEXT: Final = 500
_TEXT: Final = "tag:yaml.org,2002:str"
_NULL: Final = "tag:yaml.org,2002:null"
_BOOLEANS: Final = {"true": True, "false": False}
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def compose(text: str, file: str) -> yaml.Node | None:
    """Read a text as one YAML document; None if it holds nothing.

    Raises:
        AllianceInvalid: naming the line, if it is none, or nothing that is understood here.
    """
    try:
        unfit = [
            f"{file}:{token.start_mark.line + 1}: anchors and aliases (& and *) are not understood here: write it out"
            for token in yaml.scan(text, Loader=yaml.SafeLoader)
            if isinstance(token, yaml.AnchorToken | yaml.AliasToken)
        ]
        if unfit:
            raise AllianceInvalid(unfit)
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = ", ".join(part for part in (error.context, error.problem) if part)
        line = mark.line + 1 if mark else 1
        raise AllianceInvalid([f"{file}:{line}: is not YAML: {said}"]) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise AllianceInvalid([f"{file}:{line}: is not YAML: it holds a character that may not be there"]) from error
    except RecursionError as error:
        raise AllianceInvalid([f"{file}:1: is nested too deeply to be an alliance file"]) from error


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a mapping."""

    key: str
    line: int
    value: yaml.Node


class Reader:
    """Walks nodes and collects what is wrong with them, so that an operator mends a file in one go."""

    def __init__(self, file: str) -> None:
        """Take what to call the file."""
        self.file = file
        self.problems: set[tuple[int, str]] = set()

    def mapping(
        self,
        node: yaml.Node,
        what: str,
        *,
        required: tuple[str, ...],
        optional: tuple[str, ...] = (),
    ) -> dict[str, Entry]:
        """Give the entries of a mapping by key, those that are known, and say what is missing."""
        known = (*required, *optional)
        if not isinstance(node, yaml.MappingNode):
            self.problem(node, f"{what} must be a mapping with {', '.join(required)}")
            return {}
        found: dict[str, Entry] = {}
        for entry in self.entries(node, what):
            if entry.key in known:
                found[entry.key] = entry
            else:
                hint = did_you_mean(entry.key, known) or f": {what} takes {', '.join(known)}"
                self.problem(entry.line, f"unknown key {entry.key!r}{hint}")
        for name in required:
            if name not in found:
                self.problem(node, f"{what} needs {name}")
        return found

    def entries(self, node: yaml.Node, what: str) -> Iterator[Entry]:
        """Give the entries of a mapping in order, each key once."""
        if not isinstance(node, yaml.MappingNode):
            if not is_empty(node):
                self.problem(node, f"{what} must be a mapping of names to what they are")
            return
        lines: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.problem(key, f"{what}: a key must be a plain word")
            elif key.value in lines:
                self.problem(key, f"{key.value!r} is there twice; the first is in line {lines[key.value]}")
            else:
                lines[key.value] = line
                yield Entry(key.value, line, value)

    def choice(self, entry: Entry | None, what: str, choices: tuple[str, ...]) -> str | None:
        """Read one of some words."""
        text = self.words(entry, what)
        if entry is None or text is None:
            return None
        if text not in choices:
            self.problem(
                entry.value, f"{what} must be {' or '.join(choices)}, not {text!r}{did_you_mean(text, choices)}"
            )
            return None
        return text

    def flag(self, entry: Entry | None, what: str, *, default: bool) -> bool:
        """Read true or false."""
        if entry is None:
            return default
        node = entry.value
        if isinstance(node, yaml.ScalarNode) and str(node.value).lower() in _BOOLEANS:
            return _BOOLEANS[str(node.value).lower()]
        self.problem(entry.line, f"{what} must be true or false")
        return default

    def words(self, entry: Entry | None, what: str, longest: int = _LONGEST_TEXT) -> str | None:
        """Read text."""
        if entry is None:
            return None
        node = entry.value
        if not isinstance(node, yaml.ScalarNode) or not node.value.strip():
            self.problem(node if node.value else entry.line, f"{what} must be text")
            return None
        if node.tag != _TEXT:
            self.problem(node, f'{what} must be text: put it in quotes, "{node.value}"')
            return None
        text = str(node.value).strip()
        if len(text) > longest:
            self.problem(node, f"{what} is longer than {longest} characters")
        if _CONTROL.search(text):
            self.problem(node, f"{what} holds control characters")
        return text

    def problem(self, where: yaml.Node | int, what: str) -> None:
        """Note what is wrong, and where."""
        self.problems.add((where if isinstance(where, int) else where.start_mark.line + 1, what))


def is_empty(node: yaml.Node) -> bool:
    """Whether a key stands there without a value."""
    return isinstance(node, yaml.ScalarNode) and node.tag == _NULL
