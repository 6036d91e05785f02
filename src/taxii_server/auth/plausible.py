"""Whether a credential may hold, told from all that do and without a look-up: what counts while logins are throttled.

Each function gives the credential as one text, to know it again by, and the question to ask of those that hold. The question
is as strict as the look-up: what passed and then failed is refused for a moment by that text, so a secret or a token that
was stolen without the certificate it needs must not pass, or its thief could keep its owner out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taxii_server.auth import outside_tokens, secrets
from taxii_server.domain.access import Authentication
from taxii_server.domain.errors import NotAuthenticated

if TYPE_CHECKING:
    from taxii_server.auth.failed_logins import MayHold
    from taxii_server.auth.issuer_keys import IssuerKeys
    from taxii_server.auth.outside_tokens import OutsideToken, OutsideTokens
    from taxii_server.auth.tokens import Tokens, Unverified
    from taxii_server.storage.live_credentials import LiveCredentials


def credentials(client_id: str | None, secret: str | None, certificate: bytes | None) -> tuple[str, MayHold]:
    """Judge a secret or, without one, a certificate; without an id the certificate says whose it is."""

    async def may_hold(live: LiveCredentials) -> bool:
        if secret is not None:
            holder = live.secrets.get(secrets.digest(secret))
            return holder is not None and holder == client_id and _shows_enough(live, holder, certificate)
        holder = None if certificate is None else live.certificates.get(certificate)
        return holder is not None and client_id in {None, holder} and live.clients[holder] is not Authentication.BOTH

    return secret or f"{client_id} {certificate!r}", may_hold


def token(tokens: Tokens, text: str, unverified: Unverified, certificate: bytes | None) -> tuple[str, MayHold]:
    """Judge a token of ours by its client, its key, its signature and the certificate that comes with it."""

    async def may_hold(live: LiveCredentials) -> bool:
        key, client_id = live.keys.get(unverified.presented.kid), unverified.client_id
        if key is None or client_id not in live.clients or not _shows_enough(live, client_id, certificate):
            return False
        try:
            bound = tokens.verify(text, key).certificate
        except NotAuthenticated:
            return False
        return bound is None or (bound == certificate and live.certificates.get(bound) == client_id)

    return text, may_hold


def outside_token(
    outside: OutsideTokens, keys: IssuerKeys, shown: OutsideToken, certificate: bytes | None
) -> tuple[str, MayHold]:
    """Judge a token of an outside issuer by whom it is about, its signature and the certificate that comes with it."""

    async def may_hold(live: LiveCredentials) -> bool:
        issuer, claim = live.issuers.get(shown.presented.issuer, (None, ""))
        client_id = None if issuer is None else live.subjects.get((issuer.slug, shown.named.get(claim, "")))
        if issuer is None or client_id is None or not _shows_enough(live, client_id, certificate):
            return False
        if shown.certificate not in {None, certificate}:
            return False
        try:
            outside_tokens.check(shown, issuer)
            outside.verify(shown, await keys.key(issuer, shown.presented.kid))
        except NotAuthenticated:
            return False
        return True

    return shown.text, may_hold


def _shows_enough(live: LiveCredentials, client_id: str, certificate: bytes | None) -> bool:
    """Tell whether a client shows its certificate, if it must beside whatever else it shows."""
    if live.clients[client_id] is Authentication.ANY:
        return True
    return certificate is not None and live.certificates.get(certificate) == client_id
