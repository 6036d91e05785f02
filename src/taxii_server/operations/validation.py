"""Has the objects of an envelope judged, by processes of their own where that takes time.

The web worker cuts the body into exact byte slices (`envelopes`). Of a small envelope it judges by itself what needs no
more than a glance: handing it over would cost more. The rest, and all of a larger one, is read by a child, once, which
gives back each object's columns, or why it was refused (`judging`). So a big push costs the pollers no more than the
cutting, and the children run at a lower priority. Work goes out in small chunks, few at a time, so that a small push is
not kept waiting by a big one; a push that takes more than `MOST_SECONDS_A_PUSH` in all has the rest of its objects
refused.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from types import ModuleType
from typing import Any, Final, TypeAlias

import structlog

from taxii_server.domain.access import Validation
from taxii_server.domain.additions import is_small
from taxii_server.domain.errors import BadBody, ValidatorsGone
from taxii_server.domain.stix_objects import Columns, NotJson
from taxii_server.operations.judging import (
    MOST_SECONDS_AN_OBJECT,
    Judged,
    Outcome,
    at_a_glance,
    become_a_validator,
    judge,
    say_who,
)

MOST_SECONDS_A_PUSH: Final = 60.0
"""Processor time of all the objects of one envelope."""

_SHORT = 16 * 1024
_TURN_SECONDS = 0.001
_CHUNK_OBJECTS = 64
_CHUNK_OCTETS = 256 * 1024

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Accepted:
    """An object that may be stored; `body` is its exact octets as posted."""

    columns: Columns
    body: bytes


@dataclass(frozen=True, slots=True)
class Rejected:
    """An object that is refused: what it called itself, as far as that could be read, and what to mend."""

    stix_id: str | None
    version: str | None
    message: str


Verdict: TypeAlias = Accepted | Rejected


class Validators:
    """The pool of judging processes; made once in a web worker's lifespan."""

    def __init__(
        self, processes: int, *, max_object_length: int, seconds_an_object: float = MOST_SECONDS_AN_OBJECT
    ) -> None:
        """Say how many processes to keep, and the octets and the processor time an object may have."""
        self._processes = processes
        self._max_object_length = max_object_length
        self._seconds_an_object = seconds_an_object
        self._pool: ProcessPoolExecutor | None = None
        self._starting = asyncio.Lock()
        self._closed = False

    async def warm(self) -> None:
        """Start the processes, and return when every one of them is ready to judge.

        Raises:
            ValidatorsGone: if they can't be started.
        """
        pool = await self._running()
        ready: set[int] = set()
        try:
            while len(ready) < self._processes:
                answers = {asyncio.wrap_future(pool.submit(say_who)) for _ in range(self._processes)}
                for answer in answers:
                    answer.add_done_callback(_notice)
                await asyncio.wait(answers)
                ready.update([answer.result() for answer in answers])
        except BrokenExecutor as error:
            self._forget(pool)
            raise ValidatorsGone("the validating processes could not be started") from error

    def close(self) -> None:
        """End the processes, once they have finished the chunks at hand."""
        self._closed = True
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None

    async def judge(self, slices: Sequence[bytes], validation: Validation) -> list[Verdict]:
        """Judge the objects of one envelope; the verdicts come in the order of the slices.

        Raises:
            BadBody: if a slice isn't JSON, since then the envelope wasn't either.
            ValidatorsGone: if a process died; the next request finds new ones.
        """
        self._refuse_if_closed()
        push = _Push(slices, validation, self._max_object_length)
        if is_small([len(each) for each in slices]):
            await push.glance()
        if push.is_judged:
            return push.verdicts()
        pool = await self._running()
        under_way: dict[asyncio.Future[Outcome], Sequence[int]] = {}
        try:
            while True:
                # one more than there are processes, so that none waits for its next chunk
                while len(under_way) <= self._processes and (chunk := push.next_chunk()):
                    work = pool.submit(judge, [slices[index] for index in chunk], strict=push.strict)
                    under_way[asyncio.wrap_future(work)] = chunk
                if not under_way:
                    return push.verdicts()
                done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
                for future in done:
                    push.take(under_way[future], future.result())
                    del under_way[future]
        except (BrokenExecutor, RuntimeError) as error:
            # a RuntimeError is how a pool says that it was shut down, by a request that found it broken
            if self._pool is pool and not isinstance(error, BrokenExecutor):
                raise
            self._forget(pool)
            raise ValidatorsGone("the processes that check objects stopped; they are being started again") from error
        finally:
            for future in under_way:
                # Never cancelled: a pool that breaks while it holds a cancelled future stops answering the others
                # (CPython's terminate_broken raises). The few chunks of a push given up are judged for nothing.
                future.add_done_callback(_notice)

    async def _running(self) -> ProcessPoolExecutor:
        async with self._starting:
            self._refuse_if_closed()
            if self._pool is None:
                self._pool = await asyncio.to_thread(self._start)
            return self._pool

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ValidatorsGone("the server is shutting down")

    def _start(self) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(
            self._processes,
            mp_context=get_context("spawn"),
            initializer=become_a_validator,
            initargs=(self._seconds_an_object,),
        )
        with _nothing_as_main():
            # each of the first submissions starts a process
            for _ in range(self._processes):
                pool.submit(say_who)
        return pool

    def _forget(self, broken: ProcessPoolExecutor) -> None:
        if self._pool is broken:
            self._pool = None
            log.error("validators_gone")
            broken.shutdown(wait=False)


def _notice(future: asyncio.Future[Any]) -> None:
    # asked for, or asyncio would report it as never seen
    if not future.cancelled():
        future.exception()


class _Push:
    """The objects of one envelope on their way through the pool."""

    def __init__(self, slices: Sequence[bytes], validation: Validation, max_object_length: int) -> None:
        self.strict = validation is Validation.STRICT
        self._slices = slices
        self._max_object_length = max_object_length
        self._verdicts: list[Verdict | None] = [None] * len(slices)
        self._left_over: deque[Sequence[int]] = deque()
        self._chunks = self._cut_chunks()
        self._seconds = 0.0

    async def glance(self) -> None:
        """Judge here what needs no more than a glance, and let others have their turn meanwhile."""
        short = min(_SHORT, self._max_object_length)
        turn = time.perf_counter() + _TURN_SECONDS
        for position, octets in enumerate(self._slices):
            if len(octets) <= short:
                if time.perf_counter() > turn:
                    await asyncio.sleep(0)
                    turn = time.perf_counter() + _TURN_SECONDS
                try:
                    judged = at_a_glance(octets, strict=self.strict)
                except NotJson as error:
                    raise _not_json(position, error) from error
                if judged is not None:
                    self._note(position, judged)

    @property
    def is_judged(self) -> bool:
        """Whether there is a verdict on every object."""
        return None not in self._verdicts

    def next_chunk(self) -> Sequence[int] | None:
        """Give the positions of the next slices to send; None when all are sent."""
        chunk = self._left_over.popleft() if self._left_over else next(self._chunks, None)
        while chunk is not None and self._seconds > MOST_SECONDS_A_PUSH:
            for position in chunk:
                message = "was not checked: the objects of this envelope take too long to check, send fewer at a time"
                self._verdicts[position] = Rejected(None, None, message)
            chunk = self._left_over.popleft() if self._left_over else next(self._chunks, None)
        return chunk

    def take(self, chunk: Sequence[int], outcome: Outcome) -> None:
        """Note what a child found; what it left for want of time goes out again."""
        for position, judged in zip(chunk, outcome.judged, strict=False):
            self._note(position, judged)
        if outcome.not_json is not None:
            raise _not_json(chunk[len(outcome.judged)], outcome.not_json)
        if len(outcome.judged) < len(chunk):
            self._left_over.append(chunk[len(outcome.judged) :])
        self._seconds += outcome.seconds
        for kind in outcome.inexplicable:
            log.warning("object_inexplicable", error=kind)

    def verdicts(self) -> list[Verdict]:
        """Give all verdicts, in order."""
        return [verdict for verdict in self._verdicts if verdict is not None]

    def _note(self, position: int, judged: Judged) -> None:
        self._verdicts[position] = (
            Accepted(judged, self._slices[position]) if isinstance(judged, Columns) else Rejected(*judged)
        )

    def _cut_chunks(self) -> Iterator[Sequence[int]]:
        chunk: list[int] = []
        octets = 0
        for position, octets_here in enumerate(map(len, self._slices)):
            if self._verdicts[position] is not None:
                continue
            if octets_here > self._max_object_length:
                message = f"is larger than this server takes: {octets_here} octets, at most {self._max_object_length}"
                self._verdicts[position] = Rejected(None, None, message)
                continue
            if chunk and (len(chunk) == _CHUNK_OBJECTS or octets + octets_here > _CHUNK_OCTETS):
                yield chunk
                chunk, octets = [], 0
            chunk.append(position)
            octets += octets_here
        if chunk:
            yield chunk


def _not_json(position: int, why: object) -> BadBody:
    return BadBody(f"objects[{position}] is not JSON: {why}")


@contextmanager
def _nothing_as_main() -> Iterator[None]:
    """Keep the processes started meanwhile from importing this process's program anew: they need none of it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
