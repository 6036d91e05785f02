"""The face on a small app of its own, with the alliance behind it."""

from collections.abc import AsyncIterator
from datetime import timedelta

import httpx
import pytest
from fastapi import FastAPI, Request
from starlette.responses import Response

from taxii_server.auth.identify import Identifier
from taxii_server.auth.signing_keys import SigningKeys
from taxii_server.domain.errors import (
    BodyTooLarge,
    NotAuthenticated,
    OAuthError,
    TaxiiServerError,
    Unavailable,
    UnsupportedMedia,
)
from taxii_server.oauth.errors import render
from taxii_server.oauth.routes import router
from taxii_server.operations.tokens import TokenIssuing
from taxii_server.storage.engine import Database
from tests.auth.conftest import alliance, db, identifier, keys
from tests.auth.forge import ISSUER

__all__ = ["alliance", "db", "identifier", "keys"]

STATUS: dict[type[TaxiiServerError], int] = {
    OAuthError: 400,
    NotAuthenticated: 401,
    BodyTooLarge: 413,
    UnsupportedMedia: 415,
    Unavailable: 503,
}


@pytest.fixture
def issuing(identifier: Identifier, keys: SigningKeys, db: Database) -> TokenIssuing:
    return TokenIssuing(identifier=identifier, keys=keys, issuer=ISSUER, lifetime=timedelta(minutes=15), db=db)


@pytest.fixture
async def http(issuing: TokenIssuing) -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    app.include_router(router(issuing))

    async def refuse(request: Request, error: Exception) -> Response:
        status = next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)
        return render(error, status, "request-1")

    app.add_exception_handler(TaxiiServerError, refuse)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ISSUER) as client:
        yield client
