"""Patterns that a regular expression knows to be valid, in a hundredth of the time that the grammar takes.

What it doesn't know is for the grammar to judge (`stix2_patterns`).
"""

from __future__ import annotations

import re

# the keywords of both grammars are in capitals, but for these two; what stands below `hashes` may need a certain length
_NAME = r"(?!(?:true|false|hashes)\b)[a-z][a-z0-9_]*+(?:\[(?:\*|0|[1-9][0-9]{0,5})\])?+"
_EXTENSION = "'[a-z][a-z0-9-]*+(?<=-ext)'"
_TYPE = r"(?!(?:true|false)\b)[a-z][a-z0-9-]*+"
# any character but a quote and a backslash would do; these need no thought
_TEXT = r"'[ !-&(-\[\]-~]*+'"
_NUMBER = "(?:0|[1-9][0-9]{0,17}+)"
_IS = " ?!?= ?"
_HASH = "|".join(
    f"{name}{_IS}'[0-9a-fA-F]{{{digits}}}'"
    for name, digits in {"MD5": 32, "'MD5'": 32, "'SHA-1'": 40, "'SHA-256'": 64, "'SHA-512'": 128}.items()
)
_SET = rf"\((?:{_TEXT}(?:, ?{_TEXT})*+|{_NUMBER}(?:, ?{_NUMBER})*+)\)"
_VALUE = (
    rf"(?: ?(?:!?=|[<>]=?+) ?| (?:LIKE|MATCHES|ISSUBSET|ISSUPERSET) ){_TEXT}| ?(?:!?=|[<>]=?+) ?{_NUMBER}"
    rf"|{_IS}(?:true|false)| IN {_SET}"
)
_COMPARISON = rf"{_TYPE}:(?:(?:{_NAME}|{_EXTENSION})\.)*+(?:hashes\.(?:{_HASH})|{_NAME}(?:{_VALUE}))"
_COMPARISONS = f"{_COMPARISON}(?: (?:AND|OR) {_COMPARISON})*+"
_GROUP = rf"(?:{_COMPARISON}|\({_COMPARISONS}\))"
_OBSERVATION = rf"\[ ?{_GROUP}(?: (?:AND|OR) {_GROUP})*+ ?\]"
_JOINED = " (?:AND|OR|FOLLOWEDBY) "
_QUALIFIERS = "(?: WITHIN [1-9][0-9]{0,9}+ SECONDS)?+(?: REPEATS [1-9][0-9]{0,9}+ TIMES)?+"
_TERM = rf"(?:{_OBSERVATION}|\({_OBSERVATION}(?:{_JOINED}{_OBSERVATION})*+\)){_QUALIFIERS}"
_PLAIN = re.compile(f"{_TERM}(?:{_JOINED}{_TERM})*+")


def is_plain(pattern: str) -> bool:
    """Whether the pattern is certainly valid in both forms; False says nothing."""
    return _PLAIN.fullmatch(pattern) is not None
