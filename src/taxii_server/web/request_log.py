"""One log line, one request id and the metrics of every request; and the last stop for what nobody caught.

The id comes back to the client as `X-Request-ID` and, in an error, as `error_id`. The line holds identifiers, counts and
times: never a body, a query, a credential.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from functools import cache
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import structlog
from prometheus_client import Counter, Gauge, Histogram
from starlette.requests import ClientDisconnect

from taxii_server.domain.errors import NotAuthenticated, TaxiiServerError, Unavailable
from taxii_server.storage.engine import DatabaseTime
from taxii_server.web import errors
from taxii_server.web.proxies import client_address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from taxii_server.web.delivery import Delivery
    from taxii_server.web.errors import Render

log = structlog.get_logger("taxii_server.request")

REQUESTS = Counter("taxii_requests", "Requests answered.", ["route", "method", "status"])
SECONDS = Histogram(
    "taxii_request_seconds",
    "Seconds from a request's first octet to its answer's last.",
    ["route", "method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
IN_PROGRESS = Gauge("taxii_requests_in_progress", "Requests being worked on.", multiprocess_mode="livesum")


# a labelled one takes longer to find than to count with; routes, methods and statuses are few
@cache
def _requests(route: str, method: str, status: int) -> Counter:
    return REQUESTS.labels(route, method, str(status))


@cache
def _seconds(route: str, method: str) -> Histogram:
    return SECONDS.labels(route, method)


_CLIENT_LEFT = 499
# what was being done may be done by now, as when the database is lost: a repeated POST stores nothing twice
_STOPPING = "The server stopped before the request was done. Send it again: what it stored already is not stored twice."
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


def note(request: Request, **fields: object) -> None:
    """Add identifiers and counts to the request's log line."""
    request.scope["taxii.log"].update(fields)


def at_end(request: Request, then: Callable[[], None]) -> None:
    """Have `then` called when the request has been answered, or has come to whatever other end."""
    request.scope["taxii.end"].append(then)


def request_id(scope: Scope) -> str:
    """Give the id of the request."""
    identifier: str = scope["taxii.request_id"]
    return identifier


class RequestLog:
    """ASGI middleware around everything."""

    def __init__(self, app: ASGIApp, renderers: Sequence[tuple[str, Render]], delivery: Delivery) -> None:
        """Take the application, how each face writes errors, and what finishes every answer."""
        self._app = app
        self._renderers = renderers
        self._delivery = delivery

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request through, give it an id, see it answered, and write its line."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identifier = str(uuid4())
        fields: dict[str, Any] = {}
        scope["taxii.request_id"], scope["taxii.log"] = identifier, fields
        begun = time.perf_counter()
        status: int | None = None

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", identifier.encode())]
            await send(message)

        at_end: list[Callable[[], None]] = []
        scope["taxii.end"] = at_end
        with IN_PROGRESS.track_inprogress(), DatabaseTime() as in_database:
            try:
                await self._app(scope, receive, self._delivery.to(scope, noting))
            except ClientDisconnect:
                status = _CLIENT_LEFT
            except asyncio.CancelledError:
                # the web server stops, and this request took longer than it waits for
                if status is None:
                    refusal = errors.answer(self._renderers, scope, Unavailable(_STOPPING), identifier)
                    await refusal(scope, receive, self._delivery.to(scope, noting))
                raise
            except Exception as error:  # noqa: BLE001 - the last stop for what nobody caught
                # without the exception itself, whose message may quote what was sent
                log.critical("unexpected", request_id=identifier, raised=_kinds(error), where=_frames(error))
                if status is not None:
                    # the answer has begun: cut the connection, or the client would take it for whole; the web server
                    # logs what it is given, so it isn't given the exception itself
                    raise errors.Unexpected from None
                refusal = errors.answer(self._renderers, scope, error, identifier)
                await refusal(scope, receive, self._delivery.to(scope, noting))
            finally:
                try:
                    self._finish(
                        scope, status or _CLIENT_LEFT, time.perf_counter() - begun, in_database.seconds, fields
                    )
                finally:
                    for then in at_end:
                        then()

    def _finish(self, scope: Scope, status: int, seconds: float, in_database: float, fields: dict[str, Any]) -> None:
        route = getattr(scope.get("route"), "path", None) or "none"
        method = scope["method"] if scope["method"] in _METHODS else "other"
        _requests(route, method, status).inc()
        _seconds(route, method).observe(seconds)
        if (visit := scope.get("taxii.visit")) is not None:
            visit.ended(method, status)
        log.info(
            "request",
            request_id=scope["taxii.request_id"],
            method=method,
            route=route,
            status=status,
            peer=client_address(scope),
            db_ms=round(in_database * 1000, 1),
            total_ms=round(seconds * 1000, 1),
            **fields,
        )


def _kinds(error: BaseException | None) -> list[str]:
    """Name the exception and what caused it. Their messages may quote what a client sent, so they stay out."""
    kinds = []
    while error is not None:
        kinds.append(f"{type(error).__module__}.{type(error).__qualname__}")
        error = error.__cause__ or error.__context__
    return kinds


def _frames(error: BaseException) -> list[str]:
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(error.__traceback__)]


def refused(scope: Scope, error: TaxiiServerError) -> None:
    """Put why a request was refused into its log line; of a failed login the reason that the caller isn't told."""
    scope["taxii.log"]["error"] = error.code
    if isinstance(error, NotAuthenticated):
        scope["taxii.log"]["reason"] = error.reason
