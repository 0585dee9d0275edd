"""A server's own authentication and routes, around our transport.

`MCPServer.streamable_http_app()` and `FastMCP.http_app()` build both from the server's settings: bearer
middleware, OAuth endpoints, protected-resource metadata, custom routes. So they build, and ours replaces the
application that they put at the MCP path.

A handler sees its request's scope (`request.app`, `request.url_for`, `request.path_params`). A server with
routes or authentication is reached through its own application. For any other server the same keys are set,
at less cost. A lowlevel server has no authentication, and is served without importing `mcp`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.http import path_of
from tmcp_serverless.sdk import private
from tmcp_serverless.sdk.server_kind import lowlevel_server, server_kind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.applications import Starlette
    from starlette.routing import Route

    from tmcp_serverless.http import ASGIApp, Receive, Scope, Send

__all__ = ["guarded"]


def guarded(
    server: Any,
    app: ASGIApp,
    *,
    path: str,
    extra_paths: Collection[str] = (),
    entrance: Callable[[ASGIApp], ASGIApp] = lambda app: app,
) -> ASGIApp:
    """Return the application behind the server's authentication and beside its routes.

    It is reached at `path`, and behind the same authentication at the paths in `extra_paths`, unless the
    server has routes of its own there. `entrance` is in front of the authentication, at these paths alone.
    """
    kind = server_kind(server)
    if kind == "lowlevel":
        return _around_lowlevel(server, app, path=path, extra_paths=extra_paths, entrance=entrance)
    if kind == "FastMCP":
        app = _telling_fastmcp(app, extra_paths)
    built = _built(server, path)
    route = _route_at(built, path)
    if route is None:
        raise ConfigurationError(f"the server's own application has nothing at {path!r}")
    from mcp.server.auth.middleware.bearer_auth import RequireAuthMiddleware  # see above

    if isinstance(route.app, RequireAuthMiddleware):
        route.app.app = cast("Any", app)
        app = cast("ASGIApp", route.app)
    route.app = cast("Any", entrance(app))
    route.methods = None
    _add_paths(built, route, extra_paths)
    if _has_own(server) or _has_middleware(server, built):
        return cast("ASGIApp", built)
    return entrance(_InScopeOf(app, built, (path, *extra_paths)))


def _telling_fastmcp(app: ASGIApp, extra_paths: Collection[str]) -> ASGIApp:
    """Return the application that sets the transport of each request, as a FastMCP's own does.

    Without that, a FastMCP takes requests without a session for those of one client on stdio. Components that
    one of them hides or shows (`ctx.disable_components`) are then hidden from and shown to all.
    """
    from fastmcp.server.context import (  # only for servers that fastmcp has made
        reset_transport,
        set_transport,
    )

    async def telling(scope: Scope, receive: Receive, send: Send) -> None:
        token = set_transport("sse" if path_of(scope) in extra_paths else "streamable-http")
        try:
            await app(scope, receive, send)
        finally:
            reset_transport(token)

    return telling


def _has_own(server: Any) -> bool:
    """Return true if the server has authentication or routes."""
    if server_kind(server) == "FastMCP":
        return server.auth is not None or bool(private.routes_of_fastmcp(server))
    return server.settings.auth is not None or bool(private.routes_of_mcpserver(server))


def _has_middleware(server: Any, built: Starlette) -> bool:
    """Return true if settings have put middleware in front, such as FastMCP's guard of hosts and origins."""
    # A FastMCP always has one, to set the transport of a request.
    return len(built.user_middleware) > (1 if server_kind(server) == "FastMCP" else 0)


def _built(server: Any, path: str) -> Starlette:
    if server_kind(server) == "FastMCP":
        return server.http_app(path=path)
    return private.application_of(server, lowlevel_server(server), path)


class _InScopeOf:
    """ASGI application that gets its requests as if a Starlette application had routed them.

    Args:
        app: The application.
        own: The Starlette application that is named in the scope.
        paths: The paths of the application. `own` has a route at each of them.

    """

    def __init__(self, app: ASGIApp, own: Starlette, paths: Collection[str]) -> None:
        self._app = app
        routes = {path.rstrip("/"): _route_at(own, path) for path in paths}
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


def _around_lowlevel(
    server: Any,
    app: ASGIApp,
    *,
    path: str,
    extra_paths: Collection[str],
    entrance: Callable[[ASGIApp], ASGIApp],
) -> ASGIApp:
    """Return the application in the scope of a lowlevel server's own one, without any other routes."""
    own = private.application_of(server, server, path)
    route = _route_at(own, path)
    if route is not None:
        _add_paths(own, route, extra_paths)
    return entrance(_InScopeOf(app, own, (path, *extra_paths)))


def _route_at(own: Starlette, path: str) -> Route | None:
    """Return the first route at exactly this path."""
    from starlette.routing import Route  # with the server's application

    return next((each for each in own.routes if isinstance(each, Route) and each.path == path), None)


def _add_paths(own: Starlette, route: Route, paths: Collection[str]) -> None:
    """Serve a route's endpoint at further paths, except where the application has a route of its own."""
    from starlette.routing import Route  # the same

    for path in paths:
        if _route_at(own, path) is not None:
            continue
        # Starlette takes a function that is given as an endpoint for one from a request to a response.
        same = Route(path, endpoint=route.endpoint)
        same.app, same.methods = route.app, None
        own.router.routes.append(same)
