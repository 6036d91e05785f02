"""Content negotiation by HTTP's grammar (RFC 9110 §8.3, §12.5.1), with TAXII's rules (§1.6.8, §3.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from taxii_server.domain.errors import NotAcceptable, UnsupportedMedia

TAXII = "application/taxii+json;version=2.1"
"""The one content type of every TAXII answer (§3.1)."""

_TAXII = "application/taxii+json"
_STIX = "application/stix+json"
_VERSION = "2.1"
_SHORT: Final = 256
_STIX_VERSIONS = {None, "2.0", "2.1"}
# Real clients ask for these and read TAXII all the same.
_SATISFIED = {"application/json", _STIX}

# Possessive (`*+`) throughout, and an item takes an unclosed quote to the end: what never tries again takes time in
# proportion to the header, however odd the header is.
_WORD = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED = r'"(?:[^"\\]|\\.)*+"'
_MEDIA = re.compile(
    rf"\s*+(?P<type>{_WORD}/{_WORD})(?P<parameters>(?:\s*+;\s*+(?:{_WORD}\s*+=\s*+(?:{_WORD}|{_QUOTED}))?)*+)\s*+"
)
_PARAMETER = re.compile(rf"(?P<name>{_WORD})\s*+=\s*+(?P<value>{_WORD}|{_QUOTED})")
_ITEM = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*+(?:"|\\?\Z))++', re.DOTALL)
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")


@dataclass(frozen=True, slots=True)
class _Media:
    type: str
    version: str | None
    charset: str | None
    weight: float


def check_accept(header: str | None) -> None:
    """Make sure that the request can be answered with TAXII.

    Absent and empty mean anything. Wildcards, `application/json` and `application/stix+json` are satisfied.

    Raises:
        NotAcceptable: if nothing in the list can be.
    """
    if header is None or not header.strip():
        return
    # nearly all clients send one of a few, and what is long isn't remembered
    if not (_leaves_room(header) if len(header) <= _SHORT else _leaves_room.__wrapped__(header)):
        message = f"This server answers with {TAXII}; the Accept header leaves no room for it."
        raise NotAcceptable(message)


@lru_cache(maxsize=256)
def _leaves_room(accept: str) -> bool:
    media = [one for one in map(_parse, _ITEM.findall(accept)) if one is not None]
    if any(one.type in _SATISFIED and one.weight > 0 for one in media):
        return True
    # the most specific range that covers our type decides, so that q=0 can exclude it
    covering = [(rank, one.weight) for one in media if (rank := _rank(one)) is not None]
    return bool(covering) and max(covering)[1] > 0


def check_content_type(header: str | None) -> None:
    """Make sure that a posted body is TAXII, or the STIX that real clients post under STIX's own name.

    Raises:
        UnsupportedMedia: for any other type, an unknown version, or a charset other than UTF-8.
    """
    media = None if header is None else _parse(header)
    supported = (
        media is not None
        and media.charset in {None, "utf-8", "utf8"}
        and (
            (media.type == _TAXII and media.version in {None, _VERSION})
            or (media.type == _STIX and media.version in _STIX_VERSIONS)
        )
    )
    if not supported:
        message = f"Send the envelope as Content-Type: {TAXII}"
        raise UnsupportedMedia(message)


def _rank(media: _Media) -> int | None:
    if media.type == _TAXII:
        return {None: 2, _VERSION: 3}.get(media.version)
    return {"application/*": 1, "*/*": 0}.get(media.type)


def _parse(text: str) -> _Media | None:
    parts = _MEDIA.fullmatch(text)
    if parts is None:
        return None
    found = {one["name"].lower(): _unquoted(one["value"]) for one in _PARAMETER.finditer(parts["parameters"])}
    weight = found.get("q", "1")
    if not _WEIGHT.fullmatch(weight):
        return None
    charset = found.get("charset")
    return _Media(
        type=parts["type"].lower(),
        version=found.get("version"),
        charset=None if charset is None else charset.lower(),
        weight=float(weight),
    )


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if value.startswith('"') else value
