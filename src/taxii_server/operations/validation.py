"""Cuts an envelope into its objects and has them judged by processes of their own.

The web worker never parses an object: it cuts the body into exact byte slices, a child reads each slice once and gives
back its columns, or why it was refused. So a big push costs the pollers no more than the cutting, and the children run
at a lower priority. Work goes out in small chunks, few at a time, so that a small push is not kept waiting by a big one.

What a stranger's object may cost is bounded in the child: an object that takes more than `MOST_SECONDS_AN_OBJECT` of
processor time (a pattern can be written so that its cost grows with the square of its length) is interrupted and
refused, a push that takes more than `MOST_SECONDS_A_PUSH` in all has the rest of its objects refused, and a child that
can't be interrupted at all ends itself.
"""

from __future__ import annotations

import asyncio
import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from multiprocessing import connection, get_context, parent_process
from types import FrameType, ModuleType
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec
import structlog

from taxii_server.domain import stix_objects
from taxii_server.domain.access import Validation
from taxii_server.domain.errors import BadBody, NotAnEnvelope, ValidatorsGone
from taxii_server.domain.stix_objects import Columns, NotJson, Refused

MOST_OBJECTS: Final = 100_000
"""Objects in one envelope: what is kept for each, the smallest included, has to fit in memory."""

MOST_BESIDES_OBJECTS: Final = 64 * 1024
"""Octets of an envelope that are not its objects."""

MOST_SECONDS_AN_OBJECT: Final = 5.0
"""Processor time; an ordinary object takes a quarter of a millisecond."""

MOST_SECONDS_A_PUSH: Final = 60.0
"""Processor time of all the objects of one envelope."""

_FEWEST_OCTETS_A_COMMA = 16
_CHUNK_OBJECTS = 64
_CHUNK_OCTETS = 256 * 1024
_CHUNK_SECONDS = 0.25
_CHILD_GIVES_UP_AFTER = 120.0
_NICENESS = 10

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


class _Envelope(msgspec.Struct):
    objects: msgspec.Raw


def cut(body: bytes) -> list[bytes]:
    """Give the objects of an envelope, or of a bundle taken as one, each as the exact octets that were posted.

    Raises:
        BadBody: if the body isn't JSON in UTF-8, or is nested too deeply to be cut.
        NotAnEnvelope: if it is JSON, but not an object with exactly one list `objects` that holds something.
    """
    try:
        body.decode()
        objects = bytes(msgspec.json.decode(body, type=_Envelope).objects)
        _check_the_rest(body, objects)
        # a list of a million numbers would cost a hundred times its size to cut
        if objects.count(b",") > max(MOST_OBJECTS, len(objects) // _FEWEST_OCTETS_A_COMMA):
            raise NotAnEnvelope("objects holds too many items for its size to be STIX objects")
        items = msgspec.json.decode(objects, type=list[msgspec.Raw])
    except UnicodeDecodeError as error:
        raise BadBody(f"the body is not UTF-8 (octet {error.start})") from error
    except RecursionError as error:
        raise BadBody("the body is nested too deeply") from error
    except msgspec.ValidationError as error:
        # the wrong shape may be noticed before a syntax error further on
        _check_syntax(body)
        raise NotAnEnvelope('the body must be an envelope: {"objects": […]}') from error
    except msgspec.DecodeError as error:
        raise BadBody(f"the body is not JSON: {error}") from error
    if not items:
        raise NotAnEnvelope("the envelope holds no objects")
    if len(items) > MOST_OBJECTS:
        raise NotAnEnvelope(f"the envelope holds more than {MOST_OBJECTS} objects: send them in several envelopes")
    return [bytes(item) for item in items]


def _check_syntax(body: bytes) -> None:
    try:
        msgspec.json.decode(body, type=msgspec.Raw)
    except RecursionError as error:
        raise BadBody("the body is nested too deeply") from error
    except msgspec.DecodeError as error:
        raise BadBody(f"the body is not JSON: {error}") from error


def _check_the_rest(body: bytes, objects: bytes) -> None:
    """Check what surrounds the objects: that it is JSON throughout, and that `objects` occurs once.

    The decoder keeps the last of several members of one name, however spelled.
    """
    besides = len(body) - len(objects)
    if besides > MOST_BESIDES_OBJECTS:
        raise NotAnEnvelope(f"the envelope holds more than {MOST_BESIDES_OBJECTS} octets besides its objects")
    root: list[tuple[str, Any]] = []

    def pairs(items: list[tuple[str, Any]]) -> None:
        # called for the outermost object last
        root[:] = items

    problem: Exception | None = None
    start = body.find(objects[:1])
    while 0 <= start <= besides:
        if body.startswith(objects, start):
            rest = body[:start] + b"null" + body[start + len(objects) :]
            try:
                json.loads(rest, object_pairs_hook=pairs, parse_int=str)
                json.dumps(root, ensure_ascii=False).encode()
            except ValueError as error:
                problem = error
            else:
                if [name for name, _ in root].count("objects") > 1:
                    raise NotAnEnvelope("objects occurs twice in the envelope")
                return
        start = body.find(objects[:1], start + 1)
    raise BadBody("the body is not JSON") from problem


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
                answers = {asyncio.wrap_future(pool.submit(_say_who)) for _ in range(self._processes)}
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
        pool = await self._running()
        push = _Push(slices, validation, self._max_object_length)
        under_way: dict[asyncio.Future[_Outcome], range] = {}
        try:
            while True:
                # one more than there are processes, so that none waits for its next chunk
                while len(under_way) <= self._processes and (chunk := push.next_chunk()):
                    work = pool.submit(_judge, [slices[index] for index in chunk], strict=push.strict)
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
            if self._closed:
                raise ValidatorsGone("the server is shutting down")
            if self._pool is None:
                self._pool = await asyncio.to_thread(self._start)
            return self._pool

    def _start(self) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(
            self._processes,
            mp_context=get_context("spawn"),
            initializer=_become_a_validator,
            initargs=(self._seconds_an_object,),
        )
        with _nothing_as_main():
            # each of the first submissions starts a process
            for _ in range(self._processes):
                pool.submit(_say_who)
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
        self._left_over: deque[range] = deque()
        self._chunks = self._cut_chunks()
        self._seconds = 0.0

    def next_chunk(self) -> range | None:
        """Give the positions of the next slices to send; None when all are sent."""
        chunk = self._left_over.popleft() if self._left_over else next(self._chunks, None)
        while chunk is not None and self._seconds > MOST_SECONDS_A_PUSH:
            for position in chunk:
                message = "was not checked: the objects of this envelope take too long to check, send fewer at a time"
                self._verdicts[position] = Rejected(None, None, message)
            chunk = self._left_over.popleft() if self._left_over else next(self._chunks, None)
        return chunk

    def take(self, chunk: range, outcome: _Outcome) -> None:
        """Note what a child found; what it left for want of time goes out again."""
        for position, judged in zip(chunk, outcome.judged, strict=False):
            self._verdicts[position] = (
                Accepted(judged, self._slices[position]) if isinstance(judged, Columns) else Rejected(*judged)
            )
        if outcome.not_json is not None:
            raise BadBody(f"objects[{chunk[len(outcome.judged)]}] is not JSON: {outcome.not_json}")
        if len(outcome.judged) < len(chunk):
            self._left_over.append(chunk[len(outcome.judged) :])
        self._seconds += outcome.seconds
        for kind in outcome.inexplicable:
            log.warning("object_inexplicable", error=kind)

    def verdicts(self) -> list[Verdict]:
        """Give all verdicts, in order."""
        return [verdict for verdict in self._verdicts if verdict is not None]

    def _cut_chunks(self) -> Iterator[range]:
        start = octets = 0
        for position, octets_here in enumerate(map(len, self._slices)):
            too_large = octets_here > self._max_object_length
            if too_large or position - start == _CHUNK_OBJECTS or octets + octets_here > _CHUNK_OCTETS:
                if position > start:
                    yield range(start, position)
                start, octets = position, 0
            octets += octets_here
            if too_large:
                message = f"is larger than this server takes: {octets_here} octets, at most {self._max_object_length}"
                self._verdicts[position] = Rejected(None, None, message)
                start, octets = position + 1, 0
        if start < len(self._slices):
            yield range(start, len(self._slices))


@contextmanager
def _nothing_as_main() -> Iterator[None]:
    """Keep the processes started meanwhile from importing this process's program anew: they need none of it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


# What follows runs in the children.


class _Outcome(NamedTuple):
    """What a child found, up to the first slice that is no JSON or until its time was up."""

    judged: list[Columns | tuple[str | None, str | None, str]]
    not_json: str | None
    inexplicable: list[str]
    seconds: float


class _OutOfTime(BaseException):
    """The object at hand has had its processor time; no `except Exception` in between may take it."""


_seconds_an_object = MOST_SECONDS_AN_OBJECT
_limit_holds = False


def _become_a_validator(seconds_an_object: float) -> None:
    global _seconds_an_object  # noqa: PLW0603 - a process is given its limit once
    # the terminal's Ctrl-C is for the parent, which ends its children
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGVTALRM, _interrupt)
    os.nice(_NICENESS)
    threading.Thread(target=_die_with_parent, daemon=True).start()
    # imports stix2 and builds the pattern parser's tables, so that no request waits for either
    _judge([_SAMPLE], strict=True)
    _seconds_an_object = seconds_an_object


def _die_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _say_who() -> int:
    # long enough that the others get to answer as well
    time.sleep(0.02)
    return os.getpid()


def _judge(slices: list[bytes], *, strict: bool) -> _Outcome:
    began = time.process_time()
    judged: list[Columns | tuple[str | None, str | None, str]] = []
    inexplicable: list[str] = []
    not_json: str | None = None
    faulthandler.dump_traceback_later(_CHILD_GIVES_UP_AFTER, exit=True)
    try:
        for octets in slices:
            judged.append(_judge_one(octets, inexplicable, strict=strict))
            if time.process_time() - began > _CHUNK_SECONDS:
                break
    except NotJson as error:
        not_json = str(error)
    finally:
        faulthandler.cancel_dump_traceback_later()
    return _Outcome(judged, not_json, inexplicable, time.process_time() - began)


def _judge_one(octets: bytes, inexplicable: list[str], *, strict: bool) -> Columns | tuple[str | None, str | None, str]:
    read: list[Any] = []

    def look() -> Columns:
        parsed = stix_objects.parse(octets)
        read.append(parsed.value)
        columns = stix_objects.columns(parsed)
        if strict:
            _rules().check(parsed.value, columns.form)
        return columns

    try:
        return _within_limit(look)
    except _OutOfTime:
        _lift_limit()
        message = f"takes more than {_seconds_an_object:g} seconds to check: simplify it (its pattern, if any)"
    except Refused as refused:
        message = str(refused)
        if isinstance(refused, _rules().Inexplicable):
            inexplicable.append(refused.error)
    value = read[0] if read else None
    return stix_objects.shown_id(value), stix_objects.shown_version(value), message


def _rules() -> Any:
    # found by name: the parent, which imports this module too, can do without the tens of megabytes of stix2
    return import_module("taxii_server.operations.stix2_rules")


def _within_limit(work: Callable[[], Columns]) -> Columns:
    global _limit_holds  # noqa: PLW0603 - a signal handler has no other way to know
    _limit_holds = True
    # fires again and again: an exception raised while an object is being finalised is lost
    signal.setitimer(signal.ITIMER_VIRTUAL, _seconds_an_object, 0.1)
    try:
        return work()
    finally:
        _lift_limit()


def _lift_limit() -> None:
    global _limit_holds  # noqa: PLW0603
    _limit_holds = False
    signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    if _limit_holds:
        raise _OutOfTime


_SAMPLE: Final = json.dumps(
    {
        "type": "indicator",
        "spec_version": "2.1",
        "id": "indicator--0c4b6f6f-2f5e-4f0e-9f55-2a4f3d1c7b10",
        "created": "2024-05-02T08:15:30.000Z",
        "modified": "2024-05-02T08:15:30.000Z",
        "pattern": "[ipv4-addr:value = '198.51.100.1' OR file:hashes.MD5 = 'd41d8cd98f00b204e9800998ecf8427e'] "
        "AND ([domain-name:value LIKE '%.example'] FOLLOWEDBY [url:value MATCHES '^x']) WITHIN 5 SECONDS",
        "pattern_type": "stix",
        "valid_from": "2024-05-02T08:15:30Z",
    }
).encode()
