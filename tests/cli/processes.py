"""taxii-server as a process of its own, for tests of what only a process shows."""

import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PATIENCE = 60.0


def alive(process: int) -> bool:
    """Whether the process runs; one that only waits to be collected does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False)  # noqa: S607
    return state.stdout.strip()[:1] not in {"", "Z"}


def descendants(process: int) -> list[int]:
    """Every process it started, and those that they started."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True)  # noqa: S607
    children: dict[int, list[int]] = {}
    for line in listed.stdout.splitlines():
        child, parent = map(int, line.split())
        children.setdefault(parent, []).append(child)
    found = [process]
    for each in found:
        found += children.get(each, [])
    return found[1:]


class Process:
    """A running taxii-server and what it has said so far."""

    def __init__(self, running: "subprocess.Popen[str]") -> None:
        self.running = running
        self._said: list[str] = []
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    @property
    def said(self) -> str:
        """Its output, stdout and stderr together."""
        return "".join(self._said)

    def wait_for(self, words: str, times: int = 1) -> str:
        """Wait until it has said this so many times, and give all it has said."""
        until = time.monotonic() + PATIENCE
        while self.said.count(words) < times:
            if self.running.poll() is not None or time.monotonic() > until:
                self._listener.join(1)
                if self.said.count(words) >= times:
                    break
                raise AssertionError(f"it never said {words!r} but:\n{self.said}")
            time.sleep(0.05)
        return self.said

    def ended(self) -> int:
        """Wait for it to end by itself, and give its exit code."""
        code = self.running.wait(PATIENCE)
        self._listener.join(PATIENCE)
        return code

    def stop(self, signal: int) -> int:
        """Send a signal and give the exit code."""
        self.running.send_signal(signal)
        code = self.running.wait(PATIENCE)
        self._listener.join(PATIENCE)
        return code

    def _listen(self) -> None:
        if self.running.stdout is not None:
            for line in self.running.stdout:
                self._said.append(line)


@contextmanager
def taxii_server(*arguments: str, cwd: Path, settings: Mapping[str, str]) -> Iterator[Process]:
    """Run taxii-server with these settings and no other; it is stopped in the end whatever happens."""
    source = str(Path(__file__).parents[2] / "src")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TAXII_")}
    running = subprocess.Popen(
        [sys.executable, "-m", "taxii_server.cli", *arguments],
        cwd=cwd,
        env={**inherited, "PYTHONPATH": source, "PYTHONUNBUFFERED": "1", **settings},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    process = Process(running)
    try:
        yield process
    finally:
        if running.poll() is None:
            running.terminate()
            try:
                running.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                running.kill()
                running.wait()
        process._listener.join(PATIENCE)
        if running.stdout is not None:
            running.stdout.close()


@dataclass(frozen=True)
class Demo:
    """A running demo: where it is, its two clients as id and secret, and what it printed."""

    url: str
    siem: tuple[str, str]
    tool: tuple[str, str]
    said: str


@contextmanager
def running_demo() -> Iterator[Demo]:
    """Run `taxii-server demo`, as anybody starts it, on a port and data of its own."""
    with tempfile.TemporaryDirectory(prefix="taxii-demo-", ignore_cleanup_errors=True) as made:
        folder = Path(made)
        folder.chmod(0o755)  # the account that runs PostgreSQL gets in, also when tests run as root
        settings = {"TAXII_METRICS_PORT": "0", "TAXII_VALIDATOR_PROCESSES": "1"}
        data = folder / "demo"
        with taxii_server("demo", "--port", "0", "--data-dir", str(data), cwd=folder, settings=settings) as process:
            said = process.wait_for("Stop it with Ctrl-C")
            (url,) = set(re.findall(r"http://127\.0\.0\.1:\d+", said))
            siem, tool = json.loads((data / "clients.json").read_text("utf-8"))
            yield Demo(url, (siem[0], siem[1]), (tool[0], tool[1]), said)


def accepted_by(port: int, processes: set[int]) -> int:
    """Find the process that holds the other end of a connection from this port of ours."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    [inode] = [row[9] for row in rows if row[2].endswith(f":{port:04X}") and row[9] != "0"]
    for process in processes:
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            try:
                if str(descriptor.readlink()) == f"socket:[{inode}]":
                    return process
            except FileNotFoundError:  # closed meanwhile
                continue
    raise AssertionError("none of the workers holds the connection")
