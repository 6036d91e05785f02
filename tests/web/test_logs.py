"""Each line is one JSON object in ASCII, whatever is said in it."""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from taxii_server.web import logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """What is written to stderr while the server's logging is set up."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    before = structlog.get_config()
    logs.configure("json", "info")
    yield written
    structlog.configure(**before)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("plain", "plain"),
        ("naïve\u2028", "naïve\u2028"),
        ("\ud800", "\ud800"),
        ("a\nb\0", "a\nb\0"),
        (2**80, 2**80),
        (object, repr(object)),
        ({1, 2}, None),
    ],
)
def test_a_line_is_a_line(lines: io.StringIO, said: object, read: object) -> None:
    structlog.get_logger().info("something", said=said)

    [line] = lines.getvalue().split("\n")[:-1]
    assert line.isascii()
    told = json.loads(line)
    assert (told["event"], told["level"]) == ("something", "info")
    assert read is None or told["said"] == read


_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters())
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), _VALUES, max_size=5))
def test_what_is_said_is_what_is_read(said: dict[str, object]) -> None:
    line = logs._written(said)

    assert line.isascii()
    assert "\n" not in line
    assert json.loads(line) == said
