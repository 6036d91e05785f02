"""Whether acts stand as they were written: each chained to the one before it, and checkpoints to what they saw.

Pure, and one act at a time, so that any number of them can be gone through.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from taxii_server.domain.audit import START, Written

DIGEST_BYTES: Final = 32
_LAST_SEQ: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Flaw:
    """A place where the audit isn't what it was; `seq` is None where a whole stream is meant."""

    stream: str
    seq: int | None
    what: str


@dataclass(frozen=True, slots=True)
class Head:
    """How far a stream had got: the number and digest of its last act."""

    stream: str
    seq: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What one act of the stream of checkpoints says: the heads of the streams that moved, or of all.

    A long one is in several parts, all written together; only the last is signed, and stands for those before it.
    """

    heads: tuple[Head, ...]
    part: int = 1
    parts: int = 1
    whole: bool = False

    @property
    def last(self) -> bool:
        """Whether nothing of it follows."""
        return self.part == self.parts

    @property
    def details(self) -> dict[str, Any]:
        """What is written down."""
        heads = [[head.stream, head.seq, encode(head.digest)] for head in self.heads]
        return {"heads": heads, "part": self.part, "parts": self.parts, "whole": self.whole}


def encode(digest: bytes) -> str:
    """Write a digest as text."""
    return urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")


def decode(text: object) -> bytes:
    """Read a digest that `encode` wrote.

    Raises:
        ValueError: if it is none.
    """
    octets = urlsafe_b64decode(text + "=" * (-len(text) % 4)) if isinstance(text, str) else b""
    if len(octets) != DIGEST_BYTES or encode(octets) != text:
        raise ValueError("no digest")
    return octets


def checkpoints(heads: Sequence[Head], *, whole: bool, most: int) -> list[Checkpoint]:
    """Split heads into the parts of one checkpoint, with at most so many in each."""
    parts = max(1, -(-len(heads) // most))
    return [
        Checkpoint(tuple(heads[start * most : (start + 1) * most]), start + 1, parts, whole) for start in range(parts)
    ]


def read_checkpoint(details: str) -> Checkpoint:
    """Read what an act of the stream of checkpoints says.

    Raises:
        ValueError: if it is no checkpoint.
    """
    try:
        said = json.loads(details)
        heads = tuple(_head(stream, seq, digest) for stream, seq, digest in said["heads"])
        return Checkpoint(heads, int(said["part"]), int(said["parts"]), bool(said["whole"]))
    except (KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError("no checkpoint") from error


def _head(stream: object, seq: object, digest: object) -> Head:
    """Read a head; nothing that couldn't be asked of the database gets there, whoever wrote it."""
    if not isinstance(stream, str) or not stream.isprintable() or type(seq) is not int or not 0 < seq <= _LAST_SEQ:
        raise ValueError("no head")
    return Head(stream, seq, decode(digest))


class Chains:
    """Goes through acts in the order of stream and number, and says where they don't fit together.

    After a flaw it goes on from what is there, so that one flaw is told once and the next one is found too.
    """

    def __init__(self) -> None:
        """Begin before the first stream."""
        self._stream: str | None = None
        self._seq = 0
        # digests that the next act may be chained to; None if the act before it is missing
        self._before: tuple[bytes, ...] | None = (START,)

    def follow(self, row: Written) -> Iterator[Flaw]:
        """Look at the next act."""
        if row.stream != self._stream:
            self._stream, self._seq, self._before = row.stream, 0, (START,)
        if row.seq != self._seq + 1:
            yield _missing(row.stream, self._seq + 1, row.seq - 1)
            self._before = None
        sound = self._before is None or any(row.link(before) == row.digest for before in self._before)
        if not sound:
            yield Flaw(
                row.stream, row.seq, "is not what was written: it does not match its digest and the one before it"
            )
        # An act whose own digest was changed fits in with what follows by the digest that it should have; two acts that
        # were swapped, by that of the first of them.
        before = self._before or ()
        self._before = (
            (row.digest,) if sound else (row.digest, *(row.link(one) for one in before), *before)[:_MOST_GUESSES]
        )
        self._seq = row.seq


_MOST_GUESSES: Final = 8


def _missing(stream: str, first: int, last: int) -> Flaw:
    if last <= first:
        return Flaw(stream, first, "is missing")
    return Flaw(stream, first, f"is missing, and so are those after it up to {last}")


def hold_against(
    heads: Iterable[Head], found: Mapping[tuple[str, int], bytes], ends: Mapping[str, int]
) -> Iterator[Flaw]:
    """Say which acts are not those that a checkpoint saw; `found` are their digests now, `ends` the streams' last numbers."""
    for head in heads:
        digest = found.get((head.stream, head.seq))
        if digest == head.digest:
            continue
        if digest is not None:
            yield Flaw(head.stream, head.seq, "is not the act that was there: the stream was rewritten here or before")
        elif head.stream not in ends:
            yield Flaw(head.stream, None, f"is gone, with all its {head.seq} acts or more")
        elif ends[head.stream] < head.seq:
            yield _missing(head.stream, ends[head.stream] + 1, head.seq)
        else:
            yield Flaw(head.stream, head.seq, "is missing")
