"""What the API documents say of the token endpoint, its keys and its metadata; examples are beside it, in examples/."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from taxii_server.auth.authorization import BASIC_CHALLENGE
from taxii_server.auth.tokens import SCOPES
from taxii_server.domain.access import Right
from taxii_server.web.describing import (
    ETAG,
    IF_NONE_MATCH,
    REQUEST_ID,
    RETRY_AFTER,
    Component,
    answer,
    examples,
    header,
    vary,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from taxii_server.web.describing import Json

FORM: Final = "application/x-www-form-urlencoded"
GRANT: Final = "client_credentials"

_PACKAGE: Final = __package__ or ""
_TAG: Final = ["OAuth 2.0"]
_JSON: Final = "application/json"
_Error = Literal[
    "invalid_request",
    "invalid_client",
    "invalid_scope",
    "unsupported_grant_type",
    "temporarily_unavailable",
    "server_error",
]
_Method = Literal["client_secret_basic", "client_secret_post", "self_signed_tls_client_auth"]
_METHODS: Final[list[_Method]] = ["client_secret_basic", "client_secret_post"]
_BY_CERTIFICATE_TOO: Final[list[_Method]] = [*_METHODS, "self_signed_tls_client_auth"]
_WORD: Final = f"({'|'.join(SCOPES.values())})"
_COORDINATE: Final = "^[A-Za-z0-9_-]{43}$"


class TokenAnswer(BaseModel):
    """An access token (RFC 6749 §5.1), a JWT after RFC 9068."""

    access_token: str = Field(min_length=1, description="Send it as `Authorization: Bearer …`.")
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - a kind of token, not a secret
    expires_in: int = Field(ge=1, description="Seconds until it must be replaced by a new one.")
    scope: str = Field(description="What the token may be used for.")


class OAuthRefusal(BaseModel):
    """A refusal (RFC 6749 §5.2)."""

    error: _Error = Field(description="The kind of refusal, for programs.")
    error_description: str = Field(description="What was wrong with this request.")
    error_id: str = Field(description="Names this request in the operator's log.")


class JsonWebKey(BaseModel):
    """The public half of a signing key (RFC 7517 §4, RFC 7518 §6.2)."""

    model_config = ConfigDict(extra="forbid")

    kty: Literal["EC"]
    crv: Literal["P-256"]
    x: Annotated[str, Field(pattern=_COORDINATE)]
    y: Annotated[str, Field(pattern=_COORDINATE)]
    kid: Annotated[
        str, Field(pattern=_COORDINATE, description="The key's RFC 7638 thumbprint; a token's header names it.")
    ]
    use: Literal["sig"]
    alg: Literal["ES256"]


class JsonWebKeySet(BaseModel):
    """The public keys that verify access tokens (RFC 7517 §5)."""

    model_config = ConfigDict(extra="forbid")

    keys: list[JsonWebKey]


class ServerMetadata(BaseModel):
    """What the token endpoint offers (RFC 8414 §2)."""

    model_config = ConfigDict(extra="forbid")

    issuer: str = Field(description="The `iss` and `aud` of access tokens.")
    token_endpoint: str
    revocation_endpoint: str = Field(description="Where a client has its own token refused from then on (RFC 7009).")
    jwks_uri: str
    service_documentation: str = Field(description="The API's documentation, for people.")
    scopes_supported: list[str] = Field(min_length=1)
    # REQUIRED; without an authorization endpoint there are none
    response_types_supported: list[str] = Field(
        default=[], max_length=0, description="Empty: there is no authorization endpoint."
    )
    grant_types_supported: list[Literal["client_credentials"]] = [GRANT]
    token_endpoint_auth_methods_supported: list[_Method] = _METHODS
    revocation_endpoint_auth_methods_supported: list[_Method] = _METHODS
    tls_client_certificate_bound_access_tokens: Literal[True] | None = Field(
        default=None,
        description="Tokens got over a connection with a certificate of the client's own are good with that alone "
        "(RFC 8705 §3). Left out where this server takes no client certificates.",
    )


BY_CERTIFICATE: Final[Json] = {
    "token_endpoint_auth_methods_supported": _BY_CERTIFICATE_TOO,
    "revocation_endpoint_auth_methods_supported": _BY_CERTIFICATE_TOO,
    "tls_client_certificate_bound_access_tokens": True,
}
"""What the metadata say where clients may show certificates (RFC 8705 §2.1, §3.3)."""


_NO_STORE = header("Cache-Control", "Kept by nobody.", "no-store", pattern="^no-store$", example="no-store")
_PRAGMA = header("Pragma", "The same, for whoever knows nothing newer.", pattern="^no-cache$", example="no-cache")
_VARY = vary("Accept-Encoding", "encoding")
_KEPT = header("Cache-Control", "May be kept by anybody for a while.", "public", example="public, max-age=300")
_CHALLENGE = header("WWW-Authenticate", "How a client authenticates here.", "token", example=BASIC_CHALLENGE)

_CREDENTIALS: Final = {
    "client_id": {"type": "string", "description": "The client's id, unless it is sent by HTTP Basic."},
    "client_secret": {
        "type": "string",
        "format": "password",
        "description": "The client's secret, unless it is sent by HTTP Basic or the client has a certificate.",
    },
}
_FORM_SCHEMA = Component(
    "schemas",
    "TokenRequest",
    {
        "type": "object",
        "description": "The form of a token request (RFC 6749 §4.4.2).",
        "required": ["grant_type"],
        "properties": {
            "grant_type": {"type": "string", "enum": [GRANT]},
            "scope": {
                "type": "string",
                "pattern": f"^({_WORD}( {_WORD})*)?$",
                "description": "What the token shall be good for: `taxii:read`, `taxii:write`, or both with a space between. "
                "Left out, all that the client was issued with; never more than that. What it may do with each collection "
                "is decided by grants, at each request.",
                "examples": [SCOPES[Right.READ]],
            },
            **_CREDENTIALS,
        },
    },
)
_REVOCATION_SCHEMA = Component(
    "schemas",
    "RevocationRequest",
    {
        "type": "object",
        "description": "The form of a revocation (RFC 7009 §2.1).",
        "required": ["token"],
        "properties": {
            "token": {"type": "string", "minLength": 1, "description": "The access token that shall be refused."},
            "token_type_hint": {"type": "string", "description": "Not needed: there is one kind of token."},
            **_CREDENTIALS,
        },
    },
)
_FORM_REFUSALS: Final[Mapping[int, tuple[str, Sequence[Component]]]] = {
    401: ("The client's id or secret does not hold, or there is none.", [_CHALLENGE]),
    408: ("The form did not arrive in time.", []),
    413: ("The form has more than 64 KiB.", []),
    415: ("The body is no form, or is packed.", []),
    429: (
        "This client asks too often, or too many logins from its address have failed. Wait the seconds of `Retry-After`.",
        [RETRY_AFTER],
    ),
    500: ("A fault of the server. Its operator finds the cause under the `error_id`.", []),
    503: ("Can't be served now. Try again after the seconds of `Retry-After`.", [RETRY_AFTER]),
}


def token() -> Json:
    """Describe the token endpoint."""
    shown = examples(_PACKAGE, "get_token")
    good = answer("A token", REQUEST_ID, _NO_STORE, _PRAGMA, media_type=_JSON, model=TokenAnswer, examples=shown["200"])
    return _posted(
        "get_token",
        "Get an access token",
        "Exchanges a client's id and secret for a short-lived access token (client credentials, RFC 6749 §4.4). The client "
        "authenticates by HTTP Basic (`client_secret_basic`) or in the form (`client_secret_post`), not both; where the "
        "metadata list `self_signed_tls_client_auth`, also by its certificate and `client_id` alone (RFC 8705 §2.2). Got with "
        "a certificate of the client's own, a token is good with that one alone (§3). There are no refresh tokens: ask "
        "again when the token has ended.",
        _FORM_SCHEMA,
        good,
        "The form is malformed, or asks for what this client can't have.",
    )


def revocation() -> Json:
    """Describe the revocation endpoint."""
    return _posted(
        "revoke_token",
        "Take an access token back",
        "Has a token of the client's own refused from the next request on (RFC 7009): one that leaked, or that is done "
        "with. The client authenticates as for a token. What is no token, has ended, or is another client's is left as it "
        "is, and answered alike. The client itself goes on: if its secret leaked, its operator must replace that.",
        _REVOCATION_SCHEMA,
        answer("Done, or there was nothing to do. No body.", REQUEST_ID, _NO_STORE, _PRAGMA),
        "The form is malformed, or names no token.",
    )


def _posted(name: str, summary: str, description: str, form: Component, good: Json, malformed: str) -> Json:
    shown = examples(_PACKAGE, name)
    refusals: dict[int, tuple[str, Sequence[Component]]] = {400: (malformed, ()), **_FORM_REFUSALS}
    return {
        "tags": _TAG,
        "operationId": name,
        "summary": summary,
        "description": description,
        # by Basic, or in the form
        "security": [{"basic": []}, {}],
        "requestBody": {
            "required": True,
            "description": "Each field at most once; never in the URL, where proxies log it.",
            "content": {FORM: {"schema": form, "examples": shown[FORM]}},
        },
        "responses": {"200": good}
        | {
            str(status): _refusal(status, meaning, headers, shown[str(status)])
            for status, (meaning, headers) in refusals.items()
        },
    }


def jwks() -> Json:
    """Describe the keys."""
    return _published(
        "get_keys",
        "Keys that verify access tokens",
        "The public keys of every access token still accepted here, newest first (RFC 7517). For who verifies tokens "
        "elsewhere; a TAXII client has no need of it.",
        JsonWebKeySet,
        {
            500: ("A fault of the server. Its operator finds the cause under the `error_id`.", []),
            503: ("Can't be served now. Try again after the seconds of `Retry-After`.", [RETRY_AFTER]),
        },
    )


def metadata() -> Json:
    """Describe the metadata."""
    return _published(
        "get_server_metadata",
        "What the token endpoint offers",
        "For clients that configure themselves (RFC 8414).",
        ServerMetadata,
        {500: ("A fault of the server. Its operator finds the cause under the `error_id`.", [])},
    )


def _published(
    name: str,
    summary: str,
    description: str,
    model: type[BaseModel],
    refusals: Mapping[int, tuple[str, Sequence[Component]]],
) -> Json:
    shown = examples(_PACKAGE, name)
    good = answer("OK", REQUEST_ID, _KEPT, ETAG, _VARY, media_type=_JSON, model=model, examples=shown["200"])
    not_modified = answer(
        "Not modified: the answer is still the one that has this `ETag`. No body.", REQUEST_ID, _KEPT, ETAG, _VARY
    )
    return {
        "tags": _TAG,
        "operationId": name,
        "summary": summary,
        "description": description,
        "security": [],
        "parameters": [IF_NONE_MATCH],
        "responses": {"200": good, "304": not_modified}
        | {
            str(status): _refusal(status, meaning, [*headers, _VARY], shown[str(status)])
            for status, (meaning, headers) in refusals.items()
        },
    }


def _refusal(status: int, meaning: str, headers: Sequence[Component], shown: Mapping[str, Json]) -> Json:
    return answer(
        meaning, REQUEST_ID, _NO_STORE, _PRAGMA, *headers, media_type=_JSON, model=OAuthRefusal, examples=shown
    )
