"""The alliance that the protocol tests talk to, over HTTP as its clients do.

    fraud-intel   indicators (strict)   north: read, write    harbour: read    tide: write    court: neither
                  scratch (structural)  north: read, write    harbour: read, write
    crime-desk    cases (structural)    constabulary: read, write

`stranger` has no grant at all. What is not granted is hidden.
"""

from __future__ import annotations

import json
from base64 import b64encode
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx

from taxii_server.app import create_app
from taxii_server.settings import Settings
from tests.auth.alliance import BOTH, Alliance, Issued, alliance_in

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from fastapi import FastAPI

    from taxii_server.storage.embedded import DatabaseUrls

TAXII = "application/taxii+json;version=2.1"
PUBLIC_URL = "http://127.0.0.1:8000"
MAX_CONTENT_LENGTH = 2 * 1024 * 1024
PAGE_SIZE, PAGE_SIZE_MAX = 100, 200

GROUP = "/taxii2/fraud-intel/"
OTHER_GROUP = "/taxii2/crime-desk/"


def settings_for(urls: DatabaseUrls, **over: Any) -> Settings:
    """Make settings as small as the tests need them."""
    values: dict[str, Any] = {
        "_env_file": None,
        "database_url": urls.server,
        "secret_key": "k" * 32,
        "title": "Test exchange",
        "max_content_length": MAX_CONTENT_LENGTH,
        "max_object_length": 256 * 1024,
        "page_size": PAGE_SIZE,
        "page_size_max": PAGE_SIZE_MAX,
        "validator_processes": 1,
        "database_connections": 8,
        "body_timeout": timedelta(seconds=5),
        # tests send wrong credentials by the hundred; those of the limit set one
        "failed_logins": "none",
        # tests save when they mean to, and count statements
        "activity_interval": timedelta(minutes=10),
    }
    return Settings(**values | over)


def basic(client_id: str, secret: str) -> dict[str, str]:
    """Give the header of HTTP Basic."""
    return {"Authorization": "Basic " + b64encode(f"{client_id}:{secret}".encode()).decode()}


@dataclass
class Exchange:
    """The running application, the alliance in its database, and a client of each of its members."""

    app: FastAPI
    http: httpx.AsyncClient
    alliance: Alliance
    clients: dict[str, Issued] = field(default_factory=dict)

    def collection_id(self, name: str = "fraud-intel/indicators") -> UUID:
        """Give the id of a collection named `group/alias`."""
        return self.alliance.collections[name]

    def path(self, rest: str = "objects/", name: str = "fraud-intel/indicators") -> str:
        """Give the path of something in a collection, by the collection's id."""
        group, _, _ = name.partition("/")
        return f"/taxii2/{group}/collections/{self.collection_id(name)}/{rest}"

    def as_(self, member: str) -> dict[str, str]:
        """Give the credentials of a member's client."""
        client = self.clients[member]
        return basic(client.client_id, client.secret)

    async def token(self, member: str, scope: str | None = None) -> dict[str, str]:
        """Get an access token for a member's client, as its tool would."""
        form = {"grant_type": "client_credentials"} | ({} if scope is None else {"scope": scope})
        answer = await self.http.post("/oauth2/token", data=form, headers=self.as_(member))
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    async def get(self, path: str, member: str = "north", **options: Any) -> httpx.Response:
        """GET as a member; `headers` are added to its credentials."""
        headers = self.as_(member) | {"Accept": TAXII} | options.pop("headers", {})
        return await self.http.get(path, headers=headers, **options)

    async def delete(self, path: str, member: str = "north", **options: Any) -> httpx.Response:
        """DELETE as a member."""
        headers = self.as_(member) | {"Accept": TAXII} | options.pop("headers", {})
        return await self.http.delete(path, headers=headers, **options)

    async def post(
        self,
        content: bytes | str | dict[str, Any],
        member: str = "north",
        name: str = "fraud-intel/indicators",
        **options: Any,
    ) -> httpx.Response:
        """POST a body, or an envelope given as a dict, as a member."""
        headers = self.as_(member) | {"Accept": TAXII, "Content-Type": TAXII} | options.pop("headers", {})
        body = json.dumps(content) if isinstance(content, dict) else content
        return await self.http.post(self.path(name=name), content=body, headers=headers, **options)

    async def add(self, *objects: dict[str, Any], member: str = "north", name: str = "fraud-intel/scratch") -> Any:
        """Add objects that must all be taken; give the status."""
        answer = await self.post({"objects": list(objects)}, member, name)
        assert answer.status_code == 202, answer.text
        status = answer.json()
        assert status["failure_count"] == 0, status
        return status


@asynccontextmanager
async def exchange_on(urls: DatabaseUrls, **over: Any) -> AsyncIterator[Exchange]:
    """Run the application on an empty database and fill the alliance in."""
    app = create_app(settings_for(urls, **over))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url=PUBLIC_URL) as http,
    ):
        with alliance_in(urls, filled=False) as alliance:
            exchange = Exchange(app, http, alliance)
            fill(exchange)
            yield exchange


def fill(exchange: Exchange) -> None:
    """Describe the alliance above."""
    alliance = exchange.alliance
    alliance.group("fraud-intel")
    alliance.group("crime-desk")
    alliance.collection("fraud-intel", "indicators")
    alliance.collection("fraud-intel", "scratch", validation="structural")
    alliance.collection("crime-desk", "cases", validation="structural")
    members: dict[str, dict[str, tuple[str, ...]]] = {
        "north": {"fraud-intel/indicators": BOTH, "fraud-intel/scratch": BOTH},
        "harbour": {"fraud-intel/indicators": ("read",), "fraud-intel/scratch": BOTH},
        "tide": {"fraud-intel/indicators": ("write",)},
        "court": {"fraud-intel/indicators": ()},
        "constabulary": {"crime-desk/cases": BOTH},
        "stranger": {},
    }
    for slug, grants in members.items():
        alliance.member(slug)
        for name, rights in grants.items():
            alliance.grant(slug, name, rights)
        exchange.clients[slug] = alliance.client(slug)


def assert_error(answer: httpx.Response, status: int) -> dict[str, Any]:
    """Hold an answer to be a TAXII error resource (§3.6) of this status, in TAXII's own content type."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == TAXII
    body: dict[str, Any] = answer.json()
    assert body["title"]
    assert body["http_status"] == str(status)
    assert body["error_id"] == answer.headers["x-request-id"]
    return body
