"""What a validating process does: reads each slice of an envelope once, and gives back its columns or why it is refused.

What a stranger's object may cost is bounded here: one that takes more than `MOST_SECONDS_AN_OBJECT` of processor time
(a pattern can be written so that its cost grows with the square of its length) is interrupted and refused, and a
process that can't be interrupted at all ends itself.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import time
from collections.abc import Callable
from importlib import import_module
from types import FrameType
from typing import Any, Final, NamedTuple, TypeAlias

from taxii_server.domain import stix_objects
from taxii_server.domain.stix_objects import Columns, NotJson, Refused
from taxii_server.operations import certain
from taxii_server.operations.parenthood import when_parent_ends

MOST_SECONDS_AN_OBJECT: Final = 5.0
"""Processor time; an ordinary object takes a quarter of a millisecond."""

_CHUNK_SECONDS = 0.25
_CHILD_GIVES_UP_AFTER = 120.0
_NICENESS = 10


Judged: TypeAlias = Columns | tuple[str | None, str | None, str]
"""What was found of one object: its columns, or id, version and why it is refused."""


class Outcome(NamedTuple):
    """What a child found, up to the first slice that is no JSON or until its time was up."""

    judged: list[Judged]
    not_json: str | None
    inexplicable: list[str]
    seconds: float


class _OutOfTime(BaseException):
    """The object at hand has had its processor time; no `except Exception` in between may take it."""


_seconds_an_object = MOST_SECONDS_AN_OBJECT
_limit_holds = False


def become_a_validator(seconds_an_object: float) -> None:
    """Prepare this process, so that no request waits for it; it ends with its parent."""
    global _seconds_an_object  # noqa: PLW0603 - a process is given its limit once
    # the terminal's Ctrl-C is for the parent, which ends its children
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGVTALRM, _interrupt)
    os.nice(_NICENESS)
    when_parent_ends(lambda: os._exit(1))
    # imports stix2 and builds the pattern parser's tables, so that no request waits for either
    judge([_SAMPLE], strict=True)
    _seconds_an_object = seconds_an_object


def say_who() -> int:
    """Give this process's number."""
    # long enough that the others get to answer as well
    time.sleep(0.02)
    return os.getpid()


def judge(slices: list[bytes], *, strict: bool) -> Outcome:
    """Judge the slices one after the other, as many as the time of a chunk allows."""
    began = time.process_time()
    judged: list[Judged] = []
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
    return Outcome(judged, not_json, inexplicable, time.process_time() - began)


def at_a_glance(octets: bytes, *, strict: bool) -> Judged | None:
    """Judge a short object where it takes no more than reading it; None says nothing. Any process may do it.

    Raises:
        NotJson: if it isn't JSON.
    """
    known = certain.read(octets)
    if known is not None or strict:
        return known
    parsed = stix_objects.parse(octets)
    try:
        return stix_objects.columns(parsed)
    except Refused as refused:
        return stix_objects.shown_id(parsed.value), stix_objects.shown_version(parsed.value), str(refused)


def _judge_one(octets: bytes, inexplicable: list[str], *, strict: bool) -> Judged:
    known = certain.read(octets)
    if known is not None:
        return known
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
