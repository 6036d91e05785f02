"""A collection's content: manifest, objects, one object, its versions (§5.3 to §5.8)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.requests import Request

from taxii_server.domain.cursor import Endpoint
from taxii_server.domain.disclosures import Recipient
from taxii_server.operations import directory, objects, reading
from taxii_server.operations.envelopes import cut
from taxii_server.storage.object_pages import Bounds
from taxii_server.taxii import calls, responses
from taxii_server.taxii.calls import object_id
from taxii_server.taxii.description.parameters import query_parameters
from taxii_server.taxii.queries import FIELDS, PageQuery, delete_query, page_query
from taxii_server.taxii.resources import (
    AdditionResource,
    EnvelopeResource,
    ManifestResource,
    StatusResource,
    VersionsResource,
)
from taxii_server.taxii.responses import TaxiiResponse
from taxii_server.taxii.routes.documented import PREFIX, TaxiiRoute, document
from taxii_server.web.bodies import read_body
from taxii_server.web.media_types import check_content_type
from taxii_server.web.request_log import note

if TYPE_CHECKING:
    from taxii_server.operations.reading import Answer
    from taxii_server.taxii.calls import Service
    from taxii_server.web.describing import Component

_COLLECTION = "/{trust_group}/collections/{collection}/"
_SHORT_BODY = 256 * 1024
_READ_ERRORS = (400, 403, 404, 406)


def router(service: Service) -> APIRouter:
    """Make the routes."""

    async def page(request: Request, endpoint: Endpoint) -> tuple[Answer, PageQuery]:
        with service.reader.asking.on_the_way():
            caller = await calls.identify(service, request)
            where = directory.readable(caller)
            calls.negotiate(request)
            query = page_query(calls.query(request), endpoint, where.collection_id, object_id(request))
            bounds = Bounds(min(query.limit or service.page_size, service.page_size_max), service.page_bytes)
            asked = reading.Asked(endpoint, query.want, query.position, bounds)
            # the head of an answer tells of no version
            principal = caller.principal
            recipient = None if request.method == "HEAD" else Recipient(principal.member, principal.client)
        answer = await service.reader.read(where, asked, recipient, last_added=caller.place.last_added)
        request.scope["taxii.visit"].page(where.collection_id, asked, answer)
        note(request, items=len(answer.page.dates), more=answer.next is not None)
        return answer, query

    async def get_manifest(request: Request) -> TaxiiResponse:
        """List which versions match, without their content (§5.3)."""
        return responses.manifest(*await page(request, Endpoint.MANIFEST))

    async def get_objects(request: Request) -> TaxiiResponse:
        """Read the objects that match (§5.4)."""
        return responses.envelope(*await page(request, Endpoint.OBJECTS))

    async def get_object(request: Request) -> TaxiiResponse:
        """Read one object (§5.6)."""
        return responses.envelope(*await page(request, Endpoint.OBJECT))

    async def get_versions(request: Request) -> TaxiiResponse:
        """List the versions of one object (§5.8)."""
        return responses.versions(*await page(request, Endpoint.VERSIONS))

    async def add_objects(request: Request) -> TaxiiResponse:
        """Add objects; the answer tells what became of each (§5.5)."""
        caller = await calls.identify(service, request)
        directory.check_writable(caller)
        calls.negotiate(request)
        check_content_type(request.headers.get("content-type"))
        body = await read_body(request, service.max_content_length, service.body_timeout)
        status = await objects.add_objects(
            service.database,
            service.validators,
            caller,
            calls.again(service, request, caller),
            cut(body) if len(body) <= _SHORT_BODY else await asyncio.to_thread(cut, body),
        )
        note(
            request,
            status_id=str(status.id),
            octets=len(body),
            accepted=len(status.successes),
            stored=status.stored,
            refused=len(status.failures),
        )
        return await responses.status(status, 202)

    async def delete_object(request: Request) -> TaxiiResponse:
        """Remove an object, or some of its versions, that the caller's own member brought (§5.7)."""
        caller = await calls.identify(service, request)
        directory.check_erasable(caller)
        calls.negotiate(request)
        want = delete_query(calls.query(request))
        await objects.delete_object(
            service.database,
            caller,
            calls.again(service, request, caller),
            object_id(request) or "",
            want,
        )
        return TaxiiResponse()

    described = query_parameters(service.page_size, service.page_size_max)

    def fields(endpoint: Endpoint) -> list[Component]:
        return [one for name, one in described.items() if name in FIELDS[endpoint]]

    routes = APIRouter(prefix=PREFIX, route_class=TaxiiRoute, tags=["Objects"])
    document(
        routes,
        "GET",
        f"{_COLLECTION}manifest/",
        get_manifest,
        answers=ManifestResource,
        errors=_READ_ERRORS,
        query=fields(Endpoint.MANIFEST),
    )
    document(
        routes,
        "GET",
        f"{_COLLECTION}objects/",
        get_objects,
        answers=EnvelopeResource,
        errors=_READ_ERRORS,
        query=fields(Endpoint.OBJECTS),
    )
    document(
        routes,
        "POST",
        f"{_COLLECTION}objects/",
        add_objects,
        answers=StatusResource,
        status=202,
        errors=(400, 403, 404, 406, 408, 413, 415, 422),
        body=AdditionResource,
    )
    document(
        routes,
        "GET",
        f"{_COLLECTION}objects/{{object_id}}/",
        get_object,
        answers=EnvelopeResource,
        errors=_READ_ERRORS,
        query=fields(Endpoint.OBJECT),
    )
    document(
        routes,
        "DELETE",
        f"{_COLLECTION}objects/{{object_id}}/",
        delete_object,
        answers=None,
        errors=_READ_ERRORS,
        query=(described["DELETE match[version]"], described["match[spec_version]"]),
    )
    document(
        routes,
        "GET",
        f"{_COLLECTION}objects/{{object_id}}/versions/",
        get_versions,
        answers=VersionsResource,
        errors=_READ_ERRORS,
        query=fields(Endpoint.VERSIONS),
    )
    return routes
