"""`subscriptions/listen`, served by the SDK's own handler, within the limits of the host.

(2026-07-28, basic/patterns/subscriptions)
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import anyio
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY
from mcp_types import INTERNAL_ERROR, SubscriptionsListenResult

from tmcp_serverless.errors import TmcpError
from tmcp_serverless.modern.bus import StreamSubscriptionBus
from tmcp_serverless.modern.own_bus import BothBuses, own_handler, warn_of_another_namespace
from tmcp_serverless.modern.refusing import refusing, scope_of
from tmcp_serverless.sdk.private import bus_of, copy_for_one_stream, most_streams
from tmcp_serverless.sdk.server_kind import server_kind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from mcp.server.context import ServerRequestContext
    from mcp.server.subscriptions import SubscriptionBus
    from mcp_types import SubscriptionFilter, SubscriptionsListenRequestParams

    from tmcp_serverless.modern.server import ModernParts

__all__ = ["Listen", "listen_of"]

_LET_GO_SECONDS = 3.0

_LEAST_SECONDS = 0.5
"""The least duration of a stream of a server's own handler: its acknowledgement comes first."""


class Listen:
    """The handler of `subscriptions/listen`: one call is one stream.

    Each stream ends by itself, with a result, before its host would end it, and when the process is drained.
    A stream that asks for nothing ends at once. Clients listen again, and refetch.

    A handler that is exactly the SDK's is served by copies, one for each stream. Its limits and its `close`
    hold for them. An instance of a subclass serves its streams itself; they end as the others do.

    Args:
        handler: The server's own.
        bus: The bus that events come from.
        parts: The kit's parts: the duration of a stream, and calls for streams that cannot be opened or have
            to end.

    """

    def __init__(self, handler: ListenHandler, bus: SubscriptionBus, parts: ModernParts) -> None:
        self._handler = handler
        self._is_plain = type(handler) is ListenHandler
        self._bus = bus
        self._parts = parts
        self._open: set[_Stream] = set()

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Serve one stream. The doorbell is up before its acknowledgement goes out."""
        most = most_streams(self._handler) if self._is_plain else None
        if most is not None and len(self._open) >= most:
            raise MCPError(INTERNAL_ERROR, "Subscription limit reached")
        scope = scope_of(ctx)
        stream = _Stream(self._serving(), self._open, hurry=partial(self._parts.hurry, scope))
        self._open.add(stream)
        try:
            async with self._sharing(scope) as shares, self._listening(stream.end):
                lasts = shares and _asks_for_something(params.notifications) and not stream.ended
                seconds = self._parts.lifetime(scope) if lasts else 0
                if not self._is_plain:
                    seconds = max(seconds, _LEAST_SECONDS)
                # Not before the handler has begun: it would not know of a stream to close.
                ending = asyncio.get_running_loop().call_later(seconds, stream.end)
                try:
                    return await stream.handler(ctx, params)
                finally:
                    ending.cancel()
        finally:
            self._open.discard(stream)

    def drain(self) -> None:
        """End every stream of this process; clients listen again at another instance."""
        for stream in list(self._open):
            stream.end()

    def _serving(self) -> _Serving:
        return (
            copy_for_one_stream(self._handler, self._bus) if self._is_plain else _UntilClosed(self._handler)
        )

    @asynccontextmanager
    async def _sharing(self, scope: Any) -> AsyncGenerator[bool]:
        held = self._parts.sharing(scope)
        with refusing():
            shares = await held.__aenter__()
        try:
            yield shares
        finally:
            # A client that went away has cancelled the scope around us; its lease would count for seconds.
            with anyio.move_on_after(_LET_GO_SECONDS, shield=True), suppress(TmcpError):
                await held.__aexit__(None, None, None)

    @asynccontextmanager
    async def _listening(self, on_lost: Callable[[], None]) -> AsyncGenerator[None]:
        bus = self._bus.shared if isinstance(self._bus, BothBuses) else self._bus
        if not isinstance(bus, StreamSubscriptionBus):
            yield
            return
        held = bus.listening(on_lost)
        with refusing():
            await held.__aenter__()
        try:
            yield
        finally:
            await held.__aexit__(None, None, None)


class _Serving(Protocol):
    """A handler that serves one stream, and can end it."""

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams, /
    ) -> SubscriptionsListenResult: ...

    def close(self) -> None: ...


class _Stream:
    """One stream, from before it is opened.

    Args:
        handler: The handler of this stream alone.
        places: The streams that have one of the places.
        hurry: Called when the stream has to end, for its client may not read.

    """

    def __init__(self, handler: _Serving, places: set[_Stream], *, hurry: Callable[[], None]) -> None:
        self.handler = handler
        self.ended = False
        """True if the stream has to end. A handler that has not begun yet knows of nothing to close."""

        self._places = places
        self._hurry = hurry

    def end(self) -> None:
        """End the stream, and free its place: a client may hold up the handler for a moment."""
        self.ended = True
        self._places.discard(self)
        self.handler.close()
        self._hurry()


class _UntilClosed:
    """One stream of a handler that serves many: it ends with a result when it is closed.

    Args:
        handler: The server's own.

    """

    def __init__(self, handler: ListenHandler) -> None:
        self._handler = handler
        self._scope: anyio.CancelScope | None = None

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        with anyio.CancelScope() as self._scope:
            return await self._handler(ctx, params)
        meta: dict[str, Any] = {SUBSCRIPTION_ID_META_KEY: ctx.request_id}
        return SubscriptionsListenResult(_meta=meta)

    def close(self) -> None:
        if self._scope is not None:
            self._scope.cancel()


def listen_of(server: Any, parts: ModernParts) -> Listen | None:
    """Return the handler for the server's listen streams; `None` if it has none, or one of another kind.

    Args:
        server: An `MCPServer`, a `FastMCP` or a lowlevel `Server`.
        parts: The kit's.

    """
    handler = own_handler(server)
    if handler is None and server_kind(server) == "FastMCP":
        # A FastMCP has no streams of its own, and no way to register any.
        return Listen(ListenHandler(parts.bus), parts.bus, parts)
    if not isinstance(handler, ListenHandler):
        return None
    own = bus_of(handler)
    warn_of_another_namespace(own, parts.bus)
    if type(handler) is ListenHandler and type(own) is InMemorySubscriptionBus:
        own = BothBuses(parts.bus, own)
    return Listen(handler, own, parts)


def _asks_for_something(wanted: SubscriptionFilter) -> bool:
    return bool(
        wanted.tools_list_changed
        or wanted.prompts_list_changed
        or wanted.resources_list_changed
        or wanted.resource_subscriptions
    )
