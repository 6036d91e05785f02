"""Cuts an envelope into the exact octets of its objects, which is as far as the web worker reads into a body."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import msgspec

from taxii_server.domain.errors import BadBody, NotAnEnvelope

MOST_OBJECTS: Final = 100_000
"""Objects in one envelope: what is kept for each, the smallest included, has to fit in memory."""

MOST_BESIDES_OBJECTS: Final = 64 * 1024
"""Octets of an envelope that are not its objects."""

_BETWEEN = re.compile(r"[ \t\n\r,]*")
_DECODER = json.JSONDecoder()


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
        # a list of a million numbers would cost a hundred times its size to cut: with so many commas, count first
        if objects.count(b",") > MOST_OBJECTS and _has_more_items(objects, MOST_OBJECTS):
            raise _too_many()
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
        raise _too_many()
    return [bytes(item) for item in items]


def _too_many() -> NotAnEnvelope:
    return NotAnEnvelope(f"the envelope holds more than {MOST_OBJECTS} objects: send them in several envelopes")


def _has_more_items(objects: bytes, most: int) -> bool:
    """Count the items of a JSON list one by one, without keeping them, until there are too many."""
    text = objects.decode()
    position = _next_item(text, 1)
    try:
        for _ in range(most):
            _, end = _DECODER.raw_decode(text, position)
            position = _next_item(text, end)
            if text[position : position + 1] == "]":
                return False
    except ValueError:
        # not JSON, or no list: whoever cuts it says what it is
        return False
    return True


def _next_item(text: str, end: int) -> int:
    between = _BETWEEN.match(text, end)
    return end if between is None else between.end()


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
