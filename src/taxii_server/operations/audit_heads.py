"""Checkpoints: now and then how far every stream has got is written down, and signed, so that a copy of one line outside
holds everything before it.

A checkpoint names the streams that moved since the last one; the first of a day names all. One worker of all nodes makes
it, and nothing is written where nothing moved.
"""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import Counter

from taxii_server.auth import audit_heads
from taxii_server.auth.audit_heads import FORM, SignedHead
from taxii_server.domain.audit import HEADS, SERVER, Act, Entry
from taxii_server.domain.audit_chain import Head, checkpoints, read_checkpoint
from taxii_server.domain.errors import OperatorError, TaxiiServerError
from taxii_server.storage import audit
from taxii_server.storage import audit_reading as reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime
    from pathlib import Path

    from taxii_server.auth.signing_keys import SigningKeys
    from taxii_server.storage.engine import Connection, Database

__all__ = ["FORM", "Heads", "SignedHead", "make", "newest"]

log = structlog.get_logger(__name__)

HEADS_FAILED = Counter("taxii_audit_heads_failed", "Heads of the audit that could not be made or kept.", ["where"])

_MOST_IN_ONE: Final = 1_000
_ROWS: Final = 200
_A_DAY: Final = timedelta(hours=24)
_FOREVER: Final = 2**62
_PATIENCE: Final = 1  # seconds, when the server stops: what is left of Docker's ten after the requests had seven
_CUT_OFF: Final = (
    "The next checkpoint was signed once already: somebody cut checkpoints off. No more are made; run taxii-server audit "
    "verify with the last head that was kept outside."
)


@dataclass(frozen=True, slots=True)
class Heads:
    """What making heads takes. `issuer` is the public URL; `file` gets each head as a line of its own."""

    db: Database
    keys: SigningKeys
    issuer: str
    every: timedelta
    file: Path | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Make heads in the background, and one more at the end."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            with suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self._once(None)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self.every.total_seconds())
            await self._once(self.every / 2)

    async def _once(self, unless_younger: timedelta | None) -> None:
        try:
            made = await make(self.db, self.keys, self.issuer, unless_younger=unless_younger)
        except Exception as error:  # noqa: BLE001 - the server goes on, and so does the making of heads
            HEADS_FAILED.labels("made").inc()
            reason = error.title if isinstance(error, TaxiiServerError) else type(error).__name__
            log.warning("audit_head_failed", reason=reason)
            return
        if made is None:
            return
        log.info("audit_head", seq=made.seq, head=made.text)
        if self.file is not None:
            try:
                await asyncio.to_thread(_append, self.file, made.text)
            except OSError as error:
                HEADS_FAILED.labels("file").inc()
                log.warning("audit_head_file", reason=error.strerror)


async def make(
    db: Database, keys: SigningKeys, issuer: str, *, unless_younger: timedelta | None = None, wait: bool = False
) -> SignedHead | None:
    """Write a checkpoint down and sign it; None if no stream moved, another one is being made, or the last is fresh.

    Raises:
        OperatorError: if the signing keys were sealed with another TAXII_SECRET_KEY, or checkpoints were cut off.
    """
    key = await keys.current()
    async with db.write(turn=HEADS) as connection:
        if wait:
            await audit.lock(connection, HEADS)
        elif not await audit.try_lock(connection, HEADS):
            return None
        if unless_younger is not None and await reading.fresh(connection, unless_younger):
            return None
        known, whole = await _known(connection)
        ends = await reading.ends(connection)
        moved = {head.stream: head for head in ends if _moved(known.get(head.stream), head)}
        for stream in known.keys() - {head.stream for head in ends}:
            _broken(known[stream])
        if not moved:
            return None
        # what was seen once stays told, also where it is gone
        told = known | moved if whole else moved
        parts = checkpoints(list(told.values()), whole=whole, most=_MOST_IN_ONE)
        entries = [Entry(HEADS, Act.CHECKPOINT, SERVER, part.details) for part in parts]
        place = [await audit.append(connection, entry) for entry in entries][-1]
        signed = audit_heads.sign(
            key.private_key, kid=key.kid, issuer=issuer, seq=place.seq, digest=place.digest, at=place.at
        )
        if not await reading.add_signed(connection, place.seq, signed):
            _broken(Head(HEADS, place.seq, place.digest))
            raise OperatorError(_CUT_OFF)
    return audit_heads.read(signed)


async def newest(db: Database) -> SignedHead | None:
    """Give the newest signed head there is."""
    async with db.read() as connection:
        text = await reading.newest_signed(connection)
    return None if text is None else audit_heads.read(text)


def _moved(before: Head | None, now: Head) -> bool:
    """Tell whether a stream got further. One that got shorter, or ends otherwise, isn't written over: what was, stands."""
    if before is None or now.seq > before.seq:
        return True
    if now != before:
        _broken(before)
    return False


def _broken(head: Head) -> None:
    HEADS_FAILED.labels("stream").inc()
    log.error("audit_broken", stream=head.stream, seq=head.seq)


async def _known(connection: Connection) -> tuple[dict[str, Head], bool]:
    """Give where streams were at the last checkpoint, and whether the next one shall name all of them.

    Walks back to the last checkpoint that did.
    """
    known: dict[str, Head] = {}
    newest_at: datetime | None = None
    before = _FOREVER
    while rows := await reading.back(connection, HEADS, before, _ROWS):
        newest_at = newest_at or rows[0].at
        for row in rows:
            try:
                checkpoint = read_checkpoint(row.details)
            except ValueError:
                _broken(Head(HEADS, row.seq, row.digest))
                continue
            for head in checkpoint.heads:
                known.setdefault(head.stream, head)
            if checkpoint.whole and checkpoint.part == 1:
                # either way: one of the future, from before the database's clock was set back, would else be the last
                return known, abs(newest_at - row.at) >= _A_DAY
        before = rows[-1].seq
    return known, True


def _append(file: Path, line: str) -> None:
    # not blocking: a pipe that nobody reads is a failure, and no reason to hang
    descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    try:
        before = os.fstat(descriptor).st_size
        octets = line.encode() + b"\n"
        if os.write(descriptor, octets) < len(octets):
            # half a line would spoil the next one; what can only be appended to keeps it
            with suppress(PermissionError):
                os.ftruncate(descriptor, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
