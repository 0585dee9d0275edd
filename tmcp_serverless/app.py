"""The ASGI front door: dispatch by era and path, admission, and the lifespan."""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack, nullcontext, suppress
from functools import cached_property, partial
from typing import TYPE_CHECKING

from tmcp_serverless.exits import ExitError, is_end_of
from tmcp_serverless.hosts.stopping import Stopping
from tmcp_serverless.http import (
    ERAS,
    Entrance,
    as_routed,
    path_of,
    until_disconnected,
)
from tmcp_serverless.mounting import WELL_KNOWN, Mounted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from types import TracebackType

    from tmcp_serverless.health import Health
    from tmcp_serverless.http import ASGIApp, Receive, Scope, Send
    from tmcp_serverless.observability import Observer
    from tmcp_serverless.transports import Transports

__all__ = ["App", "Serving"]

logger = logging.getLogger(__name__)

_GONE_SECONDS = 1.0
_NORMAL_CLOSURE = 1000
"""RFC 6455, section 7.4.1."""


class App:
    """An ASGI application that serves both protocol eras on one URL.

    The era is decided request by request, by the `MCP-Protocol-Version` header: some clients try the modern
    one and then fall back to `initialize`, on the same URL. HTTP+SSE is served at other paths, behind the
    same authentication, and `health` in front of it. Each request to a transport is checked by the policy
    once; the server's own routes are not. The transports do not check `Host` and `Origin` themselves.
    `disconnect` is called when the last of the requests under way has ended. `observer` sees every request.
    The functions in `closing` are called at the end, the last first.
    """

    def __init__(
        self,
        transports: Transports,
        *,
        closing: Sequence[Callable[[], Awaitable[None]]] = (),
        path: str,
        health: Health | None = None,
        disconnect: Callable[[], Awaitable[None]] | None = None,
        observer: Observer | None = None,
    ) -> None:
        self.drain = transports.drain
        """Ends the open streams; a host calls it before it stops."""

        self.connection_options = transports.connection_options
        """The bounds of connections; `serve` keeps them."""

        self.count = None if observer is None else observer.count
        """Counts an event outside of requests for the metrics, by its name; `None` without an observer."""

        self.path = path or "/"
        """The path of the MCP endpoint."""

        self._stopping = Stopping(transports.drain)
        self._metadata_at_root = False
        self._closing = closing
        self.runtime = transports.runtime
        """The server, and its lifespan."""

        self._handshake = transports.handshake.answer
        self._modern = transports.modern
        self._path = path.rstrip("/")
        self._extra_apps = transports.extra_apps
        self._policy = transports.policy
        self._health = health
        self._probed = health.paths if health is not None else frozenset[str]()
        self.serving = Serving(disconnect) if disconnect else None
        """The context to enter around all work that is served; `None` if connections stay open."""

        self._serve: ASGIApp = self._serve_http if disconnect is None else self._serve_and_disconnect
        if observer is not None:
            self._serve = observer.around(self._serve, but=lambda scope: path_of(scope) in self._probed)

    async def aclose(self) -> None:
        """Leave the server's lifespan, and close everything open, even if one of the closings raises.

        Idempotent. A later request enters the lifespan again, and opens the connections that it needs.
        """
        self._stopping.close()
        async with AsyncExitStack() as stack:
            for close in self._closing:
                stack.push_async_callback(close)
            stack.push_async_callback(self.runtime.aclose)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an ASGI connection: HTTP, or the lifespan, which closes everything open at its end."""
        if scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
        elif scope["type"] == "http":
            await self._serve_until_stop(scope, receive, send)
        else:
            await self._refuse(scope, receive, send)

    async def _serve_until_stop(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = self._stopping.enter(scope)
        try:
            await self._serve(scope, receive, send)
        except asyncio.CancelledError:
            if not self._stopping.absorbs(task):
                raise
        except Exception as error:
            if not _is_refused_by_server(error):
                raise
            logger.info("a client counts as gone: its server has refused the rest of its request")
            await _until_gone(receive)
        except BaseException as error:
            if is_end_of(task, error):
                raise
            # The server's own routes and authentication may exit too.
            raise ExitError(error) from error
        finally:
            self._stopping.leave(task)

    @staticmethod
    async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            raise RuntimeError(f"nothing is served over {scope['type']!r} here")
        await receive()
        await send({"type": "websocket.close", "code": _NORMAL_CLOSURE})

    async def _serve_and_disconnect(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self.serving or nullcontext():
            await self._serve_http(scope, receive, send)

    async def _serve_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._health is not None and path_of(scope) in self._probed:
            await self._health(scope, receive, send)
            return
        if scope["path"].endswith("/") or not self._path:
            scope = as_routed(scope, {self._path, *self._extra_apps})
        app = self._guarded
        if scope.get("root_path"):
            app = Mounted(app, endpoint=self._path, metadata_at_root=self._metadata_at_root)
        await app(scope, receive, send)

    def prepare(self) -> None:
        """Build what the first request would wait for: the server's own routes and authentication."""
        _ = self._guarded

    def well_known_paths(self) -> list[str]:
        """Return the paths of metadata that belong at the root of a host, and name them there from now on."""
        self._metadata_at_root = True
        paths = [getattr(route, "path", "") for route in getattr(self._guarded, "routes", ())]
        return [path for path in paths if path.startswith(WELL_KNOWN)]

    @cached_property
    def _guarded(self) -> ASGIApp:
        """The transports, behind the server's own authentication and beside its own routes."""
        paths = (self._path, *self._extra_apps)
        return self.runtime.guarded(
            self._serve_era,
            path=self._path or "/",
            extra_paths=self._extra_apps,
            entrance=partial(Entrance, policy=self._policy, paths=paths, cors=True),
        )

    async def _serve_era(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._extra_apps and (other := self._extra_apps.get(path_of(scope))) is not None:
            await other(scope, receive, send)
            return
        modern = _header(scope, b"mcp-protocol-version") not in ERAS and path_of(scope) == self._path
        await (self._modern if modern else self._handshake)(scope, receive, send)

    async def startup(self) -> None:
        """Enter the server's lifespan. Its exceptions are raised."""
        self._stopping.close()  # A server that starts has to be found.
        await self.runtime.lifespan_state()

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.startup()
        except Exception as error:
            logger.exception("the server's lifespan failed")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        try:
            await self.aclose()
        except Exception as error:
            logger.exception("not everything could be closed")
            await send({"type": "lifespan.shutdown.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})


class Serving:
    """Context around everything that is served. It disconnects when the last of it has ended.

    So with `TMCP_KEEP_CONNECTIONS=0` no connection to the database is open while nothing is being served.
    """

    def __init__(self, disconnect: Callable[[], Awaitable[None]]) -> None:
        self._disconnect = disconnect
        self._under_way = 0

    async def __aenter__(self) -> None:
        self._under_way += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._under_way -= 1
        if not self._under_way:
            await self._disconnect()


def _header(scope: Scope, wanted: bytes) -> str | None:
    for name, value in scope["headers"]:
        if name == wanted:
            return value.decode("latin-1")
    return None


def _is_refused_by_server(error: Exception) -> bool:
    """Return true if uvicorn's h11 raised it: the request's bytes were not HTTP, and have been answered."""
    return type(error).__name__ == "LocalProtocolError" and type(error).__module__.startswith("h11.")


async def _until_gone(receive: Receive) -> None:
    """Wait until the server has closed the connection; it logs an application that returns before."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_GONE_SECONDS):
            await until_disconnected(receive)
