"""Outside issuers: who, besides this server, may vouch for clients, and what a URL of theirs must be like."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

RSA_ALGORITHMS: Final = ("RS256", "RS384", "RS512")
EC_ALGORITHMS: Final = {"ES256": "P-256", "ES384": "P-384"}
"""Each is bound to one curve (RFC 7518 §3.4)."""

ALGORITHMS: Final = (*RSA_ALGORITHMS, *EC_ALGORITHMS)
"""What an outside token may be signed with."""

LONGEST_URL: Final = 256
_THIS_MACHINE: Final = {"127.0.0.1", "::1", "localhost"}
_VISIBLE: Final = range(0x21, 0x7F)


@dataclass(frozen=True, slots=True)
class OutsideIssuer:
    """An issuer as the operator configured it; without `jwks_uri` its own metadata names it."""

    slug: str
    issuer: str
    jwks_uri: str | None
    audience: str
    algorithms: frozenset[str]


def url_problem(url: str) -> str | None:
    """Say why keys must not be fetched from this URL, or an issuer not be called so; None if nothing is wrong with it.

    Plain HTTP is for this machine alone: whoever can alter the answer on its way can sign in every client's name.
    """
    if len(url) > LONGEST_URL or any(ord(letter) not in _VISIBLE for letter in url):
        return f"must be at most {LONGEST_URL} visible ASCII characters"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "is not a URL"
    wrong = {
        "must be a URL like https://login.bank.example/": not parts.hostname or parts.scheme not in {"https", "http"},
        "must begin with https://": parts.scheme == "http" and parts.hostname not in _THIS_MACHINE,
        "must not hold a name or password": "@" in parts.netloc,
        "must have neither a query nor a fragment": "?" in url or "#" in url,
    }
    return next((problem for problem, holds in wrong.items() if holds), None)


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine."""
    return urlsplit(url).hostname in _THIS_MACHINE
