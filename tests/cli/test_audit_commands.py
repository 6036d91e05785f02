"""`audit`: read what was done, take its head away, find out whether it is what was written."""

import json
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.engine import make_url

from tests.cli.conftest import Run
from tests.factories import envelope, indicator

STREAM = "collection:91a7b528-80eb-42ed-a74d-c6fbd5a26116"


@pytest.fixture
def history(run: Run, alliance: Path, tmp_path: Path) -> Path:
    """A client, a push, and the head after them."""
    assert run("client", "issue", "north-bank", "--name", "siem").code == 0
    bundle = tmp_path / "bundle.json"
    bundle.write_bytes(envelope(indicator()))
    assert run("import", "fraud-intel/indicators", str(bundle), "--as", "north-bank").code == 0
    head = tmp_path / "head.txt"
    head.write_text(run("audit", "head").out)
    return head


def attack(environment: dict[str, str], statement: str) -> None:
    """Do what the owner of the database can."""
    url = make_url(environment["TAXII_MIGRATION_DATABASE_URL"]).set(drivername="postgresql")
    with psycopg.connect(url.render_as_string(hide_password=False)) as owner:
        owner.execute(statement)


def test_streams_and_acts_are_listed(run: Run, history: Path) -> None:
    """The newest act first, for people and for programs."""
    streams = {one["stream"]: one["acts"] for one in run("audit", "list", "--json").json}
    [act] = run("audit", "list", "--stream", "member:north-bank", "--json").json

    assert streams.keys() == {"alliance", "heads", "keys", "member:north-bank", STREAM}
    assert (act["act"], act["who"], act["seq"]) == ("client_issued", "operator", 1)
    assert "client_issued" in run("audit", "list", "--stream", "member:north-bank").out
    assert "member:north-bank" in run("audit", "list").out
    assert run("audit", "list", "--stream", "member:nobody").code == 1


def test_a_collection_is_called_as_everywhere(run: Run, history: Path, alliance: Path) -> None:
    """By trust group and alias or title, by either alone where one collection has it, or by its id; a slip is answered."""
    acts = run("audit", "list", "--stream", STREAM, "--json").json
    names = {one["stream"]: one["name"] for one in run("audit", "list", "--json").json}
    for called in (
        "fraud-intel/indicators",
        "indicators",
        "fraud-intel/Fraud indicators",
        "Fraud indicators",
        STREAM[11:],
    ):
        assert run("audit", "list", "--stream", called, "--json").json == acts
        assert len(run("audit", "export", "--stream", called).out.splitlines()) == len(acts)

    assert (names[STREAM], names["alliance"]) == ("fraud-intel/indicators", None)
    for command in ("list", "export"):
        slip = run("audit", command, "--stream", "fraud-intel/indicator")
        assert slip.code == 1
        assert "did you mean 'fraud-intel/indicators'?" in slip.err


@pytest.mark.slow
def test_a_name_that_several_have_is_answered_with_all(run: Run, history: Path, alliance: Path) -> None:
    """Another trust group may well call its feed the same."""
    group = "  crime-desk:\n    title: Crime desk\n    collections:\n      - {alias: indicators, title: Others}\n"
    alliance.write_text(alliance.read_text().replace("trust_groups:\n", "trust_groups:\n" + group))
    assert run("apply", str(alliance)).code == 0
    answer = run("audit", "list", "--stream", "indicators")

    assert answer.code == 1
    assert "Several collections are called 'indicators': crime-desk/indicators, fraud-intel/indicators." in answer.err


def test_an_export_is_json_lines_and_goes_on_where_it_stopped(run: Run, history: Path) -> None:
    """Of all streams, of one from a number on, and from an instant on."""
    every = [json.loads(line) for line in run("audit", "export").out.splitlines()]
    alliance = [one for one in every if one["stream"] == "alliance"]
    rest = [
        json.loads(line) for line in run("audit", "export", "--stream", "alliance", "--after", "2").out.splitlines()
    ]
    since = [json.loads(line) for line in run("audit", "export", "--since", every[-1]["at"]).out.splitlines()]

    assert len(every) == sum(one["acts"] for one in run("audit", "list", "--json").json)
    assert rest == alliance[2:]
    assert [one for one in every if one["at"] >= every[-1]["at"]] == since
    assert run("audit", "export", "--after", "2").code == 2


def test_a_head_is_made_once_and_verifies(run: Run, history: Path) -> None:
    """The same one while nothing is done; given as it is, or in a file."""
    text = history.read_text().strip()

    assert run("audit", "head").out.strip() == text
    assert run("audit", "head", "--json").json["head"] == text
    for given in (text, str(history)):
        verified = run("audit", "verify", "--head", given, "--content", "--json")
        assert (verified.code, verified.json["sound"], verified.json["exported_heads"]) == (0, True, 1)
        assert verified.json["content"] == {"versions": 1, "from_before": 0}
    assert run("audit", "verify").code == 0
    assert run("audit", "verify", "--head", str(history.parent / "none")).code == 1


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        pytest.param(
            "UPDATE audit_events SET who = 'nobody' WHERE stream = 'member:north-bank'",
            "member:north-bank 1",
            marks=pytest.mark.slow,
        ),
        ("DELETE FROM audit_events WHERE stream = 'member:north-bank'", "member:north-bank is gone"),
        pytest.param("TRUNCATE audit_events, audit_heads", "heads 1", marks=pytest.mark.slow),
        ("UPDATE object_versions SET body = replace(body, 'login', 'logon')", f"{STREAM} 1"),
    ],
)
def test_what_was_changed_is_named(
    run: Run, history: Path, environment: dict[str, str], statement: str, named: str
) -> None:
    """In a line of its own, and with an exit code that a timer can act on."""
    attack(environment, statement)

    verified = run("audit", "verify", "--head", str(history), "--content")

    assert verified.code == 4
    assert f"✗ {named}" in verified.out
