"""What the API document says beyond its routes: how a client authenticates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

SCHEMES = {
    "basic": {"type": "http", "scheme": "basic", "description": "A client's id and secret."},
    "oauth2": {
        "type": "oauth2",
        "description": "A short-lived access token, got with a client's id and secret.",
        "flows": {
            "clientCredentials": {
                "tokenUrl": "/oauth2/token",
                "scopes": {"taxii:read": "Read collections", "taxii:write": "Add to collections"},
            },
        },
    },
}


def describe(app: FastAPI) -> None:
    """Add the security schemes that the routes name to the application's document."""
    plain = app.openapi

    def openapi() -> dict[str, Any]:
        document = plain()
        document.setdefault("components", {})["securitySchemes"] = SCHEMES
        return document

    app.openapi = openapi  # type: ignore[method-assign]
