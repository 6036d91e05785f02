"""The audit as operators use it: read it, export it, and find out whether it is what was written."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from taxii_server.auth import audit_heads
from taxii_server.domain.audit import ALLIANCE, HEADS, KEYS, Act
from taxii_server.domain.audit_chain import Chains, Checkpoint, Flaw, Head, hold_against, read_checkpoint
from taxii_server.domain.errors import NotAuthenticated, OperatorError
from taxii_server.operations import audit_content
from taxii_server.operations.audit_content import Compared
from taxii_server.storage import audit_reading as reading
from taxii_server.storage import signing_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from taxii_server.auth.audit_heads import SignedHead
    from taxii_server.domain.audit import Written
    from taxii_server.storage.engine import Database

    Progress = Callable[[int], None]

_ROWS: Final = 2_000
_CHECKPOINTS: Final = 500
_HEADS: Final = 5_000
_MOST_FLAWS: Final = 1_000


@dataclass(slots=True)
class Verified:
    """What was looked at and found. `uncovered` acts came after the last checkpoint, which is of `covered_until`.

    `exported_until` is when the newest head was made that was kept outside, and holds.
    """

    streams: int = 0
    acts: int = 0
    checkpoints: int = 0
    exported_heads: int = 0
    exported_until: datetime | None = None
    content: Compared | None = None
    covered_until: datetime | None = None
    uncovered: int = 0
    flaws: list[Flaw] = field(default_factory=list)
    more: int = 0
    created: set[str] = field(default_factory=set, repr=False)
    _told: set[tuple[str, int | str]] = field(default_factory=set, repr=False)

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.flaws

    def add(self, flaws: Iterable[Flaw]) -> None:
        """Tell flaws, each place once; of a whole stream there may be several things to say."""
        for flaw in flaws:
            place = (flaw.stream, flaw.what if flaw.seq is None else flaw.seq)
            if place in self._told:
                continue
            if len(self.flaws) >= _MOST_FLAWS:
                self.more += 1
                continue
            self._told.add(place)
            self.flaws.append(flaw)


def heads_in(text: str) -> list[SignedHead]:
    """Find the signed heads in a text: one, or a log of many.

    Raises:
        OperatorError: if there is none.
    """
    found = []
    for candidate in dict.fromkeys(audit_heads.FORM.findall(text)):
        try:
            found.append(audit_heads.read(candidate))
        except NotAuthenticated:
            continue
    if not found:
        raise OperatorError("There is no signed head in what --head gives: take one that the server logged or printed.")
    return sorted(found, key=lambda one: one.seq)


def keys_in(text: str) -> dict[str, dict[str, Any]]:
    """Read a JWK Set, by thumbprint.

    Raises:
        OperatorError: if it is none.
    """
    try:
        return {audit_heads.thumbprint(key): key for key in json.loads(text)["keys"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OperatorError("What --jwks gives is no JWK Set.") from error


async def verify(
    db: Database,
    exported: Iterable[SignedHead] = (),
    trusted: Mapping[str, dict[str, Any]] | None = None,
    progress: Progress | None = None,
    *,
    content: bool = False,
) -> Verified:
    """Go through the whole audit, and hold it against heads that were kept outside; with `content` what is stored, too.

    Those must be signed with a `trusted` key; None trusts the keys that the database knows.

    Raises:
        OperatorError: if a head from outside was not signed with a trusted key.
    """
    found = Verified()
    async with db.read() as connection:
        known = {
            audit_heads.thumbprint(key): key
            for key in map(json.loads, (await signing_keys.public_jwks(connection)).values())
        }
    ends = await _chains(db, found, known, progress or (lambda _: None))
    covered = await _checkpoints(db, found, ends, known)
    await _leftover_heads(db, found, ends.get(HEADS, 0))
    await _exported(db, found, list(exported), known if trusted is None else trusted, ends.get(HEADS, 0))
    if content:
        found.content = Compared()
        flaws = audit_content.compare(db, list(ends), found.created, found.content, progress or (lambda _: None))
        async for flaw in flaws:
            found.add([flaw])
    found.streams = len(ends)
    found.uncovered = sum(max(0, seq - covered.get(stream, 0)) for stream, seq in ends.items() if stream != HEADS)
    return found


async def _chains(
    db: Database, found: Verified, known: dict[str, dict[str, Any]], progress: Progress
) -> dict[str, int]:
    """Follow every chain; the last number of each stream. Keys that are told of are `known` from then on."""
    chains, ends = Chains(), {}
    place = ("", 0)
    while True:
        async with db.read() as connection:
            rows = await reading.after(connection, *place, _ROWS)
        for row in rows:
            found.add(chains.follow(row))
            ends[row.stream] = row.seq
            if row.stream == KEYS:
                _learn(known, row)
            elif row.stream == ALLIANCE and row.act == Act.COLLECTION_CREATED:
                found.created.add(_collection_of(row))
        found.acts += len(rows)
        progress(found.acts)
        if len(rows) < _ROWS:
            return ends
        place = (rows[-1].stream, rows[-1].seq)


def _learn(known: dict[str, dict[str, Any]], row: Written) -> None:
    try:
        key = json.loads(row.details).get("key")
        if isinstance(key, dict):
            # by its own thumbprint, so that none is taken for another
            known.setdefault(audit_heads.thumbprint(key), key)
    except (ValueError, AttributeError, RecursionError):
        return


def _collection_of(row: Written) -> str:
    try:
        return str(json.loads(row.details)["collection"]["id"])
    except (ValueError, TypeError, KeyError):
        return ""


async def _checkpoints(
    db: Database, found: Verified, ends: Mapping[str, int], known: Mapping[str, dict[str, Any]]
) -> dict[str, int]:
    """Hold the streams against every checkpoint, and checkpoints against their signatures; how far each is covered."""
    covered: dict[str, int] = {}
    wrong: set[str] = set()
    after = 0
    while True:
        async with db.read() as connection:
            rows = await reading.of_stream(connection, HEADS, after, _CHECKPOINTS)
            last = rows[-1].seq if rows else 0
            signed = {
                seq: text for seq, text in await reading.signed_after(connection, after, _CHECKPOINTS) if seq <= last
            }
        told = [(row, _checkpoint(row)) for row in rows]
        for some in _together(told):
            heads = [head for _, checkpoint in some if checkpoint is not None for head in checkpoint.heads]
            async with db.read() as connection:
                digests = await reading.digests(connection, heads)
            for row, checkpoint in some:
                if checkpoint is None:
                    found.add([Flaw(HEADS, row.seq, "says nothing that a checkpoint says")])
                    continue
                _one_checkpoint(found, checkpoint, digests, ends, covered, wrong)
                if checkpoint.last:
                    found.add(_signature(row, signed.pop(row.seq, None), known))
                    found.checkpoints += 1
                    found.covered_until = row.at
        found.add(Flaw(HEADS, seq, "is signed as a checkpoint, and isn't one") for seq in signed)
        if len(rows) < _CHECKPOINTS:
            return covered
        after = last


def _checkpoint(row: Written) -> Checkpoint | None:
    try:
        return read_checkpoint(row.details)
    except ValueError:
        return None


_Told = tuple["Written", Checkpoint | None]


def _together(told: Sequence[_Told]) -> Iterator[list[_Told]]:
    """Split checkpoints into as many as one statement shall look up; a checkpoint is never split."""
    some: list[_Told] = []
    heads = 0
    for one in told:
        some.append(one)
        heads += 0 if one[1] is None else len(one[1].heads)
        if heads >= _HEADS:
            yield some
            some, heads = [], 0
    if some:
        yield some


def _one_checkpoint(
    found: Verified,
    checkpoint: Checkpoint,
    digests: Mapping[tuple[str, int], bytes],
    ends: Mapping[str, int],
    covered: dict[str, int],
    wrong: set[str],
) -> None:
    for flaw in hold_against(checkpoint.heads, digests, ends):
        # the first checkpoint that something differs from says most about where it begins
        if flaw.stream not in wrong:
            wrong.add(flaw.stream)
            since = covered.get(flaw.stream, 0)
            more = f", after {since}" if since and "rewritten" in flaw.what else ""
            found.add([Flaw(flaw.stream, flaw.seq, flaw.what + more)])
    covered.update((head.stream, head.seq) for head in checkpoint.heads if head.stream not in wrong)


def _signature(row: Written, signed: str | None, known: Mapping[str, dict[str, Any]]) -> Iterable[Flaw]:
    if signed is None:
        yield Flaw(HEADS, row.seq, "has no signed head")
        return
    try:
        head = audit_heads.read(signed)
        if head.kid not in known:
            yield Flaw(HEADS, row.seq, f"was signed with {head.kid}, a key that nothing here tells of")
            return
        audit_heads.verify(head, known[head.kid])
    except NotAuthenticated as error:
        yield Flaw(HEADS, row.seq, f"has a head that is not what was signed: {error.reason}")
        return
    if (head.seq, head.digest) != (row.seq, row.digest):
        yield Flaw(HEADS, row.seq, "is not the checkpoint that was signed")


async def _leftover_heads(db: Database, found: Verified, last: int) -> None:
    """Find signed heads of checkpoints that are cut off."""
    async with db.read() as connection:
        signed = await reading.signed_after(connection, last, _ROWS)
        # one that was made since has its checkpoint by now
        there = await reading.digests(connection, [Head(HEADS, seq, b"") for seq, _ in signed])
    found.add(
        Flaw(HEADS, seq, "is missing: only its signed head is left") for seq, _ in signed if (HEADS, seq) not in there
    )


async def _exported(
    db: Database,
    found: Verified,
    exported: list[SignedHead],
    trusted: Mapping[str, dict[str, Any]],
    last: int,
) -> None:
    for head in exported:
        if head.kid not in trusted:
            raise OperatorError(
                f"The head of {head.issued_at:%Y-%m-%d %H:%M} was signed with {head.kid}, which is no key that is trusted "
                "here: give the JWK Set that has it with --jwks."
            )
        try:
            audit_heads.verify(head, trusted[head.kid])
        except NotAuthenticated as error:
            raise OperatorError(f"The head of {head.issued_at:%Y-%m-%d %H:%M} is not what was signed.") from error
    confirmed = 0
    async with db.read() as connection:
        digests = await reading.digests(connection, [Head(HEADS, head.seq, b"") for head in exported])
    for head in exported:
        digest = digests.get((HEADS, head.seq))
        when = f"the head of {head.issued_at:%Y-%m-%d %H:%M}Z of {head.issuer}"
        if digest == head.digest:
            confirmed, found.exported_until = head.seq, head.issued_at
            continue
        if digest is not None:
            since = f", after {confirmed}" if confirmed else ""
            found.add(
                [Flaw(HEADS, head.seq, f"is not what {when} says: checkpoints were rewritten here or before{since}")]
            )
        elif last < head.seq:
            gone = f"is missing, and so is what came after it: {when} knows {head.seq} checkpoints"
            found.add([Flaw(HEADS, last + 1, gone)])
        else:
            found.add([Flaw(HEADS, head.seq, f"is missing; {when} knows it")])
        break
    found.exported_heads = len(exported)
