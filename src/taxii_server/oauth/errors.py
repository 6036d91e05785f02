"""What a refusal looks like under /oauth2 and /.well-known: the JSON of RFC 6749 §5.2."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from taxii_server.auth.identify import BASIC_CHALLENGE
from taxii_server.domain.errors import NotAuthenticated, OAuthError, TaxiiServerError, Unavailable

if TYPE_CHECKING:
    from starlette.responses import Response

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""Answers of a token endpoint are for nobody but who asked (§5.1)."""

_SERVER_FAULT = 500
# §5.2: %x20-21 / %x23-5B / %x5D-7E
_NOT_IN_A_DESCRIPTION = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


def render(error: Exception, status: int, request_id: str) -> Response:
    """Write a refusal as RFC 6749 asks, with the request's id as `error_id` beside it."""
    headers = dict(NO_STORE)
    if isinstance(error, NotAuthenticated):
        # the one way of the two that HTTP knows; RFC 6749 asks for the scheme that was tried
        headers["WWW-Authenticate"] = BASIC_CHALLENGE
    if isinstance(error, Unavailable):
        headers["Retry-After"] = str(error.retry_after)
    message = str(error) if isinstance(error, TaxiiServerError) and status != _SERVER_FAULT else _unknown(status)
    body = {
        "error": _code(error, status),
        "error_description": _NOT_IN_A_DESCRIPTION.sub("'", message),
        "error_id": request_id,
    }
    return JSONResponse(body, status_code=status, headers=headers)


def _code(error: Exception, status: int) -> str:
    if isinstance(error, OAuthError):
        return error.code
    if isinstance(error, NotAuthenticated):
        return "invalid_client"
    # The last two are of §4.1.2.1; the token endpoint has no words of its own for them.
    if isinstance(error, Unavailable):
        return "temporarily_unavailable"
    return "server_error" if status >= _SERVER_FAULT else "invalid_request"


def _unknown(status: int) -> str:
    if status >= _SERVER_FAULT:
        return "Something went wrong here; the operator can find out what by the error_id."
    return "The request is not one that this address answers."
