"""What people see in their terminals."""

import re
import sys

import pytest

from taxii_server.cli import output

CLIENT = "harbour-bank.siem.340c2805"
COLUMNS = ["CLIENT", "LAST POLL", "VERDICT"]
ROWS = [[CLIENT, None, "never polled"], ["north-bank.push-tool.3af62dd9", None, "up to date"]]


def in_a_terminal(columns: int, patch: pytest.MonkeyPatch) -> None:
    """Have stdout be a terminal of this width."""
    patch.setenv("TERM", "xterm")
    patch.setenv("COLUMNS", str(columns))
    patch.setattr(sys.stdout, "isatty", lambda: True)


def lines(said: str) -> list[str]:
    """What is seen, without the codes for bold."""
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", said).splitlines()]


def test_what_fits_is_a_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """To the last column."""
    in_a_terminal(54, monkeypatch)

    output.table(COLUMNS, ROWS, nothing="")

    assert [line.split() for line in lines(capsys.readouterr().out)] == [
        ["CLIENT", "LAST", "POLL", "VERDICT"],
        [CLIENT, "-", "never", "polled"],
        ["north-bank.push-tool.3af62dd9", "-", "up", "to", "date"],
    ]


def test_where_a_terminal_is_too_narrow_each_field_has_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No id is cut in two, so that it can be read and copied."""
    in_a_terminal(53, monkeypatch)

    output.table(COLUMNS, ROWS, nothing="")

    assert lines(capsys.readouterr().out) == [
        f"CLIENT     {CLIENT}",
        "LAST POLL  -",
        "VERDICT    never polled",
        "",
        "CLIENT     north-bank.push-tool.3af62dd9",
        "LAST POLL  -",
        "VERDICT    up to date",
    ]


def test_a_pipe_gets_a_line_for_each_row_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    """What reads it goes by lines."""
    output.table(COLUMNS, [[CLIENT, "x" * 1000, "up to date"]], nothing="")

    assert [line.split() for line in lines(capsys.readouterr().out)][1:] == [[CLIENT, "x" * 1000, "up", "to", "date"]]
