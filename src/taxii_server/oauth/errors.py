"""What a refusal looks like under /oauth2 and /.well-known: the JSON of RFC 6749 §5.2."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse

from taxii_server.auth.authorization import BASIC_CHALLENGE
from taxii_server.domain.errors import NotAuthenticated, OAuthError, TaxiiServerError, TooManyRequests, Unavailable

if TYPE_CHECKING:
    from starlette.responses import Response

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""Answers of a token endpoint are for nobody but who asked (§5.1)."""

_SERVER_FAULT = 500
_UNTOLD = "The server failed on this request; its operator finds the cause under this error_id."
# §5.2: %x20-21 / %x23-5B / %x5D-7E
_NOT_IN_A_DESCRIPTION = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")


def render(error: Exception, status: int, request_id: str) -> Response:
    """Write a refusal as RFC 6749 asks, with the request's id as `error_id` beside it."""
    headers = dict(NO_STORE)
    if isinstance(error, NotAuthenticated):
        # the token endpoint takes no bearer token, so this is the one challenge of ours that leads anywhere here
        headers["WWW-Authenticate"] = BASIC_CHALLENGE
    told = isinstance(error, TaxiiServerError) and status != _SERVER_FAULT
    body = {
        "error": _code(error, status),
        "error_description": _NOT_IN_A_DESCRIPTION.sub("'", str(error) if told else _UNTOLD),
        "error_id": request_id,
    }
    return JSONResponse(body, status_code=status, headers=headers)


def _code(error: Exception, status: int) -> str:
    if isinstance(error, OAuthError):
        return error.code
    if isinstance(error, NotAuthenticated):
        return "invalid_client"
    # Two words of §4.1.2.1: the token endpoint has none of its own for what is not the client's fault.
    if isinstance(error, Unavailable | TooManyRequests):
        return "temporarily_unavailable"
    return "server_error" if status >= _SERVER_FAULT else "invalid_request"
