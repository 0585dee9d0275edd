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

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from tmcp_serverless.transports.asgi import ASGIApp

__all__ = ["guarded"]


def guarded(server: Any, app: ASGIApp, *, path: str) -> ASGIApp:
    """Return the application as the server wants it reached: behind its authentication, beside its routes.

    A server that has neither gets the application itself.
    """
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
            return cast("ASGIApp", built)
    raise ConfigurationError(f"the server's own application has nothing at {path!r}")


def _built(server: Any, path: str) -> Starlette | None:
    if hasattr(server, "_get_additional_http_routes"):  # FastMCP
        if server.auth is None and not server._get_additional_http_routes():  # noqa: SLF001 - relied upon
            return None
        return server.http_app(path=path)
    if hasattr(server, "_custom_starlette_routes"):  # MCPServer
        if server.settings.auth is None and not server._custom_starlette_routes:  # noqa: SLF001 - the same
            return None
        return server.streamable_http_app(streamable_http_path=path)
    return None
