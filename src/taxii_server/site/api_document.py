"""The API documents, put together from what the routes say of themselves: one for integrators, one for operators."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from taxii_server.web.describing import assemble, operations

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastapi import FastAPI

    from taxii_server.web.describing import Json

PATHS: Final = {"taxii": "/openapi.json", "operators": "/openapi-operators.json"}
"""Where each document is, by its name."""

_LICENSE: Final = {"name": "Apache License 2.0", "identifier": "Apache-2.0"}
_TAGS: Final = {
    "taxii": {
        "Server information": "Where to begin: discovery, API Roots, and what became of additions (§4).",
        "Collections": "The feeds of a trust group, and what the client may do with each (§5.1, §5.2).",
        "Objects": "Reading, adding and removing what a collection holds (§5.3 to §5.8).",
        "Disclosures": "Beyond the standard: who received what the client's own member brought.",
        "Recalling": "Beyond TAXII: withdrawing an object, and seeing what became of that.",
        "OAuth 2.0": "Access tokens for a client's id and secret.",
    },
    "operators": {"Health": "Whether the server is alive, and whether it can do its work."},
}
_TEXTS: Final = {"taxii": "integrators.md", "operators": "operators.md"}
_SCHEMES: Final = {
    "basic": {"type": "http", "scheme": "basic", "description": "A client's id as user name, its secret as password."},
    "oauth2": {
        "type": "oauth2",
        "description": "A short-lived access token, got with a client's id and secret.",
        "flows": {
            "clientCredentials": {
                "tokenUrl": "/oauth2/token",
                "scopes": {
                    "taxii:read": "Read collections",
                    "taxii:write": "Add to collections, with both remove from them",
                },
            },
        },
    },
}
_MAIL: Final = re.compile(r"(?:mailto:)?([^\s@:]+@[^\s@]+)")


def documents(app: FastAPI) -> dict[str, Json]:
    """Put both documents together, by name."""
    described = list(operations(app))
    return {
        name: assemble(_head(app, name), [one for one in described if one[2]["tags"][0] in tags])
        for name, tags in _TAGS.items()
    }


def contact(text: str | None) -> dict[str, str] | None:
    """Read whom to ask as OpenAPI has it: a mail address, a web page, or else a name."""
    if text is None or not text.strip():
        return None
    plain = text.strip()
    if mail := _MAIL.fullmatch(plain):
        return {"email": mail[1]}
    return {"url": plain} if plain.startswith(("https://", "http://")) else {"name": plain}


def router(app: FastAPI) -> APIRouter:
    """Make the routes, each of which serves one of the documents of `app`."""
    routes = APIRouter(include_in_schema=False)
    whole = cache(lambda: {name: json.dumps(one, ensure_ascii=False).encode() for name, one in documents(app).items()})

    def serving(name: str) -> Callable[[Request], Awaitable[Response]]:
        async def document(request: Request) -> Response:
            return Response(whole()[name], media_type="application/json")

        return document

    for name, path in PATHS.items():
        routes.add_api_route(path, serving(name), methods=["GET", "HEAD"], response_model=None)
    return routes


def _head(app: FastAPI, name: str) -> Json:
    text = (files(__package__) / _TEXTS[name]).read_text("utf-8")
    info: dict[str, Any] = {
        "title": app.title if name == "taxii" else f"{app.title}: operation",
        "version": app.version,
        "description": f"{app.description}\n\n{text}" if app.description else text,
        "license": _LICENSE,
    }
    if app.contact:
        info["contact"] = app.contact
    head: Json = {
        "info": info,
        "servers": [{"url": "/"}],
        "tags": [{"name": tag, "description": meaning} for tag, meaning in _TAGS[name].items()],
    }
    return head | ({"components": {"securitySchemes": _SCHEMES}} if name == "taxii" else {})
