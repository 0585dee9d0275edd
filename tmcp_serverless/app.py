"""The ASGI front door: which era, which transport, and whether the caller may come in at all."""

from __future__ import annotations

import logging
from functools import cached_property
from typing import TYPE_CHECKING

from tmcp_serverless.transports.asgi import HttpProblem, path_of
from tmcp_serverless.transports.versions import HANDSHAKE_VERSIONS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tmcp_serverless.transports.asgi import ASGIApp, Receive, Scope, Send
    from tmcp_serverless.transports.runtime import ServerRuntime
    from tmcp_serverless.transports.security import OriginPolicy

__all__ = ["App"]

logger = logging.getLogger(__name__)

_EXPOSED = ["Mcp-Session-Id", "Mcp-Protocol-Version", "Last-Event-ID", "WWW-Authenticate", "Retry-After"]


class App:
    """An ASGI application that serves both protocol eras on one URL.

    The era is decided request by request, by the `MCP-Protocol-Version` header: some clients try the modern
    one and then fall back to `initialize`, on the same URL.
    """

    def __init__(
        self,
        runtime: ServerRuntime,
        *,
        handshake: ASGIApp,
        drain: Callable[[], Awaitable[None]],
        path: str,
        policy: OriginPolicy,
    ) -> None:
        self.drain = drain
        """Ends the open streams; a host calls it before it stops."""

        self._runtime = runtime
        self._handshake = handshake
        self._path = path.rstrip("/")
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve an ASGI connection: HTTP, or the server's lifespan."""
        if scope["type"] == "lifespan":
            await self._serve_lifespan(receive, send)
        elif scope["type"] == "http":
            await self._serve_http(scope, receive, send)
        else:
            raise HttpProblem(404, f"no {scope['type']} here")

    async def _serve_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        origin = _header(scope, b"origin")
        try:
            self._policy.check(host=_header(scope, b"host") or "", origin=origin)
        except HttpProblem as problem:
            await problem.answer(send)
            return
        if scope["path"].endswith("/") and path_of(scope) == self._path:
            # A server's own router would redirect, and clients drop bodies when they are redirected.
            scope = {**scope, "path": scope["path"].rstrip("/")}
        app = self._guarded if origin is None else _with_cors(self._guarded)
        await app(scope, receive, send)

    @cached_property
    def _guarded(self) -> ASGIApp:
        """The transports, behind the server's own authentication and beside its own routes."""
        return self._runtime.guarded(self._serve_era, path=self._path)

    async def _serve_era(self, scope: Scope, receive: Receive, send: Send) -> None:
        version = _header(scope, b"mcp-protocol-version")
        modern = version is not None and version not in HANDSHAKE_VERSIONS and path_of(scope) == self._path
        await (self._serve_modern if modern else self._handshake)(scope, receive, send)

    async def _serve_modern(self, scope: Scope, receive: Receive, send: Send) -> None:
        state = await self._runtime.lifespan_state()
        await self._runtime.kernel.serve_modern(state, scope, receive, send)

    async def _serve_lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self._runtime.lifespan_state()
        except Exception as error:
            logger.exception("the server's lifespan failed")
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._runtime.aclose()
        await send({"type": "lifespan.shutdown.complete"})


def _header(scope: Scope, wanted: bytes) -> str | None:
    for name, value in scope["headers"]:
        if name == wanted:
            return value.decode("latin-1")
    return None


def _with_cors(app: ASGIApp) -> ASGIApp:
    """Answer a browser, whose origin has been accepted already."""
    from starlette.middleware.cors import CORSMiddleware  # noqa: PLC0415 - only browsers need it

    return CORSMiddleware(
        app,  # type: ignore[arg-type]
        allow_origins=["*"],
        allow_methods=["GET", "POST", "DELETE", "OPTIONS"],
        allow_headers=["*"],
        expose_headers=_EXPOSED,
    )
