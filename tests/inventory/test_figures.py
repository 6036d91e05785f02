"""Plots, tables and sentences of the docs are those of the run whose JSON stands beside them; and what a run is held against."""

from __future__ import annotations

import json
import re
from html import escape, unescape
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest

from benchmarks import aims, documents, figures, report
from benchmarks.report import Report
from benchmarks.storm import STORM

if TYPE_CHECKING:
    from pathlib import Path

PERFORMANCE = documents.ROOT / "docs/performance.md"
PUSH = "push, strict, envelopes of 100, 8 connections"
SYNC = "full sync, pages of 1,000"
POLL = "poll, nothing new, 16 clients, tokens"
SETTING: dict[str, Any] = {"cores": 2, "processor": "Some(R) <CPU>", "python": "3.11.7", "taken": "2026-11-22"}


def run() -> Report:
    """A small one, with a peer that can't do everything."""
    made = Report(SETTING)
    waits = {"p50": 2.0, "p99": 9.0}
    made.add(PUSH, {"objects": 4000.0, "rate": 40.0, **waits})
    made.add(PUSH, {"objects": 10000.0}, "floor")
    made.add(PUSH, {"objects": 500.0, "rate": 5.0, **waits}, "OpenTAXII")
    made.add("push, strict, one object each, 1 connection", {"objects": 300.0, "rate": 300.0, **waits})
    made.add(SYNC, {"objects": 99999.0, "rate": 100.0, **waits})
    made.add(SYNC, {"objects": 1.5}, "medallion")
    made.add(SYNC, {}, "another & one", "not within 60 s")
    made.add(POLL, {"rate": 1000.0, **waits})
    made.add(POLL, {"rate": 2000.0, "p50": 1.0, "p99": 2.0}, "floor")
    made.add(STORM, {"rate": 9.0, **waits, "objects": 900.0, "to deliver": 4000, "missed": 0, "repeated": 0})
    made.add(
        STORM, {"rate": 9.0, **waits, "objects": 90.0, "to deliver": 400, "missed": 45, "repeated": 1}, "OpenTAXII"
    )
    made.add(STORM, {}, "medallion", "fails")
    return made


GROWTH: dict[str, Any] = {
    "setting": SETTING | {"versions": 1_000_000, "shared_buffers": "4GB"},
    "rows": [
        {"what": "page of 100", "few_ms": 2.0, "many_ms": 2.6, "ratio": 1.3, "times": 9},
        {"what": "match[version]=all", "few_ms": 10.0, "many_ms": 250.0, "ratio": 25.0, "times": 9},
        {"what": "push of 1", "few_ms": 3.0, "many_ms": 1.5, "ratio": 0.5, "times": 9},
    ],
}


@pytest.mark.parametrize("document", documents.SHOWING, ids=lambda path: str(path.name))
def test_the_docs_say_what_was_measured(document: Path) -> None:
    """No number of a table, an alternative text or the README differs from the JSON; `make plots` writes them."""
    text = document.read_text("utf-8")

    assert documents.named(text)
    assert documents.written(text, documents.texts()) == text


def test_every_figure_is_shown_once_with_what_it_shows() -> None:
    """Each has a place, no plot is left over, and each carries the sentence that stands for it."""
    shown = re.findall(r"^!\[(.+)\]\((figures/[\w-]+\.svg)\)$", PERFORMANCE.read_text("utf-8"), re.MULTILINE)
    marks = set().union(*(documents.named(document.read_text("utf-8")) for document in documents.SHOWING))

    assert marks == documents.texts().keys()
    assert sorted(file for _, file in shown) == sorted(f"figures/{one.name}" for one in documents.FIGURES.glob("*.svg"))
    for sentence, file in shown:
        assert f"<desc>{escape(sentence)}</desc>" in (PERFORMANCE.parent / file).read_text("utf-8")


def test_what_a_peer_cannot_do_stands_in_the_table() -> None:
    """A cell is empty where nobody asked."""
    table = next(chart.table for chart in figures.of_run(run()) if chart.name == "sync")

    assert table.splitlines()[0] == (
        "| full synchronisation and manifest | ours | another & one | ours / another & one | medallion | ours / medallion |"
    )
    assert table.splitlines()[2] == "| full sync, pages of 1,000 | 99,999 | not within 60 s |  | 1.5 | 66,666 |"


def test_a_run_written_is_the_run_read(tmp_path: Path) -> None:
    """Figures can be drawn long after they were taken."""
    run().write(tmp_path / "bench.json")

    assert report.read(tmp_path / "bench.json") == run()


def test_an_aim_is_reached_missed_or_not_measured() -> None:
    """What is just reached is; what is a hair short is not; what wasn't measured is neither."""
    told = aims.table([*aims.of_run(run()), *aims.of_growth(GROWTH["rows"])])
    rows = {row.split(" | ")[0].removeprefix("| "): row.split(" | ")[1:] for row in told.splitlines()[2:]}

    assert rows[f"{PUSH}: objects/s"] == ["at least 4,000", "4,000", "yes |"]
    assert rows[f"{PUSH}: ours / OpenTAXII"] == ["at least 6", "8.00", "yes |"]
    assert rows[f"{SYNC}: objects/s"] == ["at least 100,000", "99,999", "**no** |"]
    assert rows[f"{SYNC}: ours / OpenTAXII"] == ["at least 15", "", "not measured |"]
    assert rows[f"{POLL}: ours / floor"] == ["at least half", "0.50", "yes |"]
    assert rows[f"{POLL}: p99 / p50"] == ["at most 5", "4.5", "yes |"]
    assert rows[f"{STORM}: versions missed"] == ["0", "0", "yes |"]
    assert rows["growth, each page: median / median at 10,000 versions"] == [
        "at most 1.3",
        "1 of 2 within; most: 25.0 (match[version]=all)",
        "**no** |",
    ]
    assert rows["growth, each push: median / median at 10,000 versions"][-1] == "yes |"
    assert rows["growth, each poll: median / median at 10,000 versions"][-1] == "not measured |"


@pytest.mark.slow
def test_plots_are_those_of_the_run_octet_for_octet() -> None:
    """What is committed is what `make plots` draws."""
    from benchmarks import plots  # noqa: PLC0415 # takes a second

    drawn = {chart.name: plots.svg(chart) for chart in plots.charts(documents.RUN, documents.GROWTH)}

    assert drawn == {one.stem: one.read_text("utf-8") for one in documents.FIGURES.glob("*.svg")}


@pytest.mark.slow
def test_plots_are_drawn_of_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small, whole, with title, unit, machine, sentence and every number; and nothing of the docs is touched."""
    from benchmarks import plots  # noqa: PLC0415

    before = PERFORMANCE.read_bytes()
    run().write(tmp_path / "bench.json")
    (tmp_path / "growth.json").write_text(json.dumps(GROWTH))
    command = ["plots", str(tmp_path / "bench.json"), str(tmp_path / "growth.json"), "--into", str(tmp_path / "drawn")]
    monkeypatch.setattr("sys.argv", command)

    plots.main()

    files = {one.stem: one.read_text("utf-8") for one in (tmp_path / "drawn").iterdir()}
    assert sorted(files) == ["growth", "poll", "push", "storm", "sync", "waits"]
    for text in files.values():
        root = ET.fromstring(text)  # noqa: S314 # ours
        assert len(text) < 50_000
        assert [child.tag.rpartition("}")[2] for child in root][:3] == ["title", "desc", "style"]
        assert "Some &lt;CPU&gt;, Python 3.11.7" in text
        assert "2026-11-22" in text
    words = {name: re.findall(r"<text[^>]*>([^<]+)</text>", text) for name, text in files.items()}
    assert set(words["push"]) >= {
        "Push, objects a second",
        "4,000",
        "10,000",
        "500",
        "OpenTAXII",
        "strict, one object each, 1 connection",
    }
    assert set(words["sync"]) >= {"99,999", "medallion 1.5", "another &amp; one not within 60 s"}
    assert set(words["growth"]) >= {"\N{MULTIPLICATION SIGN} 25.0", "match[version]=all"}
    assert set(words["storm"]) >= {"0.25", "0", "11.2", "medallion fails"}
    assert unescape(files["storm"]).count("ours 0 of 4,000, OpenTAXII 45 of 400") == 1
    assert PERFORMANCE.read_bytes() == before


@pytest.mark.slow
def test_plots_can_be_read_by_day_and_by_night() -> None:
    """Contrast as WCAG 2.1 asks: 4.5 for text, 3 for bars, on the paper of either; the dark replaces every colour of the light."""
    from benchmarks import plots  # noqa: PLC0415

    def luminance(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(one), luminance(other)))
        return (high + 0.05) / (low + 0.05)

    for paper, ink, muted in zip(plots.PAPER, plots.INK, plots.MUTED, strict=True):
        assert min(contrast(paper, ink), contrast(paper, muted)) >= 4.5
        assert min(contrast(paper, colour) for colour in (*plots.COLOURS.values(), plots.ANOTHER)) >= 3
    drawn = "".join(plots.svg(chart) for chart in plots.charts(documents.RUN, documents.GROWTH))
    used = set(re.findall(r"(?:fill|stroke): (#\w{6})", drawn.replace("!important", "")))
    swapped = {colour for pair in (plots.INK, plots.MUTED, plots.PAPER, plots.GRID) for colour in pair}
    assert used <= swapped | {*plots.COLOURS.values(), plots.ANOTHER}
    for light, dark in (plots.INK, plots.MUTED, plots.PAPER, plots.GRID):
        assert f"{light}'] {{ " in drawn
        assert dark in drawn
