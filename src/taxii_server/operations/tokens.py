"""Give a client an access token for its secret (RFC 6749 §4.4), and take tokens back (RFC 7009)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import structlog

from taxii_server.auth import jws, outside_tokens, tokens
from taxii_server.auth.client_limits import ClientLimits
from taxii_server.auth.failed_logins import FailedLogins
from taxii_server.auth.tokens import SCOPES
from taxii_server.domain.audit import KEYS, OPERATOR, Act, Entry, of_member
from taxii_server.domain.audit import client as by_client
from taxii_server.domain.errors import NotAuthenticated, OAuthError, OperatorError
from taxii_server.storage import audit, issuers, revoked_tokens, signing_keys

if TYPE_CHECKING:
    from taxii_server.auth.identify import Identifier
    from taxii_server.auth.signing_keys import SigningKeys
    from taxii_server.domain.access import Caller, Right
    from taxii_server.storage.engine import Database
    from taxii_server.storage.issuers import StoredIssuer

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
    db: Database
    limits: ClientLimits = field(default_factory=ClientLimits)
    failed_logins: FailedLogins = field(default_factory=FailedLogins)


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """An access token and what its holder should know of it."""

    access_token: str
    expires_in: timedelta
    scope: str


@dataclass(frozen=True, slots=True)
class RevokedToken:
    """A token that is refused; `changed` is False if it was before."""

    issuer: str
    jti: str
    changed: bool


async def issue_token(
    issuing: TokenIssuing,
    *,
    client_id: str,
    secret: str | None,
    scope: str | None = None,
    certificate: str | None = None,
) -> IssuedToken:
    """Issue a token to a client, by its secret, its certificate or both.

    Where it shows a certificate of its own, the token is bound to that (RFC 8705 §3).

    Without `scope` the token carries all the client was issued with; with it, exactly what it asks for. Asking for more
    than the client was issued with, or for what we don't know, is refused and not cut down in silence, because a tool
    that needs to write should fail here and not at its first push. What a token may do with a collection is decided
    by the member's grants, at each request.

    Raises:
        NotAuthenticated: if what the client shows doesn't hold.
        TooManyRequests: if it does, and the client has to wait.
        OAuthError: `invalid_scope`.
    """
    wanted = None if scope is None else _rights_asked(scope)
    issuing.limits.refuse_again(secret or certificate)
    caller = await issuing.identifier.client(client_id, secret, certificate)
    with await issuing.limits.under_way(caller.principal, secret or certificate, caller.asked_at):
        return await _issue(issuing, caller, wanted)


async def _issue(issuing: TokenIssuing, caller: Caller, wanted: frozenset[Right] | None) -> IssuedToken:
    client = caller.principal
    rights = client.rights if wanted is None else wanted
    if not rights <= client.rights:
        message = f"This client can have no more than: {tokens.scope_of(client.rights)}"
        raise OAuthError("invalid_scope", message)
    key = await issuing.keys.current()
    # a key nearing its end (TAXII_TOKEN_LIFETIME was raised since it was made) shortens its tokens
    lifetime = min(issuing.lifetime, key.verifies_until - datetime.now(UTC))
    jti = str(uuid4())
    token = tokens.issue(
        key.private_key,
        kid=key.kid,
        issuer=issuing.issuer,
        client_id=client.client_id,
        rights=rights,
        lifetime=lifetime,
        jti=jti,
        certificate=caller.certificate,
    )
    # the token goes out once this is durable
    details = {"client": client.client_id, "scope": tokens.scope_of(rights), "jti": jti, "kid": key.kid}
    stream = of_member(client.member_slug)
    async with issuing.db.write(turn=stream) as connection:
        await audit.append_locking(connection, Entry(stream, Act.TOKEN_ISSUED, by_client(client), details))
    said = {"client_id": client.client_id, "member": client.member_slug, "scope": tokens.scope_of(rights), "jti": jti}
    log.info("token_issued", **said, credential=caller.credential, bound=caller.certificate is not None)
    return IssuedToken(access_token=token, expires_in=lifetime, scope=tokens.scope_of(rights))


async def revoke_own_token(
    issuing: TokenIssuing, *, client_id: str, secret: str | None, token: str, certificate: str | None = None
) -> None:
    """Refuse a client's own token from the next request on (RFC 7009 §2.1).

    What is no token, another client's or ended already is left as it is, and its sender isn't told (§2.2).

    Raises:
        NotAuthenticated: if what the client shows doesn't hold.
        TooManyRequests: if it does, and the client has to wait.
    """
    issuing.limits.refuse_again(secret or certificate)
    client, own = await issuing.identifier.own_token(client_id, secret, token, certificate)
    with await issuing.limits.under_way(client, secret or certificate):
        if own is not None:
            ends = datetime.fromtimestamp(own.expires_at, UTC)
            who = by_client(client)
            await _revoke(issuing.db, own.presented.issuer, str(own.presented.jti), ends, who=who)


async def revoke_token(db: Database, issuer: str, token: str) -> RevokedToken:
    """Refuse a token, ours or an outside issuer's, from the next request on, on every worker.

    Its signature isn't asked about: what nobody signed is refused anyway. So nor is its end believed: it is refused for as
    long as a token can live.

    Raises:
        OperatorError: if it is none that would be let in, or has no jti.
    """
    try:
        parsed = jws.parse(token)
        ours = parsed.claims.get("iss") == issuer
        presented = (tokens.Tokens(issuer).peek_at(parsed) if ours else outside_tokens.read(token, parsed)).presented
    except NotAuthenticated as error:
        raise OperatorError(f"This is no access token that would be let in: {error.reason}.") from error
    if not ours and presented.issuer not in [one.issuer for one in await _trusted(db)]:
        raise OperatorError(f"This is no access token that would be let in: nobody trusts {presented.issuer}.")
    if presented.jti is None:
        raise OperatorError("This token has no jti to be known by: revoke its client.")
    return await _revoke(db, presented.issuer, presented.jti, None, who=OPERATOR)


async def revoke_jti(db: Database, issuer: str, jti: str, *, outside: str | None = None) -> RevokedToken:
    """Refuse the token of an id from the next request on, on every worker, for as long as a token can live.

    It is one of ours, or of the outside issuer of this slug.

    Raises:
        OperatorError: if no token can have that id, or there is no such issuer.
    """
    if not tokens.NAME.fullmatch(jti):
        raise OperatorError("A jti is 1 to 256 visible ASCII characters without blanks.")
    if outside is not None:
        named = [one.issuer for one in await _trusted(db) if one.slug == outside]
        if not named:
            raise OperatorError(f"There is no issuer {outside!r} in the alliance.")
        issuer = named[0]
    return await _revoke(db, issuer, jti, None, who=OPERATOR)


async def _trusted(db: Database) -> list[StoredIssuer]:
    async with db.read() as connection:
        return [one for one in await issuers.read(connection) if not one.removed]


async def _revoke(db: Database, issuer: str, jti: str, expires_at: datetime | None, *, who: str) -> RevokedToken:
    async with db.write() as connection:
        await signing_keys.take_turns(connection)
        changed = await revoked_tokens.add(
            connection, issuer=issuer, jti=jti, expires_at=expires_at, at_most=tokens.LONGEST_LIFETIME
        )
        if changed:
            revoked = {"issuer": issuer, "jti": jti}
            await audit.append(connection, Entry(KEYS, Act.TOKEN_REVOKED, who, revoked))
    if changed:
        log.info("token_revoked", issuer=issuer, jti=jti)
    return RevokedToken(issuer=issuer, jti=jti, changed=changed)


async def published_keys(issuing: TokenIssuing) -> dict[str, list[dict[str, str]]]:
    """Give the JWK Set of the keys whose tokens are accepted."""
    return await issuing.keys.jwks()


def _rights_asked(scope: str) -> frozenset[Right]:
    if not _SCOPE.fullmatch(scope) or not set(scope.split(" ")) <= set(SCOPES.values()):
        message = f"The scopes here are: {' '.join(SCOPES.values())}"
        raise OAuthError("invalid_scope", message)
    return tokens.rights_in(scope)
