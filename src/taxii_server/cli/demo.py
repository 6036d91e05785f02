"""`demo`: serve a small alliance with data to poll, on a database of its own."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import replace
from functools import partial
from importlib import resources
from io import BytesIO
from pathlib import Path
from typing import Annotated, Final

import typer

from taxii_server import settings as environment
from taxii_server.cli import context, demo_objects, output, paste
from taxii_server.cli.context import Place
from taxii_server.cli.serve import Listening, refuse_unsafe, run_server, until_stopped
from taxii_server.cli.validators import validators
from taxii_server.domain.access import BOTH, Right
from taxii_server.operations import alliance, alliance_file, clients, transfer
from taxii_server.operations.clients import IssuedClient, Reach
from taxii_server.storage.engine import Database

_SIEM: Final = ("harbour-bank", "siem", frozenset({Right.READ}))
_TOOL: Final = ("north-bank", "push-tool", BOTH)
_SECRETS_FILE: Final = "clients.json"
_TRUST_GROUP: Final = "fraud-intel"
_ALIAS: Final = "indicators"
_MEDIA_TYPE: Final = "application/taxii+json;version=2.1"


def demo(
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen on.")] = 8000,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where to keep its data; by default the folder demo of the data folder.")
    ] = None,
) -> None:
    """Serve a demo alliance with sample indicators on this machine, until Ctrl-C.

    It has a database of its own, and the same clients and data when it is started again.
    """
    listening = Listening(port=port)
    refuse_unsafe(listening)
    until_stopped(lambda: _demo(listening, data_dir))


def _demo(listening: Listening, data_dir: Path | None) -> None:
    folder = (data_dir or context.data_dir_of(environment.load()) / "demo").expanduser().absolute()
    output.note("Starting the demo's database …")
    with context.place(own_data_dir=folder) as here:
        here.need_schema()
        wanted = alliance_file.parse(resources.files(__package__).joinpath("demo_alliance.yaml").read_text("utf-8"))
        here.run(partial(alliance.apply, wanted=wanted))
        output.note("Pushing what its members have to tell …")
        here.run(partial(_push, here=here))
        siem, tool = _clients(here, folder / _SECRETS_FILE)
        reach = here.run(partial(clients.reach, client_id=siem.client_id))
        run_server(_unwatched(here), listening, lambda url: _tell(url, siem, tool, reach))


def _unwatched(here: Place) -> Place:
    """Without metrics, unless a port was set for them: theirs may well be another server's."""
    if "metrics_port" in here.settings.model_fields_set:
        return here
    return replace(here, settings=here.settings.model_copy(update={"metrics_port": 0}))


async def _push(db: Database, here: Place) -> None:
    async with validators(here.settings) as judges:
        for one in demo_objects.contributions():
            await transfer.import_objects(
                db, judges, collection=one.collection, member=one.member, file=BytesIO(one.bundle())
            )


def _clients(here: Place, file: Path) -> tuple[IssuedClient, IssuedClient]:
    """Issue the two clients, or take those of an earlier run, whose secrets are kept for that."""
    kept = _kept(file)
    live = {one.client_id: one for one in here.run(clients.clients) if one.state in {"live", "suspended"}}
    issued = []
    for member, name, rights in (_SIEM, _TOOL):
        before = next((one for one in kept if one.client_id in live and live[one.client_id].name == name), None)
        if before is None:
            for one in live.values():
                if (one.member, one.name) == (member, name):
                    here.run(partial(clients.revoke, client_id=one.client_id))
            before = here.run(partial(clients.issue, member=member, name=name, rights=rights))
        issued.append(before)
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as written:
        json.dump([[one.client_id, one.client_secret] for one in issued], written)
    return issued[0], issued[1]


def _kept(file: Path) -> list[IssuedClient]:
    try:
        return [IssuedClient(client_id, secret) for client_id, secret in json.loads(file.read_text())]
    except (OSError, ValueError, TypeError):
        return []


def _tell(url: str, siem: IssuedClient, tool: IssuedClient, reach: Reach) -> None:
    objects = f"{url}/taxii2/{_TRUST_GROUP}/collections/{_ALIAS}/objects/"
    feed = next(one for one in reach.collections if one.collection.alias == _ALIAS)
    shown = feed.collection
    python = "\n".join(paste.python(siem, replace(reach, collections=(feed,)), url))
    basic_siem = f"-u {siem.client_id}:{siem.client_secret}"
    basic_tool = f"-u {tool.client_id}:{tool.client_secret}"
    accept = f"-H 'Accept: {_MEDIA_TYPE}'"
    envelope = shlex.quote(json.dumps({"objects": [_sample()]}))
    print(
        f"""
The demo alliance is being served. Paste into another terminal, or give URL, id and secret to your own tools:

  discovery   {url}/taxii2/
  API roots   {url}/taxii2/{_TRUST_GROUP}/   {url}/taxii2/crime-desk/
  collection  {shown.title}, id {shown.id}, alias {_ALIAS}
  objects     {url}/taxii2/{_TRUST_GROUP}/collections/{shown.id}/objects/

  reads       {siem.client_id} (nothing above TLP:GREEN)
              {siem.client_secret}
  writes too  {tool.client_id}
              {tool.client_secret}

# discover
curl {basic_siem} {accept} {url}/taxii2/

# poll
curl -i {basic_siem} {accept} '{objects}?limit=5'

# push, then poll again
curl {basic_tool} {accept} -H 'Content-Type: {_MEDIA_TYPE}' --data {envelope} {objects}

# a token in place of the secret
curl {basic_siem} -d grant_type=client_credentials {url}/oauth2/token

# poll in Python (pip install taxii2-client)
{python}
Which of these goes into which field of your product: docs/clients/README.md.
Stop it with Ctrl-C. The same clients and data are there when it is started again.
""",
        flush=True,
    )


def _sample() -> demo_objects.Object:
    return {
        "type": "indicator",
        "spec_version": "2.1",
        "id": "indicator--7a2b6a0e-6a9d-4d6b-8c43-3f1f6c1f0d01",
        "created": "2026-05-01T10:00:00.000Z",
        "modified": "2026-05-01T10:00:00.000Z",
        "name": "Phishing: gift-card.example",
        "pattern": "[domain-name:value = 'gift-card.example']",
        "pattern_type": "stix",
        "valid_from": "2026-05-01T10:00:00Z",
    }
