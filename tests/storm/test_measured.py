"""What `benchmarks` measures is right: the server misses nothing there either, and a peer is told from what it answers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import report, site
from benchmarks.peers import BASIC, Peer
from benchmarks.report import Report
from benchmarks.storm import DATES, STORM
from taxii_server.web import logs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module", autouse=True)
def _logging_as_it_is() -> Iterator[None]:
    """The benchmark's way of logging would outlive it in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logs, "configure", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def here() -> Iterator[site.Site]:
    with site.running(1) as running:
        yield running


def test_a_run_tells_of_the_storm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing missed, nothing got again, each object with a date of its own; and the run says which aims that reaches."""
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    monkeypatch.setattr("sys.argv", ["benchmarks", "--only", "storm", "--json", str(tmp_path / "bench.json")])

    benchmarks.main()

    told = report.read(tmp_path / "bench.json")
    assert (told.value(STORM, "missed"), told.value(STORM, "repeated"), told.value(DATES, "dates")) == (0, 0, 100)
    assert (told.value(STORM, "to deliver") or 0) > 1000
    assert f"| {STORM}: versions missed | 0 | 0 | yes |" in capsys.readouterr().out


def test_any_server_is_measured_as_a_peer(here: site.Site) -> None:
    """By what the standard has: ours beside itself, with what is in a collection already."""
    told = Report({})
    other = Peer("itself", here.target.as_(here.basic(0)), here.path("strict"), BASIC, few=2, told=("It is ours.",))
    for _ in range(2):
        benchmarks.measure_peer(told, other, 0.2)

    assert told.setting["peers"] == {"itself": ["It is ours."]}
    assert [row for row in told.rows if row.said or row.of != "itself"] == []
    assert {row.figures["missed"] + row.figures["repeated"] for row in told.rows if row.what == STORM} == {0}
    assert len({row.what for row in told.rows}) == 10


def test_what_a_peer_refuses_is_told_and_the_run_goes_on(here: site.Site) -> None:
    """Whose collection may be read, and not be written to."""
    told = Report({})
    other = Peer("a stranger", here.target.as_("Basic bm9ib2R5"), here.path("strict"))

    benchmarks.measure_peer(told, other, 0.2)

    assert told.setting["peers"] == {"a stranger": ["It was not measured to the end, for it failed."]}
