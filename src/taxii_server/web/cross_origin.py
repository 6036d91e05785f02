"""Pages of other origins that may read what a browser's user has credentials for (CORS, Fetch §3.2).

Nobody, unless TAXII_CORS_ORIGINS names them. The browser's own credentials are never let in, so a page gets what it has
a client's id and secret, or a token, for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from taxii_server.web.headers import header

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starlette.types import Scope

    Headers = list[tuple[bytes, bytes]]

_EXPOSED: Final = (
    b"access-control-expose-headers",
    b"X-TAXII-Date-Added-First, X-TAXII-Date-Added-Last, ETag, X-Request-ID, Retry-After, WWW-Authenticate",
)
_PREFLIGHT: Final = [
    (b"access-control-allow-headers", b"Authorization, Accept, Content-Type, If-None-Match"),
    (b"access-control-max-age", b"600"),
]


class CrossOrigin:
    """What is told to browsers about origins."""

    def __init__(self, origins: Iterable[str]) -> None:
        """Take the origins, as browsers write them."""
        self._origins = frozenset(origin.encode() for origin in origins)

    def __bool__(self) -> bool:
        """Whether any origin is let in."""
        return bool(self._origins)

    def headers(self, scope: Scope, allow: bytes | None) -> Headers:
        """Give the headers for an answer; `allow` is the value of its own Allow, if it has one."""
        origin = header(scope, b"origin")
        if origin is None or origin not in self._origins:
            return []
        told: Headers = [(b"access-control-allow-origin", origin)]
        if scope["method"] != "OPTIONS":
            return [*told, _EXPOSED]
        if allow is None:
            return told
        return [*told, (b"access-control-allow-methods", allow), *_PREFLIGHT]
