"""Headers of a request, as ASGI hands them over: names in lower case, values as octets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Scope


def header(scope: Scope, name: bytes) -> bytes | None:
    """Give the value of a header, several lines of it as the one list they make (RFC 9110 §5.3); None without any."""
    values = [value for key, value in scope["headers"] if key == name]
    return b",".join(values) if values else None
