"""Collections and one collection (§5.1, §5.2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.requests import Request

from taxii_server.operations import directory
from taxii_server.taxii import calls, responses
from taxii_server.taxii.resources import CollectionResource, CollectionsResource
from taxii_server.taxii.responses import TaxiiResponse
from taxii_server.taxii.routes.documented import PREFIX, TaxiiRoute, document

if TYPE_CHECKING:
    from taxii_server.taxii.calls import Service


def router(service: Service) -> APIRouter:
    """Make the routes."""

    async def collections(request: Request) -> TaxiiResponse:
        """List the collections that the caller may see (§5.1)."""
        caller = await calls.identify(service, request)
        directory.trust_group(caller)
        calls.negotiate(request)
        seen = await directory.collections(service.database, caller)
        return responses.description(
            CollectionsResource(collections=[CollectionResource.of(one) for one in seen] or None)
        )

    async def collection(request: Request) -> TaxiiResponse:
        """Show one collection (§5.2)."""
        caller = await calls.identify(service, request)
        seen = directory.collection(caller)
        calls.negotiate(request)
        return responses.description(CollectionResource.of(seen))

    routes = APIRouter(prefix=PREFIX, route_class=TaxiiRoute, tags=["Collections"])
    document(
        routes,
        "GET",
        "/{trust_group}/collections/",
        collections,
        answers=CollectionsResource,
        errors=(404, 406),
    )
    document(
        routes,
        "GET",
        "/{trust_group}/collections/{collection}/",
        collection,
        answers=CollectionResource,
        errors=(404, 406),
    )
    return routes
