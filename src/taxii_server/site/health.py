"""Is the server alive, and can it do its work: for load balancers and orchestrators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.requests import Request

from taxii_server.domain.errors import DatabaseGone
from taxii_server.operations import health
from taxii_server.web.describing import REQUEST_ID, answer, examples, header, vary

if TYPE_CHECKING:
    from taxii_server.storage.engine import Database
    from taxii_server.web.describing import Json


_NOW = {"Cache-Control": "no-store"}


class Alive(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Ready(BaseModel):
    """Whether requests can be served now, and how well an acknowledged write survives."""

    status: Literal["ok", "unavailable"]
    database: bool = Field(description="The database can be reached.")
    migrations: bool = Field(description="Its schema is this version's.")
    synchronous_standby: bool = Field(description="False where a failover may lose what was acknowledged last.")


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    title: str
    status: int
    detail: str | None = None
    error_id: str = Field(description="Names this request in the log.")


_PACKAGE: Final = __package__ or ""
_VARY = vary("Accept-Encoding")
_NOT_KEPT = header("Cache-Control", "The answer is of this moment.", pattern="^no-store$", example="no-store")


def _operation(name: str, summary: str, description: str, model: type[BaseModel], *statuses: tuple[int, str]) -> Json:
    shown = examples(_PACKAGE, name)
    return {
        "tags": ["Health"],
        "operationId": name,
        "summary": summary,
        "description": description,
        "security": [],
        "responses": {
            str(status): answer(
                meaning,
                REQUEST_ID,
                _NOT_KEPT,
                _VARY,
                media_type="application/json",
                model=model,
                examples=shown[str(status)],
            )
            for status, meaning in statuses
        }
        | {
            "500": answer(
                "A fault of the server. The cause is in the log, under the `error_id`.",
                REQUEST_ID,
                _NOT_KEPT,
                _VARY,
                media_type="application/problem+json",
                model=Problem,
                examples=shown["500"],
            ),
        },
    }


def router(database: Database) -> APIRouter:
    """Make the routes."""
    routes = APIRouter()
    alive = _operation(
        "get_health",
        "Is the process alive?",
        "Asks nobody else: restart it if it doesn't answer.",
        Alive,
        (200, "It answers."),
    )
    ready = _operation(
        "get_readiness",
        "Can it do its work?",
        "Whether the database can be used and has this version's schema. While it is 503, send no requests here.",
        Ready,
        (200, "It can."),
        (503, "It can't now; the answer says what is missing."),
    )

    @routes.head("/healthz", include_in_schema=False)
    @routes.get("/healthz", response_model=None, openapi_extra=alive)
    async def healthz(request: Request) -> JSONResponse:
        """Tell that the process is alive; asks nobody else."""
        return JSONResponse(Alive().model_dump(), headers=_NOW)

    @routes.head("/readyz", include_in_schema=False)
    @routes.get("/readyz", response_model=None, openapi_extra=ready)
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
        return JSONResponse(answer.model_dump(), 200 if state.ready else 503, headers=_NOW)

    return routes
