"""Routes are called straight away, and what none of them is for goes the framework's way."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import pytest
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from taxii_server.web.straight import Straight

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

pytestmark = pytest.mark.anyio


class Expected(Exception):
    """What a handler raises to be answered."""


RAISED = Expected()


async def thing(request: Request) -> PlainTextResponse:
    name = request.path_params["name"]
    if name == "refused":
        raise RAISED
    if name == "broken":
        raise ZeroDivisionError
    return PlainTextResponse(f"{request.method} {name} {(await request.body()).decode()}")


async def refuse(request: Request, error: Exception) -> PlainTextResponse:
    return PlainTextResponse(f"{type(error).__name__} of {request.path_params['name']}", 400)


class Noting:
    """What goes around: notes the route, and what came out of it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except ZeroDivisionError:
            await PlainTextResponse(f"broken at {scope['route'].path}", 500)(scope, receive, send)


@asynccontextmanager
async def asked() -> AsyncIterator[httpx.AsyncClient]:
    app = FastAPI()
    routes = [Route("/things/{name}/", thing, methods=["GET"]), Route("/things/{name}/", thing, methods=["POST"])]
    app.router.routes.extend(routes)
    straight = Straight(app, routes, Noting, (Expected, HTTPException), refuse)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(straight), base_url="http://there") as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status", "said"),
    [
        ("GET", "/things/one/", 200, "GET one "),
        ("GET", "/things/two%20words/?x=1", 200, "GET two words "),
        ("POST", "/things/one/", 200, "POST one body"),
        ("GET", "/things/refused/", 400, "Expected of refused"),
        ("GET", "/things/broken/", 500, "broken at /things/{name}/"),
        ("DELETE", "/things/one/", 405, '{"detail":"Method Not Allowed"}'),
        ("GET", "/things/one/more/", 404, '{"detail":"Not Found"}'),
        ("GET", "/things//", 404, '{"detail":"Not Found"}'),
        ("GET", "/others/one/", 404, '{"detail":"Not Found"}'),
    ],
)
async def test_each_request_has_its_answer(method: str, path: str, status: int, said: str) -> None:
    async with asked() as client:
        answer = await client.request(method, path, content="body" if method == "POST" else None)

    assert (answer.status_code, answer.text) == (status, said)


async def test_an_error_that_is_raised_again_and_again_keeps_no_request() -> None:
    """One is: whoever asks while the database is gone is given the error of who noticed."""
    async with asked() as client:
        for _ in range(3):
            await client.get("/things/refused/")

    assert RAISED.__traceback__ is None
