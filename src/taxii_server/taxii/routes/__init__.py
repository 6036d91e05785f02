"""The eleven endpoints (§1, endpoint summary), one file for each of TAXII's own groups; and what goes beyond them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter

from taxii_server.taxii.routes import collections, disclosures, information, objects, recalls

if TYPE_CHECKING:
    from taxii_server.taxii.calls import Service


def router(service: Service) -> APIRouter:
    """Make all TAXII routes."""
    whole = APIRouter()
    for part in (information, collections, objects, disclosures, recalls):
        # not included, but taken over: the framework goes through included routes once for each level they are included in
        whole.routes.extend(part.router(service).routes)
    return whole
