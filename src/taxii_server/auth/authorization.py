"""The Authorization header: its schemes, what is read of it, and the challenges for who was refused (RFC 9110 §11)."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode

from taxii_server.domain.errors import NotAuthenticated

BASIC_CHALLENGE = 'Basic realm="taxii", charset="UTF-8"'
CHALLENGES = (BASIC_CHALLENGE, 'Bearer realm="taxii"')
"""The values of WWW-Authenticate in a 401, one per enabled scheme."""

TOKEN_CHALLENGES = (BASIC_CHALLENGE, 'Bearer realm="taxii", error="invalid_token"')
"""The same for who sent a token: its client fetches another one (RFC 6750 §3.1). Nobody is told what was wrong with it."""

_LONGEST_BASIC = 2048
# Python forgives excess padding (RFC 4648 §3.3 asks for refusal)
_BASIC = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?")
# C0, DEL and C1: none of them may stand in a user-id or password (RFC 7617 §2)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def challenges(authorization: str) -> tuple[str, ...]:
    """Give the challenges for who was refused with this Authorization header."""
    return TOKEN_CHALLENGES if split(authorization)[0] == "bearer" else CHALLENGES


def basic_credentials(authorization: str) -> tuple[str, str] | None:
    """Read user-id and password of a Basic Authorization header; None if it is of another scheme.

    Raises:
        NotAuthenticated: if it is Basic and malformed.
    """
    scheme, value = split(authorization)
    return basic(value) if scheme == "basic" else None


def split(authorization: str) -> tuple[str, str]:
    """Take scheme, in lower case, and value apart (RFC 9110 §11.4)."""
    scheme, _, value = authorization.partition(" ")
    return scheme.lower(), value.strip(" ")


def basic(value: str) -> tuple[str, str]:
    """Read what Basic carries: user-id and password (RFC 7617 §2).

    Raises:
        NotAuthenticated: if it is malformed.
    """
    if len(value) > _LONGEST_BASIC or not _BASIC.fullmatch(value):
        raise NotAuthenticated("Basic credentials are not base64")
    try:
        user_pass = b64decode(value, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise NotAuthenticated("Basic credentials are not base64 of UTF-8") from error
    if _CONTROL.search(user_pass):
        raise NotAuthenticated("Basic credentials hold control characters")
    client_id, colon, secret = user_pass.partition(":")
    if not colon:
        raise NotAuthenticated("Basic credentials have no colon")
    return client_id, secret
