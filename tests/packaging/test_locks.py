"""The lock files name exactly what pyproject.toml asks for, and nothing of the machine they were made on."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
RUNTIME, BUILD, DEV, CLIENTS = (ROOT / f"requirements{kind}.lock" for kind in ("", "-build", "-dev", "-clients"))


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def pins(lock: Path) -> dict[str, Version]:
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", lock.read_text(), re.MULTILINE)
    return {canonicalize_name(name): Version(version) for name, version in found}


def group(project: dict[str, Any], name: str) -> Iterator[str]:
    for entry in project["dependency-groups"][name]:
        if isinstance(entry, str):
            yield entry
        else:
            yield from group(project, entry["include-group"])


def unmet(wanted: list[str], lock: Path) -> list[str]:
    locked = pins(lock)
    requirements = map(Requirement, wanted)
    return [
        str(each)
        for each in requirements
        if (version := locked.get(canonicalize_name(each.name))) is None or version not in each.specifier
    ]


def test_the_locks_meet_what_the_project_asks_for(project: dict[str, Any]) -> None:
    """If this fails: `make lock`."""
    runtime, extra = project["project"]["dependencies"], project["project"]["optional-dependencies"]["embedded"]

    assert unmet(runtime, RUNTIME) == []
    assert unmet(list(group(project, "build")), BUILD) == []
    assert unmet(project["build-system"]["requires"], BUILD) == []
    assert unmet([*runtime, *extra, *group(project, "dev")], DEV) == []
    assert unmet(list(group(project, "clients")), CLIENTS) == []


def test_what_is_tested_is_what_is_shipped() -> None:
    """Every version in the runtime and build locks is the one the tests ran with."""
    tested = pins(DEV)

    assert {name: tested.get(name) for lock in (RUNTIME, BUILD) for name in pins(lock)} == pins(RUNTIME) | pins(BUILD)


@pytest.mark.parametrize("lock", [RUNTIME, BUILD, DEV, CLIENTS], ids=lambda lock: lock.name)
def test_every_pin_has_its_hashes_and_no_address(lock: Path) -> None:
    text = lock.read_text()
    entries = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]

    assert [entry.splitlines()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.findall(r"\w+://\S+|file:|^-.*|(?<=\s)--(?!hash=)\S+", text, re.MULTILINE) == []
