"""How a TAXII route is registered: under both slash forms, and with what the API documents say of it."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from taxii_server.taxii.resources import ErrorResource
from taxii_server.taxii.responses import TaxiiResponse
from taxii_server.web.media_types import TAXII

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from fastapi import APIRouter
    from starlette.requests import Request

    from taxii_server.taxii.resources import Resource

    Handler = Callable[[Request], Awaitable[TaxiiResponse]]

PREFIX = "/taxii2"
"""Discovery's place at the root of the server (§8.2.1); the API Roots lie below."""

_PATH = {
    "trust_group": "The trust group: an API Root of this server.",
    "collection": "The collection's `id` or `alias`.",
    "object_id": "A STIX identifier.",
    "status_id": "The `id` of a status resource.",
}
_QUERY = {
    "added_after": "Only what was added to the collection after this instant.",
    "limit": "At most so many items; the server may give fewer.",
    "next": "Continue where the page that gave this value ended. It carries its request's filters.",
    "match[id]": "Only objects with one of these ids.",
    "match[type]": "Only objects of one of these types.",
    "match[version]": "`last` (the default), `first`, `all`, or exact versions.",
    "match[spec_version]": "Only these STIX specification versions; without it, the latest of each object.",
}


def document(
    router: APIRouter,
    method: str,
    path: str,
    handler: Handler,
    *,
    answers: type[Resource] | None,
    status: int = 200,
    errors: Sequence[int] = (),
    query: Sequence[str] = (),
    body: type[Resource] | None = None,
) -> None:
    """Register `handler` under `path` and the same path without its last slash; clients send both.

    What answers GET answers HEAD (RFC 9110 §9.3.2), which the API documents pass over.
    """
    names = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
    parameters = [_parameter(name, "path", _PATH[name]) for name in names]
    parameters += [_parameter(name, "query", _QUERY[name]) for name in sorted(query)]
    extra: dict[str, Any] = {"parameters": parameters, "security": [{"basic": []}, {"oauth2": []}]}
    if body is not None:
        extra["requestBody"] = {
            "required": True,
            "content": {TAXII: {"schema": {"$ref": f"#/components/schemas/{body.__name__}"}}},
        }
    described: dict[int | str, dict[str, Any]] = {
        code: {"model": ErrorResource, "description": HTTPStatus(code).phrase} for code in sorted({401, 503, *errors})
    }
    described[status] = {"description": HTTPStatus(status).phrase} | ({} if answers is None else {"model": answers})
    router.add_api_route(
        path,
        handler,
        methods=[method],
        status_code=status,
        response_class=TaxiiResponse,
        responses=described,
        response_model=None,
        openapi_extra=extra,
        name=handler.__name__,
    )
    both = [method, "HEAD"] if method == "GET" else [method]
    router.add_api_route(path.removesuffix("/"), handler, methods=both, include_in_schema=False)
    if method == "GET":
        router.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)


def _parameter(name: str, place: str, description: str) -> dict[str, Any]:
    kind: dict[str, Any] = {"type": "integer", "minimum": 1} if name == "limit" else {"type": "string"}
    return {"name": name, "in": place, "required": place == "path", "description": description, "schema": kind}
