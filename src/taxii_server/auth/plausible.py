"""Whether a credential may hold, told from all that do and without a look-up: what counts while logins are throttled.

Each function gives the credential as one text, to know it again by, and the question to ask of those that hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taxii_server.auth import outside_tokens, secrets
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
            return live.secrets.get(secrets.digest(secret)) == client_id
        holder = None if certificate is None else live.certificates.get(certificate)
        return holder is not None and client_id in {None, holder}

    return secret or f"{client_id} {certificate!r}", may_hold


def token(tokens: Tokens, text: str, unverified: Unverified) -> tuple[str, MayHold]:
    """Judge a token of ours by its client, its key and its signature."""

    async def may_hold(live: LiveCredentials) -> bool:
        key = live.keys.get(unverified.presented.kid)
        if key is None or unverified.client_id not in live.clients:
            return False
        try:
            tokens.verify(text, key)
        except NotAuthenticated:
            return False
        return True

    return text, may_hold


def outside_token(outside: OutsideTokens, keys: IssuerKeys, shown: OutsideToken) -> tuple[str, MayHold]:
    """Judge a token of an outside issuer by whom it is about, and its signature."""

    async def may_hold(live: LiveCredentials) -> bool:
        issuer, claim = live.issuers.get(shown.presented.issuer, (None, ""))
        if issuer is None or (issuer.slug, shown.named.get(claim)) not in live.subjects:
            return False
        try:
            outside_tokens.check(shown, issuer)
            outside.verify(shown, await keys.key(issuer, shown.presented.kid))
        except NotAuthenticated:
            return False
        return True

    return shown.text, may_hold
