"""`subscriptions/listen`, served by the SDK's own handler, bounded by what the host allows.

(2026-07-28, basic/patterns/subscriptions)
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler
from mcp.shared.exceptions import MCPError
from mcp_types import INTERNAL_ERROR

from tmcp_serverless.sdk.refusing import refusing, scope_of
from tmcp_serverless.server_kind import server_kind
from tmcp_serverless.sessions.bus import StreamSubscriptionBus

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from mcp.server.context import ServerRequestContext
    from mcp.server.subscriptions import SubscriptionBus
    from mcp_types import SubscriptionFilter, SubscriptionsListenRequestParams, SubscriptionsListenResult

    from tmcp_serverless.sdk.modern import ModernParts

__all__ = ["Listen", "bus_of", "connect"]

logger = logging.getLogger(__name__)

_MOST_STREAMS = 1024
"""How many listen streams one process holds: what the SDK's handler allows as it comes."""


class Listen:
    """The handler of `subscriptions/listen`: one call is one stream.

    Each stream ends by itself, with a result, before its host would end it, and when the process is drained;
    one that asks for nothing ends at once. Clients listen again, and refetch.

    Args:
        bus: Where events come from.
        parts: How long a stream may last, and what is done where it cannot be opened, or has to end.

    """

    def __init__(self, bus: SubscriptionBus, parts: ModernParts) -> None:
        self._bus = bus
        self._parts = parts
        self._open: set[_Stream] = set()

    async def __call__(
        self, ctx: ServerRequestContext[Any, Any], params: SubscriptionsListenRequestParams
    ) -> SubscriptionsListenResult:
        """Serve one stream. The doorbell is up before its acknowledgement goes out."""
        if len(self._open) >= _MOST_STREAMS:
            raise MCPError(INTERNAL_ERROR, "Subscription limit reached")
        scope = scope_of(ctx)
        stream = _Stream(ListenHandler(self._bus), self._open, hurry=partial(self._parts.hurry, scope))
        self._open.add(stream)
        try:
            async with self._listening(ctx, stream.end):
                lasts = _asks_for_something(params.notifications) and not stream.ended
                seconds = self._parts.lifetime(scope) if lasts else 0
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
    """One stream, from before it is opened.

    Args:
        handler: What serves it, and it alone.
        places: The streams that have one of the places.
        hurry: Called when it has to end, for its client may not read.

    """

    def __init__(self, handler: ListenHandler, places: set[_Stream], *, hurry: Callable[[], None]) -> None:
        self.handler = handler
        self.ended = False
        """Whether it has to end. A handler that has not begun yet knows of nothing to close."""

        self._places = places
        self._hurry = hurry

    def end(self) -> None:
        """End the stream, and give its place back: the handler may be held up by a client for a moment."""
        self.ended = True
        self._places.discard(self)
        self.handler.close()
        self._hurry()


def connect(server: Any, bus: StreamSubscriptionBus) -> None:
    """Let an `MCPServer` publish to this bus, unless it was given one of its own."""
    if server_kind(server) != "MCPServer":
        return
    if type(server._subscriptions) in (InMemorySubscriptionBus, StreamSubscriptionBus):  # noqa: SLF001 - relied upon
        server._subscriptions = bus  # noqa: SLF001 - the same


def bus_of(server: Any, handler: Any, bus: StreamSubscriptionBus) -> SubscriptionBus | None:
    """Return where the server's listen streams hear from; `None` where it has none, or serves them itself.

    Args:
        server: An `MCPServer`, a `FastMCP` or a lowlevel `Server`.
        handler: What it has registered for `subscriptions/listen`.
        bus: The kit's.

    """
    kind = server_kind(server)
    if isinstance(handler, ListenHandler):
        own: SubscriptionBus = cast("Any", handler)._bus  # noqa: SLF001 - relied upon
        _warn_of_another_namespace(own, bus)
        return bus if isinstance(own, InMemorySubscriptionBus) and kind == "MCPServer" else own
    # A FastMCP has no streams of its own, and no way to register any.
    return bus if handler is None and kind == "FastMCP" else None


def _warn_of_another_namespace(own: SubscriptionBus, bus: StreamSubscriptionBus) -> None:
    if isinstance(own, StreamSubscriptionBus) and own.namespace != bus.namespace:
        logger.warning(
            "the server's own bus is in another namespace (%r) than its sessions (%r), so its listen streams "
            "do not hear what a notifier tells: make it with namespace=",
            own.namespace,
            bus.namespace,
        )


def _asks_for_something(wanted: SubscriptionFilter) -> bool:
    return bool(
        wanted.tools_list_changed
        or wanted.prompts_list_changed
        or wanted.resources_list_changed
        or wanted.resource_subscriptions
    )
