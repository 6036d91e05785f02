"""Patterns that a regular expression knows to be valid, in a hundredth of the time that the grammar takes.

What it doesn't know is for the grammar to judge (`stix2_patterns`).
"""

from __future__ import annotations

import re

# the keywords of both grammars are in capitals, but for these two; what stands below `hashes` may need a certain length
_NAME = r"(?!(?:true|false|hashes)\b)[a-z][a-z0-9_]*+"
_TYPE = r"(?!(?:true|false)\b)[a-z][a-z0-9-]*+"
# any character but a quote and a backslash would do; these need no thought
_TEXT = r"'[ !-&(-\[\]-~]*+'"
_HASH = "|".join(
    f"{name} !?= '[0-9a-fA-F]{{{digits}}}'"
    for name, digits in {"MD5": 32, "'MD5'": 32, "'SHA-1'": 40, "'SHA-256'": 64, "'SHA-512'": 128}.items()
)
_VALUE = rf"(?:!?=|LIKE|MATCHES) {_TEXT}|!?= (?:0|[1-9][0-9]{{0,17}}+)"
_COMPARISON = rf"{_TYPE}:(?:{_NAME}\.)*+(?:hashes\.(?:{_HASH})|{_NAME} (?:{_VALUE}))"
_OBSERVATION = rf"\[{_COMPARISON}(?: (?:AND|OR) {_COMPARISON})*+\]"
_PLAIN = re.compile(f"{_OBSERVATION}(?: (?:AND|OR) {_OBSERVATION})*+")


def is_plain(pattern: str) -> bool:
    """Whether the pattern is certainly valid in both forms; False says nothing."""
    return _PLAIN.fullmatch(pattern) is not None
