"""Scope of a request as the server's own Starlette application would hand it on.

A handler sees the scope (`request.app`, `request.url_for`, `request.path_params`). A server with routes or
authentication is reached through its application. For any other server the same keys are set, at less cost.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tmcp_serverless.sdk.private import application_of
from tmcp_serverless.transports.asgi import path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.applications import Starlette
    from starlette.routing import Route

    from tmcp_serverless.transports.asgi import ASGIApp, Receive, Scope, Send

__all__ = ["InScopeOf", "add_paths", "around_lowlevel", "route_at"]


class InScopeOf:
    """ASGI application that gets its requests as if a Starlette application had routed them.

    Args:
        app: The application.
        own: The Starlette application that is named in the scope.
        paths: The paths of the application. `own` has a route at each of them.

    """

    def __init__(self, app: ASGIApp, own: Starlette, paths: Collection[str]) -> None:
        self._app = app
        routes = {path.rstrip("/"): route_at(own, path) for path in paths}
        self._keys = {
            path: {
                "app": own,
                "starlette.exception_handlers": ({}, {}),
                "route": route,
                "endpoint": route.endpoint,
            }
            for path, route in routes.items()
            if route is not None
        }
        self._router = own.router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        keys = self._keys.get(path_of(scope))
        if keys is not None:
            scope.update(keys)
            # The keys of an application around this one stay, as they do in Starlette.
            scope.setdefault("router", self._router)
            scope["path_params"] = dict(scope.get("path_params", ()))
        await self._app(scope, receive, send)


def around_lowlevel(
    server: Any,
    app: ASGIApp,
    *,
    path: str,
    extra_paths: Collection[str],
    entrance: Callable[[ASGIApp], ASGIApp],
) -> ASGIApp:
    """Return the application in the scope of a lowlevel server's own one, without any other routes."""
    own = application_of(server, server, path)
    route = route_at(own, path)
    if route is not None:
        add_paths(own, route, extra_paths)
    return entrance(InScopeOf(app, own, (path, *extra_paths)))


def route_at(own: Starlette, path: str) -> Route | None:
    """Return the first route at exactly this path."""
    from starlette.routing import Route  # noqa: PLC0415 - with the server's application

    return next((each for each in own.routes if isinstance(each, Route) and each.path == path), None)


def add_paths(own: Starlette, route: Route, paths: Collection[str]) -> None:
    """Serve a route's endpoint at further paths, except where the application has a route of its own."""
    from starlette.routing import Route  # noqa: PLC0415 - the same

    for path in paths:
        if route_at(own, path) is not None:
            continue
        # Starlette takes a function that is given as an endpoint for one from a request to a response.
        same = Route(path, endpoint=route.endpoint)
        same.app, same.methods = route.app, None
        own.router.routes.append(same)
