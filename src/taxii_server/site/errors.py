"""What a refusal looks like outside TAXII and OAuth: problem details (RFC 9457)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

if TYPE_CHECKING:
    from starlette.responses import Response

    from taxii_server.domain.errors import TaxiiServerError


def render(error: TaxiiServerError, status: int, request_id: str) -> Response:
    """Write a refusal, with the request's id as `error_id`."""
    problem = {"title": error.title, "status": status, "detail": error.message, "error_id": request_id}
    return JSONResponse(problem, status, media_type="application/problem+json")
