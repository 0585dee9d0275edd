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
from tmcp_serverless.server_kind import server_kind
from tmcp_serverless.transports.asgi import path_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from starlette.applications import Starlette

    from tmcp_serverless.transports.asgi import ASGIApp, Receive, Scope, Send

__all__ = ["guarded"]


def guarded(server: Any, app: ASGIApp, *, path: str, extra_paths: Collection[str] = ()) -> ASGIApp:
    """Return the application as the server wants it reached: behind its authentication, beside its routes.

    A server that has neither gets the application itself. It is reached at `path`, and behind the same
    authentication at the paths in `extra_paths`, unless the server has routes of its own there.
    """
    if server_kind(server) == "FastMCP":
        app = _telling_fastmcp(app, extra_paths)
    built = _built(server, path)
    if built is None:
        return app
    for route in built.routes:
        if isinstance(route, Route) and route.path == path:
            if isinstance(route.app, RequireAuthMiddleware):
                route.app.app = cast("Any", app)
            else:
                route.app = cast("Any", app)
            route.methods = None
            built.router.routes += [_at(other, route) for other in extra_paths]
            return cast("ASGIApp", built)
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


def _built(server: Any, path: str) -> Starlette | None:
    match server_kind(server):
        case "FastMCP":
            if server.auth is None and not server._get_additional_http_routes():  # noqa: SLF001 - relied upon
                return None
            return server.http_app(path=path)
        case "MCPServer":
            if server.settings.auth is None and not server._custom_starlette_routes:  # noqa: SLF001 - the same
                return None
            return server.streamable_http_app(streamable_http_path=path)
        case "lowlevel":
            return None
