"""Is the server alive, and can it do its work: for load balancers and orchestrators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.requests import Request

from taxii_server.domain.errors import DatabaseGone
from taxii_server.operations import health

if TYPE_CHECKING:
    from taxii_server.storage.engine import Database


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """Whether requests can be served now, and how well an acknowledged write survives.

    `synchronous_standby` is false where a failover may lose what was acknowledged last.
    """

    status: Literal["ok", "unavailable"]
    database: bool
    migrations: bool
    synchronous_standby: bool


def router(database: Database) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(tags=["Health"])

    @routes.get("/healthz", response_model=Alive)
    async def healthz(request: Request) -> JSONResponse:
        """Tell that the process is alive; asks nobody else."""
        return JSONResponse(Alive().model_dump())

    @routes.get("/readyz", response_model=Ready, responses={503: {"model": Ready}})
    async def readyz(request: Request) -> JSONResponse:
        """Tell whether the database can be used and has this code's schema."""
        try:
            state = await health.readiness(database)
        except DatabaseGone:
            state = health.Readiness(database=False, migrations=False, synchronous_standby=False)
        answer = Ready(
            status="ok" if state.ready else "unavailable",
            database=state.database,
            migrations=state.migrations,
            synchronous_standby=state.synchronous_standby,
        )
        return JSONResponse(answer.model_dump(), 200 if state.ready else 503)

    return routes
