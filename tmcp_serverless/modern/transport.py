"""Streamable HTTP of the modern era: protocol revision 2026-07-28.

There are no sessions. Each request carries all that is needed, and any instance serves it. The store has only
the data that instances tell each other: events for listen streams, and the key of request states.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tmcp_serverless.errors import ConfigurationError
from tmcp_serverless.http import (
    HttpProblem,
    Request,
    check_values,
    note,
    platform_of,
    refusal_of,
    token_seconds,
)
from tmcp_serverless.modern.client_stream import ClientGoneError, ModernClientStream

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from tmcp_serverless.errors import TmcpError
    from tmcp_serverless.http import HttpOptions, Message, Receive, Scope, Send
    from tmcp_serverless.modern.bus import StreamSubscriptionBus
    from tmcp_serverless.modern.server import ModernServer
    from tmcp_serverless.sdk.runtime import ServerRuntime
    from tmcp_serverless.sessions import KeyStore, StreamShare

__all__ = ["ModernOptions", "ModernTransport"]

logger = logging.getLogger(__name__)

_SECRET = "request-state"  # noqa: S105 - the name of one


@dataclass(frozen=True, slots=True, kw_only=True)
class ModernOptions:
    """Options of `ModernTransport`, explained in `tmcp_serverless.config.Settings`."""

    request_state_keys: Sequence[str] = ()
    single_use: bool = False
    replayable: Sequence[str] = ()
    cache_ttl_ms: int = 0
    cache_scope: Literal["public", "private"] = "private"


class ModernTransport:
    """ASGI application that serves an MCP server to clients of the modern era.

    Args:
        runtime: The server.
        bus: The bus that listen streams hear from, and that the server publishes to.
        keys: The store of the shared key and of the states that have been used; `None`: there is none.
        share: The share of a function's sandboxes that listen streams may hold.
        http: The limits of a stream's lifetime and of a body's size.
        options: The options of the modern era.
        principal: Returns the caller's identity from the ASGI scope; by default the SDK's authenticated user,
            or any other user in `scope["user"]`. A request state is opened only for the principal that it was
            given to.

    Raises:
        ConfigurationError: States are to be used once, and there is no store to record that in.

    """

    def __init__(
        self,
        runtime: ServerRuntime,
        *,
        bus: StreamSubscriptionBus,
        keys: KeyStore | None,
        share: StreamShare,
        http: HttpOptions,
        options: ModernOptions,
        principal: Callable[[Scope], str] | None = None,
    ) -> None:
        if options.single_use and keys is None:
            raise ConfigurationError(
                "TMCP_SINGLE_USE needs a store of the states that have been used, and the session managers "
                "have none: make them with keys="
            )
        self._runtime = runtime
        self._bus = bus
        self._keys = keys
        self._share = share
        self._http = http
        self._options = options
        self._principal = principal
        self._made_server: ModernServer | None = None

    @property
    def _server(self) -> ModernServer:
        if self._made_server is None:
            self._made_server = self._new_server()
        return self._made_server

    def _new_server(self) -> ModernServer:
        # Imported here, because the handshake era and a cold start do without them.
        from mcp.server.caching import CacheHint

        from tmcp_serverless.modern.request_state import StateKeys
        from tmcp_serverless.modern.server import ModernParts, ModernServer

        parts = ModernParts(
            bus=self._bus,
            keys=StateKeys(
                self._ring,
                self._keys if self._options.single_use else None,
                principal=self._principal,
            ),
            lifetime=self._lifetime,
            sharing=self._sharing,
            refuse=_refuse,
            hurry=_hurry,
            replayable=self._options.replayable,
            cache_hint=CacheHint(self._options.cache_ttl_ms, self._options.cache_scope),
        )
        return ModernServer(self._runtime.server, parts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        try:
            whole = await self._whole(scope, receive)
        except HttpProblem as problem:
            await problem.answer(send)
            return
        state = await self._runtime.lifespan_state()
        client = ModernClientStream(send)
        try:
            await self._serve(state, client, scope, whole)
        except* ClientGoneError as gone:
            logger.debug("a client is gone: %r", gone)

    async def _serve(self, state: Any, client: ModernClientStream, scope: Scope, whole: _Whole) -> None:
        try:
            await self._server.serve(state, client.within(scope), whole, client.send)
        except asyncio.CancelledError:
            # The host is stopping: the client is told, rather than cut off.
            await asyncio.shield(client.abandon(whole.body))
            raise

    def drain(self) -> None:
        """End the open listen streams; clients listen again at another instance."""
        if self._made_server is not None:
            self._made_server.drain()

    async def _whole(self, scope: Scope, receive: Receive) -> _Whole:
        """Read the body, within its limit, and return a `receive` that hands it on."""
        request = Request(scope, receive)
        if request.method != "POST":
            return _Whole(request.receive, None)
        body = await request.body(limit_bytes=self._http.max_body_bytes)
        await check_values(body, self._http.max_body_values)
        return _Whole(request.receive, body)

    def _lifetime(self, scope: Scope) -> float:
        platform = platform_of(scope)
        if not platform.streams:
            return platform.seconds_left(at_most=self._http.buffered_wait_seconds)
        # Clients cannot continue the stream, and do not all listen again.
        longest = platform.stream_seconds(self._http.stream_max_seconds, resumable=False)
        return min(longest, token_seconds(scope))

    @asynccontextmanager
    async def _sharing(self, scope: Scope) -> AsyncGenerator[bool]:
        """Enter with true if the listen stream may last. Hold a lease for it where streams are counted."""
        if not (self._share.is_bounded and platform_of(scope).holds_a_sandbox):
            yield True
        elif await self._share.is_taken():
            note(scope, "ShortStreams")
            yield False
        else:
            async with self._share.listening():
                yield True

    async def _ring(self) -> Sequence[str]:
        if self._options.request_state_keys:
            return self._options.request_state_keys
        if self._keys is None:
            raise ConfigurationError(
                "request states are sealed with a key that all instances share, and these session managers "
                "keep none: set TMCP_REQUEST_STATE_KEYS to 32 random bytes or more, such as "
                "`python -c 'import secrets; print(secrets.token_hex(32))'` prints, or make them with keys="
            )
        return [await self._keys.secret(_SECRET, secrets.token_hex(32))]


class _Whole:
    """ASGI `receive` of a request, after its body has been read."""

    __slots__ = ("_receive", "_unread", "body")

    def __init__(self, receive: Receive, body: bytes | None) -> None:
        self._receive = receive
        self._unread = body is not None
        self.body = body

    async def __call__(self) -> Message:
        if not self._unread:
            return await self._receive()
        self._unread = False
        return {"type": "http.request", "body": self.body, "more_body": False}


def _refuse(scope: Scope, error: TmcpError) -> str:
    client = ModernClientStream.of(scope)
    return str(refusal_of(error)) if client is None else client.refuse(error)


def _hurry(scope: Scope) -> None:
    client = ModernClientStream.of(scope)
    if client is not None:
        client.hurry()
