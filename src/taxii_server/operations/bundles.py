"""Cuts a bundle or envelope of any size into the exact octets of its objects, as it is read.

`envelopes` does it for what comes by HTTP, which is there whole and small. A file of gigabytes is read here piece by
piece: there is never more of it in memory than the object at hand and a piece.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NoReturn

from taxii_server.domain.errors import BadBody, NotAnEnvelope
from taxii_server.operations.envelopes import MOST_BESIDES_OBJECTS

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIECE: Final = 1024 * 1024
_LONGEST_OBJECT: Final = 256 * 1024 * 1024
"""What is longer couldn't be stored whatever the settings say, so it isn't read to its end."""

_LONGEST_WORD: Final = 16
"""No name of a value and no escape is longer."""
_BLANK = re.compile(r"[ \t\n\r]*")


def _no_number(name: str) -> NoReturn:
    raise BadBody(f"the body is not JSON: {name}")


# values are passed over, not read: numbers need not become numbers
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_number)


class Slices:
    """The objects of one file, in order, each as its exact octets."""

    def __init__(self, file: BinaryIO) -> None:
        """Take a file that is open for reading; nothing is read yet."""
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8")().decode
        self._text = ""
        self._at = 0
        self._over = False
        self.octets = 0
        """How much of the file was read."""

    def __iter__(self) -> Iterator[bytes]:
        """Give the next object.

        Raises:
            BadBody: as soon as the file turns out to be no JSON in UTF-8; what was given before can't be taken back.
            NotAnEnvelope: if it is JSON, but not an object with exactly one list `objects` that holds something.
        """
        if self._next() != "{":
            raise _no_envelope()
        self._at += 1
        found = False
        besides = 0
        closed = self._next() == "}"
        while not closed:
            if self._next() != '"':
                raise self._broken()
            name, octets = self._besides()
            self._take(":")
            if name == "objects":
                if found:
                    raise NotAnEnvelope("objects occurs twice in the envelope")
                found = True
                yield from self._objects()
            else:
                besides += octets + self._besides()[1]
                if besides > MOST_BESIDES_OBJECTS:
                    raise _too_much()
            closed = self._next() == "}"
            if not closed:
                self._take(",")
        self._at += 1
        if self._next():
            raise self._broken()
        if not found:
            raise _no_envelope()

    def _objects(self) -> Iterator[bytes]:
        if self._next() != "[":
            raise _no_envelope()
        self._at += 1
        if self._next() == "]":
            raise NotAnEnvelope("the envelope holds no objects")
        while True:
            self._next()
            try:
                _, text = self._value(_LONGEST_OBJECT)
            except _TooLong:
                raise BadBody(f"an object has no end within {_LONGEST_OBJECT} octets") from None
            yield text.encode()
            if self._next() == "]":
                break
            self._take(",")
        self._at += 1

    def _besides(self) -> tuple[Any, int]:
        """Read a name or a value that is no object of the envelope; and how long it is."""
        self._next()
        try:
            value, text = self._value(MOST_BESIDES_OBJECTS)
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            raise BadBody("the body is not JSON: it holds half a character") from error
        except _TooLong:
            raise _too_much() from None
        return value, len(text.encode())

    def _value(self, most: int) -> tuple[Any, str]:
        """Pass over one value; give it, and its text."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except RecursionError as error:
                raise BadBody("the body is nested too deeply") from error
            except json.JSONDecodeError as error:
                if self._over or not _is_cut_short(error, self._text):
                    raise self._broken() from error
                if len(self._text) - self._at > most:
                    raise _TooLong from error
            else:
                # a number may go on in what isn't read yet, with a point or an exponent too
                if self._over or not self._text[end - 1].isdigit() or end + _LONGEST_WORD < len(self._text):
                    text = self._text[self._at : end]
                    self._at = end
                    return value, text
            self._read()

    def _next(self) -> str:
        """Pass over blanks and give the character that follows; nothing at the end."""
        while True:
            blank = _BLANK.match(self._text, self._at)
            self._at = self._at if blank is None else blank.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if self._over:
                return ""
            self._read()

    def _take(self, wanted: str) -> None:
        if self._next() != wanted:
            raise self._broken()
        self._at += 1

    def _read(self) -> None:
        left = self._text[self._at :]
        # as much again as could not be read yet, so that a long object is begun a few times and not a thousand
        piece = self._file.read(max(_PIECE, len(left)))
        self._over = not piece
        try:
            self._text = left + self._decode(piece, final=self._over)
        except UnicodeDecodeError as error:
            raise BadBody(f"the body is not UTF-8 (about octet {self.octets + error.start})") from error
        self._at = 0
        self.octets += len(piece)

    def _broken(self) -> BadBody:
        octet = self.octets - len(self._text[self._at :].encode())
        return BadBody(f"the body is not JSON from about octet {octet} on")


class _TooLong(Exception):
    """A value has no end within what may be read of it."""


def _is_cut_short(error: json.JSONDecodeError, text: str) -> bool:
    """Whether more text could mend it: it is in the last word, or in a string without an end."""
    return error.pos > len(text) - _LONGEST_WORD or error.msg.startswith("Unterminated string")


def _no_envelope() -> NotAnEnvelope:
    return NotAnEnvelope('the body must be an envelope: {"objects": […]}')


def _too_much() -> NotAnEnvelope:
    return NotAnEnvelope(f"the envelope holds more than {MOST_BESIDES_OBJECTS} octets besides its objects")
