"""The web application, put together from its faces. Nothing happens at import."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from taxii_server import __version__
from taxii_server.auth.client_limits import ClientLimits
from taxii_server.auth.failed_logins import FailedLogins
from taxii_server.auth.identify import Identifier
from taxii_server.auth.signing_keys import SigningKeys
from taxii_server.domain.errors import DatabaseGone, OperatorError, TaxiiServerError
from taxii_server.oauth.errors import render as oauth_error
from taxii_server.oauth.routes import router as oauth_router
from taxii_server.operations.activity import Activity
from taxii_server.operations.audit_heads import Heads
from taxii_server.operations.company import Company
from taxii_server.operations.ledger import Ledger
from taxii_server.operations.parenthood import when_parent_ends
from taxii_server.operations.reading import Reader
from taxii_server.operations.tokens import TokenIssuing
from taxii_server.operations.validation import Validators
from taxii_server.settings import load
from taxii_server.site.api_document import contact
from taxii_server.site.api_document import router as documents_router
from taxii_server.site.asset_files import router as assets_router
from taxii_server.site.errors import render as site_error
from taxii_server.site.health import router as health_router
from taxii_server.site.pages import About
from taxii_server.site.pages import router as pages_router
from taxii_server.storage.engine import Database
from taxii_server.storage.replicas import Replicas
from taxii_server.taxii.calls import Service
from taxii_server.taxii.responses import error as taxii_error
from taxii_server.taxii.routes import router as taxii_router
from taxii_server.taxii.routes.documented import TaxiiRoute
from taxii_server.web import logs
from taxii_server.web.cross_origin import CrossOrigin
from taxii_server.web.delivery import Delivery
from taxii_server.web.errors import answer
from taxii_server.web.methods import WHOLE_SERVER, Methods
from taxii_server.web.proxies import Forwarded, TrustedProxies
from taxii_server.web.request_log import RequestLog, refused, request_id
from taxii_server.web.straight import Straight

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from taxii_server.settings import Settings
    from taxii_server.web.errors import Render

_ORPHAN_GRACE: Final = 9  # seconds; what `serve` allows for requests under way, and closing

# what is raised on purpose, to become an answer
_EXPECTED: Final = (TaxiiServerError, HTTPException, RequestValidationError)

# Whose way of writing errors goes for which paths; the last takes what is left.
_RENDERERS: list[tuple[str, Render]] = [
    ("/taxii2", taxii_error),
    ("/oauth2", oauth_error),
    ("/.well-known", oauth_error),
    ("", site_error),
]


class _Application(FastAPI):
    """The framework's application, with our own middleware around everything that is the framework's.

    What is added with `add_middleware` isn't around TAXII's routes: those are called straight away.
    """

    def __init__(
        self, *, delivery: Delivery, trusted: TrustedProxies, certificate_header: str | None, **options: Any
    ) -> None:
        """Take what finishes answers, whose word on clients counts, and what the framework takes."""
        super().__init__(**options)
        self._delivery = delivery
        self._trusted = trusted
        self._certificate_header = certificate_header

    def build_middleware_stack(self) -> ASGIApp:
        """Put together what a request goes through; done at the first one, when all routes are there."""
        refuse = _refuse(self)
        for kind in _EXPECTED:
            self.add_exception_handler(kind, refuse)

        def logged(app: ASGIApp) -> ASGIApp:
            return RequestLog(app, renderers=_RENDERERS, delivery=self._delivery)

        self.add_middleware(logged)
        routes = [route for route in self.routes if isinstance(route, TaxiiRoute)]
        straight = Straight(super().build_middleware_stack(), routes, logged, _EXPECTED, refuse)
        return Forwarded(straight, self._trusted, self._certificate_header)


def create_app(settings: Settings, *, workers: int = 1) -> FastAPI:
    """Build the application for one process; `workers` is how many such processes share this machine.

    Raises:
        OperatorError: if the settings lack a database or the secret key.
    """
    if settings.database_url is None or settings.secret_key is None:
        message = "Set TAXII_DATABASE_URL and TAXII_SECRET_KEY, or let taxii-server serve run its own database."
        raise OperatorError(message)
    database = Database(settings.database_url.get_secret_value(), connections=settings.database_connections)
    replicas = None
    if settings.database_replica_urls:
        urls = [url.get_secret_value() for url in settings.database_replica_urls]
        replicas = Replicas(urls, connections=settings.database_connections)
    activity = Activity(database, settings.activity_interval)
    reading = Company()
    ledger = Ledger(database, reading)
    identifier = Identifier(
        database,
        settings.public_url,
        noted=activity.refused,
    )
    failed_logins = FailedLogins(database, settings.failed_logins)
    limits = ClientLimits(settings.client_rate, settings.client_concurrency, noted=activity.limited)
    validators = Validators(
        settings.validator_processes or max(1, (os.cpu_count() or 1) // workers),
        max_object_length=settings.max_object_length,
    )
    keys = SigningKeys(
        database,
        settings.secret_key.get_secret_value(),
        key_lifetime=settings.signing_key_lifetime,
        token_lifetime=settings.token_lifetime,
    )

    heads = Heads(database, keys, settings.public_url, settings.audit_head_interval, settings.audit_head_file)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        at_work: list[AbstractAsyncContextManager[None]] = []
        try:
            # a wrong TAXII_SECRET_KEY shall show now and not at the first token; a lost database may come back
            with suppress(DatabaseGone):
                await keys.current()
            await validators.warm()
            for each in (heads.running(), activity.running(), *([] if replicas is None else [replicas.running()])):
                await each.__aenter__()
                at_work.append(each)
            yield
        finally:
            validators.close()
            # all at once: should the database be silent, whoever stops the server waits for one of them and not for three
            await asyncio.gather(*(each.__aexit__(None, None, None) for each in at_work), ledger.close())
            await database.close()

    app = _Application(
        delivery=Delivery(
            https=settings.public_url.startswith("https:"),
            cross_origin=CrossOrigin(settings.cors_origins),
        ),
        trusted=TrustedProxies(settings.trusted_proxies),
        certificate_header=settings.client_cert_header,
        title=settings.title,
        version=__version__,
        description=settings.description or "",
        contact=contact(settings.contact),
        lifespan=lifespan,
        redirect_slashes=False,
        # we have metrics and a log of our own, and it would be asked on each request whether it is wanted
        telemetry={"tracing": False, "metrics": False, "logs": False},
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    app.state.activity = activity
    app.state.replicas = replicas
    # taken over, not included: the framework goes through included routes twice on each request
    app.router.routes.extend(
        taxii_router(
            Service(
                database=database,
                reader=Reader(database, ledger, replicas, reading),
                identifier=identifier,
                failed_logins=failed_logins,
                limits=limits,
                validators=validators,
                activity=activity,
                public_url=settings.public_url,
                title=settings.title,
                description=settings.description,
                contact=settings.contact,
                page_size=settings.page_size,
                page_size_max=settings.page_size_max,
                page_bytes=settings.page_bytes,
                max_content_length=settings.max_content_length,
                body_timeout=settings.body_timeout,
            ),
        ).routes
    )
    app.include_router(
        oauth_router(
            TokenIssuing(
                identifier, keys, settings.public_url, settings.token_lifetime, database, limits, failed_logins
            ),
            certificates=settings.client_cert_header is not None,
        )
    )
    app.include_router(health_router(database))
    app.include_router(assets_router())
    app.include_router(pages_router(About(settings.title, settings.description, settings.contact, settings.public_url)))
    app.include_router(documents_router(app))
    return app


def from_environment() -> FastAPI:
    """Build the application as a worker of `taxii-server serve` does; a worker ends with the process that started it."""
    when_parent_ends(_end)
    settings = load()
    logs.configure(settings.log_format, settings.log_level)
    return create_app(settings, workers=int(os.environ.get("TAXII_WORKERS", "1")))


def _end() -> None:
    """End this worker in order, or at least in time: an orphan would keep the port and its database connections."""
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_ORPHAN_GRACE)
    os._exit(1)


def _refuse(app: FastAPI) -> Callable[[Request, Exception], Awaitable[Response]]:
    methods = Methods(app.routes)

    async def refuse(request: Request, error: Exception) -> Response:
        path, status = request.scope["path"], getattr(error, "status_code", None)
        if request.method == "OPTIONS" and (status == HTTPStatus.METHOD_NOT_ALLOWED or path == WHOLE_SERVER):
            return methods.options(path)
        if isinstance(error, TaxiiServerError):
            refused(request.scope, error)
        response = answer(_RENDERERS, request.scope, error, request_id(request.scope))
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            # the framework names the methods of the first route it found; a path may have several
            response.headers["allow"] = methods.allow(path)
        return response

    return refuse
