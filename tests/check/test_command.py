"""`taxii-server check` on the command line: exit codes, JSON, where secrets come from, what is shown."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from taxii_server.check.run import CHECKS
from taxii_server.cli import app
from taxii_server.web import logs
from tests.check.certificates import Authority, certified
from tests.check.fake import CLIENT, OBJECTS, SECRET, Reply, fake_server, on, with_resource
from tests.cli.processes import running_demo


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A bank's machine: no database, no settings of the server's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    for name in [one for one in os.environ if one.startswith("TAXII_")]:
        monkeypatch.delenv(name)


def check(*arguments: str, stdin: str | None = None, env: Mapping[str, str] | None = None) -> Result:
    """Run the command; a failure that is no exit fails the test."""
    result = CliRunner().invoke(app, ["check", *arguments], input=stdin, env=env)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_all_well_is_0() -> None:
    """With the secret from stdin, or from the environment."""
    with fake_server() as fake:
        piped = check(fake.url, "--client", CLIENT, stdin=f"{SECRET}\n")
        given = check(fake.url, "--client", CLIENT, env={"TAXII_CLIENT_SECRET": SECRET})

    assert (piped.exit_code, given.exit_code) == (0, 0)
    assert "All is well" in piped.stdout
    assert SECRET not in piped.output + given.output


def test_a_fault_is_4_and_says_what_to_do() -> None:
    """The remedy stands below what was seen, whole."""
    with fake_server() as fake:
        result = check(fake.url, "--client", CLIENT, stdin="another-secret")

    lines = result.stdout.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("✗"))
    assert result.exit_code == 4
    assert "401: the server refuses this id and secret" in lines[at]
    assert "→ Compare id and secret with what the operator issued" in lines[at + 1]
    assert "no credentials that work: discovery, Accept, " in result.stdout
    assert "another-secret" not in result.output


OURS = "txs_7ef143f641fffff9e9fe7e76781f9fce100a0f70effb22cec91ff77cda04a53c34370948"


@pytest.mark.parametrize(
    ("client", "secret", "told"),
    [
        (OURS, CLIENT, "swapped"),
        (CLIENT, OURS[:-3], "not whole"),
        (CLIENT, f"{OURS[:-1]}9", "not whole"),
        (CLIENT, f"{CLIENT}:{OURS}", "the secret alone"),
        (CLIENT, OURS, "Compare id and secret"),
    ],
    ids=["swapped", "cut off", "mistyped", "with its id", "whole"],
)
def test_a_slip_with_a_secret_is_told(client: str, secret: str, told: str) -> None:
    """This server's secrets can be known by their form, and a slip by their checksum; none of them is shown."""
    with fake_server() as fake:
        result = check(fake.url, "--client", client, stdin=secret)

    assert result.exit_code == 4
    assert told in result.output
    assert OURS[4:20] not in result.output


def test_json() -> None:
    """One value, with ids that stay and all checks in it."""
    with fake_server(lambda _, reply: Reply(503, {"title": "Busy"}) if reply.status == 200 else reply) as fake:
        result = check(fake.url, "--client", CLIENT, "--json", stdin=SECRET)

    value = json.loads(result.stdout)
    assert result.exit_code == 4
    assert value["all_well"] is False
    assert value["faults"] == 1
    assert {one["check"] for one in value["results"]} == {one.id for one in CHECKS}
    assert {one["outcome"] for one in value["results"]} == {"good", "warning", "fault", "skipped"}
    wrong = next(one for one in value["results"] if one["outcome"] == "fault")
    assert wrong["check"] == "basic"
    assert "Busy" in wrong["seen"]
    assert wrong["remedy"]
    assert next(one for one in value["results"] if one["check"] == "rights")["because"] == "way-in"
    assert SECRET not in result.output


def test_without_credentials_it_is_said_what_is_left() -> None:
    """That is no fault."""
    with fake_server() as fake:
        result = check(fake.url)

    assert result.exit_code == 0
    assert "give credentials with --client or --token" in result.stdout
    assert "All is well" not in result.stdout


def test_a_token_from_the_environment_or_stdin() -> None:
    """It may have been copied with its scheme."""
    with fake_server() as fake:
        piped = check(fake.url, "--token", stdin="Bearer the-token-of-the-tests\n")
        given = check(fake.url, "--token", env={"TAXII_TOKEN": "the-token-of-the-tests"})
        both = check(fake.url, "--client", CLIENT, "--token", stdin=f"{SECRET}\nthe-token-of-the-tests\n")

    assert (piped.exit_code, given.exit_code, both.exit_code) == (0, 0, 0)
    assert "Basic and a token both work" in both.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--nonsense",),
        ("http://127.0.0.1:1", "--client", "an:id"),
        ("http://127.0.0.1:1", "--client", ""),
        ("http://127.0.0.1:1", "--client", "id"),
        ("http://127.0.0.1:1", "--token"),
        ("http://127.0.0.1:1", "--timeout", "0s"),
        ("http://127.0.0.1:1", "--timeout", "soon"),
        ("http://127.0.0.1:1", "--pages", "0"),
        ("http://127.0.0.1:1", "--ca-file", "nowhere.pem"),
        ("http://127.0.0.1:1", "--secret", "x"),
    ],
)
def test_a_senseless_command_line_is_2(arguments: tuple[str, ...]) -> None:
    """Nothing is asked of anybody."""
    assert check(*arguments, stdin="").exit_code == 2


def test_tls_files_that_can_not_be_used_are_2(tmp_path: Path) -> None:
    """Not PEM, or a key that belongs to another certificate, or is missing."""
    authority = Authority(tmp_path)
    one, other = authority.files(certified("one")), authority.files(certified("other"))
    (tmp_path / "text").write_text("no certificate")
    for arguments in (
        ("--ca-file", str(tmp_path / "text")),
        ("--client-cert", str(tmp_path / "text")),
        ("--client-cert", str(one[0])),
        ("--client-cert", str(one[0]), "--client-key", str(other[1])),
        ("--client-key", str(one[1])),
    ):
        result = check("https://127.0.0.1:1/", *arguments)

        assert result.exit_code == 2, arguments
        assert "TLS files" in result.stderr or "--client-key" in result.stderr


@pytest.mark.parametrize("columns", [80, pytest.param(120, marks=pytest.mark.slow)])
def test_lines_fit_the_terminal(columns: int) -> None:
    """Words are not cut, and nothing of a remedy is lost."""
    with fake_server(on(OBJECTS, with_resource(next=None))) as fake:
        shown = in_a_terminal(columns, fake.url, "--client", CLIENT)
        piped = check(fake.url, "--client", CLIENT, "--json", stdin=SECRET)

    remedies = [one["remedy"] for one in json.loads(piped.stdout)["results"] if one["remedy"]]
    assert max(len(line) for line in shown.splitlines()) <= columns
    assert len(shown.splitlines()) > 40
    assert remedies
    assert [one for one in remedies if one not in joined(shown)] == []


def joined(text: str) -> str:
    """Undo the wrapping."""
    return " ".join(text.split())


def in_a_terminal(columns: int, *arguments: str, secret: str = SECRET, encoding: str = "utf-8") -> str:
    """Run the command in a terminal of this width; give what it shows, without colours."""
    ours, theirs = pty.openpty()
    source = str(Path(__file__).parents[2] / "src")
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    env = {
        **kept,
        "PYTHONPATH": source,
        "PYTHONIOENCODING": encoding,
        "COLUMNS": str(columns),
        "TERM": "xterm",
        "TAXII_CLIENT_SECRET": secret,
    }
    with subprocess.Popen(
        [sys.executable, "-m", "taxii_server.cli", "check", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=env,
    ) as running:
        os.close(theirs)
        said = b"".join(_until_closed(ours))
        running.wait(60)
    os.close(ours)
    return re.sub(r"\x1b\[[0-9;]*m", "", said.decode()).replace("\r\n", "\n")


def _until_closed(terminal: int) -> Iterator[bytes]:
    while True:
        try:
            octets = os.read(terminal, 65_536)
        except OSError:  # what Linux says once nobody holds the other side
            return
        if not octets:
            return
        yield octets


@pytest.mark.slow
def test_the_demo_is_well() -> None:
    """As a new user: start the demo, take what it prints, look at it from outside."""
    with running_demo() as demo:
        discovery = re.findall(r"discovery +(\S+)", demo.said)[0]
        secrets = re.findall(r"(?:reads|writes too) +(\S+)[^\n]*\n\s+(txs_\w+)", demo.said)
        results = [check(discovery, "--client", name, "--json", stdin=secret) for name, secret in secrets]
        shown = check(discovery.removesuffix("taxii2/"), "--client", secrets[0][0], stdin=secrets[0][1])

    assert len(secrets) == 2
    for result in results:
        value = json.loads(result.stdout)
        assert (value["all_well"], value["faults"], value["warnings"]) == (True, 0, 0), result.stdout
        assert [one["check"] for one in value["results"] if one["outcome"] == "skipped"] == [
            "tls.version",
            "tls.chain",
            "tls.name",
            "tls.expiry",
        ]
    assert shown.exit_code == 0
    assert "All is well" in shown.stdout
    assert "Basic and a token both work" in shown.stdout


@pytest.mark.slow
def test_a_terminal_without_these_signs() -> None:
    """Plain letters stand for them."""
    with fake_server() as fake:
        shown = in_a_terminal(80, fake.url, "--client", CLIENT, secret="another-secret", encoding="ascii")

    assert "x id and secret   401" in shown
    assert "-> Compare id and secret" in shown
    assert shown.isascii()
