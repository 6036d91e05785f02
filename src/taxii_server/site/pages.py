"""Pages for people: what this server is, its API to try and to read. The same for everyone, and asked of nobody else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlsplit

from fastapi import APIRouter
from jinja2 import DictLoader, Environment, StrictUndefined
from starlette.requests import Request

from taxii_server.site import asset_files

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.responses import Response

_MAIL: Final = re.compile(r"[\w.+-]+@[\w-]+(\.[\w-]+)+", re.ASCII)
_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_POLICY: Final = {
    "default-src": "'none'",
    "style-src": "'self'",
    "img-src": "'self'",
    "base-uri": "'none'",
    "form-action": "'none'",
    "frame-ancestors": "'none'",
}


@dataclass(frozen=True, slots=True)
class About:
    """What an operator says of the server."""

    title: str
    description: str | None
    contact: str | None
    public_url: str

    @property
    def contact_url(self) -> str | None:
        """What to link the contact to; none if it's neither a mail address nor a web page."""
        contact = (self.contact or "").strip()
        if _MAIL.fullmatch(contact):
            return f"mailto:{quote(contact, safe='@+')}"
        if contact.startswith(("https://", "http://")) and urlsplit(contact).hostname:
            return contact
        return None


@dataclass(frozen=True, slots=True)
class _Page:
    template: str
    policy: Mapping[str, str]
    document: str | None = None  # the API document that it shows


_SWAGGER_UI: Final = _POLICY | {
    "script-src": "'self'",
    "connect-src": "'self'",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data:",
    "form-action": "'self'",
}
_REDOC: Final = _SWAGGER_UI | {"worker-src": "blob:"}
_PAGES: Final = {
    "/": _Page("landing.html", _POLICY),
    "/docs": _Page("swagger_ui.html", _SWAGGER_UI, "/openapi.json"),
    "/redoc": _Page("redoc.html", _REDOC, "/openapi.json"),
}


def router(about: About) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(include_in_schema=False)
    for path, page in _PAGES.items():
        routes.add_api_route(path, _answering(path, page, about), methods=["GET", "HEAD"], response_model=None)
    return routes


@cache
def _templates() -> Environment:
    """Read the templates; from the package wherever it lies. What is put into them is escaped."""
    folder = files(__package__) / "templates"
    sources = {one.name: one.read_text("utf-8") for one in folder.iterdir() if one.name.endswith(".html")}
    environment = Environment(
        loader=DictLoader(sources), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.globals["asset"] = asset_files.url
    return environment


def _answering(path: str, page: _Page, about: About) -> Callable[[Request], Awaitable[Response]]:
    policy = "; ".join(f"{name} {value}" for name, value in page.policy.items())
    headers = _HEADERS | {"Content-Security-Policy": policy}

    @cache
    def content() -> bytes:
        template = _templates().get_template(page.template)
        return template.render(about=about, path=path, document=page.document).encode("utf-8")

    async def answer(request: Request) -> Response:
        return asset_files.conditional(request, content(), "text/html", headers)

    return answer
