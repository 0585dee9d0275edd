"""MCP server of the kit's user: its kernel, its lifespan, and its own Starlette application.

A handler sees its request's scope (`request.app`, `request.url_for`, `request.path_params`). A server with
routes or authentication is reached through its own application. For any other server the same keys are set,
at less cost.
"""

from __future__ import annotations

import asyncio
import contextvars
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tmcp_serverless.exits import Contained
from tmcp_serverless.server_kind import server_kind
from tmcp_serverless.transports.asgi import path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from starlette.applications import Starlette
    from starlette.routing import Route

    from tmcp_serverless.sdk import Kernel
    from tmcp_serverless.sessions.bus import StreamSubscriptionBus
    from tmcp_serverless.transports.asgi import ASGIApp, Receive, Scope, Send

__all__ = ["InScopeOf", "ServerRuntime", "add_paths", "own_app", "route_at"]


class ServerRuntime:
    """Server and its lifespan.

    The first request that needs the lifespan, or the ASGI server's start, enters it in a task of its own. It
    must be left in the task that entered it, and no request lives that long.

    Args:
        server: An `MCPServer`, a lowlevel `Server` or a `FastMCP`.
        answer_session_methods: As for `HttpTransport`.
        bus: The bus that an `MCPServer` publishes to, from its first request on.

    Raises:
        ConfigurationError: `server` is none of these.

    """

    def __init__(
        self, server: Any, *, answer_session_methods: bool = True, bus: StreamSubscriptionBus | None = None
    ) -> None:
        self.server = server
        self._kind = server_kind(server)
        self._bus = bus
        self._answer_session_methods = answer_session_methods
        self._entered: asyncio.Future[Any] | None = None
        self._leave = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None

    @cached_property
    def kernel(self) -> Kernel:
        """SDK kernel over this server. Imports `mcp`."""
        from tmcp_serverless.sdk import (  # noqa: PLC0415 - a GET, a DELETE and a reply do without mcp
            Kernel,
            connect,
        )

        if self._bus is not None:
            connect(self.server, self._bus)
        return Kernel(self.server, answer_session_methods=self._answer_session_methods)

    def guarded(
        self,
        app: ASGIApp,
        *,
        path: str,
        extra_paths: Collection[str] = (),
        entrance: Callable[[ASGIApp], ASGIApp],
    ) -> ASGIApp:
        """Return the application behind the server's own authentication, and beside its own routes.

        The application is at `path`, and at the paths in `extra_paths`. There `entrance` is in front of both.
        """
        if self._kind == "lowlevel":
            around = _around_lowlevel
        else:
            from tmcp_serverless.sdk import guarded as around  # noqa: PLC0415 - with the server
        return around(self.server, app, path=path, extra_paths=extra_paths, entrance=entrance)

    async def lifespan_state(self) -> Any:
        """Return the value that the server's lifespan yielded. Enter the lifespan first if that is due.

        An exception on entering is raised here, and the next call tries again.
        """
        if self._entered is None:
            self._entered = asyncio.get_running_loop().create_future()
            self._leave = asyncio.Event()
            # Tasks that the lifespan starts run for every client, and not as the user of the first request.
            nobody = contextvars.Context()
            self._owner = asyncio.create_task(self._own(self._entered), context=nobody)
        if self._entered.done():
            return self._entered.result()
        return await asyncio.shield(self._entered)

    async def aclose(self) -> None:
        """Leave the lifespan. The next request would enter it again."""
        if self._owner is not None:
            self._leave.set()
            owner, self._owner, self._entered = self._owner, None, None
            await owner

    async def _own(self, entered: asyncio.Future[Any]) -> None:
        try:
            # A lifespan that exits has failed, as one that raises.
            with Contained():
                async with self.kernel.lifespan() as state:
                    entered.set_result(state)
                    await self._leave.wait()
        except BaseException as error:
            if entered.done():
                raise
            self._entered = None
            if isinstance(error, asyncio.CancelledError):
                entered.cancel()
                raise
            entered.set_exception(error)


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


def own_app(server: Any, lowlevel: Any, path: str) -> Starlette:
    """Return the application that an `MCPServer` or a lowlevel server makes, and leave the server as it was.

    Args:
        server: The server.
        lowlevel: The lowlevel server inside, or the server itself.
        path: The path of the MCP endpoint.

    """
    before = lowlevel._session_manager  # noqa: SLF001 - relied upon
    try:
        return server.streamable_http_app(streamable_http_path=path)
    finally:
        # The manager belongs to an application that the server's owner may have made of the server.
        lowlevel._session_manager = before  # noqa: SLF001 - the same


def _around_lowlevel(
    server: Any,
    app: ASGIApp,
    *,
    path: str,
    extra_paths: Collection[str],
    entrance: Callable[[ASGIApp], ASGIApp],
) -> ASGIApp:
    """Return the application in the scope of a lowlevel server's own one, without any other routes."""
    own = own_app(server, server, path)
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
