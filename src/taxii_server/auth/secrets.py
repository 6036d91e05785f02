"""Client secrets: 256 random bits behind a prefix that leak scanners spot, with a checksum that catches typos.

Nobody chooses a secret, so nobody can guess one: its plain SHA-256 is all that is kept, and a poll needs no slow hash.
"""

from __future__ import annotations

import hmac
import re
import secrets
import zlib
from collections.abc import Iterable
from hashlib import sha256

PREFIX = "txs_"
_BYTES = 32
_SECRET = re.compile(rf"{PREFIX}([0-9a-f]{{{2 * _BYTES}}})([0-9a-f]{{8}})")


def generate() -> str:
    """Make a new secret; tell it once and store its `digest`."""
    core = secrets.token_hex(_BYTES)
    return f"{PREFIX}{core}{_checksum(core)}"


def well_formed(secret: str) -> bool:
    """Tell whether this can be a secret of ours at all, without looking anything up."""
    parts = _SECRET.fullmatch(secret)
    return parts is not None and _checksum(parts[1]) == parts[2]


def digest(secret: str) -> bytes:
    """Give what is stored of a secret."""
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()


def matches(digests: Iterable[bytes], secret: str) -> bool:
    """Tell whether the secret is one of those stored; always compares with all of them, each in constant time."""
    given = digest(secret)
    found = False
    for stored in digests:
        found |= hmac.compare_digest(stored, given)
    return found


def _checksum(core: str) -> str:
    return f"{zlib.crc32(core.encode('ascii')):08x}"
