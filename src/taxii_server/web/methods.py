"""Which methods a path takes: said in every 405, and to whoever asks by OPTIONS (RFC 9110 §9.3.7, §15.5.6).

It is told from the patterns of the routes alone, before anybody is asked who they are: so it is the same for what is
there, what is hidden and what isn't there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi.routing import iter_route_contexts
from starlette.responses import Response
from starlette.routing import compile_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.routing import BaseRoute

WHOLE_SERVER = "*"
"""What OPTIONS may name in the place of a path."""


class Methods:
    """The methods of every path. Make one per application, when its routes are all there."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        """Take the application's routes."""
        self._routes = [
            (compile_path(one.path)[0], frozenset(one.methods or ())) for one in iter_route_contexts(routes) if one.path
        ]

    def allow(self, path: str) -> str:
        """Name the methods that the routes take under a path; OPTIONS is everywhere."""
        found = {"OPTIONS"}
        for pattern, methods in self._routes:
            if path == WHOLE_SERVER or pattern.fullmatch(path):
                found |= methods
        return ", ".join(sorted(found))

    def options(self, path: str) -> Response:
        """Answer OPTIONS."""
        return Response(status_code=204, headers={"Allow": self.allow(path)})
