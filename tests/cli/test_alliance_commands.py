"""apply, client, member and token: what they print, and with which code they exit."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.factories import indicator


def test_apply_prints_the_plan_and_is_idempotent(run: Run, alliance: Path) -> None:
    """The second time there is nothing to change."""
    again = run("apply", str(alliance))

    assert (again.code, again.out) == (0, "Nothing to change.\n")


def test_apply_says_what_it_would_do(run: Run, alliance: Path) -> None:
    """A dry run prints the same lines, and changes nothing; --json has them for programs."""
    alliance.write_text(alliance.read_text().replace("North Bank", "Northern Bank"))

    dry = run("apply", str(alliance), "--dry-run")
    done = run("apply", str(alliance), "--json")

    assert dry.out.splitlines() == [
        "~ change member north-bank: name 'North Bank' → 'Northern Bank'",
        "1 change to make. Nothing was changed.",
    ]
    assert done.json == {
        "dry_run": False,
        "changed": True,
        "steps": [{"kind": "change", "what": "member north-bank: name 'North Bank' → 'Northern Bank'"}],
    }


def test_apply_tells_of_what_is_absent_and_prunes_on_demand(run: Run, alliance: Path) -> None:
    """What isn't in the file stays until --prune."""
    alliance.write_text(alliance.read_text().replace("      - {alias: other, title: Others}\n", ""))

    told, pruned, after = (run("apply", str(alliance), *flags) for flags in ([], ["--prune"], []))

    assert "? absent collection fraud-intel/other (Others) is not in the file and stays" in told.out
    assert "- delete collection fraud-intel/other (Others) with all it holds" in pruned.out
    assert after.out == "Nothing to change.\n"


def test_apply_refuses_nonsense_with_file_and_line(run: Run, alliance: Path) -> None:
    """Nothing is changed, the lines go to stderr and the exit code is 1."""
    alliance.write_text(alliance.read_text().replace("kind: bank", "kind: bnak"))

    refused = run("apply", str(alliance))

    assert (refused.code, refused.out) == (1, "")
    assert f"{alliance}:11: kind must be" in refused.err
    assert refused.err.endswith("The alliance file is not valid; nothing was changed.\n")


def test_apply_tells_what_rules_mean_for_what_is_stored(run: Run, alliance: Path, tmp_path: Path) -> None:
    """A dry run counts too; what is only told is marked with !, and is no change."""
    bundle = tmp_path / "bundle.json"
    bundle.write_text(json.dumps({"type": "bundle", "id": "bundle--1", "objects": [indicator()]}))
    run("import", "fraud-intel/other", str(bundle), "--as", "north-bank")
    alliance.write_text(alliance.read_text().replace("title: Others}", "title: Others, unmarked: refuse}"))

    dry = run("apply", str(alliance), "--dry-run")

    assert dry.out.splitlines() == [
        "~ change collection fraud-intel/other: unmarked 'CLEAR' → 'refuse'",
        "! note 1 stored version of fraud-intel/other without a TLP marking: they stay, as CLEAR",
        "1 change to make. Nothing was changed.",
    ]


def test_collections_are_listed_with_rules_and_clearances(run: Run, alliance: Path) -> None:
    """One row for each grant; for programs one entry for each collection."""
    text = alliance.read_text().replace("harbour-bank: [read]", "harbour-bank: {rights: [read], clearance: AMBER}")
    alliance.write_text(text.replace("title: Others}", "title: Others, ceiling: GREEN, owner_only: true}"))
    run("apply", str(alliance))

    table, listed = run("collection", "list"), run("collection", "list", "--json")

    assert [row.split() for row in table.out.splitlines()[1:]] == [
        ["fraud-intel/indicators", "RED", "CLEAR", "no", "named", "harbour-bank", "read", "AMBER"],
        ["fraud-intel/indicators", "RED", "CLEAR", "no", "named", "north-bank", "read,", "write", "RED"],
        ["fraud-intel/other", "GREEN", "CLEAR", "yes", "named", "-", "-", "-"],
    ]
    assert listed.json[0] == {
        "collection": "fraud-intel/indicators",
        "id": "91a7b528-80eb-42ed-a74d-c6fbd5a26116",
        "title": "Fraud indicators",
        "validation": "strict",
        "ceiling": "RED",
        "unmarked": "CLEAR",
        "owner_only": False,
        "attribution": "named",
        "retention": None,
        "grants": {
            "harbour-bank": {"rights": ["read"], "clearance": "AMBER"},
            "north-bank": {"rights": ["read", "write"], "clearance": "RED"},
        },
    }


def test_issue_prints_what_to_paste(run: Run, alliance: Path) -> None:
    """Id, secret, and lines for curl with Basic and with a token."""
    issued = run("client", "issue", "north-bank", "--name", "siem")

    client_id = issued.out.split()[2]
    assert client_id.startswith("north-bank.siem.")
    assert f"curl -u '{client_id}:txs_" in issued.out
    assert "http://127.0.0.1:8000/oauth2/token" in issued.out


def test_issue_json_holds_id_and_secret_alone(run: Run, alliance: Path) -> None:
    """Scripts rely on these two names."""
    issued = run("client", "issue", "north-bank", "--name", "siem", "--rights", "read", "--expires-in", "90d", "--json")

    assert set(issued.json) == {"client_id", "client_secret"}


def test_clients_are_listed_without_secrets(run: Run, alliance: Path) -> None:
    """The list shows how each was narrowed; no secret is ever shown again."""
    issued = run(
        *("client", "issue", "harbour-bank", "--name", "siem", "--rights", "read"),
        *("--collection", "fraud-intel/indicators", "--json"),
    ).json

    table, listed = run("client", "list"), run("client", "list", "--json")

    (one,) = listed.json
    assert (one["client_id"], one["rights"], one["collections"], one["state"]) == (
        issued["client_id"],
        ["read"],
        ["fraud-intel/indicators"],
        "live",
    )
    assert issued["client_id"] in table.out
    assert issued["client_secret"] not in table.out + listed.out


def test_rotate_and_revoke(run: Run, alliance: Path) -> None:
    """A rotation gives the same id a new secret; after a revocation there is nothing to rotate."""
    issued = run("client", "issue", "north-bank", "--name", "siem", "--json").json

    rotated = run("client", "rotate", issued["client_id"], "--overlap", "0s", "--json").json
    revoked = [run("client", "revoke", issued["client_id"]).out for _ in range(2)]
    refused = run("client", "rotate", issued["client_id"])

    assert rotated["client_id"] == issued["client_id"]
    assert rotated["client_secret"] != issued["client_secret"]
    assert revoked == [f"{issued['client_id']} is revoked.\n", f"{issued['client_id']} was revoked already.\n"]
    assert refused.code == 1
    assert "issue a new client" in refused.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rights", "red"], "neither read nor write"),
        (["--expires-in", "90"], "not a length of time"),
        (["--nmae", "x"], "No such option"),
    ],
)
def test_a_command_line_that_makes_no_sense_exits_with_2(
    run: Run, alliance: Path, arguments: list[str], said: str
) -> None:
    """The message says which part, and what would be right."""
    refused = run("client", "issue", "north-bank", "--name", "siem", *arguments)

    assert refused.code == 2
    assert said in refused.err


def test_members_are_suspended_resumed_and_listed(run: Run, alliance: Path) -> None:
    """The list says who is suspended."""
    assert run("member", "suspend", "north-bank").out == "north-bank is suspended.\n"
    assert run("member", "suspend", "north-bank").out == "north-bank was suspended already.\n"
    assert "suspended" in run("member", "list").out
    assert run("member", "resume", "north-bank", "--json").json == {
        "member": "north-bank",
        "suspended": False,
        "changed": True,
    }
    assert [(one["slug"], one["suspended_at"]) for one in run("member", "list", "--json").json] == [
        ("harbour-bank", None),
        ("north-bank", None),
    ]
    assert run("member", "suspend", "nobody").code == 1


def test_a_token_is_printed_alone(run: Run, alliance: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For a shell variable; the secret comes from stdin or the environment, never from the command line."""
    issued = run("client", "issue", "north-bank", "--name", "siem", "--json").json
    secret = issued["client_secret"]

    from_stdin = run("token", issued["client_id"], stdin=secret + "\n")
    monkeypatch.setenv("TAXII_CLIENT_SECRET", secret)
    answer = run("token", issued["client_id"], "--scope", "taxii:read", "--json").json

    assert (from_stdin.code, from_stdin.out.count("."), len(from_stdin.out.split())) == (0, 2, 1)
    assert (answer["token_type"], answer["expires_in"], answer["scope"]) == ("Bearer", 900, "taxii:read")


def test_a_wrong_secret_gets_no_token(run: Run, alliance: Path) -> None:
    """Neither does none; nothing goes to stdout."""
    issued = run("client", "issue", "north-bank", "--name", "siem", "--json").json

    for given in ("txs_wrong\n", "\n", ""):
        refused = run("token", issued["client_id"], stdin=given)
        assert (refused.code, refused.out) == (1, "")
