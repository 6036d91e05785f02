"""From an exception to an answer: one map of classes to statuses, for every face.

A face registers how it writes an error under its paths; which status and headers go with it is decided here. Errors of
the framework (no such route, wrong method) are translated into ours first, so they look like all others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import structlog
from starlette.exceptions import HTTPException

from taxii_server.auth.authorization import challenges
from taxii_server.domain import errors
from taxii_server.domain.errors import TaxiiServerError
from taxii_server.web.headers import header

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.responses import Response
    from starlette.types import Scope

log = structlog.get_logger(__name__)

STATUS: Mapping[type[TaxiiServerError], int] = {
    errors.BadParameter: 400,
    errors.BadBody: 400,
    errors.NotAnEnvelope: 422,
    errors.BadReason: 422,
    errors.InflatedTooLarge: 422,
    errors.BodyTooLarge: 413,
    errors.BodyTooSlow: 408,
    errors.NotAcceptable: 406,
    errors.UnsupportedMedia: 415,
    errors.NotAuthenticated: 401,
    errors.NotAllowed: 403,
    errors.NotFound: 404,
    errors.MethodNotAllowed: 405,
    errors.TooManyRequests: 429,
    errors.OAuthError: 400,
    errors.Unavailable: 503,
}


class Unexpected(TaxiiServerError):
    """A fault of this server. What happened is in the log, under the error's id."""

    title = "Internal error"
    code = "internal-error"

    def __init__(self) -> None:
        """Build the fixed sentence: nothing of the fault itself is told."""
        super().__init__("The server failed on this request; its operator finds the cause under this error_id.")


class Render(Protocol):
    """How a face writes an error as a response."""

    def __call__(self, error: TaxiiServerError, status: int, request_id: str, /) -> Response:
        """Write `error` under `status`; the request's id is the error's."""


def status_of(error: TaxiiServerError) -> int:
    """Give the status of an error by its class or the nearest base that has one; 500 if none has."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def ours(error: Exception) -> TaxiiServerError:
    """Translate any exception into one of ours."""
    match error:
        case errors.OperatorError():
            # what the operator has to mend is told to nobody else
            return Unexpected()
        case TaxiiServerError():
            return error
        case HTTPException(status_code=404):
            return errors.NotFound()
        case HTTPException(status_code=405):
            return errors.MethodNotAllowed("This URL doesn't take that method.")
        case HTTPException(status_code=status) if status < 500:  # noqa: PLR2004 - client's side
            return errors.BadBody("The request can't be understood.")
        case _:
            return Unexpected()


def answer(renderers: Sequence[tuple[str, Render]], scope: Scope, error: Exception, request_id: str) -> Response:
    """Write the answer to an exception, in the way of the face whose prefix the path has; the last one takes all."""
    refusal = ours(error)
    status = status_of(refusal)
    path: str = scope["path"]
    render = next((render for prefix, render in renderers if _under(path, prefix)), renderers[-1][1])
    response = render(refusal, status, request_id)
    if isinstance(refusal, errors.NotAuthenticated) and "www-authenticate" not in response.headers:
        for challenge in challenges((header(scope, b"authorization") or b"").decode("latin-1")):
            response.headers.append("www-authenticate", challenge)
    if isinstance(refusal, errors.Unavailable | errors.TooManyRequests):
        response.headers["retry-after"] = str(refusal.retry_after)
    if isinstance(error, HTTPException) and error.headers:
        for name, value in error.headers.items():
            response.headers[name] = value
    return response


def _under(path: str, prefix: str) -> bool:
    return path == prefix or path.startswith(f"{prefix}/")
