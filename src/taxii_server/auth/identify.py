"""Who is asking: from the Authorization header, or a client certificate, to a client whose credentials hold now.

A certificate counts as one of the client's own, or as the one that a token is bound to; any other is as if none was shown.
Credentials that can't be right are refused without touching the database. Whatever else may be wrong with them, exactly
one caller statement runs, so an unknown client, a wrong secret and a revoked client look and cost the same. What was
let in before is asked about in short; the first time that not everything holds of it the caller statement follows and decides,
and it is asked about as if it had never been seen.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from prometheus_client import Counter

from taxii_server.auth import authorization as header
from taxii_server.auth import certificates, jws, outside_tokens, plausible, secrets
from taxii_server.auth.failed_logins import before_look_up
from taxii_server.auth.issuer_keys import IssuerKeys
from taxii_server.auth.let_in import LetIn
from taxii_server.auth.outside_tokens import OutsideTokens
from taxii_server.auth.tokens import Tokens
from taxii_server.domain.access import BOTH, Authentication, Caller, Principal, Right
from taxii_server.domain.errors import IssuerUnavailable, NotAuthenticated
from taxii_server.storage import callers, standing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from taxii_server.auth.certificates import Shown
    from taxii_server.auth.outside_tokens import OutsideToken
    from taxii_server.auth.tokens import Unverified
    from taxii_server.domain.access import Presented
    from taxii_server.domain.issuers import OutsideIssuer
    from taxii_server.storage.callers import Found
    from taxii_server.storage.engine import Connection, Database
    from taxii_server.storage.standing import Standing

REFUSALS = Counter("taxii_credentials_refused", "Credentials that were missing or did not hold.", ["scheme"])


@dataclass(frozen=True, slots=True)
class PathNames:
    """What a path names: a trust group's slug, and a collection in it by id or alias."""

    trust_group: str | None = None
    collection: str | None = None


class Identifier:
    """Finds out who is asking. Make one per process."""

    def __init__(
        self,
        db: Database,
        issuer: str,
        *,
        issuer_keys: IssuerKeys | None = None,
        noted: Callable[[NotAuthenticated], None] | None = None,
    ) -> None:
        """Take the database, the public URL: issuer and audience of our tokens, and who has the keys of other issuers.

        `noted` is told of every refusal.
        """
        self._db = db
        self._issuer = issuer
        self._parser = jws.Parser()
        self._tokens = Tokens(issuer)
        self._secrets = LetIn()
        self._tokens_let_in = LetIn()
        self._outside = OutsideTokens()
        self._issuer_keys = issuer_keys or IssuerKeys()
        self._noted = noted

    async def caller(self, authorization: str | None, names: PathNames, certificate: str | None = None) -> Caller:
        """Identify who sent this Authorization header, together with the place the path names.

        `certificate` is what a trusted proxy says of the one that it was shown. It decides who asks where there is no
        Authorization.

        Raises:
            NotAuthenticated: if there are no credentials or they don't hold.
        """
        scheme, value = header.split(authorization or "")
        try:
            return await self._by(scheme, value, names, certificates.shown(certificate))
        except NotAuthenticated as error:
            shown = "certificate" if certificate and not scheme else "none"
            self._refused(scheme if scheme in {"basic", "bearer"} else shown, error)
            raise

    async def again(self, connection: Connection, caller: Caller, names: PathNames) -> Caller:
        """Ask anew, inside a transaction, what the caller is and may do; what narrowed it before still does.

        Raises:
            NotAuthenticated: if the client or its member may no longer do anything.
        """
        before = caller.principal
        shown = certificates.Shown(caller.certificate, "no client certificate")
        found = await _look_up(connection, before.client_id, names, shown, token=caller.token)
        if caller.certificate is not None and not found.certificate_held:
            raise NotAuthenticated("client certificate was removed")
        if caller.token is not None and caller.token.issuer == self._issuer:
            _key_of(found)
        elif caller.token is not None:
            _trusted(found)
        now = _called(found, before.rights, shown, caller.credential)
        if now.principal.client != before.client:
            raise NotAuthenticated("client is another one by now")
        return now

    async def client(self, client_id: str, secret: str | None, certificate: str | None = None) -> Caller:
        """Identify a client by its id with its secret, its certificate or both, as the token endpoint does.

        Raises:
            NotAuthenticated: if they don't hold.
        """
        try:
            shown = certificates.shown(certificate)
            found = await self._authenticated(client_id, secret, shown, PathNames())
            return _called(found, BOTH, shown, "secret" if secret is not None else "certificate")
        except NotAuthenticated as error:
            self._refused("client_secret" if secret is not None else "certificate", error)
            raise

    async def own_token(
        self, client_id: str, secret: str | None, token: str, certificate: str | None = None
    ) -> tuple[Principal, Unverified | None]:
        """Identify a client as `client` does, and read a token if it is its own and holds; None for any other.

        A token that leaked is taken back without the certificate that it may be bound to.

        Raises:
            NotAuthenticated: if the client's id and what it shows don't hold.
        """
        try:
            unverified = self._tokens.peek(token)
        except NotAuthenticated:
            unverified = None
        try:
            shown = certificates.shown(certificate)
            presented = None if unverified is None else unverified.presented
            found = await self._authenticated(client_id, secret, shown, PathNames(), token=presented)
            principal = _admitted(found, shown)
        except NotAuthenticated as error:
            self._refused("client_secret" if secret is not None else "certificate", error)
            raise
        if unverified is None or unverified.client_id != principal.client_id:
            return principal, None
        try:
            self._tokens.verify(token, _key_of(found))
        except NotAuthenticated:
            return principal, None
        return principal, unverified

    def _refused(self, scheme: str, error: NotAuthenticated) -> None:
        REFUSALS.labels(scheme).inc()
        if self._noted is not None:
            self._noted(error)

    async def _by(self, scheme: str, value: str, names: PathNames, shown: Shown) -> Caller:
        match scheme:
            case "basic":
                return await self._by_secret(*header.basic(value), names, shown)
            case "bearer":
                return await self._by_token(value, names, shown)
            case "" if shown is certificates.NONE:
                raise NotAuthenticated("no credentials")
            case "":
                return _called(await self._authenticated(None, None, shown, names), BOTH, shown, "certificate")
            case _:
                raise NotAuthenticated("unknown authentication scheme")

    async def _by_secret(self, client_id: str, secret: str, names: PathNames, shown: Shown) -> Caller:
        known = shown is certificates.NONE and self._secrets.knows(client_id, secret)
        if known:
            await before_look_up(*plausible.credentials(client_id, secret, None))
            stands = await standing.of_secret(self._db, client_id, names.trust_group, names.collection)
            if stands is not None and secrets.matches(stands[1], secret):
                return _standing(stands[0], BOTH, "secret")
        try:
            found = await self._authenticated(client_id, secret, shown, names, asked=known)
            caller = _called(found, BOTH, shown, "secret")
        except NotAuthenticated:
            self._secrets.forget(client_id, secret)
            raise
        if shown is certificates.NONE:
            self._secrets.keep(client_id, secret)
        return caller

    async def _authenticated(
        self,
        client_id: str | None,
        secret: str | None,
        shown: Shown,
        names: PathNames,
        *,
        token: Presented | None = None,
        asked: bool = False,
    ) -> Found:
        """Find a client by its secret or, without one, by its certificate; without an id the certificate says whose.

        `asked` is whether it was asked already whether this may be looked up.
        """
        if secret is not None and not secrets.well_formed(secret):
            raise NotAuthenticated("secret is malformed")
        if secret is None and shown.thumbprint is None:
            raise NotAuthenticated(shown.lacking)
        if not asked:
            await before_look_up(*plausible.credentials(client_id, secret, shown.thumbprint))
        found = await _look_up(self._db, client_id, names, shown, token=token, by_certificate=client_id is None)
        if secret is None:
            if found.client is None or not found.certificate_held:
                raise _refusal(
                    found, "unknown client certificate" if found.client or not client_id else "unknown client"
                )
            if found.client.authentication is Authentication.BOTH:
                raise _refusal(found, "client must show its secret as well")
        elif not secrets.matches(found.digests, secret):
            raise _refusal(found, "unknown client" if found.client is None else "wrong secret")
        return found

    async def _by_token(self, token: str, names: PathNames, shown: Shown) -> Caller:
        known = self._tokens.known(token)
        if known is None:
            parsed = self._parser.parse(token)
            if parsed.claims.get("iss") != self._issuer:
                return await self._by_outside_token(outside_tokens.read(token, parsed), names, shown)
            unverified = self._tokens.peek_at(parsed)
        else:
            unverified = known.unverified
        await before_look_up(*plausible.token(self._tokens, token, unverified, shown.thumbprint))
        client_id = unverified.client_id
        if shown is certificates.NONE and self._tokens_let_in.knows(client_id, token):
            stands = await standing.of_token(
                self._db, client_id, unverified.presented, names.trust_group, names.collection
            )
            if stands is not None:
                claims = self._tokens.verify(token, stands[1])
                return _standing(stands[0], claims.rights, "token", unverified.presented)
        try:
            caller = await self._by_whole_token(token, unverified, names, shown)
        except NotAuthenticated:
            self._tokens_let_in.forget(client_id, token)
            raise
        if shown is certificates.NONE:
            self._tokens_let_in.keep(client_id, token)
        return caller

    async def _by_whole_token(self, token: str, unverified: Unverified, names: PathNames, shown: Shown) -> Caller:
        found = await _look_up(self._db, unverified.client_id, names, shown, token=unverified.presented)
        claims = self._tokens.verify(token, _key_of(found))
        if claims.certificate is not None:
            _bound(claims.certificate, shown)
            # ours are bound to what was the client's own: one that was taken from it takes its tokens along
            if not found.certificate_held:
                raise NotAuthenticated("token is bound to a certificate that is not its client's any more")
        credential = "token" if claims.certificate is None else "bound token"
        return _called(found, claims.rights, shown, credential, unverified.presented)

    async def _by_outside_token(self, token: OutsideToken, names: PathNames, shown: Shown) -> Caller:
        await before_look_up(*plausible.outside_token(self._outside, self._issuer_keys, token, shown.thumbprint))
        found = await _look_up(self._db, None, names, shown, token=token.presented, named=token.named)
        # no connection is held from here on: the issuer may have to be asked for its keys
        issuer = _trusted(found)
        outside_tokens.check(token, issuer)
        if token.certificate is not None:
            _bound(token.certificate, shown)
        try:
            key = await self._issuer_keys.key(issuer, token.presented.kid)
        except IssuerUnavailable:
            # who isn't tied to it learns nothing of the issuer's state
            _admitted(found, shown)
            raise
        rights = self._outside.verify(token, key)
        credential = "outside token" if token.certificate is None else "bound outside token"
        return _called(found, rights, shown, credential, token.presented)


async def _look_up(
    through: Connection | Database,
    client_id: str | None,
    names: PathNames,
    shown: Shown,
    *,
    token: Presented | None = None,
    named: Mapping[str, str] | None = None,
    by_certificate: bool = False,
) -> Found:
    return await callers.look_up(
        through,
        client_id=client_id,
        token=token,
        named=named,
        certificate=shown.thumbprint,
        by_certificate=by_certificate,
        trust_group=names.trust_group,
        collection=names.collection,
    )


def _key_of(found: Found) -> str:
    """Give the key that a token names, if key and token still count."""
    if found.public_jwk is None:
        raise NotAuthenticated("token's key is unknown or retired")
    if found.token_revoked:
        raise NotAuthenticated("token was revoked")
    return found.public_jwk


def _trusted(found: Found) -> OutsideIssuer:
    """Give the outside issuer of a token, if issuer and token still count."""
    if found.issuer is None:
        raise NotAuthenticated("token is of another issuer")
    if found.token_revoked:
        raise NotAuthenticated("token was revoked")
    return found.issuer


def _bound(certificate: bytes, shown: Shown) -> None:
    """Hold that a token is used with the certificate it is bound to (RFC 8705 §3)."""
    if shown.thumbprint is None:
        raise NotAuthenticated(f"token is bound to a certificate: {shown.lacking}")
    if shown.thumbprint != certificate:
        raise NotAuthenticated("token is bound to another certificate")


def _called(
    found: Found, allowed: frozenset[Right], shown: Shown, credential: str, token: Presented | None = None
) -> Caller:
    """Put together caller and place, the client's rights narrowed to those of its credential."""
    return Caller(
        _admitted(found, shown, allowed),
        found.place,
        token=token,
        certificate=shown.thumbprint if found.certificate_held else None,
        credential=credential,
        asked_at=found.asked_at,
    )


def _standing(found: Standing, allowed: frozenset[Right], credential: str, token: Presented | None = None) -> Caller:
    """Put together the same of who is in good standing and showed no certificate."""
    principal = found.principal
    if not principal.rights <= allowed:
        principal = replace(principal, rights=principal.rights & allowed)
    return Caller(principal, found.place, token=token, credential=credential, asked_at=found.asked_at)


def _admitted(found: Found, shown: Shown, allowed: frozenset[Right] = BOTH) -> Principal:
    """Give the client as it was issued, but for rights that it isn't allowed now, if it and its member are in good standing and it shows what it must."""
    client = found.client
    if client is None:
        raise NotAuthenticated("unknown client")
    standing = {
        "client was revoked": client.revoked,
        "client has expired": client.expired,
        "member is suspended": client.member_suspended,
        "member was removed": client.member_removed,
    }
    for reason, holds in standing.items():
        if holds:
            raise _refusal(found, reason)
    if client.authentication is not Authentication.ANY and not found.certificate_held:
        raise _refusal(found, f"client must show its certificate: {shown.lacking or 'this is none of its own'}")
    return Principal(
        client=client.id,
        client_id=client.client_id,
        member=client.member,
        member_slug=client.member_slug,
        quota=client.quota,
        rights=client.rights & allowed,
        collections=client.collections,
    )


def _refusal(found: Found, reason: str) -> NotAuthenticated:
    return NotAuthenticated(reason, client=None if found.client is None else found.client.id, at=found.asked_at)
