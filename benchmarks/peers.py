"""Other TAXII 2.1 servers from PyPI, started as their documentation says, to be measured with the same client.

Each gets a virtual environment of its own below the folder given, kept for the next time. OpenTAXII's data is in the same
PostgreSQL as ours; medallion's in memory, the backend that needs nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote
from urllib.request import Request, urlopen
from uuid import UUID

import psycopg

from benchmarks.load import TAXII, Target
from benchmarks.site import basic, free_port, process, wait

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_OPENTAXII = ("opentaxii==0.10.0b1", "gunicorn==23.0.0", "psycopg2-binary==2.9.10")
_MEDALLION = ("medallion==3.0.0",)
_MEDALLION_TOLD = (
    "medallion 3.0.0 by its own command, one process of threads, with its memory backend: nothing survives a restart.",
    "It knows Basic alone, no tokens.",
    "A page costs it the square of what the collection holds, so it is given a tenth of what the others are.",
)
TOKENS, BASIC = "tokens", "Basic"
_ADMIN = ("bench", "bench-password")
_ROOT = UUID("22222222-0000-4000-8000-000000000001")
_COLLECTION = UUID("22222222-0000-4000-8000-000000000002")


@dataclass(frozen=True, slots=True)
class Peer:
    """A running server and the collection to measure."""

    name: str
    target: Target
    path: str
    scheme: str = TOKENS
    """What its clients say who they are with."""
    few: int | None = None
    """How many envelopes it is sent, if it can't take more in a reasonable time."""
    told: tuple[str, ...] = ()
    """How it was set up and what it can't do, in sentences."""


@contextmanager
def opentaxii(folder: Path, database: str, workers: int) -> Iterator[Peer]:
    """OpenTAXII, by gunicorn with a worker a core."""
    programs = _installed(folder / "opentaxii", _OPENTAXII)
    with psycopg.connect(database, autocommit=True) as connection:
        for name in ("opentaxii_auth", "opentaxii_data"):
            connection.execute(f"DROP DATABASE IF EXISTS {name}")
            connection.execute(f"CREATE DATABASE {name}")
        host = connection.info.host
        user = connection.info.user
    config = folder / "opentaxii.yml"

    def configure(*, create_tables: bool) -> None:
        def connect(name: str) -> str:
            return f"postgresql+psycopg2://{user}@/{name}?host={quote(host, safe='')}"

        def api(kind: str, name: str, **more: str) -> dict[str, object]:
            return {
                "class": kind,
                "parameters": {"db_connection": connect(name), "create_tables": create_tables, **more},
            }

        config.write_text(
            json.dumps(
                {
                    "domain": f"127.0.0.1:{port}",
                    "support_basic_auth": True,
                    "auth_api": api("opentaxii.auth.sqldb.SQLDatabaseAPI", "opentaxii_auth", secret="s" * 40),
                    "taxii1": None,
                    "taxii2": {
                        "persistence_api": api("opentaxii.persistence.sqldb.Taxii2SQLDatabaseAPI", "opentaxii_data"),
                        "title": "bench",
                        "public_discovery": True,
                        "max_content_length": 209715200,
                    },
                    "logging": {"opentaxii": "warning", "root": "warning"},
                }
            )
        )

    port = free_port()
    environment = os.environ | {"OPENTAXII_CONFIG": str(config)}

    def run(*command: str) -> str:
        return subprocess.run(
            [programs / command[0], *command[1:]], env=environment, check=True, text=True, capture_output=True
        ).stdout

    configure(create_tables=True)
    name, password = _ADMIN
    run("opentaxii-create-account", "--username", name, "--password", password, "--admin")
    run("opentaxii-add-api-root", "--title", "fraud", "--default", "--id", str(_ROOT))
    run("opentaxii-add-collection", "--rootid", str(_ROOT), "--title", "feed", "--public", "--public-write")
    # with it on, two workers that start at once fall over each other
    configure(create_tables=False)
    serve = ["gunicorn", "opentaxii.http:app", "--workers", str(workers), "--bind", f"127.0.0.1:{port}"]
    with process([str(programs / serve[0]), *serve[1:]], environment, "Booting worker"):
        url = f"http://127.0.0.1:{port}"
        wait(port)
        asked = Request(  # noqa: S310
            f"{url}/management/auth",
            json.dumps({"username": name, "password": password}).encode(),
            {"Content-Type": "application/json"},
        )
        with urlopen(asked) as answer:  # noqa: S310
            token = json.load(answer)["token"]
        target = Target(url).as_(f"Bearer {token}")
        listed = Request(f"{url}/taxii2/{_ROOT}/collections/", headers=dict(target.headers) | {"Accept": TAXII})  # noqa: S310
        with urlopen(listed) as answer:  # noqa: S310
            [collection] = json.load(answer)["collections"]
        told = (f"{_OPENTAXII[0].replace('==', ' ')} by gunicorn with {workers} workers, in the same PostgreSQL.",)
        yield Peer("OpenTAXII", target, f"/taxii2/{_ROOT}/collections/{collection['id']}/objects/", told=told)


@contextmanager
def medallion(folder: Path) -> Iterator[Peer]:
    """Medallion, with its memory backend and its own command."""
    programs = _installed(folder / "medallion", _MEDALLION)
    name, password = _ADMIN
    port = free_port()
    (folder / "medallion-data.json").write_text(
        json.dumps(
            {
                "/discovery": {
                    "title": "bench",
                    "default": f"http://127.0.0.1:{port}/fraud/",
                    "api_roots": ["/fraud/"],
                },
                "fraud": {
                    "information": {
                        "title": "fraud",
                        "versions": ["application/taxii+json;version=2.1"],
                        "max_content_length": 104857600,
                    },
                    "status": [],
                    "collections": [
                        {
                            "id": str(_COLLECTION),
                            "title": "feed",
                            "can_read": True,
                            "can_write": True,
                            "media_types": ["application/stix+json;version=2.1"],
                            "objects": [],
                            "manifest": [],
                        }
                    ],
                },
            }
        )
    )
    config = folder / "medallion.json"
    config.write_text(
        json.dumps(
            {
                "backend": {
                    "module": "medallion.backends.memory_backend",
                    "module_class": "MemoryBackend",
                    "filename": str(folder / "medallion-data.json"),
                },
                "users": {name: password},
                "taxii": {"max_page_size": 1000},
            }
        )
    )
    command = [str(programs / "medallion"), "--port", str(port), str(config)]
    with process(command, dict(os.environ), r"Running on"):
        wait(port)
        target = Target(f"http://127.0.0.1:{port}").as_(basic(name, password))
        yield Peer(
            "medallion", target, f"/fraud/collections/{_COLLECTION}/objects/", BASIC, few=3, told=_MEDALLION_TOLD
        )


def _installed(place: Path, packages: tuple[str, ...]) -> Path:
    programs = place / "bin"
    if not (place / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        subprocess.run([programs / "pip", "install", "--quiet", *packages], check=True)
        (place / "installed").touch()
    return programs
