"""The demo is an alliance with data to poll, the same when it is started again."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from taxii_server.cli import demo_objects
from taxii_server.domain.access import Validation
from taxii_server.operations.envelopes import cut
from taxii_server.operations.validation import Accepted, Validators
from tests import parts
from tests.cli.processes import taxii_server


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the account which runs PostgreSQL can reach, also when tests run as root."""
    with tempfile.TemporaryDirectory(prefix="taxii-demo-", ignore_cleanup_errors=True) as made:
        Path(made).chmod(0o755)
        yield Path(made)


async def test_every_demo_object_is_good_stix() -> None:
    """All pass strict validation, and there are enough of them to poll."""
    validators = Validators(1, max_object_length=1_000_000)
    try:
        for one in demo_objects.contributions():
            verdicts = await validators.judge(cut(one.bundle()), Validation.STRICT)
            assert [verdict for verdict in verdicts if not isinstance(verdict, Accepted)] == []
    finally:
        validators.close()

    kinds = [one["type"] for each in demo_objects.contributions() for one in each.objects]
    assert len(kinds) > 60
    assert {"indicator", "malware", "relationship", "identity", "marking-definition", "file"} <= set(kinds)


def test_demo_objects_are_the_same_on_every_run_and_nobodys() -> None:
    """Repeats are then no new versions; and no address or name belongs to anybody (RFC 2606, 5737, 3849)."""
    first, second = ([each.bundle() for each in demo_objects.contributions()] for _ in range(2))

    text = b"".join(first).decode()
    assert first == second
    assert all(name.endswith(".example") for name in re.findall(r"domain-name:value = '([^']+)'", text))
    assert all(
        address.startswith(("192.0.2.", "198.51.100.", "203.0.113."))
        for address in re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", text)
    )


@pytest.mark.slow
def test_the_demo_starts_beside_whatever_has_the_port_of_the_metrics(folder: Path) -> None:
    """Nobody watches a demo: it answers metrics only if a port for them was set."""
    settings = {"TAXII_VALIDATOR_PROCESSES": "1"}
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):  # somebody else has it: as good
            taken.bind(("127.0.0.1", 9464))
            taken.listen()
        arguments = ("demo", "--port", "0", "--data-dir", str(folder / "demo"))
        with taxii_server(*arguments, cwd=folder, settings=settings) as process:
            said = process.wait_for("Stop it with Ctrl-C")

    assert "/taxii2/" in said


def test_what_the_demo_prints_works_as_printed(folder: Path) -> None:
    """Each line pasted into a shell is answered; started again, the same clients and data are there."""
    parts.need(shutil.which("curl"), "curl")
    settings = {"TAXII_METRICS_PORT": "0", "TAXII_VALIDATOR_PROCESSES": "1"}
    arguments = ("demo", "--port", "0", "--data-dir", str(folder / "demo"))
    with taxii_server(*arguments, cwd=folder, settings=settings) as process:
        said = process.wait_for("Stop it with Ctrl-C")
        answers = [_curl(line) for line in said.splitlines() if line.startswith("curl ")]
        program = said[said.index("from taxii2client") : said.index("Which of these")]
        listed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        assert process.stop(signal.SIGINT) == 0
    with taxii_server(*arguments, cwd=folder, settings=settings) as process:
        again = process.wait_for("Stop it with Ctrl-C")
        assert process.stop(signal.SIGTERM) == 0

    discovery, page, status, token = answers
    assert len(re.findall(r"^indicator--\S+ Phishing", listed, re.MULTILINE)) > 10
    assert len(json.loads(discovery)["api_roots"]) == 2
    assert "200 OK" in page
    assert len(json.loads(page.split("\n\n", 1)[1])["objects"]) == 5
    assert json.loads(status)["success_count"] == 1
    assert "nothing above TLP:GREEN" in said
    assert "Phishing: parcel-fee.example" in listed
    assert "support-callback.example" not in listed, "TLP:AMBER, and the reader is cleared to GREEN"
    assert json.loads(token)["token_type"].lower() == "bearer"
    assert re.findall(r"\btxs_\w+|\S+\.siem\.\w+", again)[:3] == re.findall(r"\btxs_\w+|\S+\.siem\.\w+", said)[:3]


@pytest.mark.slow
def test_the_demo_leaves_other_databases_alone(folder: Path) -> None:
    """It has its own even where the settings name one; its secrets are its owner's alone."""
    settings = {
        "TAXII_METRICS_PORT": "0",
        "TAXII_DATA_DIR": str(folder),
        "TAXII_VALIDATOR_PROCESSES": "1",
        "TAXII_SECRET_KEY": "k" * 40,
        "TAXII_DATABASE_URL": "postgresql+psycopg://taxii_server@127.0.0.1:1/none",
    }
    with taxii_server("demo", "--port", "0", cwd=folder, settings=settings) as process:
        process.wait_for("Stop it with Ctrl-C")
        process.stop(signal.SIGTERM)

    assert {path.name for path in (folder / "demo").iterdir()} == {"postgres", "secret-key", "clients.json"}
    for name in ("secret-key", "clients.json"):
        status = (folder / "demo" / name).stat()
        assert (status.st_mode & 0o777, status.st_uid) == (0o600, os.geteuid())


def _curl(line: str) -> str:
    done = subprocess.run(
        ["curl", "--silent", "--show-error", "--max-time", "20", *shlex.split(line)[1:]],  # noqa: S607
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.replace("\r\n", "\n")
