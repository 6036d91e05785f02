"""How a TAXII route is registered: under both slash forms, and with what the API documents say of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.routing import APIRoute
from starlette.requests import Request

from taxii_server.domain.stix_objects import Form
from taxii_server.taxii.description import answers as told
from taxii_server.taxii.description.parameters import path_parameters
from taxii_server.taxii.description.texts import TEXTS
from taxii_server.taxii.responses import TaxiiResponse
from taxii_server.web.describing import ETAG, IF_NONE_MATCH, REQUEST_ID, answer, schema
from taxii_server.web.media_types import TAXII

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from fastapi import APIRouter

    from taxii_server.taxii.resources import Resource
    from taxii_server.web.describing import Component, Json

    Handler = Callable[[Request], Awaitable[TaxiiResponse]]

PREFIX = "/taxii2"
"""Discovery's place at the root of the server (§8.2.1); the API Roots lie below."""

_ANYWHERE = (401, 429, 500, 503)
_WORDS = ("get_", "add_", "delete_", "recall_")
_BODIES = {
    "add_objects": "An envelope, or a STIX bundle taken as one: what stands beside `objects` is ignored. Also read are "
    "`application/taxii+json` without a version, and `application/stix+json` without a version or with 2.0.",
    "recall_object": "A reason, if there is one to give; it may be left out, body and all.",
}
_GOOD = {
    "add_objects": "Every object was judged; what was accepted is stored and visible.",
    "delete_object": "Removed. The answer has no body.",
    "recall_object": "Recalled; or it was already, and nothing was done.",
}


class TaxiiRoute(APIRoute):
    """A route whose handler reads the request itself: called straight away (`web.straight`); the framework describes it."""


def document(
    router: APIRouter,
    method: str,
    path: str,
    handler: Handler,
    *,
    answers: type[Resource] | None,
    status: int = 200,
    errors: Sequence[int] = (),
    query: Sequence[Component] = (),
    body: type[Resource] | None = None,
) -> None:
    """Register `handler` under `path` and the same path without its last slash; clients send both.

    What answers GET answers HEAD (RFC 9110 §9.3.2), which the API documents pass over.
    """
    name = handler.__name__ if handler.__name__.startswith(_WORDS) else f"get_{handler.__name__}"
    text = TEXTS[name]
    names = [part.strip("{}") for part in path.split("/") if part.startswith("{")]
    known = path_parameters()
    parameters = [*(known.get(f"{name} {one}", known[one]) for one in names), *query]
    responses = {status: _good(name, answers, status)}
    if text.kept:
        parameters.append(IF_NONE_MATCH)
        responses[304] = told.not_modified()
    responses |= {code: told.refusal(name, code) for code in sorted({*_ANYWHERE, *errors})}
    operation: Json = {
        "tags": list(router.tags),
        "operationId": name,
        "summary": text.summary,
        "description": text.description,
        "security": [{"basic": []}, {"oauth2": list(text.scopes)}],
        "parameters": parameters,
        "responses": {str(code): response for code, response in responses.items()},
    }
    if body is not None:
        operation["requestBody"] = _body(name, body)
    router.add_api_route(
        path, handler, methods=[method], response_class=TaxiiResponse, response_model=None, openapi_extra=operation
    )
    both = [method, "HEAD"] if method == "GET" else [method]
    router.add_api_route(path.removesuffix("/"), handler, methods=both, include_in_schema=False)
    if method == "GET":
        router.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)


def _good(name: str, answers: type[Resource] | None, status: int) -> Json:
    text = TEXTS[name]
    headers = [REQUEST_ID]
    if text.paged:
        headers += [told.FIRST, told.LAST]
    headers += [ETAG, told.KEPT, told.VARY] if text.kept else [told.NOT_KEPT, told.VARY]
    return answer(
        _GOOD.get(name, "OK"),
        *headers,
        media_type=TAXII,
        model=answers,
        examples=told.shown(name, status),
        links=text.links,
    )


def _body(name: str, body: type[Resource]) -> Json:
    adding = name == "add_objects"
    content = {
        media_type: {"schema": schema(body), "examples": told.shown_bodies(name, media_type)}
        for media_type in ((TAXII, Form.STIX_2_1.media_type) if adding else (TAXII,))
    }
    return {"required": adding, "description": _BODIES[name], "content": content}
