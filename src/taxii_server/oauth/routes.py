"""The token endpoint (RFC 6749 §4.4), taking tokens back (RFC 7009), the keys of its tokens (RFC 7517) and its description (RFC 8414)."""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qsl, unquote_plus

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from taxii_server.auth.authorization import basic_credentials
from taxii_server.auth.tokens import SCOPES
from taxii_server.domain.errors import BodyTooLarge, BodyTooSlow, NotAuthenticated, OAuthError, UnsupportedMedia
from taxii_server.oauth import description
from taxii_server.oauth.description import FORM, GRANT, ServerMetadata, TokenAnswer
from taxii_server.oauth.errors import NO_STORE
from taxii_server.operations.tokens import TokenIssuing, issue_token, published_keys, revoke_own_token
from taxii_server.web.proxies import client_address, client_certificate

_LARGEST_FORM = 64 * 1024
_MOST_FIELDS = 32
_BODY_TIMEOUT = 10.0
# A key that a copy lacks signs for days to come, and who meets an unknown `kid` fetches the keys anew; one that a copy has
# too long verifies nothing more, because its last token expired minutes before it left.
_KEYS_KEEP = {"Cache-Control": "public, max-age=300"}

_PARAMETERS = frozenset({"grant_type", "scope", "client_id", "client_secret", "token", "token_type_hint"})


def router(issuing: TokenIssuing, *, certificates: bool = False) -> APIRouter:
    """Build the face's routes over what issuing tokens takes, and whether a proxy hands client certificates over."""
    routes = APIRouter()
    metadata = ServerMetadata(
        issuer=issuing.issuer,
        token_endpoint=f"{issuing.issuer}/oauth2/token",
        revocation_endpoint=f"{issuing.issuer}/oauth2/revoke",
        jwks_uri=f"{issuing.issuer}/.well-known/jwks.json",
        service_documentation=f"{issuing.issuer}/docs",
        scopes_supported=list(SCOPES.values()),
        **(description.BY_CERTIFICATE if certificates else {}),
    )

    @routes.post("/oauth2/token", response_model=None, openapi_extra=description.token())
    async def token(request: Request) -> JSONResponse:
        """Exchange a client's id and secret for a short-lived access token (client credentials, RFC 6749 §4.4).

        The client authenticates by HTTP Basic (`client_secret_basic`) or in the form (`client_secret_post`), not both; or by
        its certificate and `client_id` alone (`self_signed_tls_client_auth`, RFC 8705 §2.2).
        """
        form = _form_of(await _body_of(request))
        _refuse_query(request)
        certificate = client_certificate(request.scope)
        client_id, secret = _client_of(request.headers.getlist("authorization"), form, certificate)
        if (grant := form.get("grant_type")) != GRANT:
            if grant is None:
                raise OAuthError("invalid_request", "grant_type is missing; send grant_type=client_credentials")
            raise OAuthError("unsupported_grant_type", "The only grant_type here is client_credentials")
        with issuing.failed_logins.login(client_address(request.scope)):
            issued = await issue_token(
                issuing, client_id=client_id, secret=secret, scope=form.get("scope"), certificate=certificate
            )
        answer = TokenAnswer(
            access_token=issued.access_token,
            expires_in=int(issued.expires_in.total_seconds()),
            scope=issued.scope,
        )
        return JSONResponse(answer.model_dump(), headers=NO_STORE)

    @routes.post("/oauth2/revoke", response_model=None, openapi_extra=description.revocation())
    async def revoke(request: Request) -> Response:
        """Refuse a token of the client's own from the next request on (RFC 7009); it authenticates as for a token.

        Whatever else was sent as one is answered alike (§2.2), and `token_type_hint` is of no use here (§2.1).
        """
        form = _form_of(await _body_of(request))
        _refuse_query(request)
        certificate = client_certificate(request.scope)
        client_id, secret = _client_of(request.headers.getlist("authorization"), form, certificate)
        if (revoked := form.get("token")) is None:
            raise OAuthError("invalid_request", "token is missing")
        with issuing.failed_logins.login(client_address(request.scope)):
            await revoke_own_token(issuing, client_id=client_id, secret=secret, token=revoked, certificate=certificate)
        return Response(headers=NO_STORE)

    @routes.head("/.well-known/jwks.json", include_in_schema=False)
    @routes.get("/.well-known/jwks.json", response_model=None, openapi_extra=description.jwks())
    async def jwks() -> JSONResponse:
        """Give the public keys of every access token still accepted here, newest first."""
        return JSONResponse(await published_keys(issuing), headers=_KEYS_KEEP)

    @routes.head("/.well-known/oauth-authorization-server", include_in_schema=False)
    @routes.get("/.well-known/oauth-authorization-server", response_model=None, openapi_extra=description.metadata())
    async def server_metadata() -> JSONResponse:
        """Describe the token endpoint to clients that configure themselves (RFC 8414)."""
        return JSONResponse(metadata.model_dump(exclude_none=True), headers=_KEYS_KEEP)

    return routes


async def _body_of(request: Request) -> bytes:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != FORM:
        raise UnsupportedMedia(f"The body must be {FORM}")
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("The body must not be compressed")
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_TIMEOUT):
            async for chunk in request.stream():
                body += chunk
                if len(body) > _LARGEST_FORM:
                    raise BodyTooLarge(f"The form must not be larger than {_LARGEST_FORM} octets")
    except TimeoutError as error:
        raise BodyTooSlow("The form did not arrive in time") from error
    return bytes(body)


def _form_of(body: bytes) -> dict[str, str]:
    """Read the form: parameters at most once, those without a value as if they weren't there (§3.2)."""
    try:
        pairs = parse_qsl(body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise OAuthError("invalid_request", "The body is not a form in UTF-8") from error
    form = dict(pairs)
    if len(form) != len(pairs):
        raise OAuthError("invalid_request", "A parameter was sent more than once")
    return {name: value for name, value in form.items() if value}


def _refuse_query(request: Request) -> None:
    """Refuse parameters in the URL, where proxies log them (§2.3.1)."""
    if _PARAMETERS & request.query_params.keys():
        raise OAuthError("invalid_request", "Parameters belong in the body, not in the URL")


def _client_of(authorization: list[str], form: dict[str, str], certificate: str | None) -> tuple[str, str | None]:
    """Find the client's id and secret in one place (§2.3.1), or its id alone beside a certificate (RFC 8705 §2)."""
    if not authorization:
        if "client_id" not in form or ("client_secret" not in form and not certificate):
            raise NotAuthenticated("no client authentication")
        return form["client_id"], form.get("client_secret")
    if len(authorization) > 1 or "client_secret" in form:
        raise OAuthError("invalid_request", "The client must authenticate in one way only")
    credentials = basic_credentials(authorization[0])
    if credentials is None:
        raise NotAuthenticated("the token endpoint takes Basic only")
    try:
        client_id, secret = (unquote_plus(part, errors="strict") for part in credentials)
    except UnicodeDecodeError as error:
        raise NotAuthenticated("Basic credentials are not form-encoded UTF-8") from error
    if form.get("client_id", client_id) != client_id:
        raise OAuthError("invalid_request", "client_id in the form is not the one that authenticates")
    return client_id, secret
