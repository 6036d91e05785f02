"""Discovery, API Root, status (§4)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request

from taxii_server.operations import directory, objects
from taxii_server.taxii import calls, responses
from taxii_server.taxii.resources import ApiRootResource, DiscoveryResource, StatusResource
from taxii_server.taxii.responses import TaxiiResponse
from taxii_server.taxii.routes.documented import PREFIX, TaxiiRoute, document

if TYPE_CHECKING:
    from taxii_server.taxii.calls import Service

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def router(service: Service) -> APIRouter:
    """Make the routes."""

    async def discovery(request: Request) -> TaxiiResponse:
        """Show what this server is and which API Roots the caller may see (§4.1)."""
        caller = await calls.identify(service, request)
        calls.negotiate(request)
        groups = await directory.trust_groups(service.database, caller)
        roots = [f"{service.public_url}/taxii2/{group.slug}/" for group in groups]
        return responses.description(
            DiscoveryResource(
                title=service.title,
                description=service.description,
                contact=service.contact,
                default=roots[0] if roots else None,
                api_roots=roots or None,
            ),
        )

    async def api_root(request: Request) -> TaxiiResponse:
        """Show a trust group (§4.2)."""
        caller = await calls.identify(service, request)
        group = directory.trust_group(caller)
        calls.negotiate(request)
        return responses.description(ApiRootResource.of(group, service.max_content_length))

    async def status(request: Request) -> TaxiiResponse:
        """Show what became of an add request of the caller's member (§4.3)."""
        caller = await calls.identify(service, request)
        directory.trust_group(caller)
        calls.negotiate(request)
        text = request.path_params["status_id"]
        identifier = UUID(text) if _UUID.fullmatch(text) else None
        return await responses.status(await objects.read_status(service.database, caller, identifier))

    routes = APIRouter(prefix=PREFIX, route_class=TaxiiRoute, tags=["Server information"])
    document(routes, "GET", "/", discovery, answers=DiscoveryResource, errors=(406,))
    document(routes, "GET", "/{trust_group}/", api_root, answers=ApiRootResource, errors=(404, 406))
    document(
        routes,
        "GET",
        "/{trust_group}/status/{status_id}/",
        status,
        answers=StatusResource,
        errors=(404, 406),
    )
    return routes
