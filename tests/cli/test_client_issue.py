"""What `client issue` prints works as printed, for exactly what the client may do."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import parts
from tests.cli.processes import taxii_server
from tests.factories import indicator, stix_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Run

ALLIANCE = """\
trust_groups:
  fraud-intel:
    title: Fraud intelligence
    collections:
      - alias: a-feed
        title: It's a feed with "quotes" & $(signs)
        grants: {north-bank: [read], harbour-bank: [read]}
      - {alias: b-both, title: To and fro, grants: {north-bank: [read, write]}}
      - {alias: c-drop, title: A letter box, grants: {harbour-bank: [write], meadow-bank: [write]}}
members:
  north-bank: {name: North Bank}
  harbour-bank: {name: Harbour Bank}
  meadow-bank: {name: Meadow Bank}
  lonely-bank: {name: Lonely Bank}
"""


@pytest.fixture
def alliance(run: Run, tmp_path: Path) -> None:
    """Members with grants of every kind, and one without."""
    file = tmp_path / "alliance.yaml"
    file.write_text(ALLIANCE)
    assert run("apply", str(file)).code == 0


@pytest.fixture
def server(
    environment: dict[str, str], alliance: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The same database served, and its URL set as the public one."""
    with taxii_server("serve", "--port", "0", cwd=tmp_path, settings=environment) as process:
        said = process.wait_for('"serving"')
        (url,) = [json.loads(line)["url"] for line in said.splitlines() if '"serving"' in line]
        monkeypatch.setenv("TAXII_PUBLIC_URL", url)
        (tmp_path / "bundle.json").write_text(
            json.dumps({"objects": [indicator(id=stix_id("indicator", number)) for number in range(3)]})
        )
        yield url


def shell(lines: list[str], where: Path) -> str:
    """Run lines as they are pasted into a shell; a line that fails fails the test."""
    done = subprocess.run(["sh", "-e"], input="\n".join(lines), cwd=where, capture_output=True, text=True, check=True)  # noqa: S607
    return done.stdout.replace("\r\n", "\n")


def pasted(out: str, begin: str) -> list[str]:
    return [line for line in out.splitlines() if line.startswith(begin)]


def test_every_line_for_a_client_that_reads_and_writes_works(run: Run, server: str, tmp_path: Path) -> None:
    """Curl lines each by itself, and the Python as it stands, by the collection that can be both read and written."""
    parts.need(shutil.which("curl"), "curl")
    issued = run("client", "issue", "north-bank", "--name", "tool")

    discovery, poll, push, _ = pasted(issued.out, "curl ")
    assert json.loads(shell([discovery], tmp_path))["api_roots"] == [f"{server}/taxii2/fraud-intel/"]
    status = json.loads(shell([push], tmp_path))
    assert (status["status"], status["success_count"]) == ("complete", 3)
    head, body = shell([poll], tmp_path).split("\n\n", 1)
    assert head.startswith("HTTP/1.1 200")
    assert len(json.loads(body)["objects"]) == 3
    with_token = shell([*pasted(issued.out, "TOKEN="), pasted(issued.out, "curl ")[-1]], tmp_path)
    assert json.loads(with_token) == json.loads(shell([discovery], tmp_path))

    program = issued.out[issued.out.index("from taxii2client") :]
    ran = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    *listed, told = ran.stdout.splitlines()
    assert [line.split()[0] for line in listed] == [one["id"] for one in json.loads(body)["objects"]]
    assert told == "complete 3 0 []"
    assert issued.err == ""


@pytest.mark.slow
def test_a_client_gets_lines_for_what_it_may_do_and_no_others(run: Run, server: str, tmp_path: Path) -> None:
    """Reading and writing in different collections, reading alone, writing alone: each line printed is answered."""
    parts.need(shutil.which("curl"), "curl")
    both = run("client", "issue", "harbour-bank", "--name", "both").out
    reader = run("client", "issue", "harbour-bank", "--name", "siem", "--rights", "read").out
    writer = run("client", "issue", "meadow-bank", "--name", "push-tool", "--rights", "write").out

    assert ("limit=5" in both, "bundle.json" in both) == (True, True)
    assert ("limit=5" in reader, "bundle.json" in reader) == (True, False)
    assert ("limit=5" in writer, "bundle.json" in writer) == (False, True)
    for out in (both, reader, writer):
        for line in pasted(out, "curl ")[:-1]:
            assert '"http_status"' not in shell([line], tmp_path)
        program = out[out.index("from taxii2client") :]
        subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=True)


@pytest.mark.slow
def test_the_line_that_looks_whether_it_works_is_printed(
    run: Run, server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It works as it stands, from a machine without the server's settings."""
    issued = run("client", "issue", "north-bank", "--name", "tool")
    for name in [one for one in os.environ if one.startswith("TAXII_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)

    told = shell(pasted(issued.out, "TAXII_CLIENT_SECRET="), tmp_path)

    assert f"✓ URL             {server}/taxii2/" in told
    assert "All is well" in told


def test_what_products_ask_for_is_printed(run: Run, alliance: None) -> None:
    """Discovery, API Root, collection id and title, and the objects URL, with the rights of each."""
    out = run("client", "issue", "north-bank", "--name", "siem", "--collection", "fraud-intel/b-both").out

    lines = out.splitlines()
    identity = next(line.split()[1] for line in lines if line.startswith("  id "))
    assert "discovery      http://127.0.0.1:8000/taxii2/" in lines
    assert "collection     To and fro (may read and write)" in lines
    assert "  API root     http://127.0.0.1:8000/taxii2/fraud-intel/" in lines
    assert f"  objects      http://127.0.0.1:8000/taxii2/fraud-intel/collections/{identity}/objects/" in lines
    assert "signs" not in out


def test_many_collections_are_not_all_printed(run: Run, tmp_path: Path) -> None:
    """The secret stays on the screen."""
    lines = [f"      - {{alias: f{n}, title: Feed {n:02}, grants: {{north-bank: [read]}}}}" for n in range(40)]
    head, _, tail = ALLIANCE.partition("      - alias: a-feed")
    file = tmp_path / "alliance.yaml"
    file.write_text("\n".join([head.rstrip(), *lines, tail[tail.index("members:") :]]))
    assert run("apply", str(file)).code == 0

    out = run("client", "issue", "north-bank", "--name", "siem").out

    assert out.count("  API root ") == 12
    assert "and 28 more" in out
    assert "Feed 00" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["lonely-bank"], "sees nothing yet: grant lonely-bank a collection"),
        (["north-bank", "--collection", "fraud-intel/a-feed", "--rights", "write"], "may neither read nor write"),
    ],
)
def test_a_client_that_can_do_nothing_is_issued_with_a_warning(
    run: Run, alliance: None, arguments: list[str], said: str
) -> None:
    """The warning says what would change that, and stays off stdout; what is left to try is discovery."""
    plain = run("client", "issue", *arguments, "--name", "one")
    as_json = run("client", "issue", *arguments, "--name", "two", "--json")

    assert (plain.code, as_json.code) == (0, 0)
    assert said in plain.err
    assert said in as_json.err
    assert set(as_json.json) == {"client_id", "client_secret"}
    assert len(pasted(plain.out, "curl ")) == 2
    assert "taxii2client" not in plain.out


def test_an_unset_public_url_is_told(run: Run, alliance: None) -> None:
    """Lines that name this machine are of no use elsewhere."""
    assert "TAXII_PUBLIC_URL is not set" in run("client", "issue", "north-bank", "--name", "siem").err


def test_a_suspended_members_clients_are_told_as_such(run: Run, alliance: None) -> None:
    """In the list, and when one is issued; resumed, they are live again. What ended for good stays ended."""
    ended = run("client", "issue", "north-bank", "--name", "old", "--json").json["client_id"]
    run("client", "revoke", ended)
    client = run("client", "issue", "north-bank", "--name", "siem", "--json").json["client_id"]
    run("member", "suspend", "north-bank")

    suspended = {one["client_id"]: one["state"] for one in run("client", "list", "--json").json}
    issued = run("client", "issue", "north-bank", "--name", "tool")
    run("member", "resume", "north-bank")
    resumed = {one["client_id"]: one["state"] for one in run("client", "list", "--json").json}

    assert suspended == {ended: "revoked", client: "suspended"}
    assert "north-bank is suspended" in issued.err
    assert (resumed[ended], resumed[client]) == ("revoked", "live")


def test_a_rotated_secret_comes_with_the_same_lines(run: Run, alliance: None) -> None:
    """Whoever rotates has something to paste again."""
    client = run("client", "issue", "north-bank", "--name", "siem", "--json").json["client_id"]

    rotated = run("client", "rotate", client)

    assert f"curl -u '{client}:txs_" in rotated.out
    assert "from taxii2client" in rotated.out
