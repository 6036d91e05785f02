"""An import that was stopped, however, goes on where it was, tells the same in the end and stores nothing twice."""

import json
import re
import signal
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy.engine import make_url

from taxii_server.domain.access import Validation
from taxii_server.operations import transfer
from taxii_server.operations.transfer import _Import
from taxii_server.operations.validation import Validators, Verdict
from tests.cli.conftest import Run
from tests.cli.processes import descendants, taxii_server
from tests.factories import as_json, indicator, ipv4, stix_id

HERE = "fraud-intel/indicators"


def bundle(file: Path, *objects: dict[str, Any]) -> Path:
    file.write_bytes(b'{"type":"bundle","objects":[' + b",\n".join(as_json(one) for one in objects) + b"]}")
    return file


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Validation, int]]:
    """How many objects were judged by which validation, call by call."""
    calls: list[tuple[Validation, int]] = []
    judge = Validators.judge

    async def noting(self: Validators, slices: list[bytes], validation: Validation) -> list[Verdict]:
        calls.append((validation, len(slices)))
        return await judge(self, slices, validation)

    monkeypatch.setattr(Validators, "judge", noting)
    return calls


def test_what_is_there_is_passed_over(
    run: Run, alliance: Path, tmp_path: Path, judged: list[tuple[Validation, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It isn't judged again; from the first batch that holds nothing known on, batches are no longer looked up first."""
    monkeypatch.setattr(transfer, "BATCH", 10)
    objects = [indicator(id=stix_id("indicator", number)) for number in range(120)]
    begun = bundle(tmp_path / "begun.json", *objects[:55])
    whole = bundle(tmp_path / "whole.json", *objects)

    run("import", HERE, str(begun), "--as", "north-bank")
    judged.clear()
    report = run("import", HERE, str(whole), "--as", "north-bank", "--json").json

    assert (report["stored"], report["already_there"], report["refused"]) == (65, 55, [])
    assert sum(count for validation, count in judged if validation is Validation.STRICT) == 65
    # the batches that were under way when the first unknown one was seen
    assert 60 <= sum(count for validation, count in judged if validation is Validation.STRUCTURAL) <= 110


def test_the_same_is_told_of_what_is_passed_over(
    run: Run, alliance: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repeats, conflicts, what is refused, recalled or spelled otherwise: the report is that of judging everything anew."""
    ids = [stix_id("indicator", number) for number in range(6)]
    first = [indicator(id=one) for one in ids] + [ipv4(value="203.0.113.5")]
    bad = indicator(id=stix_id("indicator", 90), pattern="[")
    run("import", HERE, str(bundle(tmp_path / "first.json", *first)), "--as", "north-bank")
    run("recall", HERE, ids[3])
    again = [
        *first,
        bad,
        first[0],
        indicator(id=ids[1], name="other content"),
        indicator(id=ids[2], modified="2999-01-01T00:00:00.000Z"),
        indicator(id=ids[3].upper().replace("INDICATOR", "indicator")),
        dict(reversed(first[4].items())),
    ]
    file = bundle(tmp_path / "again.json", *again)
    monkeypatch.setattr(transfer, "BATCH", 4)

    def told() -> dict[str, Any]:
        report: dict[str, Any] = run("import", HERE, str(file), "--as", "north-bank", "--json").json
        report["refused"] = sorted((one["id"], one["message"]) for one in report["refused"])
        return report

    passing_over = told()

    async def nothing(self: _Import, verdicts: list[Verdict]) -> list[bool]:
        return [False for _ in verdicts]

    monkeypatch.setattr(_Import, "_known", nothing)
    judging_all = told()

    assert (passing_over["stored"], judging_all["stored"]) == (1, 0)
    assert passing_over["already_there"] + 1 == judging_all["already_there"] == 9
    assert passing_over["refused"] == judging_all["refused"]
    assert [said for _, said in passing_over["refused"] if "recalled" in said] != []


def test_a_file_that_breaks_off_is_stored_up_to_there(run: Run, alliance: Path, tmp_path: Path) -> None:
    """It is said that something was; the whole file can be imported later."""
    file = bundle(tmp_path / "whole.json", *(indicator(id=stix_id("indicator", number)) for number in range(5)))
    file.write_bytes(file.read_bytes()[:-40])

    broken = run("import", HERE, str(file), "--as", "north-bank")

    assert broken.code == 1
    assert "is no bundle or envelope: the body is not JSON from about octet" in broken.err
    assert "4 objects before that were looked at" in broken.err
    assert len(json.loads(run("export", HERE).out)["objects"]) == 4


def test_refusals_are_told_up_to_a_bound(
    run: Run, alliance: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told of a file with millions of them fits in memory; all are counted."""
    monkeypatch.setattr(transfer, "MOST_REFUSALS_TOLD", 3)
    file = bundle(tmp_path / "bad.json", *({"id": number} for number in range(5)))

    told = run("import", HERE, str(file), "--as", "north-bank")
    report = run("import", HERE, str(file), "--as", "north-bank", "--json").json

    assert told.out.endswith("0 stored, 0 already there, 5 refused\n")
    assert "… and 2 more" in told.err
    assert (len(report["refused"]), report["refused_besides"]) == (3, 2)


@pytest.mark.slow
def test_a_killed_import_goes_on(run: Run, alliance: Path, environment: dict[str, str], tmp_path: Path) -> None:
    """SIGKILL in the middle of it, twice: in the end every object is there once, in the order of the file."""
    ids = [stix_id("indicator", number) for number in range(6_000)]
    file = bundle(tmp_path / "large.json", *(indicator(id=one) for one in ids))
    url = make_url(environment["TAXII_MIGRATION_DATABASE_URL"]).set(drivername="postgresql")

    def stored() -> int:
        with psycopg.connect(url.render_as_string(hide_password=False)) as owner:
            [found] = owner.execute("SELECT count(*) FROM object_versions").fetchone() or [0]
        return int(found)

    arguments = ("import", HERE, str(file), "--as", "north-bank")
    for _ in range(2):
        before = stored()
        with taxii_server(*arguments, cwd=tmp_path, settings=environment) as process:
            until = time.monotonic() + 60
            while stored() == before and time.monotonic() < until:
                time.sleep(0.02)
            children = descendants(process.running.pid)
            assert process.stop(signal.SIGKILL) == -signal.SIGKILL
        assert children
        assert before < stored() < len(ids)
    before = stored()

    report = run(*arguments, "--json").json

    assert (report["stored"], report["already_there"], report["refused"]) == (len(ids) - before, before, [])
    out = json.loads(run("export", HERE, "--versions", "all").out)["objects"]
    assert [one["id"] for one in out] == ids
    assert run("db", "check").code == 0
    assert run("audit", "verify", "--content").code == 0


@pytest.mark.slow
def test_memory_doesnt_grow_with_the_file(
    run: Run, environment: dict[str, str], alliance: Path, tmp_path: Path
) -> None:
    """What an import holds at most is no more for a file that is four times as large, here 130 MB."""
    alliance.write_text(alliance.read_text().replace("title: Others", "title: Others, validation: structural"))
    run("apply", str(alliance))
    peaks: list[float] = []
    stored = 0
    for objects in (8_000, 32_000):
        file = bundle(
            tmp_path / f"{objects}.json",
            *({"type": "x-note", "id": stix_id("x-note", number), "text": "x" * 4_000} for number in range(objects)),
        )
        arguments = ("import", "fraud-intel/other", str(file), "--as", "north-bank")
        peak = 0.0
        with taxii_server(*arguments, cwd=tmp_path, settings=environment) as process:
            while process.running.poll() is None:
                # its own high-water mark: what the kernel tells of a process that ended counts its parent's as well
                told = Path(f"/proc/{process.running.pid}/status").read_text()
                peak = max([peak, *(int(kib) / 1024 for kib in re.findall(r"^VmHWM:\s+(\d+) kB", told, re.MULTILINE))])
                time.sleep(0.05)
        assert f"{objects - stored} stored, {stored} already there, 0 refused" in process.said
        stored = objects
        peaks.append(peak)
    assert 50 < peaks[0] < 300, peaks
    assert peaks[1] < peaks[0] + 32, peaks
