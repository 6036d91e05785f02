"""Answers that the caller has already: `ETag` and `If-None-Match` (RFC 9110 §8.8.3, §13.1.2)."""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final

_DIGEST: Final = 16
# Possessive, so that a header takes time in proportion to its length, however odd it is.
_TAG = rb'(?:W/)?+"[\x21\x23-\x7e\x80-\xff]*+"'
_LIST = re.compile(rb"[ \t,]*+" + _TAG + rb"(?:[ \t]*+,[ \t,]*+(?:" + _TAG + rb")?+)*+[ \t]*+")
_OPAQUE = re.compile(rb'"[^"]*+"')


def etag_of(octets: bytes) -> bytes:
    """Make the tag of a representation: weak, because it is one for the plain octets and the packed."""
    return b'W/"' + blake2b(octets, digest_size=_DIGEST).hexdigest().encode() + b'"'


def has_it(if_none_match: bytes | None, etag: bytes) -> bool:
    """Tell whether the caller named this tag, or `*`. Tags are compared weakly; a malformed list names none."""
    if if_none_match is None:
        return False
    if if_none_match.strip(b" \t") == b"*":
        return True
    return _LIST.fullmatch(if_none_match) is not None and opaque(etag) in _OPAQUE.findall(if_none_match)


def opaque(etag: bytes) -> bytes:
    """Give what is compared of a tag, without the sign that it is weak."""
    return etag.removeprefix(b"W/")
