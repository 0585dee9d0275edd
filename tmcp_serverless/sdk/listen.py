"""`subscriptions/listen`, served by the SDK's own handler, bounded by what the host allows.

(2026-07-28, basic/patterns/subscriptions)
"""

from __future__ import annotations

import asyncio
import math
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any

from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler

from tmcp_serverless.sdk.refusing import refusing, scope_of
from tmcp_serverless.server_kind import server_kind
from tmcp_serverless.sessions.bus import StreamSubscriptionBus

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from mcp.server.context import ServerRequestContext
    from mcp.server.subscriptions import SubscriptionBus
    from mcp_types import SubscriptionFilter, SubscriptionsListenRequestParams, SubscriptionsListenResult

    from tmcp_serverless.sdk.modern import ModernParts

__all__ = ["Listen", "connect", "listen_handler"]


class Listen:
    """The handler of `subscriptions/listen`, around the server's own: one call is one stream.

    Each stream ends by itself, with a result, before its host would end it, and when the process is drained;
    one that asks for nothing ends at once. Clients listen again, and refetch. The owner's handler decides on
    everything else: it may refuse, its limits hold, and its `close` ends the streams.

    Args:
        handler: The handler that serves the streams.
        parts: How long a stream may last, and what is done where it cannot be opened, or has to end.

    """

    def __init__(self, handler: ListenHandler, parts: ModernParts) -> None:
        self._handler = handler
        self._bus = _bus_of(handler)
        self._places = _Places.of(handler)
        self._parts = parts
        self._open: set[_Stream] = set()

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Serve one stream. The doorbell is up before its acknowledgement goes out."""
        stream = _Stream(self._places, hurry=partial(self._parts.hurry, scope_of(ctx)))
        self._open.add(stream)
        _serving.set(stream)  # Each request is a task of its own.
        try:
            async with self._listening(ctx, stream.end):
                lasts = _asks_for_something(params.notifications) and not stream.ended
                seconds = self._parts.lifetime(scope_of(ctx)) if lasts else 0
                ending = None
                if not math.isinf(seconds):
                    ending = asyncio.get_running_loop().call_later(seconds, stream.end)
                try:
                    return await self._handler(ctx, params)
                finally:
                    if ending is not None:
                        ending.cancel()
        finally:
            self._open.discard(stream)

    def drain(self) -> None:
        """End every stream of this process; clients listen again at another instance."""
        for stream in list(self._open):
            stream.end()

    @asynccontextmanager
    async def _listening(
        self, ctx: ServerRequestContext[Any, Any], on_lost: Callable[[], None]
    ) -> AsyncGenerator[None]:
        if not isinstance(self._bus, StreamSubscriptionBus):
            yield
            return
        held = self._bus.listening(on_lost)
        with refusing(ctx, self._parts.refuse):
            await held.__aenter__()
        try:
            yield
        finally:
            await held.__aexit__(None, None, None)


class _Stream:
    """One stream, from before its handler has begun.

    Args:
        places: The places of all streams of the handler.
        hurry: Called when it has to end, for its client may not read.

    """

    def __init__(self, places: _Places, *, hurry: Callable[[], None]) -> None:
        self.ended = False
        """Whether it has to end."""

        self._places = places
        self._hurry = hurry
        self._events: Any = None

    def begin(self, events: Any) -> None:
        """Take the buffer that the handler reads events from: closed, it ends the stream with a result."""
        self._events = events
        if self.ended:
            events.close()

    def end(self) -> None:
        """End the stream, and give its place back: the handler may be held up by a client for a moment."""
        self.ended = True
        if self._events is not None:
            self._places.discard(self._events)
            self._events.close()
        self._hurry()


_serving: ContextVar[_Stream | None] = ContextVar("_serving", default=None)
"""The stream whose handler runs in this context."""


class _Places(set[Any]):
    """The open streams of a `ListenHandler`, which also tells each of ours the buffer that it reads from."""

    @classmethod
    def of(cls, handler: Any) -> _Places:
        """Return the handler's places; from now on they are of this kind."""
        if not isinstance(handler._streams, cls):  # noqa: SLF001 - relied upon
            handler._streams = cls(handler._streams)  # noqa: SLF001 - the same
        return handler._streams  # noqa: SLF001 - the same

    def add(self, element: Any) -> None:
        super().add(element)
        if (stream := _serving.get()) is not None:
            stream.begin(element)


def connect(server: Any, bus: StreamSubscriptionBus) -> None:
    """Let an `MCPServer` publish to this bus, unless it was given one of its own."""
    if server_kind(server) != "MCPServer":
        return
    if type(server._subscriptions) in (InMemorySubscriptionBus, StreamSubscriptionBus):  # noqa: SLF001 - relied upon
        server._subscriptions = bus  # noqa: SLF001 - the same


def listen_handler(server: Any, handler: Any, bus: StreamSubscriptionBus) -> ListenHandler | None:
    """Return the handler of the server's listen streams; `None` where it has none, or one of another kind.

    It is the owner's, with its limits, its `close` and whatever a subclass makes of it. Where the SDK's own
    class hears from the SDK's in-memory bus because nobody has given an `MCPServer` another one, it hears
    from the kit's.

    Args:
        server: An `MCPServer`, a `FastMCP` or a lowlevel `Server`.
        handler: The handler that is registered for `subscriptions/listen`.
        bus: The kit's.

    """
    kind = server_kind(server)
    if not isinstance(handler, ListenHandler):
        # A FastMCP has no streams of its own, and no way to register any.
        return ListenHandler(bus) if handler is None and kind == "FastMCP" else None
    if kind != "MCPServer" or not isinstance(_bus_of(handler), InMemorySubscriptionBus):
        return handler
    own: Any = handler
    if type(handler) is not ListenHandler:
        own._bus = bus  # noqa: SLF001 - relied upon: there is no other way to have a subclass hear from it
        return handler
    ours: Any = ListenHandler(
        bus,
        max_subscriptions=own._max_subscriptions,  # noqa: SLF001 - relied upon
        max_buffered_events=own._max_buffered_events,  # noqa: SLF001 - the same
    )
    ours._streams = _Places.of(own)  # noqa: SLF001 - the same: the owner's `close` ends these
    return ours


def _bus_of(handler: Any) -> SubscriptionBus:
    return handler._bus  # noqa: SLF001 - relied upon


def _asks_for_something(wanted: SubscriptionFilter) -> bool:
    return bool(
        wanted.tools_list_changed
        or wanted.prompts_list_changed
        or wanted.resources_list_changed
        or wanted.resource_subscriptions
    )
