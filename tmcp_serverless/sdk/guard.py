"""A server's own authentication and routes, around our transport.

`MCPServer.streamable_http_app()` and `FastMCP.http_app()` know how to build both from the server's settings:
bearer middleware, OAuth endpoints, protected-resource metadata, custom routes. So they build, and what they
put at the MCP path is replaced by ours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mcp.server.auth.middleware.bearer_auth import RequireAuthMiddleware
from starlette.routing import Route

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.sdk.kernel import lowlevel_server
from tmcp_serverless.server_kind import server_kind
from tmcp_serverless.transports.asgi import path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.applications import Starlette

    from tmcp_serverless.transports.asgi import ASGIApp, Receive, Scope, Send

__all__ = ["guarded", "own_application", "seen_by_handlers"]


def guarded(
    server: Any,
    app: ASGIApp,
    *,
    built: Callable[[], Starlette],
    path: str,
    extra_paths: Collection[str] = (),
    entrance: Callable[[ASGIApp], ASGIApp],
) -> ASGIApp:
    """Return the application as the server wants it reached: behind its authentication, beside its routes.

    A server that has neither gets the application itself. It is reached at `path`, and behind the same
    authentication at the paths in `extra_paths`, unless the server has routes of its own there. `entrance`
    is put around what is at these paths, authentication included, and around nothing else.

    Args:
        server: An `MCPServer`, a lowlevel `Server` or a `FastMCP`.
        app: The application.
        built: Returns what `own_application` returned, for a server that has any of these.
        path: Where the application is.
        extra_paths: Where else it is.
        entrance: What a request to one of these paths passes first.

    """
    if server_kind(server) == "FastMCP":
        app = _telling_fastmcp(app, extra_paths)
    if not _has_authentication_or_routes(server):
        return entrance(app)
    application = built()
    route = _route_at(application, path)
    if isinstance(route.app, RequireAuthMiddleware):
        route.app.app = cast("Any", app)
    else:
        route.app = cast("Any", app)
    route.app = cast("Any", entrance(cast("ASGIApp", route.app)))
    route.methods = None
    application.router.routes += [_at(other, route) for other in extra_paths]
    return cast("ASGIApp", application)


def own_application(server: Any, path: str) -> Starlette:
    """Return the Starlette application that would serve the server without the kit, with MCP at `path`.

    Building it changes nothing of the server: a session manager that somebody has started stays.
    """
    if server_kind(server) == "FastMCP":
        return server.http_app(path=path)
    lowlevel: Any = lowlevel_server(server)
    own = lowlevel._session_manager  # noqa: SLF001 - relied upon
    try:
        return server.streamable_http_app(streamable_http_path=path)
    finally:
        lowlevel._session_manager = own  # noqa: SLF001 - the same


def seen_by_handlers(scope: Scope, built: Starlette, path: str) -> Scope:
    """Return the scope with what the server's own application adds to it: `request.app` and the rest."""
    if scope.get("app") is built:
        return scope
    return {
        **scope,
        "app": built,
        "router": scope.get("router", built.router),
        "endpoint": _route_at(built, path).endpoint,
        "path_params": scope.get("path_params", {}),
    }


def _route_at(built: Starlette, path: str) -> Route:
    for route in built.routes:
        if isinstance(route, Route) and route.path == path:
            return route
    raise ConfigurationError(f"the server's own application has nothing at {path!r}")


def _at(path: str, route: Route) -> Route:
    # A function that is given as an endpoint is taken for one from a request to a response.
    same = Route(path, endpoint=route.endpoint)
    same.app, same.methods = route.app, None
    return same


def _telling_fastmcp(app: ASGIApp, extra_paths: Collection[str]) -> ASGIApp:
    """Return the application with what a FastMCP's own would say: which transport a request comes by.

    Where nobody says so, a FastMCP takes requests without a session for those of one client on stdio, and
    what one of them hides or shows (`ctx.disable_components`) is hidden from and shown to all.
    """
    from fastmcp.server.context import (  # noqa: PLC0415 - only for servers that fastmcp has made
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


def _has_authentication_or_routes(server: Any) -> bool:
    match server_kind(server):
        case "FastMCP":
            return server.auth is not None or bool(server._get_additional_http_routes())  # noqa: SLF001 - relied upon
        case "MCPServer":
            return server.settings.auth is not None or bool(server._custom_starlette_routes)  # noqa: SLF001 - the same
        case "lowlevel":
            return False
