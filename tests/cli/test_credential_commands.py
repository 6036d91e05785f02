"""`key` and `revoke-token`: what operators do with signing keys and tokens."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.cli.conftest import Run


def _secret(run: Run) -> tuple[str, str]:
    issued = run("client", "issue", "north-bank", "--name", "siem", "--json").json
    return issued["client_id"], issued["client_secret"] + "\n"


def test_keys_are_listed_rotated_and_retired(run: Run, alliance: Path) -> None:
    client_id, secret = _secret(run)
    nothing = run("key", "list")
    run("token", client_id, stdin=secret)
    [first] = run("key", "list", "--json").json

    second = run("key", "rotate", "--json").json["kid"]
    states = {one["kid"]: one["state"] for one in run("key", "list", "--json").json}
    retired = run("key", "retire", second, "--json").json
    again = run("key", "retire", second)
    rest = run("key", "retire", "--all")

    assert nothing.out.startswith("There are no signing keys yet")
    assert first.keys() == {"kid", "state", "created_at", "signs_until", "verifies_until"}
    assert states == {second: "signing", first["kid"]: "verifying"}
    assert retired == {"retired": [second]}
    assert again.out == f"{second} had ended already.\n"
    assert first["kid"] in rest.out
    assert {one["state"] for one in run("key", "list", "--json").json} == {"ended"}
    assert run("token", client_id, stdin=secret).code == 0


LETTERS = f"{string.ascii_letters}{string.digits}_-"


def test_a_key_id_is_taken_as_it_is_printed(run: Run, alliance: Path, environment: dict[str, str]) -> None:
    """Thumbprints (RFC 7638) are base64url, so one of 64 begins like an option; no quotes help with that."""
    kids = [f"-{LETTERS[:42]}", f"--all{LETTERS[-38:]}"]
    made = [run("key", "rotate", "--json").json["kid"] for _ in kids]
    with psycopg.connect(environment["TAXII_MIGRATION_DATABASE_URL"].replace("+psycopg", "")) as connection:
        for before, kid in zip(made, kids, strict=True):
            connection.execute("UPDATE signing_keys SET kid = %s WHERE kid = %s", (kid, before))

    assert {one["kid"] for one in run("key", "list", "--json").json} == set(kids)
    for kid in kids:
        retired = run("key", "retire", kid, "--json")
        assert (retired.err, retired.json) == ("", {"retired": [kid]})
    assert run("key", "retire", "--json", kids[0]).json == {"retired": []}
    assert run("key", "retire", "--", kids[0]).out == f"{kids[0]} had ended already.\n"
    assert run("key", "retire", kids[0], "--all").code == 2


def test_a_mistyped_option_is_no_key(run: Run) -> None:
    """However much else is taken for one."""
    for typed in ("--al", "-a", "--kid", "--jsno"):
        refused = run("key", "retire", typed)
        assert (refused.code, refused.out) == (2, "")
        assert typed in refused.err


def test_ids_that_others_made_are_taken_whatever_they_begin_with(run: Run, alliance: Path) -> None:
    """An outside issuer's subjects and jti."""
    alliance.write_text(ISSUERS.format("https://login.bank.example") + alliance.read_text())
    run("apply", str(alliance))

    for name, said in (("siem", "-x"), ("tool", "--json")):
        issue = ("client", "issue", "north-bank", "--name", name, "--issuer", "bank")
        tied = run(*issue, "--subject", said, "--json")
        revoked = run("revoke-token", "--issuer", "bank", "--jti", said, "--json")
        assert tied.json["subject"] == said
        assert revoked.json == {"issuer": "https://login.bank.example", "jti": said, "changed": True}


def test_one_key_or_all_must_be_named(run: Run, alliance: Path) -> None:
    assert run("key", "retire").code == 2
    assert run("key", "retire", "A" * 43, "--all").code == 2
    unknown = run("key", "retire", "A" * 43)
    assert (unknown.code, unknown.out) == (1, "")


def test_after_a_lost_secret_key_retiring_all_leads_out(
    run: Run, alliance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refusal names the command, and the command works without the lost key."""
    client_id, secret = _secret(run)
    run("token", client_id, stdin=secret)
    monkeypatch.setenv("TAXII_SECRET_KEY", "n" * 40)

    refused = run("token", client_id, stdin=secret)
    run("key", "retire", "--all")

    assert refused.code == 1
    assert "taxii-server key retire --all" in refused.err
    assert run("token", client_id, stdin=secret).code == 0


def test_a_token_is_revoked_from_stdin_the_environment_or_by_its_jti(
    run: Run, alliance: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never from the command line, which everybody on the machine can read."""
    client_id, secret = _secret(run)
    first, second = (run("token", client_id, stdin=secret).out for _ in range(2))

    by_stdin = run("revoke-token", "--json", stdin=first).json
    again = run("revoke-token", "--jti", by_stdin["jti"])
    monkeypatch.setenv("TAXII_TOKEN", second.strip())
    by_environment = run("revoke-token")

    assert by_stdin == {"issuer": "http://127.0.0.1:8000", "jti": by_stdin["jti"], "changed": True}
    assert again.out == f"The token {by_stdin['jti']} was revoked already.\n"
    assert by_environment.out.endswith(" is revoked.\n")
    assert run("revoke-token", first.strip()).code == 2


def test_what_is_no_token_is_told(run: Run, alliance: Path) -> None:
    for given in ("\n", "", "txs_wrong\n"):
        refused = run("revoke-token", stdin=given)
        assert (refused.code, refused.out) == (1, "")


ISSUERS = """\
issuers:
  bank:
    issuer: {}
    audience: https://taxii.example.org
    algorithms: [RS256]
"""


def test_a_client_is_tied_to_an_outside_issuer(run: Run, alliance: Path) -> None:
    """No secret is made; what the tokens must say is printed."""
    alliance.write_text(ISSUERS.format("https://login.bank.example") + alliance.read_text())
    run("apply", str(alliance))
    tie = ("client", "issue", "north-bank", "--issuer", "bank")

    told = run(*tie, "--name", "siem", "--subject", "siem-1")
    tied = run(*tie, "--name", "tool", "--subject", "tool-1", "--json").json
    listed = {one["client_id"]: one for one in run("client", "list", "--json").json}

    assert "It has no secret." in told.out
    assert "txs_" not in told.out
    assert {name: value for name, value in tied.items() if name != "client_id"} == {
        "issuer": "https://login.bank.example",
        "audience": "https://taxii.example.org",
        "claim": "sub",
        "subject": "tool-1",
    }
    assert (listed[tied["client_id"]]["issuer"], listed[tied["client_id"]]["secrets"]) == ("bank", 0)
    assert run(*tie, "--name", "half").code == 2
    assert run(*tie, "--name", "again", "--subject", "siem-1").code == 1
    assert run("token", tied["client_id"], stdin="txs_" + "0" * 72 + "\n").code == 1


def test_our_own_name_is_no_outside_issuer(run: Run, alliance: Path) -> None:
    alliance.write_text(ISSUERS.format("http://127.0.0.1:8000/") + alliance.read_text())

    refused = run("apply", str(alliance))

    assert refused.code == 1
    assert "this server's own name" in refused.err
