"""gzip for whoever takes it (RFC 9110 §12.5.3), by ISA-L, which packs a page faster than most networks carry it."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from isal import isal_zlib

SMALLEST: Final = 1024
"""Octets below which packing spares nobody anything: it all fits into one packet."""

LONGEST_ON_THE_LOOP: Final = 128 * 1024
"""Octets that are packed at once, in about the time it takes to hand them to a thread; more would hold up the others."""

# Level 1 packs STIX as small as zlib's 1 to 3 at five times their speed; 2 and 3 gain next to nothing for their time.
_LEVEL = 1
_GZIP = 16 + isal_zlib.MAX_WBITS
_LONGEST_HEADER = 512
_CODING = re.compile(
    rb"\s*+(?P<name>[!#$%&'*+\-.^_`|~0-9a-z]++)\s*+(?:;\s*+q\s*+=\s*+(?P<weight>0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\s*+)?",
    re.IGNORECASE,
)
_PACKABLE = re.compile(rb"text/|[^;]*(?:json|javascript|xml|yaml)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Wish:
    gzip: bool
    plain: bool


_PLAIN = _Wish(gzip=False, plain=True)


def wants_gzip(accept_encoding: bytes | None, octets: int) -> bool:
    """Tell whether an answer of so many octets is to be packed for who sent this Accept-Encoding.

    Who refuses `identity` gets even a short one packed; who refuses both gets it plain, like who says nothing.
    """
    if accept_encoding is None or octets == 0 or len(accept_encoding) > _LONGEST_HEADER:
        return False
    wish = _wish(accept_encoding)
    return wish.gzip and (octets >= SMALLEST or not wish.plain)


@lru_cache(maxsize=64)
def packable(content_type: bytes) -> bool:
    """Tell whether a media type is text; images and fonts are packed already."""
    return _PACKABLE.match(content_type) is not None


async def pack(octets: bytes) -> bytes:
    """Give the octets as a gzip file, the same for the same octets."""
    if len(octets) <= LONGEST_ON_THE_LOOP:
        return _pack(octets)
    # ISA-L lets go of the interpreter, so other requests go on meanwhile
    return await asyncio.to_thread(_pack, octets)


def _pack(octets: bytes) -> bytes:
    return isal_zlib.compress(octets, _LEVEL, _GZIP)


@lru_cache(maxsize=256)
def _wish(accept_encoding: bytes) -> _Wish:
    weights: dict[bytes, float] = {}
    for item in accept_encoding.split(b","):
        if (coding := _CODING.fullmatch(item)) is not None:
            weights[coding["name"].lower()] = float(coding["weight"] or 1)
    rest = weights.get(b"*")
    packed = weights.get(b"gzip", weights.get(b"x-gzip", rest or 0))
    # what isn't named is as good as any, unless a wildcard says otherwise
    plain = weights.get(b"identity", rest)
    return _Wish(gzip=packed > 0 and packed >= (plain or 0), plain=plain != 0) if weights else _PLAIN
