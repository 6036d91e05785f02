"""What every TAXII route does first: find out who asks about what, and whether the answer can be read.

The order of checks is fixed: path, method, credentials, limits, whether the place is there, rights, Accept, Content-Type, size,
parameters, body. So nobody learns of a hidden place by what else was wrong with a request.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from taxii_server.auth.identify import PathNames
from taxii_server.domain.errors import NotAuthenticated
from taxii_server.web.headers import header
from taxii_server.web.media_types import check_accept
from taxii_server.web.proxies import client_address, client_certificate
from taxii_server.web.request_log import at_end, note

if TYPE_CHECKING:
    from datetime import timedelta

    from starlette.requests import Request

    from taxii_server.auth.client_limits import ClientLimits
    from taxii_server.auth.failed_logins import FailedLogins
    from taxii_server.auth.identify import Identifier
    from taxii_server.domain.access import Caller
    from taxii_server.operations.activity import Activity
    from taxii_server.operations.objects import Again
    from taxii_server.operations.reading import Reader
    from taxii_server.operations.validation import Validators
    from taxii_server.storage.engine import Connection, Database


@dataclass(frozen=True, slots=True)
class Service:
    """What the TAXII face works with, handed to it once."""

    database: Database
    reader: Reader
    identifier: Identifier
    failed_logins: FailedLogins
    limits: ClientLimits
    validators: Validators
    activity: Activity
    public_url: str
    title: str
    description: str | None
    contact: str | None
    page_size: int
    page_size_max: int
    page_bytes: int
    max_content_length: int
    body_timeout: timedelta


async def identify(service: Service, request: Request) -> Caller:
    """Find out who asks, and about which place, and hold the client to its limits.

    Raises:
        NotAuthenticated: if the credentials don't hold.
        TooManyRequests: if they do, and the client has to wait.
    """
    credentials = [value.decode("latin-1") for name, value in request.scope["headers"] if name == b"authorization"]
    if len(credentials) > 1:
        # whoever sits between us may have read another one than we would
        raise NotAuthenticated("several Authorization headers")
    authorization = credentials[0] if credentials else None
    certificate = client_certificate(request.scope)
    service.limits.refuse_again(authorization or certificate)
    with service.failed_logins.login(client_address(request.scope)):
        caller = await service.identifier.caller(authorization, _names(request), certificate)
    principal = caller.principal
    note(request, client_id=principal.client_id, member=principal.member_slug, credential=caller.credential)
    if caller.place.collection is not None:
        note(request, collection_id=str(caller.place.collection.id))
    at_end(request, await service.limits.enter(principal, authorization or certificate, caller.asked_at))
    # who was refused just now was noted there
    request.scope["taxii.visit"] = service.activity.visit(caller)
    return caller


def again(service: Service, request: Request, caller: Caller) -> Again:
    """Prepare the second look at the caller that a write takes inside its transaction."""

    async def ask(connection: Connection) -> Caller:
        return await service.identifier.again(connection, caller, _names(request))

    return ask


def negotiate(request: Request) -> None:
    """Make sure that the caller can read TAXII.

    Raises:
        NotAcceptable: if the Accept header leaves no room for it.
    """
    check_accept((header(request.scope, b"accept") or b"").decode("latin-1") or None)


def query(request: Request) -> str:
    """Give the query string as it came."""
    octets: bytes = request.scope["query_string"]
    return octets.decode(errors="replace")


def object_id(request: Request) -> str | None:
    """Give the object the path names; Postgres has no text with NUL, so such a name becomes one that nothing has."""
    name: str | None = request.path_params.get("object_id")
    return "" if name is not None and "\0" in name else name


def _names(request: Request) -> PathNames:
    return PathNames(request.path_params.get("trust_group"), request.path_params.get("collection"))
