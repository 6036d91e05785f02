"""Pages for people: what this server is, its API to try and to read. The same for everyone, and asked of nobody else."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from fastapi import APIRouter
from jinja2 import DictLoader, Environment, StrictUndefined
from starlette.responses import HTMLResponse

from taxii_server.site import asset_files
from taxii_server.site.api_document import PATHS, contact

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from starlette.responses import Response

_HEADERS: Final = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
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
        read = contact(self.contact) or {}
        return f"mailto:{quote(read['email'], safe='@+')}" if "email" in read else read.get("url")


@dataclass(frozen=True, slots=True)
class _Page:
    template: str
    policy: Mapping[str, str]
    document: str | None = None  # the API document that it shows


_SWAGGER_UI: Final = _POLICY | {
    "script-src": "'self'",
    "connect-src": "'self'",
    "img-src": "'self' data:",
    "form-action": "'self'",
}
# Redoc writes its styles into the page, and searches in a worker that it makes itself. It is never told a secret.
_REDOC: Final = _SWAGGER_UI | {"style-src": "'self' 'unsafe-inline'", "worker-src": "blob:"}
_PAGES: Final = {
    "/": _Page("landing.html", _POLICY),
    "/docs": _Page("swagger_ui.html", _SWAGGER_UI, PATHS["taxii"]),
    "/docs/operators": _Page("swagger_ui.html", _SWAGGER_UI, PATHS["operators"]),
    "/redoc": _Page("redoc.html", _REDOC, PATHS["taxii"]),
}


def router(about: About) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(include_in_schema=False)
    for path, page in _PAGES.items():
        answer = _answering(path, page, about)
        # people type both forms
        for form in sorted({path, f"{path.rstrip('/')}/"}):
            routes.add_api_route(form, answer, methods=["GET", "HEAD"], response_model=None)
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


def _answering(path: str, page: _Page, about: About) -> Callable[[], Awaitable[Response]]:
    policy = "; ".join(f"{name} {value}" for name, value in page.policy.items())
    headers = _HEADERS | {"Content-Security-Policy": policy}

    @cache
    def content() -> bytes:
        template = _templates().get_template(page.template)
        return template.render(about=about, path=path, document=page.document).encode("utf-8")

    async def answer() -> Response:
        return HTMLResponse(content(), headers=headers)

    return answer
