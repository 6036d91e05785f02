"""Give a client an access token for its secret (RFC 6749 §4.4)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import structlog

from taxii_server.auth import tokens
from taxii_server.auth.tokens import SCOPES
from taxii_server.domain.errors import OAuthError

if TYPE_CHECKING:
    from taxii_server.auth.identify import Identifier
    from taxii_server.auth.signing_keys import SigningKeys
    from taxii_server.domain.access import Right

log = structlog.get_logger(__name__)

# RFC 6749 §3.3
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+(?: [\x21\x23-\x5b\x5d-\x7e]+)*")


@dataclass(frozen=True, slots=True)
class TokenIssuing:
    """What issuing tokens takes; made once per process. `issuer` is the public URL."""

    identifier: Identifier
    keys: SigningKeys
    issuer: str
    lifetime: timedelta


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """An access token and what its holder should know of it."""

    access_token: str
    expires_in: timedelta
    scope: str


async def issue_token(issuing: TokenIssuing, *, client_id: str, secret: str, scope: str | None = None) -> IssuedToken:
    """Issue a token to a client.

    Without `scope` the token carries all the client was issued with; with it, exactly what it asks for. Asking for more
    than the client was issued with, or for what we don't know, is refused and not cut down in silence, because a tool
    that needs to write should fail here and not at its first push. What a token may do with a collection is decided
    by the member's grants, at each request.

    Raises:
        NotAuthenticated: if the client's id and secret don't hold.
        OAuthError: `invalid_scope`.
    """
    wanted = None if scope is None else _rights_asked(scope)
    client = await issuing.identifier.client(client_id, secret)
    rights = client.rights if wanted is None else wanted
    if not rights <= client.rights:
        message = f"This client can have no more than: {tokens.scope_of(client.rights)}"
        raise OAuthError("invalid_scope", message)
    key = await issuing.keys.current()
    # a key nearing its end (TAXII_TOKEN_LIFETIME was raised since it was made) shortens its tokens
    lifetime = min(issuing.lifetime, key.verifies_until - datetime.now(UTC))
    token = tokens.issue(
        key.private_key,
        kid=key.kid,
        issuer=issuing.issuer,
        client_id=client.client_id,
        rights=rights,
        lifetime=lifetime,
    )
    log.info("token_issued", client_id=client.client_id, member=client.member_slug, scope=tokens.scope_of(rights))
    return IssuedToken(access_token=token, expires_in=lifetime, scope=tokens.scope_of(rights))


async def published_keys(issuing: TokenIssuing) -> dict[str, list[dict[str, str]]]:
    """Give the JWK Set of the keys whose tokens are accepted."""
    return await issuing.keys.jwks()


def _rights_asked(scope: str) -> frozenset[Right]:
    if not _SCOPE.fullmatch(scope) or not set(scope.split(" ")) <= set(SCOPES.values()):
        message = f"The scopes here are: {' '.join(SCOPES.values())}"
        raise OAuthError("invalid_scope", message)
    return tokens.rights_in(scope)
