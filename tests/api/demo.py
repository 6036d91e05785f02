"""The alliance of `taxii-server demo`, which the examples of the API documents are taken from, in the application under test."""

from __future__ import annotations

import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib import resources
from io import BytesIO
from typing import TYPE_CHECKING, Any

import httpx
from pydantic import SecretStr

from taxii_server import cli
from taxii_server.app import create_app
from taxii_server.cli import demo_objects
from taxii_server.domain.access import BOTH, Right
from taxii_server.operations import alliance, alliance_file, clients, transfer
from taxii_server.operations.validation import Validators
from taxii_server.settings import Settings
from taxii_server.storage.engine import Database
from tests.taxii.alliance import TAXII, basic
from tests.taxii.live import behind_uvicorn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from fastapi import FastAPI

    from taxii_server.operations.clients import IssuedClient
    from taxii_server.storage.embedded import DatabaseUrls

FEED = "/taxii2/fraud-intel/collections/indicators/"
_CLIENTS = {
    "north": ("north-bank", BOTH),
    "harbour": ("harbour-bank", frozenset({Right.READ})),
    "meadow": ("meadow-bank", BOTH),
    "write-only": ("north-bank", frozenset({Right.WRITE})),
    "stranger": ("visitor", BOTH),
}


@dataclass(frozen=True)
class Demo:
    """The running application, and what its clients were issued."""

    app: FastAPI
    http: httpx.AsyncClient
    clients: dict[str, IssuedClient]

    def as_(self, who: str) -> dict[str, str]:
        """Give the credentials of a client."""
        return basic(self.clients[who].client_id, self.clients[who].client_secret)

    async def ask(self, method: str, path: str, who: str | None = "north", **options: Any) -> httpx.Response:
        """Make a request as a client; without a slash in front, of the collection of indicators."""
        headers = {"Accept": TAXII} | ({} if who is None else self.as_(who)) | options.pop("headers", {})
        at = path if path.startswith("/") else f"{FEED}{path}"
        return await self.http.request(method, at, headers=headers, **options)


def settings_of(urls: DatabaseUrls, **over: Any) -> Settings:
    """Make settings as they are without an environment, but for the machine."""
    values: dict[str, Any] = {
        "database_url": SecretStr(urls.server),
        "secret_key": SecretStr("k" * 32),
        "validator_processes": 1,
    }
    return Settings.model_construct(**(values | over))


@asynccontextmanager
async def demo_on(urls: DatabaseUrls, **over: Any) -> AsyncIterator[Demo]:
    """Fill the alliance into an empty database and run the application on it."""
    settings = settings_of(urls, **over)
    issued = await _fill(urls.server, settings)
    app = create_app(settings)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=settings.public_url) as http,
    ):
        yield Demo(app, http, issued)


@asynccontextmanager
async def serving(demo: Demo) -> AsyncIterator[str]:
    """Serve the application on a real port, as `serve` does; give its URL."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        async with behind_uvicorn(demo.app, listener):
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def _fill(url: str, settings: Settings) -> dict[str, IssuedClient]:
    text = resources.files(cli).joinpath("demo_alliance.yaml").read_text("utf-8")
    database = Database(url, connections=2)
    judges = Validators(1, max_object_length=settings.max_object_length)
    try:
        await alliance.apply(database, alliance_file.parse(f"{text}  visitor: {{name: Visitor}}\n"))
        for one in demo_objects.contributions():
            await transfer.import_objects(
                database, judges, collection=one.collection, member=one.member, file=BytesIO(one.bundle())
            )
        return {
            name: await clients.issue(database, member=member, name=name, rights=rights)
            for name, (member, rights) in _CLIENTS.items()
        }
    finally:
        judges.close()
        await database.close()
