"""Who received an object: ours, not of the standard; told to the member that brought it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.requests import Request

from taxii_server.operations import disclosures as operations
from taxii_server.taxii import calls, responses
from taxii_server.taxii.description.parameters import next_of_disclosures
from taxii_server.taxii.queries import trace_query
from taxii_server.taxii.responses import TaxiiResponse
from taxii_server.taxii.routes.documented import PREFIX, TaxiiRoute, document
from taxii_server.taxii.sharing_resources import DisclosureRecord, DisclosuresResource
from taxii_server.web.request_log import note

if TYPE_CHECKING:
    from taxii_server.taxii.calls import Service


def router(service: Service) -> APIRouter:
    """Make the route."""

    async def disclosures(request: Request) -> TaxiiResponse:
        """Tell which members were sent what the caller's own member brought."""
        caller = await calls.identify(service, request)
        where = operations.traceable(caller)
        calls.negotiate(request)
        stix_id = calls.object_id(request) or ""
        cursor = trace_query(calls.query(request), where.collection_id, stix_id)
        found = await operations.contributed(service.database, where, stix_id, cursor)
        note(request, items=len(found.receipts), more=found.next is not None)
        return responses.resource(
            DisclosuresResource(
                more=found.next is not None,
                next=found.next,
                disclosures=[DisclosureRecord.of(one) for one in found.receipts] or None,
            )
        )

    routes = APIRouter(prefix=PREFIX, route_class=TaxiiRoute, tags=["Disclosures"])
    document(
        routes,
        "GET",
        "/{trust_group}/collections/{collection}/objects/{object_id}/disclosures/",
        disclosures,
        answers=DisclosuresResource,
        errors=(400, 403, 404, 406),
        query=[next_of_disclosures()],
    )
    return routes
