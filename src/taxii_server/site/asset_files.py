"""Files that the pages are made of, served under a name that changes with their content."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from taxii_server.web.compression import pack, wants_gzip
from taxii_server.web.conditional import etag_of
from taxii_server.web.headers import header

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_MEDIA_TYPES: Final = {
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
    "txt": "text/plain",
}
_HEADERS: Final = {
    "Cross-Origin-Resource-Policy": "same-origin",
    # an image is a document too if somebody opens it as one
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


@cache
def contents() -> dict[str, bytes]:
    """Every file that may be asked for, by name: nothing else in the file system can be reached."""
    folder = files(__package__) / "assets"
    found: list[Traversable] = [*folder.iterdir(), *(folder / "vendor").iterdir()]
    return {one.name: one.read_bytes() for one in sorted(found, key=str) if one.name.rpartition(".")[2] in _MEDIA_TYPES}


@cache
def _etag(name: str) -> str:
    return etag_of(contents()[name]).decode("ascii")


@cache
def version() -> str:
    """Name these contents; pages ask for them under it, so browsers may keep them for good."""
    digest = sha256()
    for name, content in contents().items():
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def url(name: str) -> str:
    """Where a page finds a file; without host, so it's right behind any proxy.

    Raises:
        KeyError: if there is no such file.
    """
    if name not in contents():
        raise KeyError(name)
    return f"/assets/{version()}/{name}"


def router() -> APIRouter:
    """Make the route."""
    routes = APIRouter(include_in_schema=False)
    packed: dict[str, bytes] = {}

    @routes.api_route("/assets/{contents_version}/{name}", methods=["GET", "HEAD"])
    async def asset(request: Request, contents_version: str, name: str) -> Response:
        """Serve a file. Under another version's name it is the present one: a node of the next release may have made the page.

        What is asked for by anybody is packed and tagged once, not each time.
        """
        content = contents().get(name)
        if content is None:
            raise HTTPException(404)
        current = contents_version == version()
        keep = "public, max-age=31536000, immutable" if current else "no-cache"
        media_type = _MEDIA_TYPES[name.rpartition(".")[2]]
        headers = _HEADERS | {"Cache-Control": keep, "ETag": _etag(name)}
        if wants_gzip(header(request.scope, b"accept-encoding"), len(content)):
            content = packed[name] = packed.get(name) or await pack(content)
            headers["Content-Encoding"] = "gzip"
        return Response(content, media_type=media_type, headers=headers)

    return routes
