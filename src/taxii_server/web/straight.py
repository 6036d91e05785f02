"""Routes that are called straight away, without what the framework puts around every route.

Its layers hold open files and dependencies for handlers that have them, bound bodies, and turn errors into answers; a dozen of
them, most of which wrap `send` as well, cost an empty poll more than its statement does. The handlers called here read their
requests themselves and have none of that. What no route of these fully matches goes the framework's way: so it alone knows
what to say about paths and methods that aren't there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.requests import Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Receive, Scope, Send


class Straight:
    """ASGI middleware in front of the framework's own."""

    def __init__(
        self,
        app: ASGIApp,
        routes: Sequence[Route],
        around: Callable[[ASGIApp], ASGIApp],
        expected: tuple[type[Exception], ...],
        refuse: Callable[[Request, Exception], Awaitable[Response]],
    ) -> None:
        """Take the framework's way, the routes, what goes around them, and how errors that are expected of them are answered.

        Their paths have parameters of plain text, and their handlers take the request and give the response.
        """
        self._app = app
        self._routes = [(frozenset(route.methods or ()), route.path_regex.match, route) for route in routes]
        self._called = around(self._call)
        self._expected = expected
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        path, method = scope.get("path", ""), scope.get("method")
        for methods, match, route in self._routes:
            if method in methods and (found := match(path)) is not None:
                scope["route"], scope["path_params"] = route, found.groupdict()
                await self._called(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _call(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response: Response = await scope["route"].endpoint(request)
        except self._expected as error:
            response = await self._refuse(request, error)
            # one that is raised again and again would keep what every request had at hand
            error.__traceback__ = None
        await response(scope, receive, send)
