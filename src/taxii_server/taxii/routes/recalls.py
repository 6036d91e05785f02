"""Withdrawing an object, and seeing what became of that: beyond TAXII, under the same laws."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from fastapi import APIRouter
from starlette.requests import Request

from taxii_server.domain.errors import BadBody, BadReason, BodyTooLarge, InflatedTooLarge, UnsupportedMedia
from taxii_server.domain.recalls import reason_of
from taxii_server.operations import directory, recalls
from taxii_server.taxii import calls, responses
from taxii_server.taxii.calls import object_id
from taxii_server.taxii.responses import TaxiiResponse
from taxii_server.taxii.routes.documented import PREFIX, TaxiiRoute, document
from taxii_server.taxii.sharing_resources import RecallRequest, RecallResource
from taxii_server.web.bodies import read_body
from taxii_server.web.media_types import TAXII, check_content_type
from taxii_server.web.request_log import note

if TYPE_CHECKING:
    from taxii_server.taxii.calls import Service

_PATH = "/{trust_group}/collections/{collection}/objects/{object_id}/recall/"
_MOST_OCTETS = 16 * 1024


class _Asked(msgspec.Struct):
    # left out or a text: TAXII knows no null
    reason: str | msgspec.UnsetType = msgspec.UNSET


def router(service: Service) -> APIRouter:
    """Make the routes."""

    async def recall_object(request: Request) -> TaxiiResponse:
        """Withdraw an object that the caller's own member brought."""
        caller = await calls.identify(service, request)
        directory.check_recallable(caller)
        calls.negotiate(request)
        reason = await _reason(service, request)
        done = await recalls.recall_object(
            service.database,
            caller,
            calls.again(service, request, caller),
            object_id(request) or "",
            reason,
        )
        note(request, outcome=done.recall.outcome.value, changed=done.changed)
        return responses.resource(RecallResource.of(done.recall))

    async def get_recall(request: Request) -> TaxiiResponse:
        """Show how the recall of an object stands, to the member that had brought it."""
        caller = await calls.identify(service, request)
        directory.check_recallable(caller)
        calls.negotiate(request)
        found = await recalls.read_recall(service.database, caller, object_id(request) or "")
        note(request, items=len(found.recipients), more=found.more)
        return responses.resource(RecallResource.of(found.recall, found.recipients, more=found.more))

    routes = APIRouter(prefix=PREFIX, route_class=TaxiiRoute, tags=["Recalling"])
    document(
        routes,
        "POST",
        _PATH,
        recall_object,
        answers=RecallResource,
        errors=(400, 403, 404, 406, 408, 413, 415, 422),
        body=RecallRequest,
    )
    document(routes, "GET", _PATH, get_recall, answers=RecallResource, errors=(403, 404, 406))
    return routes


async def _reason(service: Service, request: Request) -> str | None:
    """Read why; a request without a body gives no reason."""
    if request.headers.get("content-length", "0") == "0" and "transfer-encoding" not in request.headers:
        return None
    try:
        check_content_type(request.headers.get("content-type"))
    except UnsupportedMedia as error:
        message = f"Send the reason as Content-Type: {TAXII}, or no body at all."
        raise UnsupportedMedia(message) from error
    try:
        body = await read_body(request, _MOST_OCTETS, service.body_timeout)
    except (BodyTooLarge, InflatedTooLarge) as error:
        message = f"The body has more than {_MOST_OCTETS} octets: it takes a reason and nothing else."
        raise BodyTooLarge(message) from error
    if not body:
        return None
    try:
        asked = msgspec.json.decode(body, type=_Asked)
    except msgspec.ValidationError as error:
        message = 'The body must be {"reason": "…"}, a text, or be left out.'
        raise BadReason(message) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        message = "The body is not JSON."
        raise BadBody(message) from error
    return None if asked.reason is msgspec.UNSET else reason_of(asked.reason)
