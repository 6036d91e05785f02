"""The eleven endpoints (§1, endpoint summary), one file for each of TAXII's own groups; and what goes beyond them."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from fastapi import APIRouter

from taxii_server.taxii.routes import collections, disclosures, information, objects, recalls
from taxii_server.taxii.routes.documented import TaxiiRoute

if TYPE_CHECKING:
    from taxii_server.taxii.calls import Service


def router(service: Service) -> APIRouter:
    """Make all TAXII routes."""
    whole = APIRouter()
    for part in (information, collections, objects, disclosures, recalls):
        # not included, but taken over: the framework goes through included routes once for each level they are included in
        whole.routes.extend(part.router(service).routes)
    # the framework tries one after the other, and these are what nearly everybody asks for
    for name in ("add_objects", "get_objects"):
        often = next(route for route in whole.routes if isinstance(route, TaxiiRoute) and route.name == name)
        first = copy(often)
        first.include_in_schema, first.openapi_extra = False, None
        whole.routes.insert(0, first)
    return whole
