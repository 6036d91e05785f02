"""Files in and out of a collection: each object judged by itself, and byte for byte the same on the way out."""

import json
from pathlib import Path
from typing import Any

import pytest

from taxii_server.operations import transfer
from tests.cli.conftest import Run

# spelled as no JSON library would
BODY = (
    '{"type": "indicator",  "spec_version":"2.1","id":"indicator--%08d-0000-4000-8000-000000000000",'
    '"created":"2026-01-01T00:00:00.000Z","modified":"2026-0%d-01T00:00:00.000Z","pattern_type":"stix",'
    '"pattern":"[ipv4-addr:value = \'192.0.2.1\']","valid_from":"2026-01-01T00:00:00Z","x_n":1.50e1,"x_u":"\\u00e9é"}'
)


def bundle(path: Path, *bodies: str, name: str = "bundle.json") -> Path:
    file = path / name
    objects = ",".join(bodies)
    file.write_text(f'{{"type":"bundle","id":"bundle--0b0b0b0b-0000-4000-8000-000000000000","objects":[{objects}]}}')
    return file


def test_what_goes_in_comes_out_byte_for_byte(run: Run, alliance: Path, tmp_path: Path) -> None:
    """The latest version of each by default, all on demand."""
    bodies = [BODY % (1, 1), BODY % (1, 2), BODY % (2, 1)]

    added = run("import", "fraud-intel/indicators", str(bundle(tmp_path, *bodies)), "--as", "north-bank")
    latest = run("export", "fraud-intel/indicators")
    run("export", "91a7b528-80eb-42ed-a74d-c6fbd5a26116", "--versions", "all", "-o", str(tmp_path / "all.json"))

    assert added.out == "fraud-intel/indicators: 3 stored, 0 already there, 0 refused\n"
    assert json.loads(latest.out)["type"] == "bundle"
    assert latest.out.splitlines()[1:-1] == [f"{bodies[1]},", bodies[2]]
    assert (tmp_path / "all.json").read_text().splitlines()[1:-1] == [f"{bodies[0]},", f"{bodies[1]},", bodies[2]]


def test_an_empty_collection_is_an_empty_bundle(run: Run, alliance: Path) -> None:
    """It is JSON all the same."""
    assert json.loads(run("export", "fraud-intel/other").out)["objects"] == []


def test_an_import_can_be_run_again(run: Run, alliance: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there already is no fault, whichever batch it is in, and several files make one report."""
    monkeypatch.setattr(transfer, "BATCH", 2)
    first = bundle(tmp_path, *(BODY % (number, 1) for number in range(5)))
    second = bundle(tmp_path, *(BODY % (number, 1) for number in range(3, 7)), name="second.json")

    alone = run("import", "fraud-intel/indicators", str(first), "--as", "north-bank", "--json")
    both = run("import", "fraud-intel/indicators", str(first), str(second), "--as", "north-bank", "--json")

    assert (alone.json["stored"], alone.json["already_there"]) == (5, 0)
    assert (both.json["stored"], both.json["already_there"]) == (2, 7)


def test_each_refusal_is_named_and_exits_with_1(run: Run, alliance: Path, tmp_path: Path) -> None:
    """One bad object sinks no other; its id, version and fault are told."""
    bad = (BODY % (1, 1)).replace("[ipv4-addr", "ipv4-addr")
    file = bundle(tmp_path, bad, BODY % (2, 1))

    told = run("import", "fraud-intel/indicators", str(file), "--as", "north-bank")
    report: dict[str, Any] = run("import", "fraud-intel/indicators", str(file), "--as", "north-bank", "--json").json

    assert told.code == 1
    assert told.out.endswith("1 stored, 0 already there, 1 refused\n")
    assert "refused indicator--00000001-0000-4000-8000-000000000000 2026-01-01T00:00:00.000Z: " in told.err
    assert (report["already_there"], report["refused"][0]["id"][:19]) == (1, "indicator--00000001")


@pytest.mark.parametrize(
    ("collection", "member", "content", "said"),
    [
        ("fraud-intel/indicator", "north-bank", "{}", "did you mean 'fraud-intel/indicators'"),
        ("fraud-intel/indicators", "north", "{}", "There is no member 'north'"),
        ("fraud-intel/indicators", "north-bank", "nonsense", "is no bundle or envelope"),
        ("fraud-intel/indicators", "north-bank", "[]", "is no bundle or envelope"),
    ],
)
def test_nonsense_is_refused_whole(
    run: Run, alliance: Path, tmp_path: Path, collection: str, member: str, content: str, said: str
) -> None:
    """An unknown collection or member, and a file of another kind."""
    file = tmp_path / "file.json"
    file.write_text(content)

    refused = run("import", collection, str(file), "--as", member)

    assert (refused.code, refused.out) == (1, "")
    assert said in refused.err


def test_files_that_cant_be_used_are_named(run: Run, alliance: Path, tmp_path: Path) -> None:
    """Missing on the way in, unwritable on the way out."""
    missing = run("import", "fraud-intel/indicators", str(tmp_path / "none"), "--as", "north-bank")
    unwritable = run("export", "fraud-intel/indicators", "-o", str(tmp_path / "none" / "file"))

    assert (missing.code, unwritable.code) == (1, 1)
    assert f"{tmp_path / 'none'} can't be read: No such file" in missing.err
    assert "can't be written" in unwritable.err
