"""A server's own authentication and routes, around our transport.

`MCPServer.streamable_http_app()` and `FastMCP.http_app()` build both from the server's settings: bearer
middleware, OAuth endpoints, protected-resource metadata, custom routes. So they build, and ours replaces the
application that they put at the MCP path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from mcp.server.auth.middleware.bearer_auth import RequireAuthMiddleware

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.sdk.kernel import lowlevel_server
from tmcp_serverless.server_kind import server_kind
from tmcp_serverless.transports.asgi import path_of
from tmcp_serverless.transports.server import InScopeOf, add_paths, own_app, route_at

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.applications import Starlette

    from tmcp_serverless.transports.asgi import ASGIApp, Receive, Scope, Send

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
    if server_kind(server) == "FastMCP":
        app = _telling_fastmcp(app, extra_paths)
    built = _built(server, path)
    route = route_at(built, path)
    if route is None:
        raise ConfigurationError(f"the server's own application has nothing at {path!r}")
    if isinstance(route.app, RequireAuthMiddleware):
        route.app.app = cast("Any", app)
        app = cast("ASGIApp", route.app)
    route.app = cast("Any", entrance(app))
    route.methods = None
    add_paths(built, route, extra_paths)
    if _has_own(server) or _has_middleware(server, built):
        return cast("ASGIApp", built)
    return entrance(InScopeOf(app, built, (path, *extra_paths)))


def _telling_fastmcp(app: ASGIApp, extra_paths: Collection[str]) -> ASGIApp:
    """Return the application that sets the transport of each request, as a FastMCP's own does.

    Without that, a FastMCP takes requests without a session for those of one client on stdio. Components that
    one of them hides or shows (`ctx.disable_components`) are then hidden from and shown to all.
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


def _has_own(server: Any) -> bool:
    """Return true if the server has authentication or routes."""
    if server_kind(server) == "FastMCP":
        return server.auth is not None or bool(server._get_additional_http_routes())  # noqa: SLF001 - relied upon
    return server.settings.auth is not None or bool(server._custom_starlette_routes)  # noqa: SLF001 - the same


def _has_middleware(server: Any, built: Starlette) -> bool:
    """Return true if settings have put middleware in front, such as FastMCP's guard of hosts and origins."""
    # A FastMCP always has one, to set the transport of a request.
    return len(built.user_middleware) > (1 if server_kind(server) == "FastMCP" else 0)


def _built(server: Any, path: str) -> Starlette:
    if server_kind(server) == "FastMCP":
        return server.http_app(path=path)
    return own_app(server, lowlevel_server(server), path)
